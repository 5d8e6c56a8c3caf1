import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assignment, decideWith, draining, node, shardSet } from '../test/mesh-fixture.ts';
import { placementNodes } from './candidates.ts';
import type { NodeState } from './decide.ts';
import { ShardError } from './errors.ts';
import { lowerBound } from './lower-bound.ts';
import type { ShardAssignment, ShardSet, ShardSetSpec } from './records.ts';
import {
  boundedSimulation,
  type MeshState,
  type SimulatedBalance,
  type SimulationRequest,
  simulate,
} from './simulate.ts';

function state(set: ShardSet, shards: readonly ShardAssignment[], nodes: readonly NodeState[]): MeshState {
  return {
    sets: [set],
    shards,
    nodes,
    basis: { lineage: 'l', position: '42', shardSets: '40', nodes: '41' },
  };
}

/** Everything where the plan wants it. */
function settled(count: number, nodes: readonly NodeState[], spec: Partial<ShardSetSpec> = {}): MeshState {
  const set = shardSet({ shards: { count }, ...spec });
  const { sets } = simulate(state(set, [], nodes), {});
  const shards = sets[0]!.moves.map(({ shard, to }) => assignment(shard, { owner: to }));
  return state(set, shards, nodes);
}

const NODES = ['a', 'b', 'c', 'd'].map((name, index) => node(name, true, { zone: `z${index % 2}` }));

function one(request: SimulationRequest, from: MeshState = settled(40, NODES)) {
  return simulate(from, request).sets[0]!;
}

describe('a change that is only thought of', () => {
  it('nothing: no moves, and everything as it is', () => {
    const { sets, totals, planHash, basis, warnings } = simulate(settled(40, NODES), {});
    expect(totals).toEqual({
      sets: 1,
      moves: 0,
      placements: 0,
      pending: 0,
      lowerBound: 0,
      fraction: 0,
      shards: 40,
      unplaceable: 0,
      retired: 0,
      estimatedDurationMs: 0,
    });
    expect(sets[0]!.balance.before).toEqual(sets[0]!.balance.after);
    expect({ planHash: planHash.length, basis: basis.position, warnings }).toEqual({
      planHash: 16,
      basis: '42',
      warnings: [],
    });
  });

  it('drain: the shards of the node, and no others', () => {
    const set = one({ changes: [{ type: 'drain', node: 'a' }] });
    expect(set.moves).toHaveLength(10);
    expect(new Set(set.moves.map(({ from, reason }) => `${from} ${reason}`))).toEqual(new Set(['a Drain']));
    expect(set.churn).toEqual({
      moves: 10,
      placements: 0,
      pending: 0,
      lowerBound: 10,
      fraction: 0.25,
      shards: 40,
    });
    const row = (moment: 'before' | 'after') => set.balance[moment].nodes.find(({ node }) => node === 'a');
    expect([row('before'), row('after')]).toMatchObject([
      { standing: 'eligible', load: 10, share: 10, cap: 10 },
      { standing: 'draining', load: 0 },
    ]);
    expect(set.balance.after.zones).toEqual([
      { zone: 'z0', nodes: 1, load: expect.any(Number), share: 13.3333 },
      { zone: 'z1', nodes: 2, load: expect.any(Number), share: 26.6667 },
    ]);
    expect(set.matrix.reduce((sum, { shards }) => sum + shards, 0)).toBe(10);
  });

  it('drain under the churn budget: five at a time, each at most as long as the drain may last', () => {
    const set = one({ changes: [{ type: 'drain', node: 'a' }] });
    expect(set.phases).toEqual([
      { phase: 1, kind: 'planned', moves: 5, estimatedMs: 30_000 },
      { phase: 2, kind: 'planned', moves: 5, estimatedMs: 30_000 },
    ]);
    expect(set).toMatchObject({ estimatedDurationMs: 60_000, estimateBasis: 'drainTimeout' });
  });

  it('drains that ended lately tell how long one takes', () => {
    const from = settled(40, NODES);
    const actor = { kind: 'Operator' as const, name: 'Released' };
    const at = (second: number) => `2026-11-23T08:00:0${second}.000Z`;
    const shards = from.shards.map((shard) => ({
      ...shard,
      status: {
        ...shard.status!,
        recentTransitions: [
          { version: 1, from: 'b', to: 'a', phase: 'Draining' as const, actor, reason: 'r', at: at(1) },
          { version: 2, from: 'b', to: 'a', phase: 'Active' as const, actor, reason: 'r', at: at(3) },
        ],
      },
    }));
    const set = one({ changes: [{ type: 'drain', node: 'a' }] }, { ...from, shards });
    expect(set).toMatchObject({ estimatedDurationMs: 4_000, estimateBasis: 'observed' });
  });

  it('Immediate: as many a second as the budget says', () => {
    const from = settled(40, NODES, { handoff: { mode: 'Immediate' } });
    const set = one({ changes: [{ type: 'drain', node: 'a' }] }, from);
    expect(set.phases.map(({ moves, estimatedMs }) => [moves, estimatedMs])).toEqual([
      [5, 1_000],
      [5, 25],
    ]);
    expect(set.estimateBasis).toBe('immediate');
  });

  it('moves under way take their part of the budget', () => {
    const from = settled(40, NODES);
    const shards = from.shards.map((shard, index) =>
      shard.status!.owner === 'b' && index % 2 === 0
        ? assignment(shard.spec.shardId, draining('b', 'c'))
        : shard,
    );
    const moving = shards.filter(({ status }) => status?.phase === 'Draining').length;
    const { phases } = one({ changes: [{ type: 'drain', node: 'a' }] }, { ...from, shards });
    expect(moving).toBeGreaterThan(0);
    expect(phases[0]).toMatchObject(
      moving < 5 ? { kind: 'planned', moves: 5 - moving } : { kind: 'inFlight', moves: moving },
    );
  });

  it('remove: at once, as the death of the node', () => {
    const set = one({ changes: [{ type: 'remove', node: 'a' }] });
    expect(set.moves.map(({ reason }) => reason)).toEqual(Array(10).fill('NodeDeleted'));
    expect(set.phases).toEqual([{ phase: 1, kind: 'immediate', moves: 10, estimatedMs: 50 }]);
    expect(set.balance.after.nodes.map(({ node }) => node)).toEqual(['b', 'c', 'd']);
  });

  it('add: the new node gets its fair share, by the fewest moves', () => {
    const set = one({ changes: [{ type: 'add', node: 'e', zone: 'z9' }] });
    expect(set.moves.every(({ to, reason }) => to === 'e' && reason === 'Rebalance')).toBe(true);
    expect(set.churn).toMatchObject({ moves: 8, lowerBound: 8 });
    expect(set.balance.after).toMatchObject({ maxOverMean: 1, minOverMean: 1 });
  });

  it.each([
    ['weight', { type: 'weight', node: 'a', weight: 3 }, { moves: 10, lowerBound: 10 }],
    ['cordon', { type: 'cordon', node: 'a' }, { moves: 0, lowerBound: 0 }],
    ['strategy', { type: 'strategy', strategy: 'Static' }, { moves: 0 }],
  ] as const)('%s', (_name, change, churn) => {
    expect(one({ changes: [change] }).churn).toMatchObject(churn);
  });

  it('warns of a new node that no set selects', () => {
    const nodes = { selector: { matchLabels: { app: 'x' } } };
    const selective = { ...settled(40, NODES), sets: [shardSet({ shards: { count: 40 }, nodes })] };
    const warnings = (labels?: Record<string, string>) =>
      simulate(selective, { changes: [{ type: 'add', node: 'e', labels }] }).warnings;
    expect(warnings()).toEqual([expect.stringContaining('shop/e gets nothing: its labels')]);
    expect(warnings({ app: 'x' })).toEqual([]);
  });

  it('policy: a looser bound, another pace, a freeze', () => {
    const set = one({
      changes: [
        { type: 'policy', maxConcurrentMoves: 10, handoff: { drainTimeout: '5s' } },
        { type: 'drain', node: 'a' },
      ],
    });
    expect(set).toMatchObject({ change: 'changed', estimatedDurationMs: 5_000, phases: [{ moves: 10 }] });
    const frozen = one({
      changes: [
        { type: 'policy', freeze: 'All' },
        { type: 'remove', node: 'a' },
      ],
    });
    expect(frozen).toMatchObject({ phases: [], warnings: [expect.stringContaining('freeze is All')] });
    expect(frozen.estimatedDurationMs).toBeUndefined();
  });

  it('nowhere to go: the shards stay, and the reason names the knob', () => {
    const set = one({
      changes: (['a', 'b', 'c', 'd'] as const).map((name) => ({ type: 'drain', node: name })),
    });
    expect(set.totals).toMatchObject({ moves: 0, unplaceable: 40 });
    expect(set.unplaceable[0]).toMatchObject({
      reason: 'NoEligibleNode',
      owner: expect.any(String),
      constraint: expect.stringContaining('every MeshNode in namespace shop'),
      knob: expect.stringContaining('spec.scheduling'),
    });
    expect(set.balance.after.nodes.map(({ load }) => load)).toEqual([10, 10, 10, 10]);
  });

  it('no lower bound where pins rule a fair share out', () => {
    const from = settled(40, NODES);
    const shards = from.shards.map(({ spec }) =>
      assignment(spec.shardId, { owner: 'a' }, { owner: { pinned: 'a' } }),
    );
    expect(one({}, { ...from, shards }).churn).toMatchObject({ moves: 0, lowerBound: undefined });
  });

  it('what the operator would do anyway is told apart', () => {
    const from = settled(40, NODES);
    const more = { ...from, nodes: [...from.nodes, node('e')] };
    expect(one({}, more).churn).toMatchObject({ moves: 8, pending: 8 });
    const { churn } = one({ changes: [{ type: 'drain', node: 'a' }] }, more);
    expect(churn.pending).toBeGreaterThan(0);
    expect(churn.moves).toBeGreaterThan(churn.pending);
  });
});

describe('manifests', () => {
  const manifest = (spec: Partial<ShardSetSpec>) => shardSet({ shards: { count: 40 }, ...spec });

  it('grow a set: new shards are placed, and are no churn', () => {
    const set = one({ manifests: [manifest({ shards: { count: 44 } })] });
    expect(set).toMatchObject({
      change: 'changed',
      churn: { moves: 4, placements: 4, fraction: 0, shards: 44 },
    });
    expect(set.moves.map(({ shard, from, reason }) => [shard, from, reason])).toEqual(
      ['0040', '0041', '0042', '0043'].map((id) => [id, undefined, 'New']),
    );
  });

  it('shrink a set: the last ids are retired, and that is churn', () => {
    const { retired, totals, churn } = one({ manifests: [manifest({ shards: { count: 38 } })] });
    expect(retired).toEqual(['0038', '0039']);
    expect(totals.retired).toBe(2);
    expect(churn).toMatchObject({ fraction: (churn.moves + 2) / 40, shards: 38 });
  });

  it('add a set, a shard with a pin, a node; a status is never taken from them', () => {
    const set = { ...shardSet({ shards: { ids: ['eu'] } }), metadata: { name: 'carts', namespace: 'shop' } };
    const pinned = assignment('0000', { owner: 'zz' }, { owner: { pinned: 'e' } });
    const fresh = { ...node('e', false).node };
    const { sets, warnings } = simulate(settled(40, NODES), { manifests: [set, pinned, fresh] });
    expect(sets.map(({ name, change }) => [name, change])).toEqual([
      ['carts', 'added'],
      ['orders', 'changed'],
    ]);
    expect(sets[1]!.moves[0]).toMatchObject({ shard: '0000', to: 'e', reason: 'Pin' });
    expect(sets[1]!.moves[0]!.from).not.toBe('zz');
    expect(warnings).toEqual(['MeshNode shop/e is new: it is counted as ready']);
  });

  it('disable a shard: it goes to nobody', () => {
    const { retired, churn } = one({ manifests: [assignment('0007', undefined, { state: 'Disabled' })] });
    expect(retired).toEqual(['0007']);
    expect(churn.fraction).toBe((churn.moves + 1) / 40);
  });

  it('keep what is known of an object: owner, readiness, labels', () => {
    const from = settled(40, [...NODES.slice(1), node('a', false)]);
    expect(one({ manifests: [node('a').node, assignment('0003')] }, from).churn.moves).toBe(0);
  });
});

describe('what cannot be simulated', () => {
  const from = settled(8, NODES);
  it.each<[SimulationRequest, string, string, RegExp]>([
    [{ changes: [{ type: 'drain', node: 'z' }] }, 'notFound', '/body/changes/0/node', /there are a, b, c, d/],
    [{ shardSet: 'orders' }, 'invalidArgument', '/body/shardSet', /namespace/],
    [{ namespace: 'shop', shardSet: 'z' }, 'notFound', '/body/shardSet', /no ShardSet z in namespace shop/],
    [
      { changes: [{ type: 'drain', node: 'a', namespace: 'z' }] },
      'notFound',
      '/body/changes/0/namespace',
      /no ShardSet .* uses/,
    ],
    [{ changes: [{ type: 'add', node: 'a' }] }, 'invalidArgument', '/body/changes/0/node', /exists/],
    [
      { changes: [{ type: 'strategy', shardSet: 'z', strategy: 'Static' }] },
      'notFound',
      '/body/changes/0/shardSet',
      /z/,
    ],
    [{ changes: [{ type: 'policy', loadBound: '0.5' }] }, 'invalidArgument', '/body/changes/0', /at least 1/],
    [
      { manifests: [shardSet({ shards: {} })] },
      'invalidArgument',
      '/body/manifests/0/spec',
      /exactly one of count and ids/,
    ],
    [{ manifests: [shardSet(), shardSet()] }, 'invalidArgument', '/body/manifests/1', /twice/],
    [
      { namespace: 'other', manifests: [shardSet()] },
      'invalidArgument',
      '/body/manifests/0/metadata/namespace',
      /only namespace other/,
    ],
    [
      { manifests: [{ ...shardSet(), metadata: { name: 'orders' } }] },
      'invalidArgument',
      '/body/manifests/0/metadata/namespace',
      /namespace of the object/,
    ],
  ])('%j', (request, code, pointer, text) => {
    let error: unknown;
    try {
      simulate(from, request);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(ShardError);
    const { message, details, ...rest } = error as ShardError;
    expect({ code: rest.code, pointer: (details.errors as { pointer: string }[])[0]!.pointer }).toEqual({
      code,
      pointer,
    });
    expect(message).toMatch(text);
  });

  it('a namespace without sets is no mistake, but worth a word', () => {
    expect(simulate(from, { namespace: 'empty' })).toMatchObject({
      sets: [],
      warnings: ['there is no ShardSet in namespace empty'],
    });
  });

  it('a set that the operator cannot read is left out, and says so', () => {
    const broken = { ...from, sets: [shardSet({ shards: {} })] };
    expect(simulate(broken, {})).toMatchObject({
      sets: [],
      warnings: [expect.stringContaining('cannot be read')],
    });
  });
});

describe('a shared pool', () => {
  const place = (state: NodeState, serves?: string[]): NodeState => ({
    ...state,
    node: {
      ...state.node,
      metadata: { ...state.node.metadata, namespace: 'fleet' },
      spec: { ...state.node.spec, serves },
    },
  });
  const nodes = [place(node('a'), ['shop']), place(node('b'), ['*']), place(node('secret'), ['bank'])];
  const from = state(shardSet({ shards: { count: 4 }, nodes: { namespace: 'fleet' } }), [], nodes);

  it('shows a namespace only the nodes that serve it', () => {
    const text = JSON.stringify(simulate(from, { namespace: 'shop' }));
    expect(text).not.toContain('secret');
    expect(() => simulate(from, { namespace: 'shop', changes: [{ type: 'drain', node: 'secret' }] })).toThrow(
      'there is no MeshNode secret in namespace fleet; there are a, b',
    );
    expect(simulate(from, { changes: [{ type: 'drain', node: 'secret' }] }).sets).toHaveLength(1);
  });

  it('takes a new node that serves others', () => {
    const set = one({ namespace: 'shop', changes: [{ type: 'add', node: 'c' }] }, from);
    expect(set.balance.after.nodes.map(({ node, standing }) => [node, standing])).toEqual([
      ['a', 'eligible'],
      ['b', 'eligible'],
      ['c', 'eligible'],
    ]);
  });

  it('shows only sets of the namespace asked for', () => {
    const bank = { ...shardSet(), metadata: { name: 'accounts', namespace: 'bank' } };
    const both = { ...from, sets: [...from.sets, bank] };
    expect(simulate(both, { namespace: 'shop' }).sets.map(({ name }) => name)).toEqual(['orders']);
    expect(simulate(both, {}).sets.map(({ name }) => name)).toEqual(['accounts', 'orders']);
  });
});

describe('the size of the answer', () => {
  it('lists are cut over all sets together, totals and hash are not', () => {
    const whole = simulate(settled(40, NODES), { changes: [{ type: 'remove', node: 'a' }] });
    const cut = boundedSimulation(whole, 3);
    expect(cut).toMatchObject({ truncated: true, planHash: whole.planHash, totals: whole.totals });
    expect(cut.sets[0]!.moves).toEqual(whole.sets[0]!.moves.slice(0, 3));
    expect(cut.sets[0]!.balance.after.nodes).toHaveLength(3);
    expect(cut.sets[0]!.totals).toEqual(whole.sets[0]!.totals);
    expect(boundedSimulation(whole, 10_000)).toEqual(whole);
  });
});

describe('whatever the mesh and the change', () => {
  const meshes = fc.record({
    weights: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 8 }),
    count: fc.integer({ min: 1, max: 60 }),
    dead: fc.nat(7),
    owners: fc.array(fc.nat(9), { minLength: 60, maxLength: 60 }),
  });
  const meshOf = ({
    weights,
    count,
    dead,
    owners,
  }: typeof meshes extends fc.Arbitrary<infer T> ? T : never) => {
    const nodes = weights.map((weight, index) => node(`n${index}`, index !== dead, { weight }));
    const shards = Array.from({ length: count }, (_, index) => {
      const owner = owners[index]! < weights.length ? `n${owners[index]}` : undefined;
      const id = String(index).padStart(4, '0');
      return owner === undefined ? assignment(id) : assignment(id, { owner });
    });
    return state(shardSet({ shards: { count } }), shards, nodes);
  };

  it('no change plans what the operator plans', () => {
    fc.assert(
      fc.property(meshes, (mesh) => {
        const from = meshOf(mesh);
        let planned: unknown;
        const plans: unknown[] = [];
        simulate(from, {}, (input) => {
          plans.push(input);
          return { targets: new Map(), moves: [], unplaceable: new Map(), loads: [] };
        });
        decideWith({
          set: from.sets[0],
          shards: from.shards,
          nodes: from.nodes,
          plan: (input) => {
            planned = input;
            return { targets: new Map(), moves: [], unplaceable: new Map(), loads: [] };
          },
        });
        for (const input of plans) expect(input).toEqual(planned);
      }),
      { numRuns: 200 },
    );
  });

  it('moves as few as anybody could, and afterwards nothing is left to do', () => {
    fc.assert(
      fc.property(meshes, fc.nat(7), (mesh, which) => {
        const from = meshOf(mesh);
        const changes = [{ type: 'drain', node: `n${which % mesh.weights.length}` }] as const;
        const { sets, planHash } = simulate(from, { changes });
        const set = sets[0]!;
        expect(set.churn.moves).toBe(set.churn.lowerBound);
        expect(simulate(from, { changes }).planHash).toBe(planHash);
        const nodes = from.nodes.map((known) =>
          known.node.metadata.name === changes[0].node
            ? {
                ...known,
                node: { ...known.node, spec: { ...known.node.spec, scheduling: 'Drain' as const } },
              }
            : known,
        );
        const owners = new Map(set.moves.map(({ shard, to }) => [shard, to]));
        const shards = from.shards.map((shard) => {
          const owner = owners.get(shard.spec.shardId);
          return owner === undefined ? shard : assignment(shard.spec.shardId, { owner });
        });
        const after = simulate({ ...from, shards, nodes }, {});
        expect(after.totals.moves).toBe(0);
        const held = ({ maxOverMean, minOverMean }: SimulatedBalance) => ({ maxOverMean, minOverMean });
        expect(held(after.sets[0]!.balance.before)).toEqual(held(set.balance.after));
        // The bound is told from the same input that the operator would plan from.
        const input = {
          strategy: 'Rendezvous',
          locality: 'Preferred',
          loadBound: '1.05',
          rebalance: true,
        } as const;
        const placed = from.shards.map(({ spec, status }) => ({
          id: spec.shardId,
          capacity: 1,
          owner: status?.owner,
        }));
        expect(
          lowerBound({ ...input, shards: placed, nodes: placementNodes(from.sets[0]!, nodes) }).moves,
        ).toBe(set.churn.moves);
      }),
      { numRuns: 200 },
    );
  });

  it('touches nothing that it was given', () => {
    fc.assert(
      fc.property(meshes, (mesh) => {
        const from = meshOf(mesh);
        const copy = structuredClone(from);
        simulate(from, {
          changes: [
            { type: 'weight', node: 'n0', weight: 3 },
            { type: 'policy', loadBound: '1.2' },
            { type: 'remove', node: 'n1' },
          ],
          manifests: [shardSet({ shards: { count: 3 } })],
        });
        expect(from).toEqual(copy);
      }),
      { numRuns: 50 },
    );
  });
});
