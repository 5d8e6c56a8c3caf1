import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** USER_HZ, which is 100 wherever Linux runs. */
const TICK_MS = 10;

/** CPU time of processes since they began, milliseconds, all threads (proc(5), utime and stime). Linux only. */
export function cpuMs(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return sum + (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  }, 0);
}

/** Resident memory in bytes. */
export function residentBytes(pid: number): number {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (!found) throw new Error(`process ${pid} is gone`);
  return Number(found[1]) * 1_024;
}

/** The process of a control plane by its program's name. */
export function planeProcess(folder: string, program: string): number {
  const { processes } = JSON.parse(readFileSync(join(folder, 'processes.json'), 'utf8'));
  for (const { pid } of processes as { pid: number }[]) {
    if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === program) return pid;
  }
  throw new Error(`no process ${program} in ${readdirSync(folder).length > 0 ? folder : 'an empty folder'}`);
}
