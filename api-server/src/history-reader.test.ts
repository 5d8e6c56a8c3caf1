import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import type { LogItem, NetItem } from '@meshkit/shards/diff';
import { describe, expect, it } from 'vitest';
import { Cluster } from '../test/watch-model.ts';
import { HistoryReader } from './history-reader.ts';
import { JournalArchive } from './journal-archive.ts';
import { Timeline } from './timeline.ts';

const signal = new AbortController().signal;
const NOW = Date.parse('2026-11-23T12:10:00Z');

/** A server that began when `heard` changes were written down, after a cluster had gone through `work`. */
function setUp(work: (cluster: Cluster) => void, ringSize = 100) {
  const cluster = new Cluster('journal');
  work(cluster);
  cluster.writer!.hear(Number.POSITIVE_INFINITY);
  const clock = new ManualClock();
  const journal = new JournalArchive({
    reader: cluster.writer!.journal,
    clock: {
      monotonic: () => clock.monotonic(),
      sleep: async (ms, stop) => (stop ? forever(stop) : clock.advance(ms)),
    },
    log: silentLog,
  });
  const timeline = new Timeline({ changes: ringSize, bytes: 1 << 30 }, clock);
  timeline.seed(cluster.writer!.fold.state);
  timeline.apply(cluster.listed());
  const reader = new HistoryReader({ timeline, journal, lineage: () => 'l', clock: { now: () => NOW } });
  return { cluster, timeline, reader };
}

const forever = (stop: AbortSignal) =>
  new Promise<void>((_, reject) => stop.addEventListener('abort', () => reject(stop.reason)));

describe('the past', () => {
  const work = (cluster: Cluster): void => {
    cluster.write('a/orders.0', 'node-1');
    cluster.write('a/orders.1', 'node-1');
    cluster.write('b/orders.0', 'node-2');
    cluster.write('a/orders.0', 'node-2');
    cluster.remove('a/orders.1');
    cluster.write('a/orders.2', 'node-3');
    cluster.pass(5);
  };

  it('is told from the journal, by a server that has just started', async () => {
    const { reader, cluster } = setUp(work);
    const page = await reader.diff({}, { mode: 'net', from: '102', limit: 100 }, signal);
    const rows = page.items as NetItem[];
    expect(rows.map(({ namespace, name, change, hops }) => `${namespace}/${name} ${change} ${hops}`)).toEqual(
      ['a/orders.0 Moved 1', 'a/orders.1 Removed 1', 'a/orders.2 Added 1', 'b/orders.0 Added 1'],
    );
    expect(page).toMatchObject({
      from: { position: '102' },
      to: { position: cluster.position },
      summary: { shards: 3, moved: 1, added: 2, removed: 1, statusChanged: 0 },
    });
  });

  it('ends after it begins, also where nothing happened in between', async () => {
    const { reader } = setUp(work);
    const backwards = reader.diff({}, { mode: 'net', from: '1s', to: '2s', limit: 100 }, signal);
    await expect(backwards).rejects.toMatchObject({ code: 'invalidArgument' });
    const { summary } = await reader.diff({}, { mode: 'net', from: '2s', to: '1s', limit: 100 }, signal);
    expect(summary).toMatchObject({ moved: 0, added: 0, removed: 0 });
  });

  it('is every change with mode log, in pages that fit together', async () => {
    const { reader } = setUp(work, 2);
    const items: LogItem[] = [];
    let cursor: string | undefined;
    do {
      const page = await reader.diff(
        { namespace: 'a' },
        { mode: 'log', from: '102', cursor, limit: 2 },
        signal,
      );
      items.push(...(page.items as LogItem[]));
      cursor = page.next;
    } while (cursor !== undefined);
    expect(
      items.map(({ position, type, name, previousOwner }) => [position, type, name, previousOwner]),
    ).toEqual([
      ['104', 'MODIFIED', 'orders.0', 'node-1'],
      ['105', 'DELETED', 'orders.1', 'node-1'],
      ['106', 'ADDED', 'orders.2', undefined],
    ]);
  });

  it('has states that nobody knows, where it was reconstructed', async () => {
    const { reader } = setUp((cluster) => {
      work(cluster);
      cluster.writer!.hear(2);
      cluster.writer!.relist();
    });
    const page = await reader.diff({}, { mode: 'net', from: '104', limit: 100 }, signal);
    // The nearest earlier one that is known.
    expect(page.from.position).toBe('102');
    const upTo = await reader.diff({}, { mode: 'net', from: '101', to: '105', limit: 100 }, signal);
    expect(upTo.to.position).toBe('102');
    expect((upTo.items as NetItem[]).map(({ name }) => name)).toEqual(['orders.1']);
  });

  it('of one shard is told newest first, from ring and journal together, each change once', async () => {
    const { reader, cluster, timeline } = setUp(work, 3);
    for (const owner of ['node-4', 'node-5', 'node-6', 'node-7']) {
      cluster.write('a/orders.0', owner);
      const object = cluster.shards.get('a/orders.0')!;
      timeline.apply({ type: 'MODIFIED', object });
    }
    cluster.writer!.hear(2);
    const request = { namespace: 'a', name: 'orders.0', limit: 100 };
    const { items } = await reader.history(request, signal);
    expect(items.map(({ after }) => after?.version)).toEqual([6, 5, 4, 3, 2, 1]);
    const first = await reader.history({ ...request, limit: 4 }, signal);
    const second = await reader.history({ ...request, limit: 4, cursor: first.next }, signal);
    expect([...first.items, ...second.items]).toEqual(items);
    expect(second.next).toBeUndefined();
    const gone = await reader.history({ ...request, name: 'orders.1' }, signal);
    expect(gone.items.map(({ type }) => type)).toEqual(['DELETED', 'ADDED']);
    await expect(reader.history({ ...request, name: 'orders.9' }, signal)).rejects.toMatchObject({
      code: 'notFound',
    });
  });

  it.each([
    ['before the floor', { from: '50' }, 'tokenExpired'],
    ['in the future', { from: '5000' }, 'unavailable'],
    ['after its end', { from: '105', to: '103' }, 'invalidArgument'],
    ['rubbish', { from: 'yesterday' }, 'invalidArgument'],
    ['nowhere', {}, 'invalidArgument'],
    ['long ago', { from: '2h' }, 'tokenExpired'],
    ['before there were dates', { from: '999999999d' }, 'tokenExpired'],
    ['with a cursor of another question', { cursor: 'AAAA' }, 'tokenInvalid'],
  ])('is refused when it begins %s', async (_, range, code) => {
    const { reader } = setUp(work);
    await expect(reader.diff({}, { mode: 'net', limit: 10, ...range }, signal)).rejects.toMatchObject({
      code,
    });
  });
});
