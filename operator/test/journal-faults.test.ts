import { SHARD_JOURNAL_HEADS, SHARD_JOURNAL_SEGMENTS } from '@meshkit/crds/journal-objects';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import type { ShardAssignment } from '@meshkit/shards/records';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Faults, faultyClient, forgetfulClient } from './faulty-client.ts';
import { JournalOfTest, seenHops, toldHops } from './journal-of-test.ts';
import { Mesh, type RunningOperator } from './mesh.ts';

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

async function readiness({ url }: RunningOperator): Promise<string> {
  return (await fetch(`${url}/readyz`)).text();
}

/** All shards to the other of two nodes. */
async function moveAll(from: string, to: string): Promise<void> {
  await mesh.patchNode(to, { scheduling: 'Active' });
  await mesh.patchNode(from, { scheduling: 'Drain' });
  await mesh.until(`${to} has all`, (shards) =>
    shards.every(({ status }) => status?.owner === to && status.phase === 'Active'),
  );
}

describe('the journal through faults', () => {
  test('a store that refuses writes stops no failover, is reported, and nothing is lost', async () => {
    const faults: Faults = new Map();
    for (const name of ['a', 'b']) await mesh.worker(name, {}, 10);
    const operator = await mesh.operator({
      ...journal.settings(),
      faulty: (client) => faultyClient(client, faults),
    });
    await mesh.set({ shards: { count: 6 } });
    await mesh.owned(6);
    await journal.upToDate();
    faults.set('create shardjournalsegments', 500);
    await moveAll('a', 'b');
    await expect.poll(() => readiness(operator)).toMatch(/the journal is not written.*refused by the test/);
    expect(await journal.metric(operator, 'append_failures_total')).toBeGreaterThan(0);
    const { position } = (await journal.head())!.mark;
    await moveAll('b', 'a');
    expect((await journal.head())!.mark.position).toBe(position);
    faults.clear();
    await journal.upToDate();
    expect(toldHops(await journal.entries())).toEqual(seenHops(mesh));
    await expect.poll(() => readiness(operator)).toBe('ok\n');
  });

  test('a takeover whose swap is refused lets failovers through after its time, and holds back first grants', async () => {
    const faults: Faults = new Map();
    await mesh.worker('a');
    await mesh.worker('b', {}, 10);
    const first = await mesh.operator(journal.settings());
    await mesh.set({ shards: { count: 4 } });
    await mesh.owned(4);
    await journal.upToDate();
    await first.stop();
    faults.set('update shardjournalheads', 500);
    const second = await mesh.operator({
      ...journal.settings({ catchUpMs: 300 }),
      faulty: (client) => faultyClient(client, faults),
    });
    mesh.die('a');
    await mesh.until('b has all', (shards) =>
      shards.every(({ status }) => status?.owner === 'b' && status.phase === 'Active'),
    );
    expect(await readiness(second)).toContain('the journal is not written');
    await mesh.patchSet({ shards: { count: 6 } });
    const reason = async () =>
      (await mesh.admin.get(SHARD_SETS, { namespace: mesh.namespace, name: 'orders' })).status
        ?.conditions?.[0]?.reason;
    await expect.poll(reason, { timeout: 10_000 }).toBe('AwaitingJournal');
    expect(mesh.shards.list().filter(({ status }) => status === undefined)).toHaveLength(2);
    faults.clear();
    await mesh.owned(6);
    await journal.upToDate();
    expect(toldHops(await journal.entries())).toEqual(seenHops(mesh));
  });

  test('shards that were restored without status are not placed anew because the journal cannot be read', async () => {
    const faults: Faults = new Map();
    for (const name of ['a', 'b', 'c']) await mesh.worker(name, {}, 10);
    const first = await mesh.operator(journal.settings());
    const ids = Array.from({ length: 6 }, (_, at) => `s${at}`);
    await mesh.set({ shards: { ids }, freeze: 'Rebalance' });
    await mesh.owned(6);
    // An owner that no fresh plan would choose.
    for (const id of ids) await mesh.patchShard(`orders.${id}`, { owner: { pinned: 'c' } });
    await mesh.until('c has all', (shards) =>
      shards.every(({ status }) => status?.owner === 'c' && status.phase === 'Active'),
    );
    for (const id of ids) await mesh.patchShard(`orders.${id}`, { owner: null });
    await journal.upToDate();
    await first.stop();
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
    faults.set('get shardjournalheads', 503);
    await mesh.operator({
      ...journal.settings({ catchUpMs: 100 }),
      faulty: (client) => faultyClient(client, faults),
    });
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(mesh.shards.list().filter(({ status }) => status?.owner !== undefined)).toEqual([]);
    faults.clear();
    await mesh.owned(6);
    expect(new Set(mesh.owners().values())).toEqual(new Set(['c']));
  });

  test.each([
    ['are not served', 404],
    ['may not be read', 403],
  ])('where its kinds %s, the operator works without it and says so', async (_, status) => {
    const faults: Faults = new Map([
      ['get shardjournalheads', status],
      ['list shardjournalheads', status],
      ['list shardjournalsegments', status],
    ]);
    await mesh.worker('a', {}, 10);
    const operator = await mesh.operator({
      ...journal.settings({ catchUpMs: 60_000 }),
      faulty: (client) => faultyClient(client, faults),
    });
    await mesh.set({ shards: { count: 2 } });
    await mesh.owned(2);
    expect(await readiness(operator)).toContain('the journal is not written');
  });

  test('after lost history a list tells what was missed, hop by hop, and says that it is a reconstruction', async () => {
    const faults: Faults = new Map();
    for (const name of ['a', 'b']) await mesh.worker(name, {}, 10);
    const first = await mesh.operator(journal.settings());
    await mesh.set({ shards: { count: 4 } });
    await mesh.owned(4);
    await moveAll('a', 'b');
    await journal.upToDate();
    await first.stop();
    const from = (await journal.head())!.mark.position;
    const silent = await mesh.operator();
    await moveAll('b', 'a');
    await silent.stop();
    faults.set('watch shardassignments', 410);
    const again = await mesh.operator({
      ...journal.settings(),
      faulty: (client) => faultyClient(client, faults),
    });
    await journal.upToDate();
    faults.clear();
    const all = await journal.entries();
    expect(toldHops(all)).toEqual(seenHops(mesh));
    const missed = all.filter(({ source }) => source === 'reconcile');
    expect(missed.map(({ after }) => after?.phase).sort()).toEqual([
      ...Array(4).fill('Active'),
      ...Array(4).fill('Draining'),
    ]);
    const [slice] = await journal.since(from);
    expect(slice?.gaps).toMatchObject([{ from }]);
    expect(await journal.metric(again, 'coalesced_total')).toBe(0);
  });

  test('edits that nobody saw are said to be several, and counted', async () => {
    const faults: Faults = new Map();
    await mesh.worker('a', {}, 10);
    const first = await mesh.operator(journal.settings());
    await mesh.set({ shards: { count: 1 } });
    await mesh.owned(1);
    await journal.upToDate();
    await first.stop();
    for (const ticket of ['CHG-1', 'CHG-2', 'CHG-3'])
      await mesh.patchShard('orders.0000', { changeTicket: ticket, reason: `because of ${ticket}` });
    faults.set('watch shardassignments', 410);
    const again = await mesh.operator({
      ...journal.settings(),
      faulty: (client) => faultyClient(client, faults),
    });
    await expect.poll(() => journal.metric(again, 'coalesced_total')).toBe(2);
    faults.clear();
    await journal.upToDate();
    const edited = (await journal.entries()).find(({ source }) => source === 'reconcile');
    expect(edited).toMatchObject({
      before: { generation: 1 },
      after: { generation: 4, changeTicket: 'CHG-3' },
      coalesced: 2,
    });
  });

  test('a full buffer becomes a gap that a list closes, and is counted', async () => {
    const faults: Faults = new Map();
    for (const name of ['a', 'b']) await mesh.worker(name, {}, 10);
    const operator = await mesh.operator({
      ...journal.settings({ buffer: { entries: 8, bytes: 1 << 20 } }),
      faulty: (client) => faultyClient(client, faults),
    });
    await mesh.set({ shards: { count: 10 } });
    await mesh.owned(10);
    await journal.upToDate();
    faults.set('create shardjournalsegments', 500);
    await moveAll('a', 'b');
    await moveAll('b', 'a');
    await expect.poll(() => journal.metric(operator, 'coalesced_total')).toBeGreaterThan(0);
    faults.clear();
    await journal.upToDate();
    expect(toldHops(await journal.entries())).toEqual(seenHops(mesh));
    // It goes on by watch, with a change that the buffer has room for.
    await mesh.patchShard('orders.0000', { reason: 'one change' });
    await mesh.until('the change is seen', (shards) =>
      shards.some(({ spec }) => spec.reason === 'one change'),
    );
    await journal.upToDate();
    expect((await journal.entries()).at(-1)?.source).toBe('watch');
  });

  test('a segment that is gone: the floor is raised above it, counted, and writing goes on', async () => {
    for (const name of ['a', 'b']) await mesh.worker(name, {}, 10);
    const operator = await mesh.operator(journal.settings({ verifyMs: 300 }));
    await mesh.set({ shards: { count: 4 } });
    await mesh.owned(4);
    await moveAll('a', 'b');
    await journal.upToDate();
    const before = (await journal.head())!;
    await journal.deleteOldest();
    await expect.poll(() => journal.metric(operator, 'damaged_total'), { timeout: 10_000 }).toBe(1);
    const after = (await journal.head())!;
    expect(Number(after.floor.position)).toBeGreaterThan(Number(before.floor.position));
    await expect(journal.since(before.floor.position)).rejects.toMatchObject({ code: 'tokenExpired' });
    await moveAll('b', 'a');
    await journal.upToDate();
  });

  test('what the watch never told is found by the comparison, written down, and counted', async () => {
    let victim: string | undefined;
    const grant = ({ object }: { object?: ShardAssignment }) =>
      object?.metadata.name === victim && object?.status?.phase === 'Active';
    for (const name of ['a', 'b']) await mesh.worker(name, {}, 10);
    const operator = await mesh.operator({
      ...journal.settings({ verifyMs: 300 }),
      // The first is the cache's, the second the journal's.
      faulty: (client) => forgetfulClient(client, 'shardassignments', 2, grant),
    });
    await mesh.set({ shards: { count: 4 } });
    await mesh.owned(4);
    await journal.upToDate();
    victim = [...mesh.owners()].find(([, owner]) => owner === 'a')?.[0] ?? 'none of a';
    await moveAll('a', 'b');
    await journal.upToDate();
    expect(await journal.metric(operator, 'repaired_total')).toBeGreaterThan(0);
    const told = new Set(toldHops(await journal.entries()));
    expect(seenHops(mesh).filter((hop) => !told.has(hop))).toEqual([]);
    victim = undefined;
    await moveAll('b', 'a');
    await journal.upToDate();
  });

  test('a node whose readiness changes while a restore holds all writes has the right condition afterwards', async () => {
    const faults: Faults = new Map();
    await mesh.worker('a', {}, 10);
    const operator = await mesh.operator({
      ...journal.settings({ catchUpMs: 2_000 }),
      faulty: (client) => faultyClient(client, faults),
    });
    await mesh.set({ shards: { count: 2 } });
    await mesh.owned(2);
    await journal.upToDate();
    const { spec } = await mesh.admin.get(SHARD_JOURNAL_HEADS, { name: mesh.namespace });
    await mesh.patchSet({ shards: { count: 4 } });
    await mesh.owned(4);
    await journal.upToDate();
    // The head goes back, as after a restore, and no new lineage can begin.
    faults.set('update shardjournalheads', 500);
    const head = await mesh.admin.get(SHARD_JOURNAL_HEADS, { name: mesh.namespace });
    await mesh.admin.update(SHARD_JOURNAL_HEADS, { ...head, spec });
    await expect.poll(() => readiness(operator)).toContain('history went back');
    await mesh.worker('b', { scheduling: 'Cordoned' }, 10);
    const ready = async () => {
      const { status } = await mesh.admin.get(MESH_NODES, { namespace: mesh.namespace, name: 'b' });
      return status?.conditions?.[0]?.status;
    };
    await expect.poll(ready).toBe('True');
  });

  test('a head that somebody deleted: the journal begins anew, and owners stay', async () => {
    await mesh.worker('a', {}, 10);
    const operator = await mesh.operator(journal.settings());
    await mesh.set({ shards: { count: 2 } });
    await mesh.owned(2);
    await journal.upToDate();
    const { term } = (await journal.head())!;
    await mesh.admin.delete(SHARD_JOURNAL_HEADS, { name: mesh.namespace });
    await mesh.patchSet({ shards: { count: 3 } });
    await mesh.owned(3);
    await journal.upToDate();
    expect((await journal.head())!.term).toBeGreaterThan(term);
    expect(await journal.metric(operator, 'fenced_total')).toBe(1);
    await mesh.patchSet({ shards: { count: 4 } });
    await mesh.owned(4);
    await journal.upToDate();
    const { items } = await mesh.admin.listAll(SHARD_JOURNAL_SEGMENTS, { metadataOnly: true });
    expect(items.filter(({ metadata }) => metadata.name.startsWith(mesh.namespace)).length).toBeLessThan(20);
  });
});
