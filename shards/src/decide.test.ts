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
  it('decided again on the same state, a grant keeps its epoch; another one does not', () => {
    const shard = assignment('0000', { owner: 'a', epoch: 7 });
    shard.metadata.resourceVersion = '70';
    const grant = (to: string, memory?: DecideInput['memory'], resourceVersion = '70') =>
      decideWith({
        shards: [{ ...shard, metadata: { ...shard.metadata, resourceVersion } }],
        nodes: [deadA, b, c],
        targets: { '0000': to },
        ...(memory && { memory }),
      });
    const first = grant('b');
    const epoch = first.writes[0]?.status.epoch;
    expect(epoch).toBe(UNIX);
    const again = grant('b', first.memory);
    expect(again.writes[0]?.status).toMatchObject({ owner: 'b', epoch });
    expect(grant('c', again.memory).writes[0]?.status).toMatchObject({ owner: 'c', epoch: UNIX + 1 });
    expect(grant('b', again.memory, '71').writes[0]?.status).toMatchObject({ owner: 'b', epoch: UNIX + 1 });
  });

  it('grows by one where the clock is behind the last epoch', () => {
    const shard = assignment('0000', { owner: 'a', epoch: UNIX + 50, version: 9 });
    expect(after(shard, { nodes: [b] })).toMatchObject({ epoch: UNIX + 51, version: 10 });
  });

  it('writes nothing when nothing changed, whatever the time', () => {
    const first = after(assignment('0000'), { nodes: [a] });
    const later = { nodes: [a], now: NOW + 60_000, monotonic: 90_000 };
    expect(after({ ...assignment('0000'), status: first }, later)).toBeUndefined();
  });

  it('takes up a change of the set that touches no shard, such as its strategy', () => {
    const status = after(assignment('0000', undefined, { owner: { pinned: 'a' } }), { nodes: [a] });
    const shard = { ...assignment('0000', undefined, { owner: { pinned: 'a' } }), status };
    const next = after(shard, { set: shardSet({ strategy: 'Static' }), nodes: [a] });
    expect(next).toMatchObject({ effective: { strategy: 'Static' }, version: 2, epoch: UNIX });
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

  it('has a name of at most 1,024 characters, as the CRD wants it, however long the user name is', () => {
    const annotations = { 'meshkit.omnirelay.io/changed-by': 'j'.repeat(2_000) };
    expect(hop(pinnedBy({ annotations }))?.actor).toEqual({ kind: 'User', name: 'j'.repeat(1_024) });
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
