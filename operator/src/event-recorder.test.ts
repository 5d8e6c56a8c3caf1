import { getEventListeners } from 'node:events';
import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import type { KubeEvent } from '@meshkit/crds/resource';
import type { StatusWrite } from '@meshkit/shards/decide';
import type { ShardAssignment, ShardAssignmentStatus, Transition } from '@meshkit/shards/records';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { EventRecorder } from './event-recorder.ts';
import { type EventText, shardEvent } from './shard-event.ts';

const TEXT: EventText = { type: 'Normal', reason: 'Moved', action: 'Grant', note: 'granted to b' };
const SHARD: ShardAssignment = {
  apiVersion: 'meshkit.omnirelay.io/v1alpha1',
  kind: 'ShardAssignment',
  metadata: { name: 'orders.0001', namespace: 'shop', uid: 'u', resourceVersion: '7' },
  spec: { shardSet: 'orders', shardId: '0001' },
};

let clock: ManualClock;
let written: KubeEvent[];
let counts: Record<string, number>;
let answer: () => Promise<void>;
let recorder: EventRecorder;
let stop: AbortController;
let ended: Promise<void>;

beforeEach(() => {
  clock = new ManualClock();
  written = [];
  counts = {};
  answer = async () => undefined;
  stop = new AbortController();
  recorder = new EventRecorder({
    client: {
      create: async (_, event) => {
        await answer();
        written.push(event as unknown as KubeEvent);
        return event;
      },
    },
    controller: 'meshkit.omnirelay.io/operator',
    instance: 'one',
    clock,
    log: silentLog,
    count: (result) => {
      counts[result] = (counts[result] ?? 0) + 1;
    },
  });
  ended = recorder.run(stop.signal);
});

afterEach(async () => {
  stop.abort();
  await ended;
});

it('writes events.k8s.io/v1 Events about the object, in its namespace', async () => {
  recorder.record(SHARD, TEXT);
  await clock.advance(0);
  expect(written).toMatchObject([
    {
      apiVersion: 'events.k8s.io/v1',
      metadata: { namespace: 'shop', name: expect.stringMatching(/^orders\.0001\.[0-9a-f]+$/) },
      eventTime: '2026-01-01T00:00:00.000000Z',
      reportingController: 'meshkit.omnirelay.io/operator',
      reportingInstance: 'one',
      ...TEXT,
      regarding: { kind: 'ShardAssignment', namespace: 'shop', name: 'orders.0001', uid: 'u' },
    },
  ]);
});

it('gives every Event a name of its own', async () => {
  for (let count = 0; count < 50; count++) recorder.record(SHARD, TEXT);
  await clock.advance(0);
  expect(new Set(written.map(({ metadata }) => metadata.name)).size).toBe(50);
});

it('bounds their rate: a storm costs 100, then 10 a second', async () => {
  for (let count = 0; count < 1000; count++) recorder.record(SHARD, TEXT);
  await clock.advance(2000);
  for (let count = 0; count < 1000; count++) recorder.record(SHARD, TEXT);
  await clock.advance(0);
  expect(counts).toEqual({ written: 120, dropped: 1880 });
});

it('leaves nothing behind on the signal of its process, however often it waited', async () => {
  for (let count = 0; count < 20; count++) {
    recorder.record(SHARD, TEXT);
    await clock.advance(0);
  }
  expect(counts).toEqual({ written: 20 });
  expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
});

it('loses an Event that cannot be written, and goes on', async () => {
  answer = async () => {
    answer = async () => undefined;
    throw new Error('forbidden');
  };
  recorder.record(SHARD, TEXT);
  recorder.record(SHARD, TEXT);
  await clock.advance(0);
  expect(counts).toEqual({ failed: 1, written: 1 });
});

it('keeps a bounded number while the server does not answer', async () => {
  const hang = Promise.withResolvers<void>();
  answer = () => hang.promise;
  for (let second = 0; second < 60; second++) {
    for (let count = 0; count < 10; count++) recorder.record(SHARD, TEXT);
    await clock.advance(1000);
  }
  expect(counts.dropped).toBeGreaterThan(200);
  hang.resolve();
  stop.abort();
  await ended;
  expect((counts.dropped ?? 0) + (counts.written ?? 0)).toBe(600);
});

function write(
  kind: StatusWrite['kind'],
  transition: Partial<Transition>,
  status: Partial<ShardAssignmentStatus> = {},
  cause?: string,
): StatusWrite {
  const before = { phase: 'Active', owner: 'a', epoch: 7, version: 1 } as const;
  return {
    shard: { ...SHARD, status: before },
    status: { phase: 'Active', owner: 'b', epoch: 8, version: 2, ...status },
    kind,
    cause,
    transition: {
      version: 2,
      phase: 'Active',
      actor: { kind: 'Operator', name: 'X' },
      reason: 'why',
      at: '2026-01-01T00:00:00Z',
      ...transition,
    },
  };
}

it('says what happened to a shard, from where, to where, at which epoch', () => {
  expect(shardEvent(write('MoveStarted', { to: 'b', reason: 'a is set to Drain' }))).toEqual({
    type: 'Normal',
    reason: 'MoveStarted',
    action: 'Drain',
    note: 'moving from a to b: a is set to Drain',
  });
  expect(shardEvent(write('FailedOver', { reason: 'a is not ready' }))).toMatchObject({
    type: 'Warning',
    note: 'granted to b at epoch 8: a is not ready',
  });
});

it('warns of a deadline that passed', () => {
  const overdue = shardEvent(
    write('Moved', { reason: 'a did not release before the deadline' }, {}, 'DeadlineExceeded'),
  );
  expect(overdue).toMatchObject({ type: 'Warning', reason: 'DeadlineExceeded' });
  expect(overdue?.note).toBe('granted to b at epoch 8, before a: a did not release before the deadline');
});

it('is silent about first placements and about writes that are no transition', () => {
  expect(shardEvent(write('Placed', {}))).toBeUndefined();
  expect(shardEvent({ ...write('None', {}), transition: undefined })).toBeUndefined();
});
