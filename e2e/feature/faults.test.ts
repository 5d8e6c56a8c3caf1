import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { expect, inject, test } from 'vitest';
import { projectRoot } from '../start/child.ts';

/** A run of each class that both planes have, on the embedded one; the classes that differ most, on the real one. */
const RUNS = {
  embedded: ['--runs', '13', '--width', '4'],
  real: [
    '--runs',
    '6',
    '--width',
    '2',
    ...['api-server-kill', 'etcd-compaction', 'nodes'].flatMap((name) => ['--class', name]),
  ],
};

// A sample of `npm run faults`, so that a change that breaks a promise, or the campaign, is noticed where it is made.
test('a short fault campaign misses nothing', async () => {
  const { kind } = inject('controlPlane');
  const args = ['e2e/faults/main.ts', '--control-plane', kind, '--seed', '3', '--json', ...RUNS[kind]];
  const child = spawn(process.execPath, args, { cwd: projectRoot, timeout: 280_000 });
  const [answer, words] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const tally = JSON.parse(answer.trim().split('\n').at(-1) || '{}');
  expect(tally, words).toMatchObject({
    missed: 0,
    duplicated: 0,
    outOfOrder: 0,
    twoOwners: 0,
    staleWritesAccepted: 0,
    unexpectedResets: 0,
    coalescedUnexpected: 0,
  });
  expect(tally.changes).toBeGreaterThan(100);
  expect(tally.resumes).toBeGreaterThan(20);
}, 300_000);
