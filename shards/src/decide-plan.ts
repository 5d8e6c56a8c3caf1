import type { Situation } from './decide-situation.ts';
import type { EffectiveSet } from './defaults.ts';
import type { PlacementInput, PlacementNode, PlacementShard } from './placement.ts';

/**
 * The planner's input for a set: moves in flight count at their target, shards that are leaving count nowhere, and
 * ids that have no ShardAssignment yet count as unowned, so that a set stamped by halves is planned as the whole.
 */
export function placementInput(
  settings: EffectiveSet,
  situations: readonly Situation[],
  nodes: readonly PlacementNode[],
  missing: readonly string[],
): PlacementInput {
  const shards: PlacementShard[] = missing.map((id) => ({ id, capacity: 1 }));
  for (const situation of situations) {
    const shard = placementShard(settings, situation);
    if (shard) shards.push(shard);
  }
  shards.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  return {
    strategy: settings.strategy,
    locality: settings.locality,
    loadBound: settings.loadBound,
    shards,
    nodes,
    rebalance: settings.freeze === 'None',
  };
}

function placementShard(settings: EffectiveSet, situation: Situation): PlacementShard | undefined {
  const { id, capacity, intent, owner, move } = situation;
  if (intent !== 'Active' && intent !== 'Paused') return undefined;
  const { locality, owner: wish } = situation.shard.spec;
  const shard: PlacementShard = { id, capacity, locality, pinned: wish?.pinned };
  if (move?.to !== undefined) {
    // A target that stopped being eligible was never its owner: the shard is placed as if it had none.
    if (!situation.targetValid) return shard;
    // Only a pin or Required locality may still retarget a sound move; the balance waits until it has landed.
    const bound = settings.locality === 'Required' && locality !== undefined;
    const wished = wish?.pinned !== undefined && wish.pinned !== move.to;
    return { ...shard, owner: move.to, fixed: !bound && !wished };
  }
  if (intent === 'Paused') {
    const holder = owner ?? situation.lostOwner;
    return holder === undefined ? undefined : { ...shard, owner: holder, fixed: true };
  }
  return { ...shard, owner: owner ?? situation.lostOwner };
}
