import type { Level } from './allocation.ts';
import type {
  MoveCause,
  PlacementInput,
  PlacementNode,
  PlacementShard,
  Standing,
  UnplaceableReason,
} from './placement.ts';
import type { Tenure } from './tenure.ts';

/** Why a node has the shard, gets it, or does not. */
export type NodeVerdict =
  /** Has it and keeps it. */
  | 'owner'
  /** Gets it. */
  | 'target'
  | Exclude<Standing, 'eligible'>
  /** The shard is Paused and goes nowhere. */
  | 'paused'
  /** The shard is pinned to another node, or the strategy is Static and it is not pinned here. */
  | 'notPinned'
  /** Locality is Required and this node is somewhere else. */
  | 'outsideLocality'
  /** The node could have it, but it stays where it is: nothing moves without need. */
  | 'notNeeded'
  /** The node has less room than the chosen one: beyond floor(m), ceil(m) or its cap with the shard. */
  | 'full'
  /** Locality is Preferred and another node is nearer. */
  | 'farther'
  /** As much room as the chosen one, but a lower score. */
  | 'lowerScore'
  /** Rebalancing, or no room anywhere: it is relatively fuller than the chosen one. */
  | 'fuller'
  /** Rebalancing takes the shard from here. */
  | 'giver'
  /** Rebalancing: emptier than the chosen one, but this transfer would not bring the set nearer to balance. */
  | 'noGain';

/** What to change so that the node could have the shard; nothing for the one that has or gets it. */
export function knobFor(
  verdict: NodeVerdict,
  node: PlacementNode,
  shard: PlacementShard,
  input: PlacementInput,
): string | undefined {
  const meshNode = `MeshNode ${node.name}`;
  const pin = `spec.owner.pinned: ${node.name} on the ShardAssignment`;
  switch (verdict) {
    case 'owner':
    case 'target':
      return undefined;
    case 'notReady':
      return `let ${meshNode} renew its Lease meshnode-${node.name}, or set its spec.liveness: Always`;
    case 'draining':
    case 'cordoned':
      return `spec.scheduling: Active on ${meshNode}`;
    case 'notSelected':
      return `labels on ${meshNode} that match spec.nodes.selector of the ShardSet, or a wider selector`;
    case 'notServing':
      return `this namespace in spec.serves of ${meshNode}`;
    case 'paused':
      return 'spec.state: Active on the ShardAssignment';
    case 'notPinned':
      return shard.pinned === undefined
        ? `${pin}, or spec.strategy: Rendezvous on the ShardSet`
        : `${pin} instead of ${shard.pinned}`;
    case 'outsideLocality':
      return `spec.locality of the ShardAssignment, or spec.locality: Preferred on the ShardSet`;
    case 'full':
      return `a larger spec.weight on ${meshNode}, a larger spec.loadBound than ${input.loadBound} on the ShardSet, or ${pin}`;
    case 'farther':
      return `spec.locality of the ShardAssignment, spec.locality: None on the ShardSet, or ${pin}`;
    case 'fuller':
    case 'lowerScore':
      return `a larger spec.weight on ${meshNode}, or ${pin}`;
    case 'notNeeded':
    case 'giver':
    case 'noGain':
      return pin;
  }
}

const CAUSES: Record<MoveCause, string> = {
  Unowned: 'nobody serves it',
  Drain: 'its node is draining, no longer selected or no longer serves this namespace',
  Locality: 'its node is outside the Required locality',
  Pin: 'it is pinned there',
  Rebalance: 'its node is relatively the fullest that can give it up',
};

const LEVELS: Record<Level, string> = {
  floor: 'has the best score among the nodes within floor(m), their fair share',
  ceil: 'has the best score among the nodes within ceil(m); none was within floor(m)',
  cap: 'has the best score among the nodes within their cap; none was within ceil(m)',
  overCap: 'is the relatively least loaded node; none had room within its cap',
};

const UNPLACEABLE: Record<UnplaceableReason, string> = {
  NoNodes: 'there is no node',
  NoEligibleNode: 'no node is ready, selected, serving this namespace and open to shards',
  NoNodeInLocality: 'locality is Required and no eligible node is there',
  NoPin: 'the strategy is Static and the shard is not pinned',
  PinnedNodeNotEligible: 'the strategy is Static and the node it is pinned to is not eligible',
};

export interface Outcome {
  shard: PlacementShard;
  tenure: Tenure;
  target?: string;
  cause?: MoveCause;
  level?: Level;
  unplaceable?: UnplaceableReason;
}

/** One sentence: where the shard is or goes, and why. */
export function summarise({ shard, tenure, target, cause, level, unplaceable }: Outcome): string {
  if (unplaceable) return `has no place: ${UNPLACEABLE[unplaceable]}`;
  if (tenure.kind === 'fixed')
    return `is paused${target === undefined ? ' without an owner' : ` on ${target}`}`;
  if (!cause) {
    return tenure.kind === 'pinned'
      ? `stays on ${target}: it is pinned there`
      : `stays on ${target}: its node may keep it and nothing calls for a move`;
  }
  const journey = shard.owner === undefined ? `goes to ${target}` : `moves from ${shard.owner} to ${target}`;
  const choice =
    tenure.kind === 'pinned'
      ? 'it is pinned there'
      : cause === 'Rebalance'
        ? `${target} is relatively the emptiest that can take it, and it scores best there`
        : `${target} ${LEVELS[level ?? 'cap']}`;
  return cause === 'Pin' ? `${journey}: ${choice}` : `${journey}: ${CAUSES[cause]}; ${choice}`;
}
