import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import type { Lease } from '@meshkit/crds/resource';
import { ShardError } from '@meshkit/shards/errors';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { LeaderLease, type LeaderLeaseOptions } from './leader-lease.ts';

/** A kube-apiserver with one Lease, and the option to be unreachable for one of the processes. */
class Server {
  stored: Lease | undefined;
  unreachable = new Set<string>();
  #version = 0;

  client(identity: string): LeaderLeaseOptions['client'] {
    const guard = () => {
      if (this.unreachable.has(identity)) throw new ShardError('unavailable', 'connection refused');
    };
    const put = async (lease: Lease): Promise<Lease> => {
      guard();
      if (this.stored && lease.metadata.resourceVersion !== this.stored.metadata.resourceVersion) {
        throw new ShardError('conflict', 'changed');
      }
      this.#version += 1;
      this.stored = { ...lease, metadata: { ...lease.metadata, resourceVersion: `${this.#version}` } };
      return structuredClone(this.stored);
    };
    return {
      get: async () => {
        guard();
        if (!this.stored) throw new ShardError('notFound', 'no lease');
        return structuredClone(this.stored) as never;
      },
      create: async (_, lease) => (await put(lease as unknown as Lease)) as never,
      update: async (_, lease) => (await put(lease as unknown as Lease)) as never,
    };
  }
}

let clock: ManualClock;
let server: Server;
let processes: { stop: AbortController; ended: Promise<void> }[];

beforeEach(() => {
  clock = new ManualClock();
  server = new Server();
  processes = [];
});

afterEach(async () => {
  for (const { stop } of processes) stop.abort();
  await clock.advance(0);
  await Promise.all(processes.map(({ ended }) => ended));
});

function start(identity: string) {
  const state = { leading: false, stop: new AbortController(), lease: undefined as unknown as LeaderLease };
  state.lease = new LeaderLease({
    client: server.client(identity),
    namespace: 'system',
    name: 'operator',
    identity,
    durationMs: 10_000,
    clock,
    random: () => 0,
    log: silentLog,
  });
  const ended = state.lease.run(state.stop.signal, async (term) => {
    state.leading = true;
    await new Promise<void>((resolve) => term.addEventListener('abort', () => resolve()));
    state.leading = false;
  });
  processes.push({ stop: state.stop, ended });
  return state;
}

it('leads at once where there is no Lease, and renews it', async () => {
  const a = start('a');
  await clock.advance(0);
  expect(a.leading).toBe(true);
  const first = server.stored?.spec?.renewTime;
  await clock.advance(60_000);
  expect(a.leading).toBe(true);
  expect(server.stored?.spec).toMatchObject({
    holderIdentity: 'a',
    leaseDurationSeconds: 10,
    leaseTransitions: 0,
  });
  expect(server.stored?.spec?.renewTime).not.toBe(first);
});

it('lets one lead at a time', async () => {
  const [a, b] = [start('a'), start('b')];
  await clock.advance(60_000);
  expect([a.leading, b.leading].filter(Boolean)).toHaveLength(1);
});

it('takes over within the lease duration and two seconds when the leader is gone, never before', async () => {
  const a = start('a');
  await clock.advance(0);
  const b = start('b');
  await clock.advance(20_000);
  server.unreachable.add('a');
  const lastRenewal = server.stored?.spec?.renewTime;
  await clock.advance(7_900);
  expect(b.leading).toBe(false);
  await clock.advance(4_100);
  expect(b.leading).toBe(true);
  expect(a.leading).toBe(false);
  expect(server.stored?.spec?.leaseTransitions).toBe(1);
  expect(Date.parse(server.stored?.spec?.acquireTime ?? '') - Date.parse(lastRenewal ?? '')).toBeLessThan(
    12_000,
  );
});

it('stops leading before anybody else may begin, when it cannot renew', async () => {
  const a = start('a');
  await clock.advance(4_000);
  server.unreachable.add('a');
  await clock.advance(6_600);
  expect(a.lease.leads()).toBe(true);
  await clock.advance(70);
  expect(a.lease.leads()).toBe(false);
  expect(a.leading).toBe(false);
});

it('does not lead after it was suspended for longer than its term, even before any timer has run', async () => {
  const a = start('a');
  await clock.advance(0);
  const monotonic = clock.monotonic.bind(clock);
  clock.monotonic = () => monotonic() + 30_000;
  expect(a.lease.leads()).toBe(false);
});

it('is taken over at once after a graceful stop, when the watch tells', async () => {
  const a = start('a');
  await clock.advance(0);
  const b = start('b');
  await clock.advance(5_000);
  a.stop.abort();
  await clock.advance(0);
  expect(server.stored?.spec?.holderIdentity).toBeUndefined();
  b.lease.observe(server.stored as Lease);
  await clock.advance(0);
  expect(b.leading).toBe(true);
});

it('gives the Lease back only after its work has ended', async () => {
  const stop = new AbortController();
  const lease = new LeaderLease({
    client: server.client('a'),
    namespace: 'system',
    name: 'operator',
    identity: 'a',
    durationMs: 10_000,
    clock,
    random: () => 0,
    log: silentLog,
  });
  const work = Promise.withResolvers<void>();
  const ended = lease.run(stop.signal, () => work.promise);
  await clock.advance(0);
  stop.abort();
  await clock.advance(100);
  expect(server.stored?.spec?.holderIdentity).toBe('a');
  work.resolve();
  await ended;
  expect(server.stored?.spec?.holderIdentity).toBeUndefined();
});

it('stops at once when another holds the Lease', async () => {
  const a = start('a');
  await clock.advance(0);
  const client = server.client('b');
  const taken = structuredClone(server.stored) as Lease;
  await client.update(
    undefined as never,
    { ...taken, spec: { ...taken.spec, holderIdentity: 'b' } } as never,
  );
  await clock.advance(2_000);
  expect(a.leading).toBe(false);
  expect(server.stored?.spec?.holderIdentity).toBe('b');
});

it('goes on where the answer to its own renewal was lost', async () => {
  const a = start('a');
  await clock.advance(0);
  const client = server.client('a');
  await client.update(undefined as never, structuredClone(server.stored) as never);
  await clock.advance(10_000);
  expect(a.leading).toBe(true);
});

it('fails when its work fails, and gives the Lease back', async () => {
  const lease = new LeaderLease({
    client: server.client('a'),
    namespace: 'system',
    name: 'operator',
    identity: 'a',
    durationMs: 10_000,
    clock,
    random: () => 0,
    log: silentLog,
  });
  const ended = lease.run(new AbortController().signal, async () => {
    throw new Error('broken');
  });
  await expect(ended).rejects.toThrow('broken');
  expect(server.stored?.spec?.holderIdentity).toBeUndefined();
});
