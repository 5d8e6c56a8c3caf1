import { setImmediate as turn } from 'node:timers/promises';
import type { ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Client } from '../test/watch-client.ts';
import { Cluster, Replica, same, seen, settle } from '../test/watch-model.ts';

const KEYS = ['a/orders.0', 'a/orders.1', 'a/orders.2', 'b/orders.0', 'b/orders.1', 'b/orders.2'];
const OWNERS = ['node-1', 'node-2', 'node-3'];
const FILTERS: ShardFilter[] = [
  {},
  { owners: ['node-1'] },
  { namespace: 'b' },
  { search: '2', owners: OWNERS },
];

const key = fc.constantFrom(...KEYS);
const client = fc.nat({ max: 3 });
const replica = fc.nat({ max: 1 });
const few = fc.integer({ min: 1, max: 4 });

/** What may happen, in words: the name and its operands. */
const step = fc.oneof(
  { weight: 10, arbitrary: fc.tuple(fc.constant('write' as const), key, fc.constantFrom(...OWNERS)) },
  { weight: 3, arbitrary: fc.tuple(fc.constant('remove' as const), key) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('annotate' as const), key) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('pass' as const), few) },
  { weight: 10, arbitrary: fc.tuple(fc.constant('hear' as const), replica, few) },
  { weight: 10, arbitrary: fc.tuple(fc.constant('take' as const), client, few) },
  { weight: 6, arbitrary: fc.tuple(fc.constant('turn' as const)) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('time' as const), replica) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('relist' as const), replica) },
  { weight: 4, arbitrary: fc.tuple(fc.constant('cut' as const), client) },
  { weight: 8, arbitrary: fc.tuple(fc.constant('connect' as const), client, replica, few) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('restart' as const), replica) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('restore' as const), few) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('page' as const), replica, few) },
  { weight: 8, arbitrary: fc.tuple(fc.constant('journal' as const), few) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('outage' as const)) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A list under way: its position, what was there then, and how far it has come. */
interface Listing {
  filter: ShardFilter;
  replica: Replica;
  restores: number;
  branch: string;
  at: string;
  expected: ShardAssignment[];
  items: ShardAssignment[];
  next: string | undefined;
}

class World {
  readonly cluster: Cluster;
  readonly replicas: Replica[];
  readonly clients: Client[];
  #listing: Listing | undefined;

  constructor(ringSize: number, journal: 'journal' | 'no journal') {
    this.cluster = new Cluster(journal);
    for (const one of KEYS.slice(0, 4)) this.cluster.write(one, 'node-1');
    this.replicas = [new Replica(this.cluster, ringSize), new Replica(this.cluster, ringSize)];
    this.clients = FILTERS.map(
      (filter, at) => new Client(this.cluster, { filter, allowCoalescing: at === 1 }),
    );
  }

  async do(given: Step): Promise<void> {
    const { cluster, replicas, clients } = this;
    switch (given[0]) {
      case 'write':
        return cluster.write(given[1], given[2]);
      case 'remove':
        return cluster.remove(given[1]);
      case 'annotate':
        return cluster.annotate(given[1]);
      case 'pass':
        return cluster.pass(given[1]);
      case 'hear':
        return replicas[given[1]]!.hear(given[2]);
      case 'take':
        return clients[given[1]]!.take(given[2]);
      case 'turn':
        await turn();
        return;
      case 'time':
        return replicas[given[1]]!.clock.advance(4_000);
      case 'relist':
        return replicas[given[1]]!.relist();
      case 'cut':
        return clients[given[1]]!.cut();
      case 'connect': {
        const one = clients[given[1]]!;
        if (!one.open) await one.connect(replicas[given[2]]!, given[3] + 1);
        return;
      }
      case 'restart': {
        await replicas[given[1]]!.restart();
        // Nor can a process that begins after a restore (see #page).
        if (cluster.restores > 0) this.#listing = undefined;
        return;
      }
      case 'restore':
        return cluster.restore(given[1]);
      case 'journal':
        return cluster.writer?.hear(given[1]);
      case 'outage':
        return cluster.writer?.relist();
      case 'page':
        return this.#page(replicas[given[1]]!, given[2]);
    }
  }

  /** In the end every client, however it fared, has what there is. */
  async rest(): Promise<void> {
    for (const one of this.replicas) one.hear(Number.POSITIVE_INFINITY);
    this.cluster.writer?.hear(Number.POSITIVE_INFINITY);
    for (let round = 0; round < 60; round += 1) {
      for (const one of this.clients) {
        one.take(Number.POSITIVE_INFINITY);
        if (!one.open) await one.connect(this.replicas[0]!, 4);
      }
      await settle(2);
    }
    for (const one of this.replicas) await one.clock.advance(12_000);
    await settle();
    for (const one of this.clients) {
      one.take(Number.POSITIVE_INFINITY);
      const { filter } = one.request;
      const wanted = seen(filter, this.cluster.shards.values());
      expect([...one.state].sort(), JSON.stringify(filter)).toEqual([...wanted].sort());
      expect(one.open, String(one.error)).toBe(true);
      // Nothing was left to say but that there is nothing.
      expect(one.heard.at(-1)?.type).toBe('bookmark');
      expect(one.lost).toBe(0);
    }
    for (const one of this.replicas) {
      expect(one.errors).toEqual([]);
      expect(same(seen({}, one.timeline.values()), seen({}, this.cluster.shards.values()))).toBe(true);
      await one.stop();
    }
  }

  /** The next page, from whichever replica. */
  #page(replica: Replica, limit: number): void {
    const { timeline } = replica;
    const branch = `${replica.archive.nonce} ${timeline.branch}`;
    const { restores } = this.cluster;
    const listing = this.#listing;
    // A replica that never heard of what a restore took back cannot know; naming histories is the journal's task.
    if (listing && listing.restores < restores && listing.replica !== replica) this.#listing = undefined;
    else if (!listing) {
      const filter = FILTERS[limit % FILTERS.length]!;
      const { mark, items, next } = timeline.page(filter, limit)!;
      const cut = { replica, restores, branch };
      this.#listing = { ...cut, filter, at: mark.position, expected: timeline.all(filter), items, next };
    } else {
      // What names a position names its branch too.
      const isOurs = listing.branch === branch;
      const page = isOurs && timeline.page(listing.filter, limit, listing.next, listing.at);
      if (page) {
        listing.items.push(...page.items);
        listing.next = page.next;
        expect(page.mark.position).toBe(listing.at);
      } else this.#listing = undefined;
    }
    if (this.#listing && this.#listing.next === undefined) {
      const { filter, items, expected } = this.#listing;
      expect([...seen(filter, items)]).toEqual([...seen(filter, expected)]);
      this.#listing = undefined;
    }
  }
}

describe('the watch hub, whatever happens', () => {
  it.each([
    ['with a ring that holds it all', 1_000, 'no journal' as const],
    ['with a ring that forgets', 5, 'no journal' as const],
    ['with a ring that forgets and a journal', 5, 'journal' as const],
  ])(
    '%s: no loss, no duplicate, no going back, no bookmark too early, no page of two states',
    async (_, size, journal) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }), async (steps) => {
          const world = new World(size, journal);
          for (const one of steps) await world.do(one);
          await world.rest();
        }),
        { numRuns: 150 },
      );
    },
    120_000,
  );

  it('folds what a slow client missed, and starts again where that is cut', {
    timeout: 120_000,
  }, async () => {
    /** What happens before the client reads on, how much it then reads, and whether its connection holds. */
    const spell = fc.record({
      writes: fc.array(fc.tuple(key, fc.constantFrom('node-1', 'node-1', 'node-2', undefined)), {
        maxLength: 9,
      }),
      takes: fc.oneof(fc.nat({ max: 4 }), fc.constant(100), fc.constant(100)),
      cut: fc.oneof(
        { weight: 7, arbitrary: fc.constant(false) },
        { weight: 1, arbitrary: fc.constant(true) },
      ),
    });
    let folded = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(spell, { minLength: 5, maxLength: 20 }), async (spells) => {
        const cluster = new Cluster();
        for (const one of KEYS) cluster.write(one, 'node-1');
        const replica = new Replica(cluster, 1_000);
        const filter = { owners: ['node-1'] };
        const slow = new Client(cluster, { filter, allowCoalescing: true });
        for (const { writes, takes, cut } of spells) {
          if (!slow.open) await slow.connect(replica, 4);
          for (const [one, owner] of writes) {
            if (owner) cluster.write(one, owner);
            else cluster.remove(one);
            replica.hear(1);
            await settle(2);
          }
          slow.take(takes);
          while (takes > 4 && slow.backlog > 0) slow.take(takes);
          if (cut) slow.cut();
          await settle(2);
        }
        for (let round = 0; round < 30; round += 1) {
          if (!slow.open) await slow.connect(replica, 4);
          slow.take(Number.POSITIVE_INFINITY);
          await settle(2);
        }
        expect([...slow.state].sort()).toEqual([...seen(filter, cluster.shards.values())].sort());
        folded += slow.heard.filter((message) => 'coalesced' in message).length;
        await replica.stop();
      }),
      { numRuns: 150 },
    );
    expect(folded).toBeGreaterThan(50);
  });
});
