import { ShardError } from '@meshkit/shards/errors';
import type { KubeObject } from '@meshkit/shards/records';
import { expect, test, vi } from 'vitest';
import { statusOf } from './kube-error.ts';
import { watchEvents } from './watch-stream.ts';

const CALL = {
  what: 'watch shardassignments.meshkit.omnirelay.io in all namespaces',
  server: 'https://k8s.test',
};

async function decode(...events: (object | string)[]) {
  async function* body() {
    for (const event of events)
      yield Buffer.from(`${typeof event === 'string' ? event : JSON.stringify(event)}\n`);
  }
  const seen: object[] = [];
  let error: unknown;
  try {
    for await (const event of watchEvents<KubeObject>(CALL, body(), 1000, () => undefined)) seen.push(event);
  } catch (thrown) {
    error = thrown;
  }
  return { seen, error: error as ShardError };
}

const object = (version: string) => ({
  apiVersion: 'v1',
  kind: 'Thing',
  metadata: { name: 'a', resourceVersion: version },
});

test('changes and bookmarks are decoded', async () => {
  const { seen, error } = await decode(
    { type: 'ADDED', object: object('5') },
    { type: 'BOOKMARK', object: { kind: 'Thing', metadata: { resourceVersion: '7' } } },
    { type: 'DELETED', object: object('9') },
  );
  expect(error).toBeUndefined();
  expect(seen).toEqual([
    { type: 'ADDED', object: object('5') },
    { type: 'BOOKMARK', resourceVersion: '7' },
    { type: 'DELETED', object: object('9') },
  ]);
});

test('an ERROR event is the error that the same status would be as an answer', async () => {
  const status = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version: 1 (9)' };
  const { seen, error } = await decode(
    { type: 'ADDED', object: object('5') },
    { type: 'ERROR', object: status },
  );
  expect(seen).toHaveLength(1);
  expect(statusOf(error)).toBe(410);
  expect(error.message).toBe(
    'cannot watch shardassignments.meshkit.omnirelay.io in all namespaces at https://k8s.test: too old resource version: 1 (9) (410 Expired)',
  );
});

test.each([
  ['an unknown type', { type: 'RENAMED', object: object('5') }, 'an event has the unknown type "RENAMED"'],
  [
    'an object without a version',
    { type: 'ADDED', object: { metadata: {} } },
    'carries no object with a resourceVersion',
  ],
  ['no JSON', '<html>', 'an event is not valid JSON'],
  ['null', 'null', ''],
])('%s is an error, never passed over', async (_, event, message) => {
  const { seen, error } = await decode(event);
  expect(seen).toEqual([]);
  expect(error).toBeInstanceOf(ShardError);
  expect(error.code).toBe('internal');
  expect(error.message).toContain(message);
});

test('silence counts only while bytes are awaited', async () => {
  vi.useFakeTimers();
  try {
    const idle = vi.fn();
    const never = Promise.withResolvers<void>();
    async function* body() {
      yield Buffer.from(`${JSON.stringify({ type: 'ADDED', object: object('5') })}\n`);
      await never.promise;
    }
    const events = watchEvents(CALL, body(), 1000, idle);
    await events.next();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(idle).not.toHaveBeenCalled();
    const waiting = events.next();
    await vi.advanceTimersByTimeAsync(999);
    expect(idle).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    expect(idle).toHaveBeenCalledOnce();
    never.resolve();
    expect(await waiting).toEqual({ done: true, value: undefined });
  } finally {
    vi.useRealTimers();
  }
});
