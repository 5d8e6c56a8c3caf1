import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Binaries } from './binaries.ts';
import { startReal } from './real.ts';
import { BINARY_NAMES, type BinaryName } from './versions.ts';

// What goes wrong is tested with scripts in place of the servers; e2e/feature has the tests with real ones.
let folder: string;
let lines: string[];
const log = (line: string) => lines.push(line);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'meshkit-real-'));
  lines = [];
});
afterEach(() => rm(folder, { recursive: true }));

/** Servers that do nothing, except as said. */
async function scripts(special: Partial<Record<BinaryName, string>>): Promise<Binaries> {
  for (const name of BINARY_NAMES) {
    await writeFile(join(folder, name), `#!/bin/sh\n${special[name] ?? 'exec sleep 60'}\n`, { mode: 0o755 });
  }
  return { version: 'v1.37.2', folder, source: 'cache' };
}

/** Every script notes where it runs, since the folder of a plane that failed is gone. */
const NOTE = 'pwd >> "$(dirname "$0")/ran-in"';
const ranIn = async () => (await readFile(join(folder, 'ran-in'), 'utf8')).trim().split('\n');

test('a server that ends early is named, with its last words, and nothing stays behind', async () => {
  const binaries = await scripts({
    'kube-apiserver': `${NOTE}; echo "Error: unknown flag: --nonsense" >&2; exit 3`,
  });
  await expect(startReal({ binaries, log })).rejects.toThrow(
    'kube-apiserver ended before it was ready: exit code 3; its last lines:\nError: unknown flag: --nonsense',
  );
  const [path] = await ranIn();
  expect(existsSync(path!)).toBe(false);
});

test('a binary that cannot be run is named', async () => {
  const binaries = await scripts({});
  await rm(join(folder, 'etcd'));
  await expect(startReal({ binaries, log })).rejects.toThrow(
    /^etcd ended before it was ready: could not be started: /,
  );
});

test('ports that were taken in the meantime are replaced, a few times', async () => {
  const etcd = `${NOTE}; echo "listen tcp 127.0.0.1:2379: bind: address already in use"; exit 1`;
  await expect(startReal({ binaries: await scripts({ etcd }), log })).rejects.toThrow(
    'address already in use',
  );
  expect(lines.filter((line) => line.endsWith('trying other ports'))).toHaveLength(2);
  expect(new Set(await ranIn()).size).toBe(3);
});

test('an aborted start ends what it started', async () => {
  const stop = new AbortController();
  const start = startReal({
    binaries: await scripts({ etcd: `${NOTE}; exec sleep 60` }),
    log,
    signal: stop.signal,
  });
  setTimeout(() => stop.abort(new Error('changed my mind')), 300);
  await expect(start).rejects.toThrow('changed my mind');
  const [path] = await ranIn();
  expect(existsSync(path!)).toBe(false);
});

test('a folder that holds something is refused; an empty one is used and kept', async () => {
  const binaries = await scripts({ etcd: 'exit 1' });
  await expect(startReal({ binaries, log, folder })).rejects.toThrow(
    'the folder for the control plane is not empty',
  );
  const own = join(folder, 'own');
  await expect(startReal({ binaries, log, folder: own })).rejects.toThrow('etcd ended before it was ready');
  expect(await readdir(own)).toContain('etcd.log');
});
