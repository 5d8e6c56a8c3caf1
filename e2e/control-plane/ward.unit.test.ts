import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { identify, isRunning, signalProcess } from './process-identity.ts';
import { sweepLeftovers } from './ward.ts';

let parent: string;
let child: ChildProcess;

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'meshkit-ward-'));
  child = spawn('sleep', ['60'], { stdio: 'ignore' });
});
afterEach(async () => {
  child.kill('SIGKILL');
  await rm(parent, { recursive: true });
});

const dead = { pid: 1, startedAt: 'before the last boot' };

async function leave(name: string, record: object): Promise<string> {
  const folder = join(parent, name);
  await mkdir(folder);
  await writeFile(join(folder, 'processes.json'), JSON.stringify(record));
  return folder;
}

async function ended(pid: number): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (identify(pid) && performance.now() < deadline) await sleep(10);
  expect(identify(pid)).toBeUndefined();
}

test('a process is told from another one with the same id', () => {
  const identity = identify(child.pid!)!;
  expect(isRunning(identity)).toBe(true);
  expect(isRunning({ ...identity, startedAt: 'another time' })).toBe(false);
  expect(signalProcess({ ...identity, startedAt: 'another time' }, 'SIGKILL')).toBe(false);
  expect(isRunning(identity)).toBe(true);
  expect(signalProcess(identity, 'SIGKILL')).toBe(true);
});

test('what a killed starter left behind is ended and removed', async () => {
  const processes = [identify(child.pid!)!];
  const folder = await leave('meshkit-control-plane-a', { owner: dead, processes, temporary: true });
  expect(await sweepLeftovers(parent)).toEqual([expect.stringContaining(`1 processes, ${folder}`)]);
  await ended(child.pid!);
  expect(existsSync(folder)).toBe(false);
});

test('a folder that was given is kept, only its processes end', async () => {
  const processes = [identify(child.pid!)!];
  const folder = await leave('meshkit-control-plane-b', { owner: dead, processes, temporary: false });
  await sweepLeftovers(parent);
  await ended(child.pid!);
  expect(existsSync(folder)).toBe(true);
});

test('the planes of living starters, foreign folders and reused process ids are left alone', async () => {
  const mine = identify(process.pid)!;
  const reused = { pid: child.pid!, startedAt: 'another time' };
  await leave('meshkit-control-plane-c', { owner: mine, processes: [identify(child.pid!)], temporary: true });
  await leave('something-else', { owner: dead, processes: [identify(child.pid!)], temporary: true });
  await leave('meshkit-control-plane-d', { owner: dead, processes: [reused], temporary: true });
  await mkdir(join(parent, 'meshkit-control-plane-e'));
  await sweepLeftovers(parent);
  expect((await readdir(parent)).sort()).toEqual([
    'meshkit-control-plane-c',
    'meshkit-control-plane-e',
    'something-else',
  ]);
  expect(identify(child.pid!)).toBeDefined();
});
