import type { WatchEvent } from '@meshkit/client/shard-tracker';
import { ShardError } from '@meshkit/shards/errors';
import { type ShardView, served } from '@meshkit/shards/shard-view';
import { expect, it } from 'vitest';
import { API, NOW, play, type Scene, SHARDS } from '../test/scene.ts';
import { printable } from './printable.ts';

it('writes control characters as JSON does, and leaves the rest alone', () => {
  expect(printable('a\nb\r\tc \u001b[31m \u0000\u007f\u009b')).toBe(
    'a\\nb\\r\\tc \\u001b[31m \\u0000\\u007f\\u009b',
  );
  expect(printable('Zürich, 東京, \\n, 🙂')).toBe('Zürich, 東京, \\n, 🙂');
});

const EVIL = 'fine\n12:00:00Z   DELETED   orders.0001\u001b[31m\u009b\r';
const ESCAPED = 'fine\\n12:00:00Z   DELETED   orders.0001\\u001b[31m\\u009b\\r';
const WELL = served(SHARDS[1]!) as ShardView;
const TRANSITION = {
  version: 2,
  to: 'node-17',
  phase: 'Active' as const,
  actor: { kind: 'User' as const, name: EVIL },
  reason: EVIL,
  at: '2026-11-23T11:59:15Z',
};
const CHANGED: WatchEvent = {
  type: 'MODIFIED',
  position: '101',
  current: WELL,
  previous: { ...WELL, owner: 'node-21' },
  history: { reason: EVIL },
  token: 't',
};
const LOST = {
  ...SHARDS[4]!,
  status: {
    ...SHARDS[4]!.status!,
    conditions: [
      { type: 'Stalled', status: 'True' as const, reason: 'R', message: EVIL, lastTransitionTime: '' },
    ],
  },
};
const history: Scene['answers'] = {
  history: async (namespace, name) => ({
    namespace,
    name,
    floor: { position: '7' },
    items: [
      {
        ordinal: 0,
        source: 'watch',
        type: 'MODIFIED',
        namespace,
        name,
        uid: WELL.uid,
        position: '101',
        at: '2026-11-23T11:59:15Z',
        after: WELL,
        reason: EVIL,
      },
    ],
  }),
};

it.each<[string, Scene]>([
  ['list -o wide', { shards: [{ ...SHARDS[1]!, spec: { ...SHARDS[1]!.spec, changeTicket: EVIL } }] }],
  ['history orders.0000', { answers: history }],
  ['watch --limit 1', { events: [CHANGED] }],
  ['status', { shards: [LOST] }],
  [
    'explain orders.0000',
    { shards: [{ ...SHARDS[1]!, status: { ...SHARDS[1]!.status!, recentTransitions: [TRANSITION] } }] },
  ],
  ['auth whoami --mode api', { answers: { access: async () => ({ user: EVIL, groups: [], scopes: [] }) } }],
])('foreign text forges nothing in: %s', async (line, scene) => {
  const { stdout } = await play(`shards ${line}`, { env: API, now: () => NOW, ...scene });
  expect(stdout).toContain(ESCAPED);
  expect(stdout.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
  expect(stdout).not.toMatch(/^12:00:00Z +DELETED/m);
});

it('errors keep their lines, and nothing else that moves a cursor', async () => {
  const api = new ShardError('unavailable', 'no answer\nfrom \u001b[2Jhere\r');
  const { stderr } = await play('shards list', { env: API, api });
  expect(stderr).toBe('error: no answer\nfrom \\u001b[2Jhere\\r\n');
});
