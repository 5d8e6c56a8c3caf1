import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { expect, inject, test } from 'vitest';
import { projectRoot } from '../start/child.ts';

/** Two runs of each of the classes that differ most; the others, and many more runs, are for `npm run faults`. */
const CLASSES = {
  embedded: [
    'api-server-kill',
    'operator-kill',
    'etcd-compaction',
    'watcher-connections',
    'recreate',
    'nodes',
  ],
  real: ['api-server-kill', 'etcd-compaction', 'filters'],
};

// A sample of `npm run faults`, so that a change that breaks a promise, or the campaign, is noticed where it is made.
test('a short fault campaign misses nothing', async () => {
  const { kind } = inject('controlPlane');
  const classes = CLASSES[kind];
  const runs = ['--runs', String(classes.length * 2), ...classes.flatMap((name) => ['--class', name])];
  const args = ['e2e/faults/main.ts', '--control-plane', kind, '--seed', '3', '--json', ...runs];
  const child = spawn(process.execPath, args, { cwd: projectRoot, timeout: 280_000 });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [answer, words, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
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
  expect(code, words).toBe(0);
}, 300_000);
