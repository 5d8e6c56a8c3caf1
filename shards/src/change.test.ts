import { describe, expect, it } from 'vitest';
import { type Change, historyOf, seenThrough } from './change.ts';
import { API_VERSION, type ShardAssignment, type ShardAssignmentStatus, type Transition } from './records.ts';

function shard(status: Partial<ShardAssignmentStatus> = {}, generation = 1): ShardAssignment {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace: 'payments', name: 'orders.0001', uid: 'u', generation },
    spec: { shardSet: 'orders', shardId: '0001', reason: 'asked for', changeTicket: 'CHG-1' },
    status: { phase: 'Active', owner: 'node-1', epoch: 1, version: 1, ...status },
  };
}

const change = (before?: ShardAssignment, after?: ShardAssignment): Change => ({
  key: 'payments/orders.0001',
  position: '7',
  ordinal: 0,
  before,
  after,
});
const hop = (version: number): Transition => ({
  version,
  from: 'node-1',
  to: 'node-2',
  phase: 'Active',
  actor: { kind: 'Operator', name: 'Rebalance' },
  reason: 'balance',
  changeTicket: 'CHG-9',
  at: '2026-11-23T12:00:00Z',
});

describe('seenThrough', () => {
  const here = shard();
  const elsewhere = shard({ owner: 'node-2' });
  const filter = { owners: ['node-1'] };

  it.each([
    ['created inside', change(undefined, here), { type: 'ADDED' }],
    ['created outside', change(undefined, elsewhere), undefined],
    ['changed inside', change(here, shard({ version: 2 })), { type: 'MODIFIED' }],
    ['changed outside', change(elsewhere, shard({ owner: 'node-3' })), undefined],
    ['enters', change(elsewhere, here), { type: 'ADDED' }],
    ['leaves', change(here, elsewhere), { type: 'DELETED', cause: 'filter' }],
    ['deleted inside', change(here), { type: 'DELETED' }],
    ['deleted outside', change(elsewhere), undefined],
  ])('%s', (_, given, expected) => {
    expect(seenThrough(filter, given)).toEqual(expected);
  });
});

describe('historyOf', () => {
  it('tells the transition that the change brought, and who owned the shard before', () => {
    const after = shard({ owner: 'node-2', version: 2, recentTransitions: [hop(1), hop(2)] });
    expect(historyOf({ before: shard({ recentTransitions: [hop(1)] }), after })).toEqual({
      actor: { kind: 'Operator', name: 'Rebalance' },
      reason: 'balance',
      changeTicket: 'CHG-9',
      previousOwner: 'node-1',
    });
  });

  it('tells who edited the spec, and why', () => {
    const after = shard({ recentTransitions: [hop(1)] }, 2);
    after.metadata.annotations = { 'meshkit.omnirelay.io/changed-by': 'jane' };
    expect(historyOf({ before: shard({ recentTransitions: [hop(1)] }), after })).toEqual({
      actor: { kind: 'User', name: 'jane' },
      reason: 'asked for',
      changeTicket: 'CHG-1',
      previousOwner: undefined,
    });
  });

  it('knows nobody behind a deletion', () => {
    expect(historyOf({ before: shard() })).toEqual({ previousOwner: 'node-1' });
  });
});
