import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { lowerBound } from './lower-bound.ts';
import type { PlacementInput, PlacementNode, PlacementShard } from './placement.ts';

function state(weights: number[], owners: (number | undefined)[], loadBound = '1.05'): PlacementInput {
  const nodes: PlacementNode[] = weights.map((weight, node) => ({
    name: `n${node}`,
    weight,
    standing: 'eligible',
  }));
  const shards: PlacementShard[] = owners.map((owner, shard) => ({
    id: `${shard}`,
    capacity: 1,
    owner: owner === undefined ? undefined : `n${owner}`,
  }));
  return { strategy: 'Rendezvous', locality: 'Preferred', loadBound, shards, nodes, rebalance: true };
}

function times(count: number, owner: number | undefined): (number | undefined)[] {
  return Array.from({ length: count }, () => owner);
}

describe('the lower bound of a step', () => {
  test('is 0 for a balanced set', () => {
    expect(lowerBound(state([1, 1], [...times(50, 0), ...times(50, 1)]))).toMatchObject({ moves: 0 });
  });

  test('after a leave is what the leaver held', () => {
    const left = [...times(21, 0), ...times(21, 1), ...times(22, undefined)];
    expect(lowerBound(state([1, 1], left))).toEqual({
      orphans: 22,
      excess: 0,
      deficit: 22,
      moves: 22,
      attainable: true,
    });
  });

  test('after a join is what the new node lacks of its fair share', () => {
    const joined = [...times(50, 0), ...times(50, 1)];
    // m is 33.3 and the cap 35: 15 have to leave each of the old nodes, but the new one lacks 33.
    expect(lowerBound(state([1, 1, 1], joined))).toEqual({
      orphans: 0,
      excess: 30,
      deficit: 33,
      moves: 33,
      attainable: true,
    });
  });

  test('counts shards on draining nodes, not those on cordoned ones', () => {
    const input = state([1, 1, 1, 1], [...times(4, 0), ...times(4, 1), ...times(4, 2), ...times(4, 3)]);
    const nodes = input.nodes.map((node, index): PlacementNode => {
      return { ...node, standing: index === 2 ? 'draining' : index === 3 ? 'cordoned' : 'eligible' };
    });
    expect(lowerBound({ ...input, nodes })).toEqual({
      orphans: 4,
      excess: 0,
      deficit: 4,
      moves: 4,
      attainable: true,
    });
  });

  test('counts a pin that is not met, and what it pushes over a cap', () => {
    const input = state([1, 1], [...times(10, 0), ...times(10, 1)], '1');
    const shards = input.shards.map((shard, index) => (index === 0 ? { ...shard, pinned: 'n1' } : shard));
    expect(lowerBound({ ...input, shards })).toEqual({
      orphans: 1,
      excess: 1,
      deficit: 1,
      moves: 2,
      attainable: true,
    });
  });

  test('is what an exhaustive search over all placements finds, and finds nothing where it is not attainable', () => {
    const anyShard = fc.record({
      owner: fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined }),
      hold: fc.constantFrom('no', 'no', 'pin', 'pause'),
      pin: fc.nat(1),
    });
    const anyState = fc.record({
      weights: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 2, maxLength: 3 }),
      shards: fc.array(anyShard, { minLength: 1, maxLength: 6 }),
      loadBound: fc.constantFrom('1', '1.05', '1.5'),
    });
    fc.assert(
      fc.property(anyState, ({ weights, shards, loadBound }) => {
        const owners = shards.map(({ owner }) => owner);
        // Where each shard has to be, if anywhere; who is paused on no node is not placed at all.
        const held = shards.map(({ owner, hold, pin }) => {
          if (hold === 'pin') return pin;
          return hold === 'pause' && owner !== undefined && owner < weights.length ? owner : undefined;
        });
        const input = state(weights, owners, loadBound);
        const bound = lowerBound({
          ...input,
          shards: input.shards.map((shard, at) =>
            held[at] === undefined
              ? shard
              : shards[at]!.hold === 'pin'
                ? { ...shard, pinned: `n${held[at]}` }
                : { ...shard, fixed: true },
          ),
        });
        const fewest = fewestMoves({ weights, owners, held, c: Number(loadBound) });
        expect(bound.attainable).toBe(fewest !== undefined);
        if (bound.attainable) expect(bound.moves).toBe(fewest);
      }),
      { numRuns: 300 },
    );
  });

  test('is not given where it is not defined', () => {
    const input = state([1], times(1, 0));
    expect(() => lowerBound({ ...input, strategy: 'Static' })).toThrow('is defined for Rendezvous');
    expect(() => lowerBound({ ...input, shards: [{ id: '0', capacity: 2 }] })).toThrow('unit capacities');
  });
});

interface Search {
  weights: number[];
  owners: (number | undefined)[];
  /** Where a shard has to be; undefined: anywhere. */
  held: (number | undefined)[];
  c: number;
}

/** Tries every placement whose nodes all hold between floor(m) and their cap; undefined: there is none. */
function fewestMoves({ weights, owners, held, c }: Search): number | undefined {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const means = weights.map((weight) => (owners.length * weight) / sum);
  let fewest: number | undefined;
  const place = (shard: number, loads: number[], moves: number) => {
    if (shard === owners.length) {
      const isWithin = loads.every((load, node) => {
        const mean = means[node]!;
        return load >= Math.floor(mean) && load <= Math.max(Math.ceil(mean), Math.floor(c * mean));
      });
      if (isWithin) fewest = Math.min(fewest ?? moves, moves);
      return;
    }
    for (let node = 0; node < weights.length; node++) {
      if (held[shard] !== undefined && held[shard] !== node) continue;
      const next = loads.map((load, index) => load + (index === node ? 1 : 0));
      place(shard + 1, next, moves + (owners[shard] === node ? 0 : 1));
    }
  };
  place(
    0,
    weights.map(() => 0),
    0,
  );
  return fewest;
}
