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
    clock: { monotonic: () => clock.monotonic(), sleep: async (ms, stop) => (stop ? forever(stop) : clock.advance(ms)) },
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
    expect(rows.map(({ namespace, name, change, hops }) => `${namespace}/${name} ${change} ${hops}`)).toEqual([
      'a/orders.0 Moved 1',
      'a/orders.1 Removed 1',
      'a/orders.2 Added 1',
      'b/orders.0 Added 1',
    ]);
    expect(page).toMatchObject({
      from: { position: '102' },
      to: { position: cluster.position },
      summary: { shards: 3, moved: 1, added: 2, removed: 1, statusChanged: 0 },
    });
  });
});

export type { LogItem };
