import { describe, expect, it } from 'vitest';
import { assignment, draining, node, shardSet } from '../test/mesh-fixture.ts';
import type { NodeState } from './decide.ts';
import { explain } from './explain.ts';
import type { ShardAssignment, ShardSetSpec } from './records.ts';
import type { MeshState } from './simulate.ts';

const NODES = [node('a', true, { zone: 'z1', weight: 2 }), node('b')];

function state(
  shards: readonly ShardAssignment[],
  spec: Partial<ShardSetSpec> = {},
  nodes: readonly NodeState[] = NODES,
): MeshState {
  const set = shardSet({ shards: { count: shards.length }, ...spec });
  return { sets: [set], shards, nodes, basis: { position: '7' } };
}

function explained(from: MeshState, id = '0000') {
  return explain(from, { namespace: 'shop', name: `orders.${id}` }, 100);
}

/** Six shards: four on `a`, two on `b`, as their weights want it. */
function balanced(first: ShardAssignment = assignment('0000', { owner: 'a' })): ShardAssignment[] {
  const rest = ['a', 'a', 'a', 'b', 'b'].map((owner, index) => assignment(`000${index + 1}`, { owner }));
  return [first, ...rest];
}

/** All on `a`, six of them, so that two have to move. */
const PILED = Array.from({ length: 6 }, (_, index) => assignment(`000${index}`, { owner: 'a' }));

describe('what the operator does with a shard', () => {
  it('stays: nothing calls for a move, and each node says what would', () => {
    const found = explained(state(balanced()));
    expect(found).toMatchObject({
      course: 'stays',
      owner: 'a',
      target: 'a',
      summary: 'stays on a: its node may keep it and nothing calls for a move',
      nodesTotal: 2,
      nodesElsewhere: 0,
      settings: { strategy: 'Rendezvous', locality: 'Preferred', loadBound: '1.05' },
      budget: { maxConcurrentMoves: 5, inFlight: 0, waiting: 0, freeze: 'None' },
      basis: { position: '7' },
    });
    expect(found.nodes).toMatchObject([
      { node: 'a', verdict: 'owner', weight: 2, zone: 'z1', load: 3, mean: 4, cap: 4 },
      { node: 'b', verdict: 'notNeeded', knob: 'spec.owner.pinned: b on the ShardAssignment' },
    ]);
    expect(found.held).toBeUndefined();
  });

  it('moves: the budget has room', () => {
    const moving = PILED.map(({ spec }) => explained(state(PILED), spec.shardId)).filter(
      ({ course }) => course === 'moves',
    );
    expect(moving).toHaveLength(2);
    expect(moving[0]).toMatchObject({
      target: 'b',
      cause: 'Rebalance',
      summary: expect.stringMatching(/^moves from a to b/),
    });
  });

  it('waits for the churn budget, at its place', () => {
    const from = state(PILED, { churn: { maxConcurrentMoves: 1 } });
    const waiting = PILED.map(({ spec }) => explained(from, spec.shardId)).find(
      ({ course }) => course === 'waits',
    );
    expect(waiting).toMatchObject({
      target: 'b',
      held: {
        by: 'churnBudget',
        detail: '1 moves at a time: 0 are under way, and 0 go before this one',
        knob: 'a larger spec.churn.maxConcurrentMoves on the ShardSet',
      },
      budget: { waiting: 1, place: 1 },
    });
  });

  it.each(['Rebalance', 'All'] as const)('waits under freeze: %s', (freeze) => {
    const from = state(PILED, { freeze });
    const waiting = PILED.map(({ spec }) => explained(from, spec.shardId)).filter(
      ({ course }) => course === 'waits',
    );
    expect(waiting).toHaveLength(2);
    expect(waiting[0]!.held).toMatchObject({
      by: 'freeze',
      detail: expect.stringMatching(/balance would move it to b/),
    });
  });

  it('draining: waits for its owner, and says what to set', () => {
    const found = explained(state(balanced(assignment('0000', draining('a', 'b')))));
    expect(found).toMatchObject({
      course: 'draining',
      owner: 'a',
      target: 'b',
      summary: 'moves from a to b: a has not released it yet',
      held: {
        by: 'drain',
        detail: 'waits for the release by a, until 2026-11-23T08:00:30.000Z at the latest',
        knob: expect.stringContaining('meshkit.omnirelay.io/released: a/7'),
      },
      budget: { inFlight: 1 },
    });
    expect(found.nodes[0]).toMatchObject({ node: 'b', verdict: 'target' });
    expect(JSON.stringify(found.nodes)).not.toContain('paused');
  });

  const moving = assignment('0000', draining('a', 'b'));
  const annotations = { 'meshkit.omnirelay.io/released': 'a/7' };
  const released = { ...moving, metadata: { ...moving.metadata, annotations } };
  it.each([
    ['was released', released, true, 'released by a at epoch 7'],
    ['lost its owner', moving, false, 'a is not ready (LeaseExpired)'],
  ])('a drain that %s moves, and its target is not the owner yet', (_name, shard, alive, why) => {
    const found = explained(state(balanced(shard), {}, [node('a', alive), node('b'), node('c')]));
    expect(found).toMatchObject({
      course: 'moves',
      owner: 'a',
      target: 'b',
      summary: `moves from a to b: ${why}`,
    });
    const verdicts = new Map(found.nodes.map(({ node, verdict, knob }) => [node, [verdict, knob]]));
    expect(found.nodes[0]!.node).toBe('b');
    expect(verdicts.get('b')).toEqual(['target', undefined]);
    expect(verdicts.get('c')).toEqual(['notNeeded', 'spec.owner.pinned: c on the ShardAssignment']);
    expect(verdicts.get('a')![0]).toBe(alive ? 'notNeeded' : 'notReady');
  });

  it('its node is dead', () => {
    const found = explained(state(balanced(), {}, [node('a', false), node('b')]));
    expect(found).toMatchObject({
      course: 'moves',
      target: 'b',
      cause: 'Unowned',
      summary: 'moves from a to b: a is not ready (LeaseExpired)',
    });
    expect(explained(state(balanced(), { freeze: 'All' }, [node('a', false), node('b')]))).toMatchObject({
      course: 'waits',
      held: { by: 'freeze' },
    });
  });

  it('no place: the constraint and the knob', () => {
    expect(explained(state(balanced(), {}, [node('a', false)]))).toMatchObject({
      course: 'unplaceable',
      unplaceable: { reason: 'NoEligibleNode', knob: expect.stringContaining('spec.scheduling') },
      summary: 'has no place: no node is ready, selected, serving this namespace and open to shards',
    });
  });

  it.each([
    ['paused', { state: 'Paused' }, 'is paused on a'],
    ['leaves', { state: 'Disabled' }, 'goes to nobody: spec.state is Disabled'],
  ] as const)('%s', (course, spec, summary) => {
    expect(explained(state(balanced(assignment('0000', { owner: 'a' }, spec))))).toMatchObject({
      course,
      summary,
    });
  });

  it('leaves: its id is not in the set', () => {
    const shards = [...balanced(), assignment('9999', { owner: 'a' })];
    expect(explained(state(shards, { shards: { count: 6 } }), '9999')).toMatchObject({
      course: 'leaves',
      summary: 'goes to nobody: id 9999 is not in ShardSet orders',
      nodes: [],
    });
  });

  it('its set does not exist, or cannot be read', () => {
    expect(explained({ ...state(balanced()), sets: [] })).toMatchObject({
      course: 'noSet',
      summary: expect.stringContaining('ShardSet orders does not exist'),
    });
    expect(explained(state(balanced(), { shards: {} }))).toMatchObject({
      course: 'noSet',
      summary: expect.stringContaining('cannot be read'),
    });
  });

  it('a pin that cannot be met', () => {
    const pinned = assignment('0000', { owner: 'a' }, { owner: { pinned: 'z' } });
    expect(explained(state(balanced(pinned))).pinned).toBe('z');
  });
});

it('the last transitions, newest first, with actor and ticket', () => {
  const actor = { kind: 'User', name: 'jane' } as const;
  const hop = (version: number) => ({
    version,
    phase: 'Active' as const,
    actor,
    reason: 'r',
    changeTicket: 'CHG-7',
    at: 't',
  });
  const found = explained(
    state(balanced(assignment('0000', { owner: 'a', recentTransitions: [hop(1), hop(2)] }))),
  );
  expect(found.transitions).toEqual([hop(2), hop(1)]);
});

it('of a shared pool, nodes that do not serve the namespace are counted, not named', () => {
  const place = (state: NodeState, serves: string[]): NodeState => ({
    ...state,
    node: {
      ...state.node,
      metadata: { ...state.node.metadata, namespace: 'fleet' },
      spec: { ...state.node.spec, serves },
    },
  });
  const nodes = [place(node('a'), ['*']), place(node('secret'), ['bank'])];
  const found = explained(
    state([assignment('0000', { owner: 'a' })], { nodes: { namespace: 'fleet' } }, nodes),
  );
  expect(found).toMatchObject({ nodesTotal: 1, nodesElsewhere: 1 });
  expect(JSON.stringify(found)).not.toContain('secret');
});

it('lists no more nodes than asked for, the target first', () => {
  const many = Array.from({ length: 20 }, (_, index) => node(`n${index}`));
  const from = state([assignment('0000', { owner: 'n7' })], {}, many);
  const found = explain(from, { namespace: 'shop', name: 'orders.0000' }, 3);
  expect(found.nodes.map(({ node }) => node)[0]).toBe('n7');
  expect([found.nodes.length, found.nodesTotal]).toEqual([3, 20]);
});

it('refuses what is not there', () => {
  expect(() => explained(state(balanced()), '0009')).toThrow(
    'there is no shard orders.0009 in namespace shop',
  );
});
