import { describe, expect, it } from 'vitest';
import { assignment, decideWith, draining, NOW, node, shardSet, stamped } from '../test/mesh-fixture.ts';
import type { DecideInput } from './decide.ts';
import { RELEASED_ANNOTATION, type ShardAssignment, type ShardAssignmentStatus } from './records.ts';

const UNIX = NOW / 1000;

/** Decides about one shard `0000` and gives its next status; undefined when nothing is written. */
function after(
  shard: ShardAssignment,
  rest: Partial<DecideInput> & { targets?: Record<string, string> },
): ShardAssignmentStatus | undefined {
  return decideWith({ shards: [shard], ...rest }).writes[0]?.status;
}

function released(shard: ShardAssignment, by: string): ShardAssignment {
  return { ...shard, metadata: { ...shard.metadata, annotations: { [RELEASED_ANNOTATION]: by } } };
}

const [a, b, c] = [node('a'), node('b'), node('c')] as const;
const deadA = node('a', false);
const deadB = node('b', false);

describe('Pending', () => {
  it('is owned as soon as an eligible node exists, at an epoch of at least the Unix time', () => {
    const status = after(assignment('0000'), { nodes: [b] });
    expect(status).toMatchObject({
      phase: 'Active',
      owner: 'b',
      ownerEndpoint: 'https://b:8443',
      epoch: UNIX,
      version: 1,
      effective: { strategy: 'Rendezvous', capacity: 1 },
    });
    expect(status?.recentTransitions?.[0]).toMatchObject({
      to: 'b',
      phase: 'Active',
      actor: { kind: 'Operator', name: 'Placed' },
    });
  });

  it('names the constraint and the knob while nothing can take it', () => {
    const required = shardSet({ locality: 'Required' });
    const inZone = assignment('0000', undefined, { locality: { zone: 'z1' } });
    const cases: [Partial<DecideInput>, string, RegExp][] = [
      [{ shards: [assignment('0000')] }, 'NoNodes', /create one/],
      [{ shards: [assignment('0000')], nodes: [deadA] }, 'NoEligibleNode', /spec\.scheduling/],
      [{ shards: [inZone], nodes: [a], set: required }, 'NoNodeInLocality', /zone z1.*Preferred/],
      [
        { shards: [assignment('0000')], nodes: [a], set: shardSet({ strategy: 'Static' }) },
        'NoPin',
        /spec\.owner\.pinned/,
      ],
    ];
    for (const [input, reason, message] of cases) {
      const status = decideWith(input).writes[0]?.status;
      expect(status).toMatchObject({ phase: 'Pending', epoch: 0 });
      expect(status?.conditions).toMatchObject([
        { type: 'Ready', status: 'False', reason, message: expect.stringMatching(message) },
        { type: 'Reconciling', status: 'False' },
        { type: 'Stalled', status: 'True', reason },
      ]);
    }
  });
});

describe('Active(A)', () => {
  const active = assignment('0000', { owner: 'a' });

  it('Graceful: drains towards B with a deadline, and keeps owner and epoch', () => {
    const status = after(active, { nodes: [a, b], targets: { '0000': 'b' } });
    expect(status).toMatchObject({
      phase: 'Draining',
      owner: 'a',
      epoch: 7,
      move: { to: 'b', startedAt: '2026-11-23T08:00:00.000Z', deadline: '2026-11-23T08:00:30.000Z' },
    });
    expect(status?.recentTransitions?.at(-1)).toMatchObject({ from: 'a', to: 'b', phase: 'Draining' });
  });

  it('Immediate: is granted to B with a new epoch', () => {
    const set = shardSet({ handoff: { mode: 'Immediate' } });
    const status = after(active, { set, nodes: [a, b], targets: { '0000': 'b' } });
    expect(status).toMatchObject({ phase: 'Active', owner: 'b', previousOwner: 'a', epoch: UNIX });
    expect(status?.move).toBeUndefined();
  });

  it('fails over at once when A is not ready', () => {
    const status = after(active, { nodes: [deadA, b] });
    expect(status).toMatchObject({ phase: 'Active', owner: 'b', previousOwner: 'a', epoch: UNIX });
    expect(status?.recentTransitions?.at(-1)?.actor).toEqual({ kind: 'Operator', name: 'NodeNotReady' });
  });

  it('fails over when the MeshNode of A is deleted', () => {
    expect(after(active, { nodes: [b] })?.recentTransitions?.at(-1)?.actor.name).toBe('NodeDeleted');
  });

  it('is Lost, owner kept for the record, when A is not ready and nobody is eligible', () => {
    const status = after(active, { nodes: [deadA] });
    expect(status).toMatchObject({ phase: 'Lost', owner: 'a', epoch: 7 });
    expect(status?.recentTransitions?.at(-1)).toMatchObject({ from: 'a', phase: 'Lost' });
    expect(status?.recentTransitions?.at(-1)).not.toHaveProperty('to');
  });

  it('says so when A must be left but nothing else is eligible', () => {
    const status = after(active, { nodes: [node('a', true, { scheduling: 'Drain' })] });
    expect(status).toMatchObject({ phase: 'Active', owner: 'a', epoch: 7 });
    expect(status?.conditions?.[2]).toMatchObject({
      type: 'Stalled',
      status: 'True',
      reason: 'NoEligibleNode',
    });
  });

  it('says so when its pin cannot be honoured', () => {
    const pinned = assignment('0000', { owner: 'a' }, { owner: { pinned: 'b' } });
    const status = after(pinned, { nodes: [a, deadB] });
    expect(status).toMatchObject({ phase: 'Active', owner: 'a' });
    expect(status?.conditions?.[0]).toMatchObject({
      status: 'False',
      reason: 'PinnedNodeNotEligible',
      message: expect.stringContaining('b, which is not ready'),
    });
  });

  it('is moved, pinned and warned about just the same when all has been said about it', () => {
    const said = after(assignment('0000'), { nodes: [a] });
    const quiet = (spec = {}) => ({ ...assignment('0000', undefined, spec), status: said });
    expect(after(quiet(), { nodes: [a] })).toBeUndefined();
    expect(after(quiet(), { nodes: [a, b], targets: { '0000': 'b' } })?.phase).toBe('Draining');
    const reason = (nodes: DecideInput['nodes'], spec = {}) =>
      after(quiet(spec), { nodes })?.conditions?.[0]?.reason;
    expect(reason([a, deadB], { owner: { pinned: 'b' } })).toBe('PinnedNodeNotEligible');
    expect(reason([node('a', true, { scheduling: 'Drain' })])).toBe('NoEligibleNode');
  });

  it('takes over a new endpoint of its node without a transition', () => {
    const shard = assignment('0000', { owner: 'a', ownerEndpoint: 'https://old:1' });
    const status = after(shard, { nodes: [a] });
    expect(status).toMatchObject({ ownerEndpoint: 'https://a:8443', epoch: 7, version: 2 });
    expect(status?.recentTransitions).toBeUndefined();
  });
});

describe('Draining(A to B)', () => {
  const moving = assignment('0000', draining('a', 'b'));

  it('is granted to B when A releases at this epoch', () => {
    const status = after(released(moving, 'a/7'), { nodes: [a, b] });
    expect(status).toMatchObject({ phase: 'Active', owner: 'b', previousOwner: 'a', epoch: UNIX });
    expect(status?.move).toBeUndefined();
    expect(status?.recentTransitions?.at(-1)?.actor.name).toBe('Released');
  });

  it.each(['a/6', 'b/7', 'a/8', 'a'])('does not take %s for a release', (annotation) => {
    expect(after(released(moving, annotation), { nodes: [a, b] })?.owner ?? 'a').toBe('a');
  });

  it('is granted to B at the deadline, by the monotonic clock since the drain was first seen', () => {
    const input = { shards: [moving], nodes: [a, b] };
    // A wall clock far ahead means nothing.
    const first = decideWith({ ...input, now: NOW + 3_600_000, monotonic: 5_000 });
    expect(first.writes.filter(({ kind }) => kind !== 'None')).toEqual([]);
    expect(first.requeueAfterMs).toBe(30_000);
    const early = decideWith({ ...input, memory: first.memory, monotonic: 34_999 });
    expect(early.writes.filter(({ kind }) => kind !== 'None')).toEqual([]);
    const due = decideWith({ ...input, memory: early.memory, monotonic: 35_000 });
    expect(due.writes[0]).toMatchObject({ kind: 'Moved', cause: 'DeadlineExceeded', status: { owner: 'b' } });
  });

  it('goes to the best other when B is not eligible at the release', () => {
    expect(
      after(released(moving, 'a/7'), { nodes: [node('a', true, { scheduling: 'Drain' }), deadB, c] }),
    ).toMatchObject({
      phase: 'Active',
      owner: 'c',
    });
  });

  it('goes back to A with a new epoch when nobody is eligible at the release', () => {
    const alone = [node('a', true, { scheduling: 'Drain' }), deadB];
    expect(after(released(moving, 'a/7'), { nodes: alone })).toMatchObject({
      phase: 'Active',
      owner: 'a',
      epoch: UNIX,
    });
  });

  it('is granted to B at once when A dies, even under freeze: All', () => {
    for (const freeze of ['None', 'All'] as const) {
      const status = after(moving, { set: shardSet({ freeze }), nodes: [deadA, b] });
      expect(status).toMatchObject({ phase: 'Active', owner: 'b', epoch: UNIX });
    }
  });

  it.each([
    ['dies', deadB],
    ['is cordoned', node('b', true, { scheduling: 'Cordoned' })],
  ])('is retargeted when B %s, its deadline unchanged', (_, gone) => {
    const status = after(moving, { nodes: [node('a', true, { scheduling: 'Drain' }), gone, c] });
    expect(status).toMatchObject({
      phase: 'Draining',
      owner: 'a',
      epoch: 7,
      move: { to: 'c', startedAt: moving.status?.move?.startedAt, deadline: moving.status?.move?.deadline },
    });
  });

  it('is retargeted when a pin asks for another node', () => {
    const pinned = assignment('0000', draining('a', 'b'), { owner: { pinned: 'c' } });
    expect(after(pinned, { nodes: [a, b, c] })).toMatchObject({ phase: 'Draining', move: { to: 'c' } });
  });

  it('goes back to A with a new epoch when it is pinned there', () => {
    const pinned = assignment('0000', draining('a', 'b'), { owner: { pinned: 'a' } });
    expect(after(pinned, { nodes: [a, b, c] })).toMatchObject({ phase: 'Active', owner: 'a', epoch: UNIX });
  });

  it('goes back to A with a new epoch when B dies and nobody else is eligible', () => {
    expect(after(moving, { nodes: [node('a', true, { scheduling: 'Drain' }), deadB] })).toMatchObject({
      phase: 'Active',
      owner: 'a',
      epoch: UNIX,
    });
  });

  it('is not retargeted for balance', () => {
    const shards = [moving, assignment('0001', { owner: 'b' }), assignment('0002', { owner: 'b' })];
    const set = shardSet({ shards: { count: 3 } });
    const { writes } = decideWith({ set, shards, nodes: [a, b, c] });
    expect(writes.filter(({ kind }) => kind === 'Retargeted')).toEqual([]);
  });

  it('finishes before it is Paused', () => {
    const shard = assignment('0000', draining('a', 'b'), { state: 'Paused' });
    expect(after(shard, { nodes: [a, b] })?.phase ?? 'Draining').toBe('Draining');
    const moved = after(released(shard, 'a/7'), { nodes: [a, b] });
    expect(moved).toMatchObject({ phase: 'Active', owner: 'b' });
    const next = after({ ...shard, status: moved }, { nodes: [a, b] });
    expect(next).toMatchObject({ phase: 'Paused', owner: 'b', epoch: UNIX });
  });

  it('finishes under freeze: All', () => {
    const set = shardSet({ freeze: 'All' });
    expect(after(released(moving, 'a/7'), { set, nodes: [a, b] })).toMatchObject({ owner: 'b' });
  });
});

describe('leaving: retired by shrinking, or Disabled', () => {
  const none = shardSet({ shards: { ids: ['other'] } });
  const retire = { set: none, nodes: [a, b] };
  const write = (shard: ShardAssignment, input: Partial<DecideInput>) =>
    decideWith({ shards: [shard], ...input }).writes.find(({ shard: { spec } }) => spec.shardId === '0000');

  it('drains without a target, then has no owner, then is deleted if the operator created it', () => {
    const active = stamped(assignment('0000', { owner: 'a' }));
    const drain = write(active, retire)?.status;
    expect(drain).toMatchObject({ phase: 'Draining', owner: 'a', epoch: 7 });
    expect(drain?.move).not.toHaveProperty('to');
    const ended = write(released({ ...active, status: drain }, 'a/7'), retire)?.status;
    expect(ended).toMatchObject({ phase: 'Disabled', previousOwner: 'a', epoch: 7 });
    expect(ended).not.toHaveProperty('owner');
    const last = decideWith({ ...retire, shards: [{ ...active, status: ended }] });
    expect(last).toMatchObject({ writes: [], remove: [{ metadata: { name: 'orders.0000' } }] });
  });

  it('never deletes what people or Git applied; it gets a condition', () => {
    const applied = assignment('0000', { phase: 'Disabled' });
    const { remove, writes } = decideWith({ ...retire, shards: [applied] });
    expect(remove).toEqual([]);
    expect(writes[0]?.status.conditions?.[0]).toMatchObject({
      status: 'False',
      reason: 'OutsideShardSet',
      message: expect.stringContaining('id 0000 is not in ShardSet orders'),
    });
  });

  it.each([
    ['the owner dies', assignment('0000', draining('a')), [deadA, b], 1_000],
    ['an Active owner is dead', assignment('0000', { owner: 'a' }), [deadA, b], 1_000],
  ])('has no owner at once when %s', (_, shard, nodes) => {
    expect(write(shard, { ...retire, nodes })?.status).toMatchObject({
      phase: 'Disabled',
      previousOwner: 'a',
    });
  });

  it('has no owner after the deadline', () => {
    const shard = assignment('0000', draining('a'));
    const first = decideWith({ ...retire, shards: [shard] });
    const due = decideWith({ ...retire, shards: [shard], memory: first.memory, monotonic: 31_000 });
    expect(due.writes[0]).toMatchObject({ cause: 'DeadlineExceeded', status: { phase: 'Disabled' } });
  });

  it('growing again cancels it: the same owner, a new epoch', () => {
    const status = after(assignment('0000', draining('a')), { nodes: [a, b] });
    expect(status).toMatchObject({ phase: 'Active', owner: 'a', epoch: UNIX });
  });

  it('state: Disabled drops the target of a move in flight and keeps its deadline', () => {
    const shard = assignment('0000', draining('a', 'b'), { state: 'Disabled' });
    const status = after(shard, { nodes: [a, b] });
    expect(status?.move).toEqual({
      startedAt: shard.status?.move?.startedAt,
      deadline: shard.status?.move?.deadline,
    });
  });

  it('Disabled is Ready, and is placed again when it is wanted again', () => {
    const disabled = assignment('0000', { owner: 'a' }, { state: 'Disabled' });
    const immediate = shardSet({ handoff: { mode: 'Immediate' } });
    const status = after(disabled, { set: immediate, nodes: [a] });
    expect(status).toMatchObject({
      phase: 'Disabled',
      conditions: [{ type: 'Ready', status: 'True' }, {}, {}],
    });
    expect(after({ ...assignment('0000'), status }, { nodes: [a] })).toMatchObject({
      phase: 'Active',
      owner: 'a',
      epoch: UNIX,
    });
  });

  it('is not counted in the churn budget', () => {
    const shards = [assignment('0000', draining('a')), assignment('0001', { owner: 'a' })];
    const set = shardSet({ shards: { ids: ['0001'] }, churn: { maxConcurrentMoves: 1 } });
    const { writes } = decideWith({ set, shards, nodes: [a, b], targets: { '0001': 'b' } });
    expect(writes.map(({ kind }) => kind)).toContain('MoveStarted');
  });

  it('waits under freeze: All', () => {
    const frozen = { ...retire, set: shardSet({ shards: { ids: ['other'] }, freeze: 'All' }) };
    expect(write(assignment('0000', { owner: 'a' }), frozen)?.status).toMatchObject({
      phase: 'Active',
      owner: 'a',
      conditions: [{ reason: 'Frozen' }, {}, { status: 'True' }],
    });
  });
});

describe('Lost', () => {
  const lost = assignment('0000', { phase: 'Lost', owner: 'a' });

  it('is Active again with a new epoch when A returns, also under freeze: All', () => {
    for (const freeze of ['None', 'All'] as const) {
      const status = after(lost, { set: shardSet({ freeze }), nodes: [a, b] });
      expect(status).toMatchObject({ phase: 'Active', owner: 'a', epoch: UNIX });
      expect(status?.recentTransitions?.at(-1)?.actor.name).toBe('NodeReady');
    }
  });

  it('is Active elsewhere with a new epoch when another node is eligible', () => {
    expect(after(lost, { nodes: [deadA, b] })).toMatchObject({ phase: 'Active', owner: 'b', epoch: UNIX });
  });

  it('stays as it is while nothing changes', () => {
    const first = after(assignment('0000', { owner: 'a' }), { nodes: [deadA] });
    expect(after({ ...lost, status: first }, { nodes: [deadA] })).toBeUndefined();
  });
});

describe('state: Paused', () => {
  const wish = { state: 'Paused' as const };

  it('keeps the owner and is not moved', () => {
    const shard = assignment('0000', { owner: 'a' }, wish);
    const status = after(shard, { nodes: [node('a', true, { scheduling: 'Drain' }), b] });
    expect(status).toMatchObject({ phase: 'Paused', owner: 'a', epoch: 7 });
    expect(status?.conditions?.[0]).toMatchObject({ type: 'Ready', status: 'True', reason: 'Paused' });
  });

  it('stays Paused when its node dies, and is placed on resume', () => {
    const shard = assignment('0000', { phase: 'Paused', owner: 'a' }, wish);
    expect(after(shard, { nodes: [deadA, b] })).toMatchObject({
      phase: 'Paused',
      owner: 'a',
      conditions: [{ status: 'False', reason: 'NodeNotReady' }, {}, {}],
    });
    const resumed = assignment('0000', { phase: 'Paused', owner: 'a' });
    expect(after(resumed, { nodes: [deadA, b] })).toMatchObject({ phase: 'Active', owner: 'b', epoch: UNIX });
  });

  it('is Active at the same epoch when it resumes on a living node', () => {
    const resumed = assignment('0000', { phase: 'Paused', owner: 'a' });
    expect(after(resumed, { nodes: [a] })).toMatchObject({ phase: 'Active', owner: 'a', epoch: 7 });
  });

  it('places nothing that has no owner', () => {
    expect(after(assignment('0000', undefined, wish), { nodes: [a] })).toMatchObject({
      phase: 'Paused',
      epoch: 0,
    });
  });
});

describe('freeze', () => {
  const active = assignment('0000', { owner: 'a' });

  it('All: starts no move, and failures wait as Lost', () => {
    const set = shardSet({ freeze: 'All' });
    const waiting = decideWith({ set, shards: [active], nodes: [a, b], targets: { '0000': 'b' } });
    expect(waiting.writes.filter(({ kind }) => kind !== 'None')).toEqual([]);
    expect(after(active, { set, nodes: [deadA, b] })).toMatchObject({
      phase: 'Lost',
      conditions: [{ reason: 'Frozen', message: expect.stringContaining('spec.freeze') }, {}, {}],
    });
    expect(after(assignment('0000'), { set, nodes: [a] })).toMatchObject({ phase: 'Pending' });
  });

  it('Rebalance: does not balance, but serves failures and drains', () => {
    const set = shardSet({ freeze: 'Rebalance', shards: { count: 2 } });
    const shards = [assignment('0000', { owner: 'a' }), assignment('0001', { owner: 'a' })];
    const moves = (nodes: DecideInput['nodes']) =>
      decideWith({ set, shards, nodes }).writes.filter(({ kind }) => kind !== 'None');
    expect(moves([a, b])).toEqual([]);
    expect(moves([deadA, b]).map(({ kind }) => kind)).toEqual(['FailedOver', 'FailedOver']);
    expect(moves([node('a', true, { scheduling: 'Drain' }), b]).map(({ kind }) => kind)).toEqual([
      'MoveStarted',
      'MoveStarted',
    ]);
  });
});
