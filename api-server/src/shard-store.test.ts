import { shardMatches } from '@meshkit/shards/filter';
import { API_VERSION, type Phase, type ShardAssignment } from '@meshkit/shards/records';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keyOf, ShardStore } from './shard-store.ts';

const OWNERS = Array.from({ length: 12 }, (_, at) => `node-${at}`);
const SETS = ['orders', 'users', 'carts', 'mails', 'bills', 'carriers', 'stock', 'logs', 'tax'];
const PHASES: Phase[] = ['Pending', 'Active', 'Draining', 'Paused', 'Disabled', 'Lost'];

function shard(
  namespace: string,
  id: string,
  version = '1',
  owner = 'node-1',
  phase: Phase = 'Active',
  shardSet = 'orders',
): ShardAssignment {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace, name: `orders.${id}`, resourceVersion: version },
    spec: { shardSet, shardId: id },
    status: { phase, owner, epoch: 1, version: 1 },
  };
}

const names = (items: readonly ShardAssignment[]) =>
  items.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);

describe('ShardStore', () => {
  it('orders by namespace, then name, even where a namespace is a prefix of another', () => {
    const store = new ShardStore();
    for (const [namespace, id] of [
      ['a-b', '1'],
      ['a', '2'],
      ['b', '0'],
      ['a', '1'],
    ] as const) {
      store.put(shard(namespace, id));
    }
    expect(names(store.page({}, 10).items)).toEqual([
      'a/orders.1',
      'a/orders.2',
      'a-b/orders.1',
      'b/orders.0',
    ]);
    expect(names(store.page({ namespace: 'a' }, 10).items)).toEqual(['a/orders.1', 'a/orders.2']);
  });

  it('has no next page on an exact fit, nor when only shards follow that do not pass', () => {
    const store = new ShardStore();
    for (const id of ['1', '2', '3']) store.put(shard('a', id, '1', id === '3' ? 'node-2' : 'node-1'));
    expect(store.page({}, 3).next).toBeUndefined();
    expect(store.page({ owners: ['node-1'] }, 2).next).toBeUndefined();
    expect(store.page({}, 2).next).toBeDefined();
  });

  it('keeps the newest position of each namespace, deletions included', () => {
    const store = new ShardStore();
    store.put(shard('a', '1', '99'));
    store.put(shard('a', '2', '100'));
    store.remove(shard('a', '1', '101'));
    store.put(shard('b', '1', '7'));
    expect(store.positionOf('a')).toBe('101');
    expect(store.positionOf('b')).toBe('7');
    expect(store.positionOf('c')).toBeUndefined();
  });

  it('looks up owners as they were, where the past differs', () => {
    const store = new ShardStore();
    for (let at = 0; at < 100; at += 1) store.put(shard('a', `${at}`, '1', `node-${at % 50}`));
    const past = new Map([
      ['a\0orders.3', shard('a', '3', '0', 'node-4')],
      ['a\0orders.5', shard('a', '5', '0', 'node-3')],
      ['a\0orders.gone', shard('a', 'gone', '0', 'node-3')],
    ]);
    const { items } = store.page({ owners: ['node-3'] }, 10, undefined, past);
    expect(names(items)).toEqual(['a/orders.5', 'a/orders.53', 'a/orders.gone']);
  });

  it('pages through exactly what a plain model holds, whatever was put and removed before', () => {
    const place = fc.record({
      namespace: fc.constantFrom('a', 'a-b', 'b'),
      id: fc.integer({ min: 0, max: 49 }).map(String),
      owner: fc.constantFrom(...OWNERS),
      phase: fc.constantFrom(...PHASES),
      shardSet: fc.constantFrom(...SETS),
      remove: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
      read: fc.boolean(),
    });
    const filters = fc.record(
      {
        namespace: fc.constantFrom('a', 'a-b', 'c'),
        owners: fc.subarray(OWNERS, { minLength: 1, maxLength: 2 }),
        phases: fc.subarray([...PHASES], { minLength: 1, maxLength: 2 }),
        shardSet: fc.constantFrom('orders', 'users', 'nobody'),
      },
      { requiredKeys: [] },
    );
    // Enough that an index pays.
    const filled = Array.from({ length: 150 }, (_, at) => ({
      namespace: ['a', 'a-b', 'b'][at % 3]!,
      id: `${Math.floor(at / 3)}`,
      owner: OWNERS[at % 12]!,
      phase: PHASES[at % 6]!,
      shardSet: SETS[at % 9]!,
      remove: false,
      read: false,
    }));
    const overlay = fc.array(fc.tuple(fc.nat(), place), { maxLength: 8 });
    fc.assert(
      fc.property(
        fc.array(place, { maxLength: 60 }),
        filters,
        fc.integer({ min: 1, max: 7 }),
        overlay,
        (steps, filter, limit, overlaid) => {
          const store = new ShardStore();
          const model = new Map<string, ShardAssignment>();
          for (const { namespace, id, owner, phase, shardSet, remove, read } of [...filled, ...steps]) {
            const record = shard(namespace, id, '1', owner, phase, shardSet);
            const key = keyOf(record);
            if (remove) model.delete(key);
            else model.set(key, record);
            if (remove) store.remove(record);
            else store.put(record);
            if (read) store.page({}, 1);
          }
          expect(store.size).toBe(model.size);
          const past = new Map<string, ShardAssignment | undefined>();
          for (const [at, { owner, phase, shardSet, remove }] of overlaid) {
            const { namespace, id } = filled[at % filled.length]!;
            const record = shard(namespace, id, '0', owner, phase, shardSet);
            past.set(keyOf(record), remove ? undefined : record);
            if (remove) model.delete(keyOf(record));
            else model.set(keyOf(record), record);
          }
          const expected = [...model]
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([, record]) => record)
            .filter((record) => shardMatches(filter, record));
          const listed: ShardAssignment[] = [];
          let after: string | undefined;
          do {
            const page = store.page(filter, limit, after, past);
            expect(page.items.length).toBeLessThanOrEqual(limit);
            listed.push(...page.items);
            after = page.next;
          } while (after !== undefined);
          expect(listed).toEqual(expected);
        },
      ),
      { numRuns: 300 },
    );
  });
});
