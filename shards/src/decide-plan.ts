import { placementNodes, poolNamespace } from './candidates.ts';
import type { DecideInput } from './decide.ts';
import { createdForAnother, readSituation, type Situation, type Surroundings } from './decide-situation.ts';
import type { EffectiveSet } from './defaults.ts';
import type { PlacementInput, PlacementNode, PlacementShard, Plan, PlannedMove } from './placement.ts';
import type { ShardAssignment, ShardSet } from './records.ts';

/** A set with all that bears on its plan, read once. Operator, simulate and explain plan from the same one. */
export interface Outlook {
  set: ShardSet;
  settings: EffectiveSet;
  around: Surroundings;
  /** The nodes of the pool. */
  nodes: readonly PlacementNode[];
  situations: readonly Situation[];
  /** Stamped for another set of the same name, which is gone: to be deleted. */
  foreign: readonly ShardAssignment[];
  /** Ids that have no ShardAssignment yet. */
  missing: readonly string[];
  input: PlacementInput;
}

/** `dueInMs`: how long until a drain's deadline, see `readSituation`. */
export function outlookOf(
  set: ShardSet,
  settings: EffectiveSet,
  { shards, nodes: states, remembered }: Pick<DecideInput, 'shards' | 'nodes' | 'remembered'>,
  dueInMs: (shard: ShardAssignment) => number,
): Outlook {
  const pool = poolNamespace(set);
  const poolNodes = states.filter(({ node }) => node.metadata.namespace === pool);
  const nodes = placementNodes(set, poolNodes);
  const around: Surroundings = {
    set,
    settings,
    ids: new Set(settings.ids),
    nodes: new Map(poolNodes.map((state) => [state.node.metadata.name, state])),
    standings: new Map(nodes.map((node) => [node.name, node.standing])),
    remembered,
  };
  const foreign: ShardAssignment[] = [];
  const situations: Situation[] = [];
  for (const shard of shards) {
    if (createdForAnother(shard, set)) foreign.push(shard);
    else situations.push(readSituation(shard, around, dueInMs));
  }
  // By id, which the name is bound to: names would have to be put together 10,000 times.
  const taken = new Set(shards.map((shard) => shard.spec.shardId));
  const missing = settings.ids.filter((id) => !taken.has(id));
  const seed = `${set.metadata.namespace}/${set.metadata.name}`;
  const input = { ...placementInput(settings, situations, nodes, missing), seed };
  return { set, settings, around, nodes, situations, foreign, missing, input };
}

/**
 * The planner's input for a set: moves in flight count at their target, shards that are leaving count nowhere, and
 * ids that have no ShardAssignment yet count as unowned, so that a set stamped by halves is planned as the whole.
 */
function placementInput(
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

/** In the plan's order. A shard that the plan moves twice goes to its last node at once, for the first reason. */
export function movesByShard(plan: Plan): Map<string, PlannedMove> {
  const moves = new Map<string, PlannedMove>();
  for (const move of plan.moves) {
    const to = plan.targets.get(move.shard) ?? move.to;
    if (!moves.has(move.shard)) moves.set(move.shard, { ...move, to });
  }
  return moves;
}
