import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import { ShardError } from '@meshkit/shards/errors';
import { describe, expect, it } from 'vitest';
import { Cluster } from '../test/watch-model.ts';
import { JournalArchive } from './journal-archive.ts';
import { JournalPast } from './journal-past.ts';
import { Timeline } from './timeline.ts';

const signal = new AbortController().signal;

const forever = (stop: AbortSignal) =>
  new Promise<void>((_, reject) => stop.addEventListener('abort', () => reject(stop.reason)));

/** A server that begins, with a journal of three changes. */
function setUp() {
  const cluster = new Cluster('journal');
  for (const owner of ['node-1', 'node-2', 'node-3']) cluster.write('a/orders.0', owner);
  const { journal } = cluster.writer!;
  cluster.writer!.hear(Number.POSITIVE_INFINITY);
  const clock = new ManualClock();
  /** Deadlines never come, and waits are over at once. */
  const hasty = {
    monotonic: () => clock.monotonic(),
    sleep: async (ms: number, stop?: AbortSignal) =>
      stop && stop !== signal ? forever(stop) : clock.advance(ms),
  };
  const archive = new JournalArchive({ reader: journal, clock: hasty, log: silentLog });
  const timeline = new Timeline({ changes: 100, bytes: 1 << 30 }, clock);
  const past = new JournalPast(archive, timeline, { clock: hasty, random: () => 0.5, log: silentLog });
  const floor = () => {
    timeline.apply(cluster.listed());
    return timeline.ring.floor.position;
  };
  return { cluster, journal, past, floor };
}

describe('what a server that starts takes from the journal', () => {
  it('is taken when kube-apiserver answers again, however long it was away', async () => {
    const { cluster, journal, past, floor } = setUp();
    const { position } = (await journal.head(signal))!.mark;
    journal.failure = new ShardError('unavailable', 'nobody listens');
    const server = async () => {
      journal.failure = undefined;
    };
    await past.begin(server, signal);
    cluster.pass(5);
    expect(floor()).toBe(position);
  });

  it.each([
    ['does not answer although kube-apiserver does', new ShardError('unavailable', 'no'), 4],
    ['is not there', new ShardError('unavailable', 'no', { reason: 'noJournal' }), 0],
    ['is damaged', new ShardError('unavailable', 'no', { reason: 'journalDamaged' }), 0],
  ])('is nothing where the journal %s', async (_, failure, waits) => {
    const { cluster, journal, past, floor } = setUp();
    journal.failure = failure;
    let asked = 0;
    const server = async () => {
      asked += 1;
    };
    await past.begin(server, signal);
    cluster.pass(5);
    expect(asked).toBe(waits);
    expect(floor()).toBe(cluster.position);
  });
});
