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

describe('the churn budget', () => {
  const set = (mode: 'Graceful' | 'Immediate') =>
    shardSet({ shards: { count: 8 }, churn: { maxConcurrentMoves: 3 }, handoff: { mode } });
  const shards = Array.from({ length: 8 }, (_, index) => assignment(`000${index}`, { owner: 'a' }));
  const targets = Object.fromEntries(shards.map(({ spec }) => [spec.shardId, 'b']));
  const kinds = (decision: ReturnType<typeof decideWith>) =>
    decision.writes.map(({ kind }) => kind).filter((kind) => kind !== 'None');

  it('bounds the Draining shards that have a target, in the order of the plan', () => {
    const first = decideWith({ set: set('Graceful'), shards, nodes: [a, b], targets });
    const started = first.writes.filter(({ kind }) => kind === 'MoveStarted');
    expect(started.map(({ shard }) => shard.spec.shardId)).toEqual(['0000', '0001', '0002']);
    const next = shards.map((shard, index) =>
      index < 2 ? assignment(shard.spec.shardId, draining('a', 'b')) : shard,
    );
    expect(kinds(decideWith({ set: set('Graceful'), shards: next, nodes: [a, b], targets }))).toEqual([
      'MoveStarted',
    ]);
  });

  it('frees the place of a drain that ends only once that is written', () => {
    const full = shards.map((shard, index) =>
      index < 3 ? released(assignment(shard.spec.shardId, draining('a', 'b')), 'a/7') : shard,
    );
    const decision = decideWith({ set: set('Graceful'), shards: full, nodes: [a, b], targets });
    expect(kinds(decision)).toEqual(['Moved', 'Moved', 'Moved']);
  });

  it('Immediate: makes at most that many planned grants a second', () => {
    const input = { set: set('Immediate'), shards, nodes: [a, b], targets };
    const first = decideWith(input);
    expect(kinds(first)).toEqual(['Moved', 'Moved', 'Moved']);
    expect(first.requeueAfterMs).toBe(1_000);
    const again = decideWith({ ...input, memory: first.memory, monotonic: 1_400 });
    expect(kinds(again)).toEqual([]);
    expect(again.requeueAfterMs).toBe(600);
    expect(kinds(decideWith({ ...input, memory: again.memory, monotonic: 2_000 }))).toHaveLength(3);
  });

  it('does not hold failures, which go first', () => {
    const nodes = [deadA, b, node('z')];
    const moving = assignment('0009', draining('b', 'z'));
    const decision = decideWith({ set: set('Graceful'), shards: [moving, ...shards], nodes });
    expect(kinds(decision).filter((kind) => kind === 'FailedOver')).toHaveLength(8);
    expect(kinds(decision)[0]).toBe('FailedOver');
  });
});

describe('epochs and versions', () => {
  it('grows by one where the clock is behind the last epoch', () => {
    const shard = assignment('0000', { owner: 'a', epoch: UNIX + 50, version: 9 });
    expect(after(shard, { nodes: [b] })).toMatchObject({ epoch: UNIX + 51, version: 10 });
  });

  it('writes nothing when nothing changed, whatever the time', () => {
    const first = after(assignment('0000'), { nodes: [a] });
    const later = { nodes: [a], now: NOW + 60_000, monotonic: 90_000 };
    expect(after({ ...assignment('0000'), status: first }, later)).toBeUndefined();
  });

  it('keeps at most 8 transitions, the newest last', () => {
    let shard = assignment('0000', { owner: 'a' });
    for (let round = 0; round < 10; round++) {
      const status = after(shard, { nodes: [round % 2 === 0 ? b : a] });
      shard = { ...shard, status };
    }
    expect(shard.status?.recentTransitions?.map(({ version }) => version)).toEqual([
      4, 5, 6, 7, 8, 9, 10, 11,
    ]);
  });

  it('takes up a new generation even where nothing else follows from it', () => {
    const shard = { ...assignment('0000'), status: after(assignment('0000'), { nodes: [a] }) };
    const edited = {
      ...shard,
      metadata: { ...shard.metadata, generation: 2 },
      spec: { ...shard.spec, reason: 'why' },
    };
    const status = after(edited, { nodes: [a] });
    expect(status).toMatchObject({ observedGeneration: 2, version: 2 });
    expect(status?.recentTransitions).toHaveLength(1);
  });
});

describe('the actor', () => {
  const spec = { owner: { pinned: 'b' }, changeTicket: 'CHG-1', reason: 'hardware swap' };
  const hop = (shard: ShardAssignment) => after(shard, { nodes: [a, b] })?.recentTransitions?.at(-1);
  const pinnedBy = (metadata: Partial<ShardAssignment['metadata']>): ShardAssignment => {
    const shard = assignment('0000', { owner: 'a' }, spec);
    return { ...shard, metadata: { ...shard.metadata, ...metadata } };
  };

  it('of a spec change is the user that the admission policy stamped, with reason and ticket', () => {
    const annotations = { 'meshkit.omnirelay.io/changed-by': 'jane' };
    expect(hop(pinnedBy({ annotations }))).toMatchObject({
      actor: { kind: 'User', name: 'jane' },
      reason: 'hardware swap',
      changeTicket: 'CHG-1',
    });
  });

  it('is the field manager of the newest spec write where no user was stamped', () => {
    const managedFields = [
      { manager: 'argocd', time: '2026-11-23T07:00:00Z', fieldsV1: { 'f:spec': {} } },
      { manager: 'kubectl-edit', time: '2026-11-23T07:30:00Z', fieldsV1: { 'f:spec': {} } },
      { manager: 'kubectl-annotate', time: '2026-11-23T07:40:00Z', fieldsV1: { 'f:metadata': {} } },
      {
        manager: 'operator',
        time: '2026-11-23T07:50:00Z',
        subresource: 'status',
        fieldsV1: { 'f:status': {} },
      },
    ];
    expect(hop(pinnedBy({ managedFields }))?.actor).toEqual({ kind: 'FieldManager', name: 'kubectl-edit' });
  });

  it('is the operator, named by the cause, where nobody is known', () => {
    expect(hop(pinnedBy({}))?.actor).toEqual({ kind: 'Operator', name: 'Pin' });
  });

  it('of a drain is whoever changed the MeshNode', () => {
    const drained = node('a', true, { scheduling: 'Drain' });
    drained.node.metadata.annotations = { 'meshkit.omnirelay.io/changed-by': 'omar' };
    const status = after(assignment('0000', { owner: 'a' }), { nodes: [drained, b] });
    expect(status?.recentTransitions?.at(-1)).toMatchObject({
      actor: { kind: 'User', name: 'omar' },
      reason: 'a is set to Drain',
    });
  });

  it('carries the ticket to the last hop of the move it asked for', () => {
    const shard = released(assignment('0000', draining('a', 'b'), spec), 'a/7');
    expect(hop(shard)).toMatchObject({ actor: { name: 'Released' }, changeTicket: 'CHG-1' });
  });
});

describe('the set', () => {
  it('stamps what is missing and plans it in, so that a set stamped by halves is placed as the whole', () => {
    const set = shardSet({ shards: { count: 12 } });
    const nodes = [a, b, c];
    const all = Array.from({ length: 12 }, (_, index) => assignment(String(index).padStart(4, '0')));
    const owners = (shards: ShardAssignment[]) =>
      new Map(
        decideWith({ set, shards, nodes }).writes.map(({ shard, status }) => [
          shard.spec.shardId,
          status.owner,
        ]),
      );
    const half = all.slice(0, 6);
    expect(decideWith({ set, shards: half, nodes }).create).toEqual(
      all.slice(6).map(({ spec }) => spec.shardId),
    );
    for (const [id, owner] of owners(half)) expect(owners(all).get(id)).toBe(owner);
  });

  it('deleted: ends the ownership of applied shards at once and removes its own', () => {
    const own = stamped(assignment('0001', { owner: 'a' }));
    const applied = assignment('0000', { owner: 'a' });
    const { remove, writes } = decideWith({ set: undefined, shards: [own, applied], nodes: [a] });
    expect(remove).toEqual([own]);
    expect(writes).toMatchObject([{ kind: 'OwnershipEnded', status: { phase: 'Pending', epoch: 7 } }]);
    expect(writes[0]?.status).not.toHaveProperty('owner');
    expect(writes[0]?.status.conditions?.[0]).toMatchObject({ reason: 'ShardSetNotFound' });
  });

  it('being deleted: ends ownership, but removes nothing, since --cascade=orphan may free the shards', () => {
    const set = shardSet();
    set.metadata.deletionTimestamp = '2026-11-23T08:00:00Z';
    const own = stamped(assignment('0000', { owner: 'a' }));
    expect(decideWith({ set, shards: [own], nodes: [a] })).toMatchObject({
      create: [],
      remove: [],
      writes: [{}],
    });
  });

  it('replaced by one of the same name: removes what was stamped for the old one', () => {
    const old = stamped(assignment('0000', { owner: 'a' }), 'old-uid');
    expect(decideWith({ shards: [old], nodes: [a] })).toMatchObject({
      create: [],
      remove: [old],
      writes: [],
    });
  });

  it('with a spec that cannot be read is Stalled, and its shards are left alone', () => {
    const set = shardSet({ shards: {} });
    const decision = decideWith({ set, shards: [assignment('0000', { owner: 'a' })] });
    expect(decision).toMatchObject({
      writes: [],
      setStatus: { conditions: [{}, {}, { reason: 'InvalidSpec' }] },
    });
  });

  it('sums up its shards, once', () => {
    const set = shardSet({ shards: { count: 4 } });
    const shards = [
      assignment('0000', { owner: 'a' }),
      assignment('0001', { owner: 'b' }),
      assignment('0002', draining('a', 'b')),
      assignment('0003', { phase: 'Lost', owner: 'x' }),
    ];
    const { setStatus } = decideWith({ set, shards, nodes: [a, b] });
    expect(setStatus).toMatchObject({
      shards: 4,
      owned: 3,
      draining: 1,
      lost: 1,
      unplaceable: 0,
      nodes: 2,
      balance: { maxOverMean: '1.33', minOverMean: '0.67' },
      conditions: [{ status: 'False' }, {}, { type: 'Stalled', status: 'True', reason: 'ShardsLost' }],
    });
    const written = { ...set, status: setStatus };
    expect(decideWith({ set: written, shards, nodes: [a, b], now: NOW + 1 }).setStatus).toBeUndefined();
  });
});
