import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import { ShardError } from '@meshkit/shards/errors';
import {
  API_VERSION,
  type MeshNode,
  type ShardAssignment,
  type ShardAssignmentStatus,
  type ShardSet,
} from '@meshkit/shards/records';
import { unstamped } from '@meshkit/shards/transition';
import { beforeEach, expect, it } from 'vitest';
import { OperatorMetrics } from './metrics.ts';
import { SetReconciler } from './set-reconciler.ts';

const KEY = 'shop/orders';

let clock: ManualClock;
let metrics: OperatorMetrics;
/** What the caches hold, and what kube-apiserver answers to a read of the set. */
let cached: { set?: ShardSet; shards: Map<string, ShardAssignment>; nodes: MeshNode[] };
let stored: ShardSet | undefined;
let leading: boolean;
let guarded: boolean;
let underWay: number;
let mostUnderWay: number;
let calls: string[];
/** By name: fail its next status write like this. */
let failing: Map<string, ShardError>;
let reconciler: SetReconciler;

beforeEach(() => {
  clock = new ManualClock();
  metrics = new OperatorMetrics({ monotonic: () => clock.monotonic() });
  cached = { set: set(4), shards: new Map(), nodes: ['a', 'b'].map(node) };
  stored = cached.set;
  leading = true;
  guarded = true;
  [underWay, mostUnderWay, calls, failing] = [0, 0, [], new Map()];
  reconciler = new SetReconciler({
    client: {
      get: async () => {
        calls.push('get');
        if (!stored) throw new ShardError('notFound', 'gone');
        return stored as never;
      },
      create: async (_, object) => request(`create ${object.metadata.name}`, () => object),
      delete: async (_, { name }) => request(`delete ${name}`, () => undefined),
      updateStatus: async (_, object) =>
        request(`status ${object.metadata.name}`, () => {
          const failure = failing.get(object.metadata.name);
          failing.delete(object.metadata.name);
          if (failure) throw failure;
          return object;
        }),
    },
    sets: {
      get: () => cached.set,
      observe: (object) => {
        cached.set = object;
      },
    },
    shards: {
      byIndex: () => [...cached.shards.values()],
      observe: (object) => void cached.shards.set(object.metadata.name, object),
      observeDeleted: (object) => void cached.shards.delete(object.metadata.name),
    },
    nodes: { byIndex: () => cached.nodes },
    readiness: () => ({ ready: true, reason: 'Always', since: 0 }),
    believed: (object) => (guarded ? object : unstamped(object)),
    leads: () => leading,
    events: { record: () => undefined },
    metrics,
    clock,
    log: silentLog,
    parallelWrites: 3,
  });
});

async function request<T>(call: string, answer: () => T): Promise<T> {
  calls.push(call);
  underWay += 1;
  mostUnderWay = Math.max(mostUnderWay, underWay);
  await new Promise((resolve) => setImmediate(resolve));
  underWay -= 1;
  return answer();
}

function set(count: number): ShardSet {
  const metadata = { name: 'orders', namespace: 'shop', uid: 'set-1', generation: 1 };
  return { apiVersion: API_VERSION, kind: 'ShardSet', metadata, spec: { shards: { count } } };
}

function node(name: string): MeshNode {
  const metadata = { name, namespace: 'shop' };
  return { apiVersion: API_VERSION, kind: 'MeshNode', metadata, spec: { liveness: 'Always' } };
}

function shard(id: string, status?: ShardAssignmentStatus): ShardAssignment {
  const metadata = { name: `orders.${id}`, namespace: 'shop', uid: id, resourceVersion: '1', generation: 1 };
  const spec = { shardSet: 'orders', shardId: id };
  return { apiVersion: API_VERSION, kind: 'ShardAssignment', metadata, spec, status };
}

const pass = () => reconciler.reconcile(KEY, new AbortController().signal);

async function settle(): Promise<void> {
  for (let round = 0; round < 5; round++) {
    await pass();
    await clock.advance(1000);
  }
  calls = [];
}

it('stamps, places, sums up, and is silent then', async () => {
  await pass();
  expect(calls.filter((call) => call.startsWith('create'))).toHaveLength(4);
  await pass();
  expect([...cached.shards.values()].every(({ status }) => status?.phase === 'Active')).toBe(true);
  await settle();
  expect(cached.set?.status).toMatchObject({ shards: 4, owned: 4 });
  await pass();
  expect(calls).toEqual([]);
});

it('makes many requests at once, within the bound', async () => {
  cached.set = set(20);
  await pass();
  await pass();
  // The set's own status is written beside them.
  expect(mostUnderWay).toBe(4);
});

it('writes the status of a set at most once a second', async () => {
  await settle();
  const written = () => calls.filter((call) => call === 'status orders').length;
  for (let round = 0; round < 10; round++) {
    const [first] = cached.shards.keys();
    if (first) cached.shards.delete(first);
    const { requeueAfterMs } = await pass();
    expect(requeueAfterMs === undefined || requeueAfterMs <= 1000).toBe(true);
    await clock.advance(100);
  }
  expect(written()).toBeLessThanOrEqual(2);
});

it('asks kube-apiserver before it ends the ownership of a set that its cache does not know', async () => {
  await settle();
  cached.set = undefined;
  await pass();
  expect(calls[0]).toBe('get');
  expect(calls.some((call) => call.startsWith('delete'))).toBe(false);
  expect(cached.set).toBeDefined();

  cached.set = undefined;
  stored = undefined;
  await pass();
  expect(calls.filter((call) => call.startsWith('delete'))).toHaveLength(4);
});

it('asks as well where the cache knows an older set of the same name', async () => {
  await settle();
  const successor = set(4);
  successor.metadata.uid = 'set-2';
  for (const each of cached.shards.values()) {
    if (each.metadata.ownerReferences?.[0]) each.metadata.ownerReferences[0].uid = 'set-2';
  }
  stored = { ...successor, status: cached.set?.status };
  await pass();
  expect(calls).toEqual(['get']);
});

it('writes nothing once it no longer leads', async () => {
  await pass();
  leading = false;
  calls = [];
  await pass();
  expect(calls).toEqual([]);
});

it.each([
  [true, { kind: 'User', name: 'jane' }],
  [false, { kind: 'FieldManager', name: 'kubectl' }],
])('believes the stamp of who changed a spec where it is guarded: %s', async (isGuarded, actor) => {
  guarded = isGuarded;
  const pinned = shard('0000');
  pinned.metadata.annotations = { 'meshkit.omnirelay.io/changed-by': 'jane' };
  pinned.metadata.managedFields = [{ manager: 'kubectl', fieldsV1: { 'f:spec': {} } }];
  pinned.spec.owner = { pinned: 'b' };
  cached.set = set(1);
  cached.shards.set('orders.0000', pinned);
  await pass();
  expect(cached.shards.get('orders.0000')?.status?.recentTransitions?.at(-1)?.actor).toEqual(actor);
});

it('decides again soon after a conflict, and finishes the other writes', async () => {
  await pass();
  failing.set('orders.0001', new ShardError('conflict', 'changed'));
  expect((await pass()).requeueAfterMs).toBeLessThanOrEqual(200);
  const owned = [...cached.shards.values()].filter(({ status }) => status?.owner !== undefined);
  expect(owned).toHaveLength(3);
  await pass();
  expect(cached.shards.get('orders.0001')?.status?.phase).toBe('Active');
});

it('fails after it has tried everything else, so that the queue tries again', async () => {
  await pass();
  failing.set('orders.0000', new ShardError('unavailable', 'connection refused'));
  await expect(pass()).rejects.toThrow('connection refused');
  expect([...cached.shards.values()].filter(({ status }) => status?.owner !== undefined)).toHaveLength(3);
});

it('writes a large set in batches, so that news does not wait for all of it', async () => {
  cached.set = set(1200);
  expect((await pass()).requeueAfterMs).toBe(0);
  expect(cached.shards.size).toBe(512);
  for (let round = 0; round < 8; round++) await pass();
  expect([...cached.shards.values()].filter(({ status }) => status?.owner !== undefined)).toHaveLength(1200);
});

it('counts shards by phase, and forgets a set that is gone', async () => {
  await settle();
  const active = 'meshkit_operator_shards{namespace="shop",shard_set="orders",phase="Active"}';
  expect(await metrics.registry.metrics()).toContain(`${active} 4`);
  expect(await metrics.registry.metrics()).toContain(
    'meshkit_operator_grants_total{kind="Placed",cause="Placed"} 4',
  );
  cached.set = undefined;
  stored = undefined;
  await pass();
  await pass();
  expect(await metrics.registry.metrics()).not.toContain(active);
});

it('measures how long a release waits for its grant', async () => {
  const move = { to: 'b', startedAt: '2026-01-01T00:00:00Z', deadline: '2026-01-01T00:00:30Z' };
  const draining = shard('0000', { phase: 'Draining', owner: 'a', epoch: 7, version: 1, move });
  draining.metadata.annotations = { 'meshkit.omnirelay.io/released': 'a/7' };
  cached.set = set(1);
  cached.shards.set('orders.0000', draining);
  reconciler.released(draining);
  await clock.advance(50);
  await pass();
  expect(await metrics.registry.metrics()).toContain(
    'meshkit_operator_grant_latency_seconds_sum{kind="planned"} 0.05',
  );
});
