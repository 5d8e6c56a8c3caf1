import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { API_VERSION, CHANGED_BY_ANNOTATION, type ShardAssignment } from '@meshkit/shards/records';
import { afterEach, beforeEach, expect, inject, test } from 'vitest';
import { Mesh } from './mesh.ts';

let mesh: Mesh;

beforeEach(async () => {
  mesh = await Mesh.open();
});

afterEach(async () => {
  fencingHeld(mesh.seen);
  await mesh.close();
});

/** Whatever a test does: no epoch has two owners, epochs and versions only grow. */
function fencingHeld(seen: readonly ShardAssignment[]): void {
  const owners = new Map<string, string>();
  const newest = new Map<string, { epoch: number; version: number }>();
  for (const { metadata, status } of seen) {
    if (!status) continue;
    const before = newest.get(metadata.uid ?? '');
    if (before) {
      expect(status.epoch).toBeGreaterThanOrEqual(before.epoch);
      expect(status.version).toBeGreaterThanOrEqual(before.version);
    }
    newest.set(metadata.uid ?? '', status);
    if (status.owner === undefined) continue;
    const grant = `${metadata.name} ${status.epoch}`;
    expect(owners.get(grant) ?? status.owner).toBe(status.owner);
    owners.set(grant, status.owner);
  }
}

test('stamps 64 shards, owns all of them, sums them up, and then writes nothing more', async () => {
  for (const name of ['a', 'b', 'c', 'd'])
    await mesh.node(name, { liveness: 'Always', endpoint: `https://${name}:1` });
  await mesh.set({ shards: { count: 64 } });
  await mesh.operator();
  await mesh.owned(64);
  const loads = Map.groupBy(mesh.shards.list(), ({ status }) => status?.owner);
  expect([...loads.values()].map(({ length }) => length)).toEqual([16, 16, 16, 16]);
  const shard = mesh.get('orders.0042');
  expect(shard?.status).toMatchObject({ ownerEndpoint: `https://${shard?.status?.owner}:1`, version: 1 });
  expect(shard?.metadata.ownerReferences).toMatchObject([
    { kind: 'ShardSet', name: 'orders', controller: true },
  ]);

  const settled = async () => {
    const set = await mesh.admin.get(SHARD_SETS, { namespace: mesh.namespace, name: 'orders' });
    return set.status?.conditions?.[0]?.status === 'True' ? set : undefined;
  };
  await expect.poll(settled, { timeout: 10_000 }).toMatchObject({
    status: {
      shards: 64,
      owned: 64,
      draining: 0,
      nodes: 4,
      balance: { maxOverMean: '1.00', minOverMean: '1.00' },
    },
  });
  const [set, writes] = [await settled(), mesh.seen.length];
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(mesh.seen.length).toBe(writes);
  expect((await settled())?.metadata.resourceVersion).toBe(set?.metadata.resourceVersion);
});

test('a node whose Lease stops loses its shards to the others, and no other shard moves', async () => {
  for (const name of ['a', 'b', 'c']) await mesh.worker(name);
  await mesh.set({ shards: { count: 12 } });
  await mesh.operator();
  await mesh.owned(12);
  const before = mesh.owners();
  mesh.die('b');
  await mesh.until('b owns nothing', (shards) =>
    shards.every(({ status }) => status?.phase === 'Active' && status.owner !== 'b'),
  );
  for (const [name, owner] of before) {
    if (owner !== 'b') expect(mesh.get(name)?.status?.owner).toBe(owner);
    else {
      expect(mesh.get(name)?.status).toMatchObject({ previousOwner: 'b' });
      expect(mesh.get(name)?.status?.recentTransitions?.at(-1)?.actor).toEqual({
        kind: 'Operator',
        name: 'NodeNotReady',
      });
    }
  }
  const ready = async () => {
    const { status } = await mesh.admin.get(MESH_NODES, { namespace: mesh.namespace, name: 'b' });
    return status?.conditions?.[0];
  };
  await expect.poll(ready).toMatchObject({ type: 'Ready', status: 'False', reason: 'LeaseExpired' });
});

test('all nodes dead: Lost, owner kept; back: owned again under new epochs', async () => {
  await mesh.worker('a');
  await mesh.set({ shards: { count: 2 } });
  await mesh.operator();
  await mesh.owned(2);
  const epoch = mesh.get('orders.0000')?.status?.epoch ?? 0;
  mesh.die('a');
  await mesh.until('all are lost', (shards) => shards.every(({ status }) => status?.phase === 'Lost'));
  expect(mesh.get('orders.0000')?.status).toMatchObject({
    owner: 'a',
    epoch,
    conditions: [{ type: 'Ready', status: 'False', reason: 'NoEligibleNode' }, {}, { status: 'True' }],
  });
  await mesh.node('b', { liveness: 'Always' });
  await mesh.owned(2);
  expect(mesh.get('orders.0000')?.status?.epoch).toBeGreaterThan(epoch);
});

test('a drained node hands over within the budget, by release, with two status writes a move', async () => {
  for (const name of ['a', 'b', 'c']) await mesh.worker(name, {}, 5);
  await mesh.set({ shards: { count: 12 }, churn: { maxConcurrentMoves: 2 } });
  await mesh.operator();
  await mesh.owned(12);
  const [seen, before] = [mesh.seen.length, mesh.owners()];
  await mesh.patchNode('a', { scheduling: 'Drain' });
  await mesh.until('a owns nothing', (shards) =>
    shards.every(({ status }) => status?.phase === 'Active' && status.owner !== 'a'),
  );
  const moved = [...before.values()].filter((owner) => owner === 'a').length;
  const versions = mesh.seen
    .slice(seen)
    .filter(({ status }) => status?.phase === 'Draining' || status?.version !== 1);
  const written = new Set(versions.map(({ metadata, status }) => `${metadata.name} ${status?.version}`));
  expect(written.size).toBe(2 * moved);
  const draining = new Set<string>();
  for (const { metadata, status } of mesh.seen.slice(seen)) {
    if (status?.phase === 'Draining') draining.add(metadata.name);
    else draining.delete(metadata.name);
    expect(draining.size).toBeLessThanOrEqual(2);
  }
  const last = mesh.shards.list().find(({ status }) => status?.previousOwner === 'a');
  expect(last?.status?.recentTransitions?.at(-1)).toMatchObject({
    actor: { kind: 'Operator', name: 'Released' },
  });
});

test('an owner that does not release is overtaken at the deadline', async () => {
  await mesh.node('a', { liveness: 'Always' });
  await mesh.set({ shards: { count: 2 }, handoff: { drainTimeout: '1s' } });
  await mesh.operator();
  await mesh.owned(2);
  await mesh.node('b', { liveness: 'Always' });
  await mesh.patchNode('a', { scheduling: 'Drain' });
  await mesh.until('b owns both', (shards) => shards.every(({ status }) => status?.owner === 'b'));
  expect(mesh.get('orders.0000')?.status?.recentTransitions?.at(-1)).toMatchObject({
    actor: { kind: 'Operator', name: 'DeadlineExceeded' },
  });
});

test('a pin moves its shard, with the reason and the ticket, and is released by hand', async () => {
  for (const name of ['a', 'b']) await mesh.node(name, { liveness: 'Always' });
  await mesh.set({ shards: { count: 4 } });
  await mesh.operator();
  await mesh.owned(4);
  const shard = mesh.get('orders.0000') as ShardAssignment;
  const to = shard.status?.owner === 'a' ? 'b' : 'a';
  await mesh.admin.patch(SHARD_ASSIGNMENTS, shard.metadata, {
    metadata: { annotations: { [CHANGED_BY_ANNOTATION]: 'somebody-else' } },
    spec: { owner: { pinned: to }, reason: 'hardware swap', changeTicket: 'CHG-7' },
  });
  await mesh.until('it drains', () => mesh.get('orders.0000')?.status?.phase === 'Draining');
  const draining = mesh.get('orders.0000') as ShardAssignment;
  expect(draining.status?.move?.to).toBe(to);
  const hop = draining.status?.recentTransitions?.at(-1);
  expect(hop).toMatchObject({ reason: 'hardware swap', changeTicket: 'CHG-7' });
  // Where no admission policy stamps the user, what stands there is nobody's word.
  expect(hop?.actor).toEqual(
    inject('controlPlane').kind === 'real'
      ? { kind: 'User', name: 'admin' }
      : { kind: 'FieldManager', name: 'meshkit-shards' },
  );
  await mesh.release(draining);
  await mesh.until('it has moved', () => mesh.get('orders.0000')?.status?.owner === to);
});

test('shrinking retires through status and then deletes; growing again cancels a retirement', async () => {
  await mesh.node('a', { liveness: 'Always' });
  await mesh.set({ shards: { count: 4 } });
  await mesh.operator();
  await mesh.owned(4);
  const epoch = mesh.get('orders.0003')?.status?.epoch ?? 0;
  await mesh.patchSet({ shards: { count: 2 } });
  await mesh.until(
    'two drain',
    (shards) => shards.filter(({ status }) => status?.phase === 'Draining').length === 2,
  );
  expect(mesh.get('orders.0003')?.status?.move).not.toHaveProperty('to');
  await mesh.patchSet({ shards: { count: 4 } });
  await mesh.owned(4);
  expect(mesh.get('orders.0003')?.status).toMatchObject({ owner: 'a' });
  expect(mesh.get('orders.0003')?.status?.epoch).toBeGreaterThan(epoch);

  mesh.releasing.add('a');
  await mesh.patchSet({ shards: { count: 2 } });
  await mesh.until('two are left', (shards) => shards.length === 2);
  const disabled = mesh.seen.filter(({ status }) => status?.phase === 'Disabled');
  expect(disabled.map(({ metadata }) => metadata.name).sort()).toEqual(['orders.0002', 'orders.0003']);
});

test('a shard that a person applied is adopted as it is, and never deleted', async () => {
  await mesh.node('a', { liveness: 'Always' });
  const spec = { shardSet: 'orders', shardId: '0001', capacity: 3 };
  const metadata = { name: 'orders.0001', namespace: mesh.namespace };
  await mesh.admin.create(SHARD_ASSIGNMENTS, {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata,
    spec,
  });
  await mesh.set({ shards: { count: 2 } });
  await mesh.operator();
  await mesh.owned(2);
  const adopted = mesh.get('orders.0001');
  expect(adopted).toMatchObject({ spec, status: { effective: { capacity: 3 } } });
  expect(adopted?.metadata.ownerReferences).toBeUndefined();

  mesh.releasing.add('a');
  await mesh.patchSet({ shards: { count: 1 } });
  await mesh.until('it has no owner', () => mesh.get('orders.0001')?.status?.phase === 'Disabled');
  expect(mesh.get('orders.0001')?.status?.conditions?.[0]).toMatchObject({ reason: 'OutsideShardSet' });

  await mesh.patchSet({ shards: { count: 2 } });
  await mesh.owned(2);
  await mesh.admin.delete(SHARD_SETS, { namespace: mesh.namespace, name: 'orders' });
  await mesh.until(
    'the applied one is left, without an owner',
    (shards) => shards.length === 1 && shards[0]?.status?.owner === undefined,
  );
  expect(mesh.get('orders.0001')?.status?.conditions?.[0]).toMatchObject({ reason: 'ShardSetNotFound' });
});

test('freeze: All makes failures wait as Lost until it is lifted', async () => {
  await mesh.worker('a');
  await mesh.set({ shards: { count: 2 } });
  await mesh.operator();
  await mesh.owned(2);
  await mesh.patchSet({ freeze: 'All' });
  mesh.die('a');
  await mesh.until('all wait', (shards) =>
    shards.every(({ status }) => status?.phase === 'Lost' && status.conditions?.[0]?.reason === 'Frozen'),
  );
  // Not before the freeze has been seen: until then, b may have its share.
  await mesh.node('b', { liveness: 'Always' });
  const key = { namespace: mesh.namespace, name: 'b' };
  await expect
    .poll(async () => (await mesh.admin.get(MESH_NODES, key)).status?.conditions?.[0]?.status)
    .toBe('True');
  expect(mesh.get('orders.0000')?.status?.phase).toBe('Lost');
  await mesh.patchSet({ freeze: null });
  await mesh.until('b owns both', (shards) => shards.every(({ status }) => status?.owner === 'b'));
});

test('a paused shard stays where it is; resumed, it goes where it should', async () => {
  for (const name of ['a', 'b']) await mesh.worker(name, {}, 5);
  await mesh.set({ shards: { count: 4 } });
  await mesh.operator();
  await mesh.owned(4);
  const owner = mesh.get('orders.0000')?.status?.owner ?? '';
  await mesh.patchShard('orders.0000', { state: 'Paused' });
  await mesh.until('it is paused', () => mesh.get('orders.0000')?.status?.phase === 'Paused');
  await mesh.patchNode(owner, { scheduling: 'Drain' });
  await mesh.until('all others have left', (shards) =>
    shards.every(({ metadata, status }) => metadata.name === 'orders.0000' || status?.owner !== owner),
  );
  expect(mesh.get('orders.0000')?.status).toMatchObject({ phase: 'Paused', owner });
  await mesh.patchShard('orders.0000', { state: null });
  await mesh.until('it has left too', () => mesh.get('orders.0000')?.status?.owner !== owner);
});
