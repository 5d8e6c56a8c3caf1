import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ShardError } from '@meshkit/shards/errors';
import type { ShardFilter } from '@meshkit/shards/repository';
import { openAnyResumeToken } from '@meshkit/shards/resume-token';
import type { WatchCaller, WatchMessage, WatchSink } from '@meshkit/shards/watch';
import { describe, expect, it } from 'vitest';
import { Keeper } from '../test/keeper.ts';
import { Client, testEncoding } from '../test/watch-client.ts';
import { Cluster, Replica, settle } from '../test/watch-model.ts';

const KEYS = ['a/orders.0', 'a/orders.1', 'b/orders.0'];

function setUp(ringSize = 100) {
  const cluster = new Cluster();
  for (const key of KEYS) cluster.write(key, 'node-1');
  const replica = new Replica(cluster, ringSize, { streams: 3, streamsPerCaller: 2 });
  const happen = async (): Promise<void> => {
    replica.hear(Number.POSITIVE_INFINITY);
    await settle();
  };
  return { cluster, replica, happen };
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

const anybody: WatchCaller = { key: 'jane', check: async () => undefined };
const watch = async (replica: Replica, sink: WatchSink, filter: ShardFilter = {}, caller = anybody) =>
  replica.hub.watch({ filter, from: 'now' }, sink, caller);

describe('the watch hub', () => {
  it('counts streams of a caller and of all, and forgets those that were closed', async () => {
    const { replica } = setUp();
    const first = await watch(replica, new Keeper());
    await watch(replica, new Keeper());
    await expect(watch(replica, new Keeper())).rejects.toMatchObject({
      code: 'tooManyWatchers',
      details: { limit: 2 },
    });
    await watch(replica, new Keeper(), {}, { ...anybody, key: 'joe' });
    await expect(watch(replica, new Keeper(), {}, { ...anybody, key: 'jim' })).rejects.toMatchObject({
      details: { limit: 3 },
    });
    first.close();
    await watch(replica, new Keeper());
    await replica.stop();
  });

  it('ends a stream that does not keep up with a token that goes on, and leaves others alone', async () => {
    const { cluster, replica, happen } = setUp();
    const [slow, quick] = [new Keeper(), new Keeper()];
    await watch(replica, slow);
    await watch(replica, quick);
    cluster.write('a/orders.0', 'node-2');
    await happen();
    slow.backlog = slow.limit;
    cluster.write('a/orders.0', 'node-3');
    cluster.write('a/orders.1', 'node-3');
    await happen();
    expect(slow.ended?.error?.code).toBe('slowConsumer');
    expect(slow.types()).toEqual(['bookmark', 'MODIFIED']);
    expect(quick.types()).toEqual(['bookmark', 'MODIFIED', 'MODIFIED', 'MODIFIED']);
    const again = new Client(cluster, { filter: {}, resumeToken: slow.ended?.token });
    await again.connect(replica, 10);
    again.take(10);
    expect(again.heard.map(({ type }) => type)).toEqual(['bookmark', 'shard', 'shard']);
    await replica.stop();
  });

  it('tells nobody an older state who was told a part of a reconstructed stretch elsewhere', async () => {
    const { cluster, replica: behind } = setUp();
    const ahead = new Replica(cluster, 100);
    const sink = new Keeper();
    await watch(ahead, sink);
    cluster.write('a/orders.0', 'node-2');
    cluster.write('a/orders.1', 'node-2');
    // Its watch has told it nothing: a list does.
    ahead.pending.length = 0;
    ahead.relist();
    await settle();
    const [told] = sink.messages.filter((message) => message.type === 'shard');
    const again = new Keeper();
    const resumed = () => behind.hub.watch({ filter: {}, resumeToken: told!.token }, again, anybody);
    await expect(resumed()).rejects.toMatchObject({ details: { reason: 'behindToken' } });
    behind.hear(Number.POSITIVE_INFINITY);
    await settle();
    await resumed();
    const positions = again.messages.flatMap((message) => (message.type === 'shard' ? message.position : []));
    expect(positions.length).toBeGreaterThan(0);
    expect(positions.every((position) => Number(position) >= Number(told!.position))).toBe(true);
    // Whoever is cut at once is no surer than before.
    const bookmark = again.messages.find(({ type }) => type === 'bookmark');
    expect(openAnyResumeToken((bookmark as { token: string }).token, 'token').beyond).toBe(told!.position);
    await Promise.all([ahead.stop(), behind.stop()]);
  });

  it('folds what a coalescing stream missed', async () => {
    const { cluster, replica, happen } = setUp();
    const sink = new Keeper();
    await replica.hub.watch({ filter: {}, from: 'now', allowCoalescing: true }, sink, anybody);
    sink.backlog = sink.limit;
    for (const owner of ['node-2', 'node-3', 'node-4']) cluster.write('a/orders.0', owner);
    cluster.write('a/orders.1', 'node-2');
    await happen();
    expect(sink.types()).toEqual(['bookmark']);
    sink.backlog = 0;
    sink.drained?.();
    expect(sink.messages.slice(1)).toMatchObject([
      { coalesced: 3, previous: { status: { owner: 'node-1' } }, current: { status: { owner: 'node-4' } } },
      { event: 'MODIFIED', current: { status: { owner: 'node-2' } } },
    ]);
    await replica.stop();
  });

  it('ends a stream whose network takes nothing for half a minute', async () => {
    const { replica } = setUp();
    const sink = new Keeper();
    sink.backlog = sink.limit;
    await replica.hub.watch({ filter: {} }, sink, anybody);
    await replica.clock.advance(20_000);
    expect(sink.ended).toBeUndefined();
    await replica.clock.advance(12_000);
    await settle();
    expect(sink.ended?.error?.code).toBe('slowConsumer');
    await replica.stop();
  });

  it('says a bookmark within ten seconds of silence, as new as the cluster', async () => {
    const { cluster, replica, happen } = setUp();
    const sink = new Keeper();
    await watch(replica, sink, { owners: ['nobody'] });
    cluster.write('a/orders.0', 'node-2');
    cluster.pass(5);
    await happen();
    expect(sink.types()).toEqual(['bookmark']);
    await replica.clock.advance(10_000);
    await settle();
    expect(sink.types()).toEqual(['bookmark', 'bookmark']);
    expect(sink.messages[1]).toMatchObject({ position: cluster.position });
    await replica.stop();
  });

  it('says a bookmark in silence to those who wait for it to catch up, and no newer one than their own', async () => {
    const { cluster, replica: behind, happen } = setUp();
    const ahead = new Replica(cluster, 100);
    // Something else of the cluster, of which only one has heard.
    cluster.pass(5);
    ahead.hear(Number.POSITIVE_INFINITY);
    const told = new Keeper();
    await watch(ahead, told);
    const { position, token: resumeToken } = told.messages[0] as { position: string; token: string };
    const sink = new Keeper();
    await behind.hub.watch({ filter: {}, resumeToken }, sink, anybody);
    await settle();
    expect(sink.messages).toMatchObject([{ type: 'bookmark', position }]);
    await behind.clock.advance(31_000);
    await settle();
    expect(sink.types()).toEqual(['bookmark', 'bookmark', 'bookmark', 'bookmark']);
    expect(new Set(sink.messages.map((message) => JSON.stringify(message))).size).toBe(1);
    // Nor does it wait any longer once the replica has got there.
    cluster.write('a/orders.0', 'node-2');
    await happen();
    expect(sink.types().at(-1)).toBe('MODIFIED');
    await Promise.all([ahead.stop(), behind.stop()]);
  });

  it('does not keep what a watcher said to have', async () => {
    const { cluster, replica, happen } = setUp(2);
    const client = new Client(cluster, { filter: {} });
    await client.connect(replica, 20);
    client.take(20);
    client.cut();
    for (const owner of ['node-2', 'node-3', 'node-4']) cluster.write('a/orders.0', owner);
    await happen();
    const sink = new Keeper();
    const begin = async () => {
      const known = new Map([['a/orders.0', { uid: 'uid-1', generation: 1, version: 1 }]]);
      const request = { filter: {}, resumeToken: client.token, onExpired: 'diff' as const, known };
      return { stream: await replica.hub.watch(request, sink, anybody), known: new WeakRef(known) };
    };
    const { stream, known } = await begin();
    expect(sink.types().at(-1)).toBe('snapshot-end');
    await settle();
    collectGarbage();
    expect(known.deref()).toBeUndefined();
    expect(stream.messages).toBe(sink.messages.length);
    await replica.stop();
  });

  it('ends the stream of a caller who may no longer, and is patient while nobody can say', async () => {
    const { replica } = setUp();
    let answer: ShardError | undefined = new ShardError('unavailable', 'reviews are down');
    const caller: WatchCaller = {
      key: 'jane',
      async check() {
        if (answer) throw answer;
      },
    };
    const sink = new Keeper();
    await watch(replica, sink, {}, caller);
    await replica.clock.advance(120_000);
    expect(sink.ended).toBeUndefined();
    answer = undefined;
    await replica.clock.advance(120_000);
    expect(sink.ended).toBeUndefined();
    answer = new ShardError('scopeMissing', 'missing scope mesh.observe');
    await replica.clock.advance(62_000);
    await settle();
    expect(sink.ended?.error?.code).toBe('scopeMissing');
    await replica.stop();
  });

  it('ends it all the same when nobody can say for five minutes', async () => {
    const { replica } = setUp();
    const check = async () => {
      throw new ShardError('unavailable', 'reviews are down');
    };
    const sink = new Keeper();
    await watch(replica, sink, {}, { key: 'jane', check });
    await replica.clock.advance(7 * 60_000);
    await settle();
    expect(sink.ended?.error?.code).toBe('unavailable');
    await replica.stop();
  });

  it('says goaway to all, and then admits nobody', async () => {
    const { replica } = setUp();
    const sink = new Keeper();
    await watch(replica, sink);
    await replica.hub.drain();
    expect(sink.messages.at(-1)).toMatchObject({ type: 'goaway', reconnectAfterMs: 1_500 });
    expect(sink.ended).toMatchObject({ error: undefined });
    await expect(watch(replica, new Keeper())).rejects.toMatchObject({ code: 'draining' });
    await replica.stop();
  });

  it('answers a token from before the ring with a reset, or with floor and head under fail', async () => {
    const { cluster, replica, happen } = setUp(2);
    const client = new Client(cluster, { filter: {} });
    await client.connect(replica, 20);
    client.take(20);
    client.cut();
    const { position } = cluster;
    for (let version = 0; version < 4; version += 1) cluster.write('a/orders.0', `node-${version}`);
    await happen();
    const { token: resumeToken } = client;
    const failing = replica.hub.watch({ filter: {}, resumeToken, onExpired: 'fail' }, new Keeper(), anybody);
    await expect(failing).rejects.toMatchObject({
      code: 'tokenExpired',
      details: { floor: String(Number(position) + 2), head: cluster.position },
    });
    await client.connect(replica, 20);
    client.take(20);
    expect(client.resets).toEqual(['expired']);
    expect(client.state.size).toBe(3);
    await replica.stop();
  });

  it('answers a token from before the ring with what differs from what the watcher has', async () => {
    const { cluster, replica, happen } = setUp(2);
    const client = new Client(cluster, { filter: {} });
    await client.connect(replica, 20);
    client.take(20);
    client.cut();
    cluster.write('a/orders.0', 'node-2');
    cluster.remove('a/orders.1');
    cluster.write('a/orders.2', 'node-3');
    for (const owner of ['node-4', 'node-5', 'node-6']) cluster.write('a/orders.2', owner);
    await happen();
    const known = new Map([
      ['a/orders.0', { uid: 'uid-1', generation: 1, version: 1 }],
      ['a/orders.1', { uid: 'uid-2', generation: 1, version: 1 }],
      ['b/orders.0', { uid: 'uid-3', generation: 1, version: 1 }],
    ]);
    const sink = new Keeper();
    const { token: resumeToken } = client;
    await replica.hub.watch({ filter: {}, resumeToken, onExpired: 'diff', known }, sink, anybody);
    await settle();
    expect(sink.types()).toEqual(['reset', 'snapshot-begin', 'DELETED', 'MODIFIED', 'ADDED', 'snapshot-end']);
    expect(sink.messages.slice(0, 5)).toMatchObject([
      { reason: 'expired' },
      { delta: true, reason: 'expired' },
      { previous: { metadata: { namespace: 'a', name: 'orders.1', uid: 'uid-2' } } },
      { current: { metadata: { name: 'orders.0' }, status: { owner: 'node-2' } } },
      { current: { metadata: { name: 'orders.2' }, status: { owner: 'node-6' } } },
    ]);
    // A cut inside begins the block again.
    const again = new Keeper();
    const inside = sink.messages[3]!.token;
    await replica.hub.watch({ filter: {}, resumeToken: inside, onExpired: 'diff', known }, again, anybody);
    expect(again.types()[0]).toBe('snapshot-begin');
    await replica.stop();
  });

  it('goes on from the journal where the ring ends, and reads it once for all', async () => {
    const cluster = new Cluster('journal');
    for (const key of KEYS) cluster.write(key, 'node-1');
    const replica = new Replica(cluster, 2);
    const client = new Client(cluster, { filter: {} });
    await client.connect(replica, 20);
    client.take(20);
    client.cut();
    for (let version = 0; version < 40; version += 1) cluster.write(KEYS[version % 3]!, `node-${version}`);
    replica.hear(Number.POSITIVE_INFINITY);
    cluster.writer!.hear(Number.POSITIVE_INFINITY);
    const { token: resumeToken } = client;
    let reads = 0;
    const { journal } = cluster.writer!;
    const read = journal.read.bind(journal);
    journal.read = (after, signal) => {
      reads += 1;
      return read(after, signal);
    };
    const clients = Array.from({ length: 3 }, () => new Client(cluster, { filter: {}, resumeToken }));
    await Promise.all(clients.map((one) => one.connect(replica, 4)));
    for (let round = 0; round < 60; round += 1) {
      for (const one of clients) one.take(4);
      await settle(4);
    }
    for (const one of clients) {
      expect(one.resets).toEqual([]);
      expect(one.heard.filter(({ type }) => type === 'shard')).toHaveLength(40);
    }
    // A change is a slice of this journal.
    expect(reads).toBeLessThanOrEqual(41);
    await replica.stop();
  });

  it('resumes at a server that could not read the journal when it began, as long as nothing is missing', async () => {
    const cluster = new Cluster('journal');
    for (const key of KEYS) cluster.write(key, 'node-1');
    const first = new Replica(cluster, 100);
    const [old, newer] = [new Client(cluster, { filter: {} }), new Client(cluster, { filter: {} })];
    await old.connect(first, 20);
    old.take(20);
    old.cut();
    cluster.write('a/orders.0', 'node-2');
    cluster.writer!.hear(Number.POSITIVE_INFINITY);
    // Other things happen in the cluster: the journal's head is behind the newest position, and knows all the same.
    cluster.pass(3);
    first.hear(Number.POSITIVE_INFINITY);
    await newer.connect(first, 20);
    newer.take(20);
    newer.cut();
    cluster.pass(3);
    const limits = { streams: 100, streamsPerCaller: 100 };
    const late = new Replica(cluster, 100, limits, false);
    const resumed = (token?: string) =>
      new Client(cluster, { filter: {}, resumeToken: token, onExpired: 'fail' });
    const [before, between] = [resumed(old.token), resumed(newer.token)];
    for (const client of [before, between]) await client.connect(late, 20);
    await settle(100);
    cluster.write('a/orders.1', 'node-3');
    late.hear(Number.POSITIVE_INFINITY);
    await settle();
    for (const [client, hops] of [
      [before, 2],
      [between, 1],
    ] as const) {
      client.take(20);
      expect(client.error).toBeUndefined();
      expect(client.resets).toEqual([]);
      expect(client.heard.filter(({ type }) => type === 'shard')).toHaveLength(hops);
    }
    // What the journal does not tell, and the ring began after: nobody knows, and that is said.
    const later = new Replica(cluster, 100, limits, false);
    for (const token of [old.token, newer.token]) {
      const lost = resumed(token);
      await lost.connect(later, 20);
      await settle(100);
      lost.take(20);
      expect(lost.error?.code).toBe('tokenExpired');
    }
    await Promise.all([first.stop(), late.stop(), later.stop()]);
  });

  it('is honest about what the journal has lost, and about one that does not answer', async () => {
    const cluster = new Cluster('journal');
    for (const key of KEYS) cluster.write(key, 'node-1');
    const replica = new Replica(cluster, 2);
    const client = new Client(cluster, { filter: {} });
    await client.connect(replica, 20);
    client.take(20);
    client.cut();
    for (let version = 0; version < 9; version += 1) cluster.write('a/orders.0', `node-${version}`);
    replica.hear(Number.POSITIVE_INFINITY);
    const { writer } = cluster;
    const failing = new Client(cluster, { filter: {}, resumeToken: client.token, onExpired: 'fail' });
    // The leader is down: what the ring has forgotten is not written.
    await failing.connect(replica, 20);
    expect(failing.error?.code).toBe('tokenExpired');
    writer!.hear(Number.POSITIVE_INFINITY);
    writer!.journal.failure = new ShardError('unavailable', 'the store is gone');
    await failing.connect(replica, 20);
    expect(failing.error?.code).toBe('unavailable');
    writer!.journal.failure = undefined;
    writer!.journal.forget(5);
    await failing.connect(replica, 20);
    expect(failing.error?.code).toBe('tokenExpired');
    await client.connect(replica, 20);
    client.take(20);
    expect(client.resets).toEqual(['expired']);
    expect(client.state.size).toBe(3);
    await replica.stop();
  });

  it('tells one whose token is of a reconstructed stretch all that is known of it, and then what there is', async () => {
    const { cluster, replica, happen } = setUp();
    const other = new Replica(cluster, 100);
    cluster.write('a/orders.7', 'node-1');
    other.hear(1);
    const client = new Client(cluster, { filter: {} });
    await client.connect(other, 20);
    client.take(20);
    client.cut();
    expect(client.state.size).toBe(4);
    cluster.remove('a/orders.7');
    cluster.write('a/orders.0', 'node-2');
    // It never heard of the seventh, and of the rest only afterwards.
    replica.relist();
    await happen();
    await client.connect(replica, 20);
    client.take(20);
    await settle();
    client.take(20);
    expect(client.resets).toEqual([]);
    expect(client.heard.slice(-7).map((message) => message.type)).toEqual([
      'bookmark',
      'shard',
      'snapshot-begin',
      'shard',
      'shard',
      'shard',
      'snapshot-end',
    ]);
    expect([...client.state.keys()].sort()).toEqual([...KEYS].sort());
    await replica.stop();
    await other.stop();
  });

  it('takes a token of the future for one of another history', async () => {
    const { cluster, replica, happen } = setUp();
    const other = setUp();
    for (let version = 0; version < 9; version += 1) other.cluster.write('a/orders.0', `node-${version}`);
    await other.happen();
    const client = new Client(other.cluster, { filter: {} });
    await client.connect(other.replica, 20);
    client.take(20);
    const { token: resumeToken } = client;
    await happen();
    const sink = new Keeper();
    await replica.hub.watch({ filter: {}, resumeToken }, sink, anybody);
    expect(sink.messages[0]).toMatchObject({ type: 'reset', reason: 'lineageChanged' });
    expect(cluster.position < other.cluster.position).toBe(true);
    await replica.stop();
    await other.replica.stop();
  });

  it('ends the streams that it has no words for, and only those', async () => {
    const { cluster, replica, happen } = setUp();
    const failing = new Keeper();
    const encode = (message: WatchMessage) => {
      if (message.type === 'shard') throw new Error('no words');
      return testEncoding.encode(message);
    };
    Object.assign(failing, { encoding: { name: 'failing', encode } });
    const sound = new Keeper();
    await watch(replica, failing);
    await watch(replica, sound);
    cluster.write('a/orders.0', 'node-2');
    await happen();
    expect(failing.ended?.error?.code).toBe('internal');
    expect(replica.errors).toHaveLength(1);
    expect(sound.types()).toEqual(['bookmark', 'MODIFIED']);
    await replica.stop();
  });
});
