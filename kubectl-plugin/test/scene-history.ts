import { type LogItem, type NetItem, summaryOf } from '@meshkit/shards/diff';
import type { ShardAssignment } from '@meshkit/shards/records';
import type { DiffPage, ShardFilter } from '@meshkit/shards/repository';
import { type ShardView, served } from '@meshkit/shards/shard-view';

/** What happened to two shards: the third was moved on, the fourth added. */
export function historyOf(shards: readonly ShardAssignment[]) {
  const [draining, added] = shards.slice(2, 4).map(served) as [ShardView, ShardView];
  const { move: _move, ...resting } = draining;
  const before: ShardView = { ...resting, phase: 'Active', version: 1 };
  const after: ShardView = { ...resting, phase: 'Active', owner: 'node-21', epoch: 1795412346, version: 3 };

  /** Oldest first. */
  const log: LogItem[] = [
    { position: '98', at: '2026-11-23T11:50:00Z', type: 'ADDED', ...keyOf(added), after: added },
    {
      position: '99',
      at: '2026-11-23T11:56:40Z',
      type: 'MODIFIED',
      ...keyOf(before),
      before,
      after: draining,
      actor: { kind: 'User', name: 'jane' },
      reason: 'pinned to node-21',
      changeTicket: 'CHG-1234',
    },
    {
      position: '101',
      at: '2026-11-23T11:58:00Z',
      type: 'MODIFIED',
      ...keyOf(before),
      before: draining,
      after,
      actor: { kind: 'Operator', name: 'Pin' },
      reason: 'released by node-17 at epoch 1795412345',
      previousOwner: 'node-17',
      source: 'reconcile',
      coalesced: 3,
    },
  ].map((item) => ({ ordinal: 0, source: 'watch', ...item }) as LogItem);

  const net: NetItem[] = [
    { ...keyOf(after), change: 'Moved', before, after, hops: 2 },
    { ...keyOf(added), change: 'Added', after: added, hops: 1 },
  ];

  function diff(filter: ShardFilter, mode: 'net' | 'log'): DiffPage {
    // Like the server: a range in which nothing happened to what passes.
    const quiet = filter.owners?.includes('nobody') === true;
    return {
      mode,
      lineage: 'uid-of-the-cluster',
      from: { position: '97', at: '2026-11-23T11:50:00Z' },
      to: { position: '101' },
      summary: quiet ? summaryOf([], 0) : summaryOf(net, 5),
      items: quiet ? [] : mode === 'net' ? net : log,
      coalesced: 0,
    };
  }
  return { log, diff };
}

function keyOf({ namespace, name, uid }: ShardView) {
  return { namespace, name, uid };
}
