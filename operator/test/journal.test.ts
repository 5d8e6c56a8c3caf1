import { SHARD_JOURNAL_HEADS } from '@meshkit/crds/journal-objects';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import type { ShardAssignment } from '@meshkit/shards/records';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { JournalOfTest, seenHops, toldHops } from './journal-of-test.ts';
import { Mesh } from './mesh.ts';

let mesh: Mesh;
let journal: JournalOfTest;

beforeEach(async () => {
  mesh = await Mesh.open();
  journal = new JournalOfTest(mesh);
});

afterEach(async () => {
  await mesh.close();
  await journal.remove();
});

test('every change is written down once, and a change of leader reconstructs nothing', async () => {
  await mesh.worker('a', {}, 10);
  await mesh.worker('b', {}, 10);
  const first = await mesh.operator(journal.settings());
  await expect.poll(() => journal.head(), { timeout: 10_000 }).toBeDefined();
  await mesh.set({ shards: { count: 16 }, churn: { maxConcurrentMoves: 8 } });
  await mesh.owned(16);
  await mesh.worker('c', {}, 10);
  await mesh.until(
    'c has some',
    (shards) => shards.filter(({ status }) => status?.owner === 'c').length >= 4,
  );
  await first.stop();
  const second = await mesh.operator(journal.settings());
  await mesh.patchNode('a', { scheduling: 'Drain' });
  await mesh.until('a has none', (shards) => shards.every(({ status }) => status?.owner !== 'a'));
  await journal.upToDate();
  const all = await journal.entries();
  expect(new Set(toldHops(all)).size).toBe(toldHops(all).length);
  expect(toldHops(all)).toEqual(seenHops(mesh));
  expect(all.every(({ source }) => source === 'watch')).toBe(true);
  const head = (await journal.head())!;
  expect(head.term).toBe(2);
  // What it tells of itself is what is there.
  const metric = (name: string) => journal.metric(second, name);
  await expect.poll(() => metric('head_position')).toBe(Number(head.mark.position));
  expect(await metric('floor_position')).toBe(Number(head.floor.position));
  expect(await metric('floor_timestamp_seconds')).toBe(Date.parse(head.floor.at) / 1_000);
  expect(await metric('append_seconds_count')).toBeGreaterThan(0);
  expect(await metric('append_seconds_sum')).toBeGreaterThan(0);
  expect(await metric('writing')).toBe(1);
  expect([await metric('coalesced_total'), await metric('repaired_total')]).toEqual([0, 0]);
  expect(await journal.metric(second, 'entries_total{source="reconcile"}')).toBe(0);
});

test('an idle journal writes nothing', async () => {
  await mesh.worker('a', {}, 10);
  const operator = await mesh.operator(journal.settings({ verifyMs: 200 }));
  await mesh.set({ shards: { count: 4 } });
  await mesh.owned(4);
  await journal.upToDate();
  const before = await mesh.admin.get(SHARD_JOURNAL_HEADS, { name: mesh.namespace });
  const writes = await journal.metric(operator, 'writes_total{kind="head"}');
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const after = await mesh.admin.get(SHARD_JOURNAL_HEADS, { name: mesh.namespace });
  expect(after.metadata.resourceVersion).toBe(before.metadata.resourceVersion);
  expect(await journal.metric(operator, 'writes_total{kind="head"}')).toBe(writes);
  expect(await journal.metric(operator, 'repaired_total')).toBe(0);
});

test('shards that were deleted and restored without status go back to their owners, with larger epochs', async () => {
  for (const name of ['a', 'b', 'c']) await mesh.worker(name, {}, 10);
  const first = await mesh.operator(journal.settings());
  const ids = Array.from({ length: 12 }, (_, at) => `s${at}`);
  // Nothing moves but what is pinned.
  await mesh.set({ shards: { ids }, freeze: 'Rebalance' });
  await mesh.owned(12);
  // Owners that no fresh plan would choose.
  for (const id of ids.slice(0, 4)) await mesh.patchShard(`orders.${id}`, { owner: { pinned: 'c' } });
  await mesh.until('pinned', (shards) =>
    ids.slice(0, 4).every((id) => shards.find(({ spec }) => spec.shardId === id)?.status?.owner === 'c'),
  );
  await mesh.owned(12);
  for (const id of ids.slice(0, 4)) await mesh.patchShard(`orders.${id}`, { owner: null });
  await journal.upToDate();
  await first.stop();
  const before = new Map(mesh.shards.list().map((shard) => [shard.metadata.name, shard.status!]));
  const backup = mesh.shards.list();
  for (const { metadata } of backup) await mesh.admin.delete(SHARD_ASSIGNMENTS, metadata);
  await mesh.until('all are gone', (shards) => shards.length === 0);
  for (const { apiVersion, kind, metadata, spec } of backup) {
    const { name, namespace, labels } = metadata;
    await mesh.admin.create(SHARD_ASSIGNMENTS, {
      apiVersion,
      kind,
      metadata: { name, namespace, labels },
      spec,
    });
  }
  await mesh.operator(journal.settings());
  await mesh.owned(12);
  for (const { metadata, status } of mesh.shards.list()) {
    const was = before.get(metadata.name)!;
    expect([metadata.name, status?.owner]).toEqual([metadata.name, was.owner]);
    expect(status?.epoch).toBeGreaterThan(was.epoch);
    expect(status?.recentTransitions?.at(-1)?.actor.name).toBe('Rehydrated');
  }
  // Events are written beside the work.
  const reasons = async () => {
    const path = `/apis/events.k8s.io/v1/namespaces/${mesh.namespace}/events`;
    const { items } = (await mesh.admin.raw('GET', path)) as { items: { reason: string }[] };
    return items.map(({ reason }) => reason);
  };
  await expect.poll(reasons).toContain('Rehydrated');
  await journal.upToDate();
  expect(await journal.entries()).not.toHaveLength(0);
});

test('what happened while no operator looked on is found by a list, hop by hop', async () => {
  await mesh.worker('a', {}, 10);
  const first = await mesh.operator(journal.settings());
  await mesh.set({ shards: { count: 3 } });
  await mesh.owned(3);
  await journal.upToDate();
  await first.stop();
  const position = (await journal.head())!.mark.position;
  // As another version of the operator would, without a journal.
  const silent = await mesh.operator();
  await mesh.worker('b', {}, 10);
  await mesh.patchNode('a', { scheduling: 'Drain' });
  await mesh.until('b has all', (shards) => shards.every(({ status }) => status?.owner === 'b'));
  await silent.stop();
  const head = await mesh.admin.get(SHARD_JOURNAL_HEADS, { name: mesh.namespace });
  expect(head.spec.mark.position).toBe(position);
  const again = await mesh.operator(journal.settings());
  await journal.upToDate();
  const all = await journal.entries();
  expect(toldHops(all)).toEqual(seenHops(mesh));
  expect(await journal.metric(again, 'coalesced_total')).toBe(0);
});

test('a new lineage on request: all are granted again, once', async () => {
  await mesh.worker('a', {}, 10);
  const first = await mesh.operator(journal.settings());
  await mesh.set({ shards: { count: 4 } });
  await mesh.owned(4);
  await journal.upToDate();
  await first.stop();
  const before = new Map(mesh.shards.list().map((shard) => [shard.metadata.name, shard.status!]));
  const later = (shards: ShardAssignment[]) =>
    shards.every(({ metadata, status }) => status!.epoch > before.get(metadata.name)!.epoch);
  const second = await mesh.operator(journal.settings({ newLineage: 'restore-1' }));
  await mesh.until('all have new epochs', later);
  expect([...mesh.owners().values()]).toEqual(['a', 'a', 'a', 'a']);
  const { nonce } = (await journal.head())!;
  expect(nonce).not.toBe('');
  await journal.upToDate();
  await second.stop();
  const versions = mesh.shards.list().map(({ status }) => status?.version);
  await mesh.operator(journal.settings({ newLineage: 'restore-1' }));
  await expect.poll(async () => (await journal.head())?.term, { timeout: 10_000 }).toBe(3);
  await mesh.set({ shards: { count: 1 } }, 'other');
  await mesh.owned(5);
  expect((await journal.head())!.nonce).toBe(nonce);
  const ours = mesh.shards.list().filter(({ spec }) => spec.shardSet === 'orders');
  expect(ours.map(({ status }) => status?.version)).toEqual(versions);
});
