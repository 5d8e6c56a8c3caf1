import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { lowerBound } from './lower-bound.ts';
import {
  type PlacementInput,
  type PlacementNode,
  type PlacementShard,
  type PlannedMove,
  plan,
  type Standing,
} from './placement.ts';

const STANDINGS: Standing[] = ['eligible', 'cordoned', 'draining', 'notReady', 'notSelected', 'notServing'];
const ZONES = ['a', 'b', 'c'];
const zone = fc.constantFrom(...ZONES);
const hint = fc.constantFrom(
  { region: 'eu', zone: 'a' },
  { zone: 'b' },
  { region: 'eu' },
  { region: 'us', zone: 'c' },
);
const maybe = <T>(arbitrary: fc.Arbitrary<T>, freq: number) => fc.option(arbitrary, { nil: undefined, freq });

/** Any state at all: unequal capacities, hints, pins, paused shards, owners that are gone, nodes in every standing. */
const anyInput: fc.Arbitrary<PlacementInput> = fc.integer({ min: 0, max: 8 }).chain((nodeCount) => {
  const name = fc.integer({ min: 0, max: nodeCount }).map((index) => `n${index}`);
  const node = fc.record({
    weight: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 1_000_000 })),
    zone,
    region: fc.constantFrom('eu', 'us'),
    standing: fc.oneof(
      { weight: 5, arbitrary: fc.constant<Standing>('eligible') },
      fc.constantFrom(...STANDINGS),
    ),
  });
  const shard = fc.record({
    capacity: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 50 })),
    owner: maybe(name, 6),
    pinned: fc.oneof({ weight: 8, arbitrary: fc.constant(undefined) }, name),
    fixed: fc.oneof({ weight: 8, arbitrary: fc.constant(undefined) }, fc.boolean()),
    locality: fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, hint),
  });
  return fc.record({
    strategy: fc.oneof(
      { weight: 6, arbitrary: fc.constant('Rendezvous' as const) },
      fc.constant('Static' as const),
    ),
    locality: fc.constantFrom('None' as const, 'Preferred' as const, 'Required' as const),
    loadBound: fc.constantFrom('1', '1.05', '1.5'),
    rebalance: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, fc.constant(false)),
    seed: maybe(fc.constant('payments/orders'), 1),
    nodes: fc
      .array(node, { minLength: nodeCount, maxLength: nodeCount })
      .map((list) => list.map((rest, index): PlacementNode => ({ name: `n${index}`, ...rest }))),
    shards: fc
      .array(shard, { maxLength: 40 })
      .map((list) => list.map((rest, index): PlacementShard => ({ id: `${index}`, ...rest }))),
  });
});

/** The state after some of the planned moves were made. */
function carriedOut(input: PlacementInput, moves: readonly PlannedMove[]): PlacementInput {
  const owners = new Map(moves.map(({ shard, to }) => [shard, to]));
  return {
    ...input,
    shards: input.shards.map((shard) => ({ ...shard, owner: owners.get(shard.id) ?? shard.owner })),
  };
}

describe('from any state', () => {
  test('a carried-out plan leaves nothing to do', () => {
    fc.assert(
      fc.property(anyInput, (input) => {
        const done = carriedOut(input, plan(input).moves);
        expect(plan(done).moves).toEqual([]);
        expect(plan(done).targets).toEqual(plan(input).targets);
      }),
      { numRuns: 500 },
    );
  });

  test('planning again after any number of the moves gives the rest', () => {
    fc.assert(
      fc.property(anyInput, fc.double({ min: 0, max: 1, noNaN: true }), (input, share) => {
        const moves = plan(input).moves;
        const made = Math.floor(share * moves.length);
        expect(plan(carriedOut(input, moves.slice(0, made))).moves).toEqual(moves.slice(made));
      }),
      { numRuns: 500 },
    );
  });

  test('the failures alone may be made first, without the pins', () => {
    fc.assert(
      fc.property(anyInput, (input) => {
        const { moves } = plan(input);
        const isRebalanced = new Set(
          moves.filter(({ cause }) => cause === 'Rebalance').map(({ shard }) => shard),
        );
        const urgent = (move: PlannedMove) => move.cause === 'Unowned';
        fc.pre(!moves.some((move) => urgent(move) && isRebalanced.has(move.shard)));
        const rest = plan(carriedOut(input, moves.filter(urgent)));
        expect(rest.moves).toEqual(moves.filter((move) => !urgent(move)));
      }),
      { numRuns: 300 },
    );
  });

  test('the order of shards and nodes does not matter', () => {
    fc.assert(
      fc.property(anyInput, (input) => {
        const turned = { ...input, shards: input.shards.toReversed(), nodes: input.nodes.toReversed() };
        expect(plan(turned)).toEqual(plan(input));
      }),
      { numRuns: 200 },
    );
  });

  test('every shard has one allowed place or the reason why it has none', () => {
    fc.assert(
      fc.property(anyInput, (input) => {
        const { targets, unplaceable, moves } = plan(input);
        const nodes = new Map(input.nodes.map((node) => [node.name, node]));
        const isElsewhere = (shard: PlacementShard, node: PlacementNode) =>
          (shard.locality?.zone !== undefined && shard.locality.zone !== node.zone) ||
          (shard.locality?.region !== undefined && shard.locality.region !== node.region);
        for (const shard of input.shards) {
          const target = targets.get(shard.id);
          if (shard.fixed) {
            expect(target).toBe(shard.owner);
            continue;
          }
          expect(target === undefined).toBe(unplaceable.has(shard.id));
          const node = target === undefined ? undefined : nodes.get(target);
          if (!node) continue;
          const keeps = node.standing === 'cordoned' && shard.owner === target;
          expect(node.standing === 'eligible' || keeps).toBe(true);
          if (input.locality === 'Required') expect(isElsewhere(shard, node)).toBe(false);
        }
        for (const { shard, from, to } of moves) {
          expect(from).not.toBe(to);
          expect(nodes.get(to)?.standing).toBe('eligible');
          expect(input.shards.find(({ id }) => id === shard)?.fixed).not.toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('while any node is eligible and nothing forbids it, every shard is owned', () => {
    fc.assert(
      fc.property(anyInput, (input) => {
        fc.pre(input.nodes.some(({ standing }) => standing === 'eligible'));
        const free = { ...input, strategy: 'Rendezvous' as const, locality: 'Preferred' as const };
        expect(plan(free).unplaceable.size).toBe(0);
      }),
      { numRuns: 200 },
    );
  });

  test('frozen: nothing moves that may stay', () => {
    fc.assert(
      fc.property(anyInput, (input) => {
        const { moves } = plan({ ...input, rebalance: false });
        expect(moves.map(({ cause }) => cause)).not.toContain('Rebalance');
        expect(new Set(moves.map(({ shard }) => shard)).size).toBe(moves.length);
      }),
      { numRuns: 200 },
    );
  });
});

/** What happens to a set over time. Indexes are taken modulo what there is. */
const event = fc.oneof(
  fc.record({ kind: fc.constant('join' as const), weight: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constant('leave' as const), node: fc.nat(50) }),
  fc.record({
    kind: fc.constant('reweigh' as const),
    node: fc.nat(50),
    weight: fc.integer({ min: 1, max: 4 }),
  }),
  fc.record({
    kind: fc.constant('stand' as const),
    node: fc.nat(50),
    standing: fc.constantFrom<Standing>('eligible', 'eligible', 'cordoned', 'draining', 'notReady'),
  }),
);
type Event = typeof event extends fc.Arbitrary<infer T> ? T : never;

function happen(nodes: readonly PlacementNode[], happening: Event, step: number): PlacementNode[] {
  if (happening.kind === 'join') {
    return [...nodes, { name: `late-${step}`, weight: happening.weight, standing: 'eligible' }];
  }
  const hit = happening.node % Math.max(nodes.length, 1);
  if (happening.kind === 'leave') return nodes.filter((_, index) => index !== hit);
  const { kind: _kind, node: _node, ...change } = happening;
  return nodes.map((node, index) => (index === hit ? { ...node, ...change } : node));
}

describe('over any sequence of joins, leaves, weight changes, cordons, drains and deaths, with unit capacities', () => {
  const history = fc.record({
    shardCount: fc.integer({ min: 1, max: 150 }),
    weights: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 12 }),
    loadBound: fc.constantFrom('1', '1.05', '1.25'),
    events: fc.array(event, { minLength: 1, maxLength: 25 }),
  });

  test('every step moves exactly its lower bound, and no node is above its cap or below floor(m)', () => {
    fc.assert(
      fc.property(history, ({ shardCount, weights, loadBound, events }) => {
        let nodes = weights.map(
          (weight, index): PlacementNode => ({ name: `n${index}`, weight, standing: 'eligible' }),
        );
        let shards = Array.from(
          { length: shardCount },
          (_, id): PlacementShard => ({ id: `${id}`, capacity: 1 }),
        );
        for (const [step, happening] of [undefined, ...events].entries()) {
          if (happening) nodes = happen(nodes, happening, step);
          const input: PlacementInput = {
            strategy: 'Rendezvous',
            locality: 'Preferred',
            loadBound,
            shards,
            nodes,
            rebalance: true,
          };
          const { moves, loads, targets } = plan(input);
          expect(moves).toHaveLength(lowerBound(input).moves);
          for (const { load, mean, cap } of loads) {
            expect(load).toBeLessThanOrEqual(cap);
            expect(load).toBeGreaterThan(mean - 1);
          }
          if (loads.length > 0) expect(targets.size).toBe(shardCount);
          // A shard without a place keeps its owner for the record, as the operator does.
          shards = shards.map((shard) => ({ ...shard, owner: targets.get(shard.id) ?? shard.owner }));
        }
      }),
      { numRuns: 300 },
    );
  });

  test('so do states that no planner would have made', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 6 }),
        fc.array(maybe(fc.nat(8), 6), { maxLength: 60 }),
        fc.constantFrom('1', '1.05', '2'),
        (weights, owners, loadBound) => {
          const input: PlacementInput = {
            strategy: 'Rendezvous',
            locality: 'None',
            loadBound,
            rebalance: true,
            nodes: weights.map((weight, index) => ({ name: `n${index}`, weight, standing: 'eligible' })),
            shards: owners.map((owner, id) => ({
              id: `${id}`,
              capacity: 1,
              owner: owner === undefined ? undefined : `n${owner}`,
            })),
          };
          const { moves, loads } = plan(input);
          expect(moves).toHaveLength(lowerBound(input).moves);
          for (const { load, cap } of loads) expect(load).toBeLessThanOrEqual(cap);
        },
      ),
      { numRuns: 500 },
    );
  });
});
