import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import type { Lease } from '@meshkit/crds/resource';
import type { MeshNode, MeshNodeSpec } from '@meshkit/shards/records';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Liveness } from './liveness.ts';
import { microTime } from './micro-time.ts';

const DURATION_MS = 10_000;

/** Where it matters: nobody but the nodes writes Leases in most tests. */
let silenceMs = Number.POSITIVE_INFINITY;
let clock: ManualClock;
let liveness: Liveness;
let changes: string[];
/** What kube-apiserver has; 'down': it does not answer. */
let server: Map<string, Lease> | 'down';
let reads: number;
let stop: AbortController;
let ended: Promise<void>;

beforeEach(() => {
  clock = new ManualClock();
  changes = [];
  server = new Map();
  reads = 0;
  stop = new AbortController();
  liveness = new Liveness({
    clock,
    log: silentLog,
    defaultDurationMs: DURATION_MS,
    silenceMs,
    onChange: (key) => changes.push(`${key} ${liveness.readiness(key).reason}`),
    confirm: async ({ namespace, name }) => {
      reads += 1;
      if (server === 'down') throw new Error('unreachable');
      return server.get(`${namespace}/${name}`);
    },
  });
  ended = liveness.run(stop.signal);
});

afterEach(async () => {
  stop.abort();
  await ended;
});

function lease(name: string, renewedAt = clock.now(), spec: Lease['spec'] = {}): Lease {
  const object: Lease = {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: `meshnode-${name}`, namespace: 'shop' },
    spec: { holderIdentity: name, leaseDurationSeconds: 10, renewTime: microTime(renewedAt), ...spec },
  };
  if (server !== 'down') server.set(`shop/meshnode-${name}`, object);
  return object;
}

function node(name: string, spec: MeshNodeSpec = {}, ready?: 'True' | 'False'): MeshNode {
  const conditions = ready && [
    { type: 'Ready', status: ready, reason: 'X', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' },
  ];
  return {
    apiVersion: 'meshkit.omnirelay.io/v1alpha1',
    kind: 'MeshNode',
    metadata: { name, namespace: 'shop' },
    spec,
    status: conditions && { conditions },
  };
}

const isReady = (name: string) => liveness.readiness(`shop/${name}`).ready;

/** Renews like an agent, until the given time has passed. */
async function renew(name: string, ms: number, everyMs = 3000): Promise<void> {
  for (let left = ms; left > 0; left -= everyMs) {
    liveness.leaseChanged(lease(name));
    await clock.advance(Math.min(everyMs, left));
  }
}

describe('first sight', () => {
  it('takes a node that nobody has judged by its word, if its Lease is fresh', () => {
    liveness.nodeChanged(node('a'));
    liveness.nodeChanged(node('b'));
    liveness.leasesReplaced([lease('a', clock.now() - 9_000), lease('b', clock.now() - 60_000)]);
    expect([isReady('a'), isReady('b')]).toEqual([true, false]);
  });

  it('leaves a node dead that was dead, until its Lease changes', async () => {
    liveness.nodeChanged(node('a', {}, 'False'));
    liveness.leasesReplaced([lease('a')]);
    await clock.advance(1000);
    expect(isReady('a')).toBe(false);
    liveness.leaseChanged(lease('a'));
    expect(isReady('a')).toBe(true);
  });

  it('gives a node that was alive its whole lease duration, whatever the clocks say', async () => {
    liveness.nodeChanged(node('a', {}, 'True'));
    liveness.leasesReplaced([lease('a', clock.now() - 3_600_000)]);
    await clock.advance(DURATION_MS - 1);
    expect(isReady('a')).toBe(true);
    await clock.advance(1);
    expect(liveness.readiness('shop/a')).toMatchObject({
      ready: false,
      reason: 'LeaseExpired',
      since: DURATION_MS,
    });
  });

  it('judges nothing before the Leases are known', () => {
    liveness.nodeChanged(node('a', {}, 'True'));
    expect(changes).toEqual([]);
    liveness.leasesReplaced([]);
    expect(changes).toEqual(['shop/a NoLease']);
  });

  it('knows a Lease that came before its MeshNode', async () => {
    liveness.leasesReplaced([]);
    liveness.leaseChanged(lease('a'));
    await clock.advance(4000);
    liveness.nodeChanged(node('a'));
    expect(isReady('a')).toBe(true);
    liveness.leaseChanged(lease('b'));
    await clock.advance(DURATION_MS);
    liveness.nodeChanged(node('b'));
    expect(isReady('b')).toBe(false);
  });

  it('needs no Lease where liveness is Always', () => {
    liveness.leasesReplaced([]);
    liveness.nodeChanged(node('a', { liveness: 'Always' }));
    expect(isReady('a')).toBe(true);
    liveness.nodeChanged(node('a'));
    expect(isReady('a')).toBe(false);
  });
});

describe('expiry', () => {
  beforeEach(() => {
    for (const name of ['a', 'b']) liveness.nodeChanged(node(name));
    liveness.leasesReplaced([lease('a'), lease('b')]);
    changes = [];
  });

  it('comes exactly one lease duration after the last change, and renewals change nothing', async () => {
    await renew('a', 30_000);
    const last = clock.monotonic();
    expect(changes).toEqual(['shop/b LeaseExpired']);
    // The last renewal was 3 s ago.
    await clock.advance(DURATION_MS - 3001);
    expect(isReady('a')).toBe(true);
    await clock.advance(1);
    expect(isReady('a')).toBe(false);
    expect(liveness.readiness('shop/a').since).toBe(last + DURATION_MS - 3000);
  });

  it('honours the duration that the Lease itself names', async () => {
    liveness.leaseChanged(lease('a', clock.now(), { leaseDurationSeconds: 1 }));
    await clock.advance(999);
    expect(isReady('a')).toBe(true);
    await clock.advance(1);
    expect(isReady('a')).toBe(false);
  });

  it('is taken back by the next change', async () => {
    await clock.advance(DURATION_MS);
    expect(isReady('a')).toBe(false);
    liveness.leaseChanged(lease('a'));
    expect(isReady('a')).toBe(true);
  });

  it('comes at once when the Lease is deleted or given back', () => {
    liveness.leaseDeleted(lease('a'));
    liveness.leaseChanged(lease('b', clock.now() + 1, { holderIdentity: '' }));
    expect(changes).toEqual(['shop/a NoLease', 'shop/b LeaseReleased']);
  });

  it('is not believed while kube-apiserver knows a later renewal: the watch lags, the node lives', async () => {
    await clock.advance(5000);
    lease('a');
    await clock.advance(5000);
    expect([isReady('a'), isReady('b')]).toEqual([true, false]);
    await clock.advance(DURATION_MS);
    expect(isReady('a')).toBe(false);
  });

  it('costs one read a dead node, and none for the living', async () => {
    await renew('a', 60_000);
    expect(reads).toBe(1);
  });
});

describe('a store that takes no writes', () => {
  beforeAll(() => {
    silenceMs = 4000;
  });
  afterAll(() => {
    silenceMs = Number.POSITIVE_INFINITY;
  });
  beforeEach(() => {
    for (const name of ['a', 'b']) liveness.nodeChanged(node(name));
    liveness.leasesReplaced([lease('a'), lease('b')]);
    changes = [];
  });

  it('kills nobody, and gives everybody the whole duration afterwards', async () => {
    await clock.advance(60_000);
    expect(changes).toEqual([]);
    liveness.leaseChanged(lease('a'));
    await clock.advance(3000);
    await renew('a', DURATION_MS - 3001);
    expect(changes).toEqual([]);
    await renew('a', 1);
    expect(changes).toEqual(['shop/b LeaseExpired']);
  });

  it('is over as soon as the leader has written its own Lease; who was dead before stays so', async () => {
    await renew('a', DURATION_MS);
    expect(changes).toEqual(['shop/b LeaseExpired']);
    await clock.advance(60_000);
    liveness.heard();
    await clock.advance(3000);
    expect([isReady('a'), isReady('b')]).toEqual([true, false]);
    for (let left = DURATION_MS - 3000; left > 0; left -= 1000) {
      liveness.heard();
      await clock.advance(1000);
    }
    expect(isReady('a')).toBe(false);
  });
});

describe('an outage of kube-apiserver', () => {
  beforeEach(() => {
    for (const name of ['a', 'b']) liveness.nodeChanged(node(name));
    liveness.leasesReplaced([lease('a'), lease('b')]);
    changes = [];
  });

  it('kills nobody, and gives everybody the whole duration afterwards: noticed by the watch', async () => {
    liveness.connection(false);
    await clock.advance(60_000);
    expect(changes).toEqual([]);
    liveness.connection(true);
    await clock.advance(DURATION_MS - 1000);
    liveness.leaseChanged(lease('a'));
    await clock.advance(1000);
    expect(changes).toEqual(['shop/b LeaseExpired']);
  });

  it('the same where the watch has not noticed', async () => {
    const known = server as Map<string, Lease>;
    server = 'down';
    await clock.advance(60_000);
    expect(changes).toEqual([]);
    server = known;
    await clock.advance(DURATION_MS - 1000);
    expect(changes).toEqual([]);
    liveness.leaseChanged(lease('a'));
    await clock.advance(1500);
    expect(changes).toEqual(['shop/b LeaseExpired']);
  });
});

it('forgets a node that is deleted', () => {
  liveness.leasesReplaced([lease('a')]);
  liveness.nodeChanged(node('a'));
  liveness.nodeDeleted('shop/a');
  expect(isReady('a')).toBe(false);
  expect(liveness.counts()).toEqual({ ready: 0, notReady: 0 });
});

it('passes over Leases that are nobody’s heartbeat', () => {
  const other = lease('a');
  other.metadata.name = 'kube-scheduler';
  liveness.leasesReplaced([other]);
  liveness.leaseChanged(other);
  expect(changes).toEqual([]);
});
