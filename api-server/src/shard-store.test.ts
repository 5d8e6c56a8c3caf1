import { API_VERSION, type ShardAssignment } from '@meshkit/shards/records';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ShardStore } from './shard-store.ts';

function shard(namespace: string, id: string, version = '1', owner = 'node-1'): ShardAssignment {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace, name: `orders.${id}`, resourceVersion: version },
    spec: { shardSet: 'orders', shardId: id },
    status: { phase: 'Active', owner, epoch: 1, version: 1 },
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

  it('pages through exactly what a plain model holds, whatever was put and removed before', () => {
    const place = fc.record({
      namespace: fc.constantFrom('a', 'a-b', 'b'),
      id: fc.constantFrom(...'0123456789'),
      owner: fc.constantFrom('node-1', 'node-2'),
      remove: fc.boolean(),
      read: fc.boolean(),
    });
    const filters = fc.record(
      { namespace: fc.constantFrom('a', 'a-b', 'c'), owners: fc.constant<string[]>(['node-1']) },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(
        fc.array(place, { maxLength: 60 }),
        filters,
        fc.integer({ min: 1, max: 7 }),
        (steps, filter, limit) => {
          const store = new ShardStore();
          const model = new Map<string, ShardAssignment>();
          for (const { namespace, id, owner, remove, read } of steps) {
            const record = shard(namespace, id, '1', owner);
            const key = `${namespace}\0${id}`;
            if (remove) model.delete(key);
            else model.set(key, record);
            if (remove) store.remove(record);
            else store.put(record);
            if (read) store.page({}, 1);
          }
          const expected = [...model]
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([, record]) => record)
            .filter(
              ({ metadata }) => filter.namespace === undefined || metadata.namespace === filter.namespace,
            )
            .filter(({ status }) => !filter.owners || filter.owners.includes(status?.owner ?? ''));
          const listed: ShardAssignment[] = [];
          let after: string | undefined;
          do {
            const page = store.page(filter, limit, after);
            expect(page.items.length).toBeLessThanOrEqual(limit);
            listed.push(...page.items);
            after = page.next;
          } while (after !== undefined);
          expect(names(listed)).toEqual(names(expected));
          expect(store.size).toBe(model.size);
        },
      ),
    );
  });
});
