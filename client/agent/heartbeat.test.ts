import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import type { Lease } from '@meshkit/crds/resource';
import { ShardError } from '@meshkit/shards/errors';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Heartbeat } from './heartbeat.ts';

let clock: ManualClock;
let heartbeat: Heartbeat;
let stop: AbortController;
let ended: Promise<void>;
let stored: Lease | undefined;
let calls: string[];
/** How the next writes fail. */
let failures: ShardError[];
/** How long a write takes. */
let writeMs: number;
let revivals: number;

async function write(call: string, lease: Lease): Promise<Lease> {
  calls.push(call);
  if (writeMs > 0) await clock.sleep(writeMs);
  const failure = failures.shift();
  if (failure) throw failure;
  stored = lease;
  return lease;
}

beforeEach(() => {
  clock = new ManualClock(Date.parse('2026-11-23T08:00:00Z'));
  [stored, calls, failures, writeMs, revivals] = [undefined, [], [], 0, 0];
  heartbeat = new Heartbeat({
    client: {
      get: async () => {
        calls.push('get');
        if (!stored) throw new ShardError('notFound', 'no Lease');
        return stored as never;
      },
      create: async (_, lease) => write('create', lease as never) as never,
      update: async (_, lease) => write('update', lease as never) as never,
    },
    namespace: 'shop',
    node: 'a',
    durationSeconds: 9,
    clock,
    log: silentLog,
  });
  stop = new AbortController();
});

afterEach(async () => {
  stop.abort();
  await ended;
});

async function start(): Promise<void> {
  ended = heartbeat.run(stop.signal, () => {
    revivals += 1;
  });
  await clock.advance(0);
}

it('creates the Lease, and renews it three times in its duration', async () => {
  await start();
  await clock.advance(9_000);
  expect(calls).toEqual(['get', 'create', 'update', 'update', 'update']);
  expect(stored).toMatchObject({
    metadata: { name: 'meshnode-a', namespace: 'shop' },
    spec: {
      holderIdentity: 'a',
      leaseDurationSeconds: 9,
      acquireTime: '2026-11-23T08:00:00.000000Z',
      renewTime: '2026-11-23T08:00:09.000000Z',
    },
  });
  expect([heartbeat.alive(), revivals]).toEqual([true, 1]);
});

it('reads the Lease again after a failure', async () => {
  await start();
  failures = [new ShardError('conflict', 'changed meanwhile')];
  await clock.advance(6_000);
  expect(calls).toEqual(['get', 'create', 'update', 'get', 'update']);
  expect([heartbeat.alive(), revivals]).toEqual([true, 1]);
});

it('is alive for four fifths of the duration, and says when it comes back', async () => {
  await start();
  failures = Array(3).fill(new ShardError('unavailable', 'refused'));
  await clock.advance(7_199);
  expect(heartbeat.alive()).toBe(true);
  await clock.advance(1);
  expect(heartbeat.alive()).toBe(false);
  await clock.advance(4_800);
  expect([heartbeat.alive(), revivals]).toEqual([true, 2]);
});

it('counts from before the request, since the server may have stored it at once', async () => {
  writeMs = 2_000;
  await start();
  await clock.advance(2_000);
  expect(heartbeat.remainingMs()).toBe(5_200);
});
