/**
 * A tiny process that outlives its starter just long enough to clean up after it. Its standard input is a pipe
 * from the starter, which says line by line what there is to clean up; the pipe closes when the starter
 * ends, however it ends, and then the processes are killed and the folder is removed.
 *
 * Lines: `+<pid>` a process to end, `-<pid>` it is gone already, `folder <path>` a folder to remove,
 * `done` everything was cleaned up in good order.
 */
import { rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { identify, isRunning, type ProcessIdentity, signalProcess } from './process-identity.ts';

const processes = new Map<number, ProcessIdentity>();
let folder: string | undefined;
let done = false;

for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'done') done = true;
  else if (line.startsWith('folder ')) folder = line.slice('folder '.length);
  else if (line.startsWith('-')) processes.delete(Number(line.slice(1)));
  else if (line.startsWith('+')) {
    const identity = identify(Number(line.slice(1)));
    if (identity) processes.set(identity.pid, identity);
  }
}

if (!done) {
  for (const identity of processes.values()) signalProcess(identity, 'SIGKILL');
  const deadline = performance.now() + 5_000;
  while ([...processes.values()].some(isRunning) && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  if (folder) await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}
