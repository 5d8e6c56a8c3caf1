import type { JournalEntry, JournalSlice } from '@meshkit/shards/journal';
import { entryOf, JournalFold } from '@meshkit/shards/journal-fold';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Fate, JournalCluster } from '../test/journal-cluster.ts';
import { Shards, START, signal, storeOptions, takeOver } from '../test/journal-writing.ts';
import { chainOf } from './journal-chain.ts';
import { SHARD_JOURNAL_HEADS, SHARD_JOURNAL_SEGMENTS } from './journal-objects.ts';
import { KubernetesJournal } from './journal-reader.ts';
import type { JournalStore } from './journal-store.ts';
import { isFence } from './journal-swap.ts';

const name = fc.constantFrom('orders.1', 'orders.2', 'orders.3', 'orders.4');
const node = fc.constantFrom('n1', 'n2', 'n3');
const change = fc.record({ name, node, removed: fc.boolean() });
const act = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      act: fc.constant('append' as const),
      changes: fc.array(change, { maxLength: 5 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('maintain' as const) }) },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('verify' as const) }) },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('takeOver' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      act: fc.constant('fail' as const),
      fates: fc.array(fc.constantFrom<Fate>('refused', 'lost', 'done'), { maxLength: 4 }),
    }),
  },
);

function applied(
  shards: Shards,
  changes: readonly { name: string; node: string; removed: boolean }[],
): JournalEntry[] {
  return changes.flatMap((one) => (one.removed ? shards.remove(one.name) : shards.grant(one.name, one.node)));
}

/** As the operator does: the same call again until it succeeds. */
async function untilDone(cluster: JournalCluster, act: () => Promise<unknown>): Promise<void> {
  for (;;) {
    const planned = cluster.fates.length;
    try {
      await act();
      return;
    } catch (error) {
      if (planned === 0) throw error;
    }
  }
}

async function told(cluster: JournalCluster, after: string): Promise<JournalEntry[]> {
  const reader = new KubernetesJournal({ client: cluster.client });
  const slices = await Array.fromAsync(reader.read(after, signal));
  return slices.flatMap(({ entries }) => entries);
}

/** Without what JSON leaves out. */
const plain = <T>(value: T): T => JSON.parse(JSON.stringify(value));

describe('the journal in a cluster', () => {
  it('holds every entry once and in order, whatever is refused or lost on the way', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 40 }), async (acts) => {
        const cluster = new JournalCluster();
        const shards = new Shards();
        const start = String(shards.position);
        const options = storeOptions(cluster.client);
        let store = await takeOver(options, shards);
        const all: JournalEntry[] = [];
        for (const one of acts) {
          switch (one.act) {
            case 'append': {
              const entries = applied(shards, one.changes);
              await untilDone(cluster, () => store.append(entries, {}, signal));
              for (const entry of entries) all.push(entry);
              break;
            }
            case 'fail':
              cluster.fates.push(...one.fates);
              break;
            case 'takeOver':
              await untilDone(cluster, async () => {
                store = await takeOver(options, shards);
              });
              break;
            default:
              await untilDone(cluster, () => store[one.act](signal));
          }
        }
        expect(store.fold.mark.anchor).toBe(shards.fold.mark.anchor);
        expect(plain(await told(cluster, start))).toEqual(plain(all));
        const reader = new KubernetesJournal({ client: cluster.client });
        const state = await reader.state(signal);
        expect(state?.mark.anchor).toBe(shards.fold.mark.anchor);
        const back = await Array.fromAsync(reader.readBack(signal));
        expect(plain(back.toReversed().flatMap(({ entries }) => entries))).toEqual(plain(all));
      }),
      { numRuns: 150 },
    );
  });

  it('lets nobody write who has been taken over, and keeps what the new one writes', async () => {
    const cluster = new JournalCluster();
    const shards = new Shards();
    const start = String(shards.position);
    const options = storeOptions(cluster.client);
    const old = await takeOver(options, shards);
    const first = shards.grant('orders.1', 'n1');
    await old.append(first, {}, signal);
    const next = await takeOver(options, shards);
    expect(next.spec.term).toBe(2);
    expect(next.fold.mark).toEqual(shards.fold.mark);
    const second = shards.grant('orders.1', 'n2');
    const refused = old.append(second, {}, signal);
    await expect(refused).rejects.toSatisfy(isFence);
    await next.append(second, {}, signal);
    expect(await told(cluster, start)).toHaveLength(2);
    const third = await takeOver(options, shards);
    await third.maintain(signal);
    // What the old one left behind is gone: it was never named.
    expect(cluster.objects(SHARD_JOURNAL_SEGMENTS).size).toBe(3);
    expect(await told(cluster, start)).toHaveLength(2);
  });

  it('is read whole although segments are merged after its head was read and before their index is', async () => {
    const cluster = new JournalCluster();
    const shards = new Shards();
    const start = String(shards.position);
    const store = await takeOver(storeOptions(cluster.client), shards);
    const append = async () => {
      await store.append(shards.grant('orders.1', 'n1'), {}, signal);
      await store.maintain(signal);
    };
    /** Seven segments are there; the eighth comes, and all become one, before the index is read. */
    const reader = async () => {
      for (let at = 0; at < 7; at += 1) await append();
      let isMerged = false;
      const list: typeof cluster.client.list = async (...call) => {
        if (!isMerged) await append();
        isMerged = true;
        return cluster.client.list(...call);
      };
      return new KubernetesJournal({ client: { ...cluster.client, list }, onDamage: expect.unreachable });
    };
    expect((await (await reader()).state(signal))?.mark.anchor).toBe(shards.fold.mark.anchor);
    const forth = await Array.fromAsync((await reader()).read(start, signal));
    expect(forth.flatMap(({ entries }) => entries)).toHaveLength(16);
    const back = await Array.fromAsync((await reader()).readBack(signal));
    expect(back.flatMap(({ entries }) => entries)).toHaveLength(24);
  });

  describe('while segments are merged under a reader', () => {
    const COUNT = 9;

    async function journal() {
      const cluster = new JournalCluster();
      const shards = new Shards();
      const start = String(shards.position);
      const store = await takeOver(storeOptions(cluster.client), shards);
      const all: JournalEntry[] = [];
      for (let at = 0; at < COUNT; at += 1) {
        const entries = shards.grant(`orders.${at % 2}`, `n${at}`);
        await store.append(entries, {}, signal);
        for (const entry of entries) all.push(entry);
      }
      const reader = new KubernetesJournal({ client: cluster.client, onDamage: expect.unreachable });
      return { store, reader, start, all };
    }

    /** Eight of nine segments become one, and are deleted, once so many slices were read. */
    async function readWhile(
      store: JournalStore,
      slices: AsyncIterable<JournalSlice>,
      after: number,
    ): Promise<JournalSlice[]> {
      const read: JournalSlice[] = [];
      for await (const slice of slices) {
        read.push(slice);
        if (read.length === after) await store.maintain(signal);
      }
      expect(store.segments).toHaveLength(2);
      return read;
    }

    const entriesOf = (slices: readonly JournalSlice[]) => plain(slices.flatMap(({ entries }) => entries));

    it.each(Array.from({ length: COUNT }, (_, at) => at + 1))(
      'tells everything once, forwards and back (after %i slices)',
      async (after) => {
        const forth = await journal();
        const read = await readWhile(forth.store, forth.reader.read(forth.start, signal), after);
        expect(entriesOf(read)).toEqual(plain(forth.all));
        const back = await journal();
        const readBack = await readWhile(back.store, back.reader.readBack(signal), after);
        expect(entriesOf(readBack.toReversed())).toEqual(plain(back.all));
        for (const slices of [read, readBack.toReversed()]) {
          for (const [at, { to }] of slices.slice(0, -1).entries())
            expect(slices[at + 1]!.from.anchor).toBe(to.anchor);
        }
      },
    );

    it('tells everything where the index that is remembered is older than the merge', async () => {
      const { store, reader, all } = await journal();
      for await (const { from } of reader.readBack(signal)) if (from.position === all[5]?.position) break;
      await store.maintain(signal);
      const back = await Array.fromAsync(reader.readBack(signal));
      expect(entriesOf(back.toReversed())).toEqual(plain(all));
    });
  });

  it('keeps few objects of many small batches, and few bytes', async () => {
    const cluster = new JournalCluster();
    const shards = new Shards();
    const start = String(shards.position);
    let written = 0;
    const options = storeOptions(cluster.client, {
      onWrite: (_, bytes) => {
        written += bytes;
      },
    });
    const store = await takeOver(options, shards);
    const all: JournalEntry[] = [];
    for (let batch = 0; batch < 600; batch += 1) {
      const entries = [batch % 50, (batch * 7) % 50].flatMap((shard) =>
        shards.grant(`orders.${shard}`, `n${batch % 9}`),
      );
      await store.append(entries, {}, signal);
      await store.maintain(signal);
      all.push(...entries);
    }
    expect(store.segments.length).toBeLessThan(30);
    expect(cluster.objects(SHARD_JOURNAL_SEGMENTS).size).toBe(store.segments.length + 1);
    expect(store.spec.bytes / store.spec.entries).toBeLessThan(100);
    expect(written / all.length).toBeLessThan(2_500);
    expect(await told(cluster, start)).toHaveLength(all.length);
    expect((await told(cluster, all[499]!.position)).length).toBe(all.length - 500);
  });

  it('raises the floor before it deletes, and never above what the state is made of', async () => {
    const cluster = new JournalCluster();
    const shards = new Shards();
    const start = String(shards.position);
    const clock = { now: () => shards.now };
    const retention = { ms: 3_600_000, bytes: 8_000 };
    const store = await takeOver(storeOptions(cluster.client, { clock, retention }), shards);
    const reader = new KubernetesJournal({ client: cluster.client });
    for (let batch = 0; batch < 300; batch += 1) {
      await store.append(shards.grant(`orders.${batch % 20}`, `n${batch % 9}`), {}, signal);
      const { floor } = (await reader.head(signal))!;
      const chain = chainOf(store.segments, cluster.objects(SHARD_JOURNAL_HEADS).get('meshkit')!.spec);
      expect(chain.broken).toBeUndefined();
      expect(chain.segments[0]?.from.position ?? floor.position).toBe(floor.position);
      await store.maintain(signal);
    }
    expect((await reader.state(signal))?.mark.anchor).toBe(shards.fold.mark.anchor);
    expect(store.spec.bytes).toBeLessThan(10_000);
    await expect(told(cluster, start)).rejects.toMatchObject({
      code: 'tokenExpired',
      details: { floor: store.spec.floor.position, head: store.spec.mark.position },
    });
    shards.now += 2 * 3_600_000;
    for (let batch = 0; batch < 3; batch += 1)
      await store.append(shards.grant('orders.1', `n${batch}`), {}, signal);
    await store.maintain(signal);
    expect(store.spec.entries).toBeLessThanOrEqual(3);
    expect((await reader.state(signal))?.mark.anchor).toBe(shards.fold.mark.anchor);
    const oldest = store.spec.floor.position;
    const slices = await Array.fromAsync(reader.read(oldest, signal));
    expect(slices[0]!.from.anchor).toBe(store.spec.floor.anchor);
  });

  it('writes what is too much for one segment as several, between which no state is settled', async () => {
    const cluster = new JournalCluster();
    const shards = new Shards();
    const start = String(shards.position);
    const store = await takeOver(storeOptions(cluster.client), shards);
    const before = shards.grant('orders.0', 'n1');
    await store.append(before, {}, signal);
    const from = store.spec.mark.position;
    for (let at = 0; at < 5_000; at += 1) shards.grant(`orders.${at}`, 'n2');
    const listed = new Shards(shards.position + 10);
    for (const [key, record] of shards.records) listed.records.set(key, record);
    const changes = store.fold.changesToList(shards.records.values(), String(listed.position));
    const entries = changes.map((one) => entryOf(one, new Date(START).toISOString()));
    const gap = { from, to: String(listed.position) };
    await store.append(entries, { position: gap.to, gap }, signal);
    expect(store.segments.length).toBeGreaterThan(3);
    expect(store.spec.mark.position).toBe(gap.to);
    const reader = new KubernetesJournal({ client: cluster.client });
    const inside = String(Number(from) + 2_000);
    const slices = await Array.fromAsync(reader.read(inside, signal));
    expect(slices).toHaveLength(1);
    expect(slices[0]!.from.position).toBe(from);
    expect(slices[0]!.gaps).toEqual([gap]);
    expect(slices[0]!.entries).toHaveLength(5_000);
    expect(await told(cluster, start)).toHaveLength(5_001);
    expect((await reader.state(signal))?.mark.anchor).toBe(
      JournalFold.listed(shards.records.values(), '1').mark.anchor,
    );
  });

  describe('damage', () => {
    async function damaged(which: (store: JournalStore) => string, how: 'deleted' | 'altered') {
      const cluster = new JournalCluster();
      const shards = new Shards();
      let damages = 0;
      const options = storeOptions(cluster.client, {
        onDamage: () => {
          damages += 1;
        },
      });
      const store = await takeOver(options, shards);
      const positions: string[] = [];
      for (let batch = 0; batch < 6; batch += 1) {
        positions.push(String(shards.position));
        await store.append(shards.grant(`orders.${batch % 3}`, `n${batch}`), {}, signal);
      }
      const segments = cluster.objects(SHARD_JOURNAL_SEGMENTS);
      const victim = segments.get(which(store))!;
      if (how === 'deleted') segments.delete(victim.metadata.name);
      else
        segments.set(victim.metadata.name, {
          ...victim,
          spec: { ...victim.spec, data: `${victim.spec.data.slice(0, -4)}AAAA` },
        });
      return { cluster, shards, options, store, positions, damages: () => damages };
    }

    it.each(['deleted', 'altered'] as const)(
      '%s: readers before it are told, readers after it notice nothing',
      async (how) => {
        const { cluster, positions } = await damaged((store) => store.segments[2]!.name, how);
        for (const [at, position] of positions.entries()) {
          if (at < 3) await expect(told(cluster, position)).rejects.toMatchObject({ code: 'tokenExpired' });
          else expect(await told(cluster, position)).toHaveLength(6 - at);
        }
      },
    );

    it.each(['deleted', 'altered'] as const)(
      '%s: the writer raises the floor above it, and goes on',
      async (how) => {
        const { cluster, shards, store, positions, damages } = await damaged(
          (given) => given.segments[2]!.name,
          how,
        );
        // One content is looked at in each round.
        for (let round = 0; round < 3; round += 1) await store.verify(signal);
        expect(damages()).toBe(1);
        expect(store.spec.floor.position).toBe(positions[3]);
        await store.append(shards.grant('orders.1', 'n9'), {}, signal);
        await store.maintain(signal);
        expect(await told(cluster, positions[3]!)).toHaveLength(4);
        await expect(told(cluster, positions[2]!)).rejects.toMatchObject({ code: 'tokenExpired' });
        const reader = new KubernetesJournal({ client: cluster.client });
        expect((await reader.state(signal))?.mark.anchor).toBe(shards.fold.mark.anchor);
      },
    );

    it.each([
      ['deleted', 'refused'],
      ['altered', 'refused'],
      ['deleted', 'lost'],
      ['altered', 'lost'],
    ] as const)('%s, and the write of the new floor is %s: the floor stays true', async (how, fate) => {
      const { cluster, shards, store, positions } = await damaged((given) => given.segments[2]!.name, how);
      const old = store.spec.floor.position;
      /** From the floor on everything is named, and nothing but what is damaged is gone. */
      const isTrue = () => {
        const { floor } = cluster.objects(SHARD_JOURNAL_HEADS).get('meshkit')!.spec;
        expect(floor.position).toBe(store.segments[0]!.from.position);
        const present = cluster.objects(SHARD_JOURNAL_SEGMENTS);
        const missing = store.segments.filter(({ name }) => !present.has(name));
        const isHealed = floor.position !== old;
        expect(missing).toHaveLength(how === 'deleted' && !isHealed ? 1 : 0);
      };
      const verify = () => store.verify(signal).catch(() => undefined);
      cluster.fates.push(fate);
      for (let round = 0; cluster.fates.length > 0 && round < 9; round += 1) await verify();
      expect(cluster.fates).toEqual([]);
      expect(store.spec.floor.position).toBe(old);
      await store.append(shards.grant('orders.1', 'n9'), {}, signal);
      await store.maintain(signal);
      isTrue();
      for (let round = 0; round < 9; round += 1) await verify();
      isTrue();
      expect(store.spec.floor.position).toBe(positions[3]);
      expect(await told(cluster, positions[3]!)).toHaveLength(4);
      await expect(told(cluster, positions[2]!)).rejects.toMatchObject({ code: 'tokenExpired' });
    });

    it.each([
      ['a segment that the state needs', (store: JournalStore) => store.segments[4]!.name],
      ['the newest segment', (store: JournalStore) => store.segments[5]!.name],
      ['the checkpoint', (store: JournalStore) => `${store.spec.checkpoint.name}.0`],
    ])('%s: a new writer begins anew from a list', async (_, which) => {
      const { cluster, shards, options, damages } = await damaged(which, 'altered');
      const next = await takeOver(options, shards);
      expect(damages()).toBe(1);
      expect(next.spec.floor).toEqual(next.spec.mark);
      expect(next.fold.mark.anchor).toBe(shards.fold.mark.anchor);
      const since = next.spec.floor.position;
      await next.append(shards.grant('orders.1', 'n9'), {}, signal);
      await next.maintain(signal);
      expect(await told(cluster, since)).toHaveLength(1);
      const reader = new KubernetesJournal({ client: cluster.client });
      expect((await reader.state(signal))?.mark.anchor).toBe(shards.fold.mark.anchor);
      expect(cluster.objects(SHARD_JOURNAL_SEGMENTS).size).toBe(2);
    });
  });

  describe('lineage', () => {
    it('is renewed on request, once for a request, and names the epochs that are over', async () => {
      const cluster = new JournalCluster();
      const shards = new Shards();
      const options = storeOptions(cluster.client);
      const renews = (request: string) => ({
        request,
        renews: (head?: { requests?: readonly string[] }) => !head?.requests?.includes(request),
      });
      const first = await takeOver(options, shards);
      await first.append(shards.grant('orders.1', 'n1'), {}, signal);
      const restore = cluster.snapshot();
      await first.append(shards.grant('orders.1', 'n2'), {}, signal);
      restore();
      const second = await takeOver(options, shards, renews('restore-1'));
      expect(second.renewed).toBe(true);
      expect(second.spec.nonces).toEqual(['', second.spec.nonce]);
      expect(second.spec.epochFloor).toBeGreaterThanOrEqual(Math.floor(START / 1000));
      const third = await takeOver(options, shards, renews('restore-1'));
      expect(third.renewed).toBe(false);
      expect(third.spec.nonce).toBe(second.spec.nonce);
      // The same snapshot again: the request is not noted in it.
      restore();
      const fourth = await takeOver(options, shards, renews('restore-1'));
      expect(fourth.renewed).toBe(true);
      expect(fourth.spec.nonce).not.toBe(second.spec.nonce);
    });

    it('of another cluster is not continued, but who owned what is remembered', async () => {
      const cluster = new JournalCluster();
      const shards = new Shards();
      const first = await takeOver(storeOptions(cluster.client), shards);
      await first.append(shards.grant('orders.1', 'n1'), {}, signal);
      const elsewhere = new Shards(77);
      const next = await takeOver(storeOptions(cluster.client, { cluster: 'cluster-2' }), elsewhere);
      expect(next.renewed).toBe(true);
      expect(next.spec.floor.position).toBe('77');
      expect(next.fold.size).toBe(0);
      expect(next.fold.remembered('a/orders.1')).toMatchObject({ owner: 'n1' });
      const again = await takeOver(storeOptions(cluster.client, { cluster: 'cluster-2' }), elsewhere);
      expect(again.renewed).toBe(false);
      expect(again.fold.remembered('a/orders.1')).toMatchObject({ owner: 'n1' });
    });
  });
});
