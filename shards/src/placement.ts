import { Planner } from './planner.ts';
import type { LocalityMode, ShardLocality, Strategy } from './records.ts';

/**
 * Where a node stands towards one ShardSet. Only `eligible` nodes receive shards and count in the fair share;
 * a `cordoned` node keeps what it has; every other standing makes the node's shards move away.
 */
export type Standing = 'eligible' | 'cordoned' | 'draining' | 'notReady' | 'notSelected' | 'notServing';

export interface PlacementNode {
  name: string;
  /** Integer >= 1. */
  weight: number;
  region?: string;
  zone?: string;
  standing: Standing;
}

export interface PlacementShard {
  id: string;
  /** Integer >= 1. */
  capacity: number;
  locality?: ShardLocality;
  pinned?: string;
  /** Present owner, or the target of a move in flight. */
  owner?: string;
  /** Stays where it is whatever happens (Paused): counts as load at its owner, is never moved or placed. */
  fixed?: boolean;
}

export interface PlacementInput {
  strategy: Strategy;
  locality: LocalityMode;
  /** c, a decimal string such as "1.05". */
  loadBound: string;
  shards: readonly PlacementShard[];
  nodes: readonly PlacementNode[];
  /** False under `freeze: Rebalance`: rule 3 (convergence) is left out. */
  rebalance: boolean;
  /**
   * The set's `namespace/name`, hashed with each shard id. Without it the shards of equal ids of all sets have the
   * same favourite node, and many small sets over one pool would pile up there.
   */
  seed?: string;
}

export type MoveCause =
  /** No owner, or an owner that is gone or not ready. */
  | 'Unowned'
  /** The owner is set to Drain, no longer selected, or no longer serves this namespace. */
  | 'Drain'
  /** Required locality no longer allows the owner. */
  | 'Locality'
  | 'Pin'
  | 'Rebalance';

export interface PlannedMove {
  shard: string;
  /** Absent when the shard had no owner. */
  from?: string;
  to: string;
  cause: MoveCause;
}

export type UnplaceableReason =
  | 'NoNodes'
  | 'NoEligibleNode'
  | 'NoNodeInLocality'
  | 'NoPin'
  | 'PinnedNodeNotEligible';

export interface NodeLoad {
  name: string;
  load: number;
  /** Fair share m, as a JS number for display. */
  mean: number;
  cap: number;
}

export interface Plan {
  /** Shard id -> node, for every shard that has a place (its present one included). */
  targets: Map<string, string>;
  /**
   * In the order in which they should be made: pins, shards that nobody serves (`Unowned`), shards that have to
   * leave their node, then rebalancing. Planning again after any number of them gives the rest; pins may also wait.
   * Only with unequal capacities or locality hints, and rarely, rebalancing moves on what was just moved: then the
   * shard is listed once for each hop.
   */
  moves: PlannedMove[];
  /** Shards without a place; a shard here keeps its present owner only if that owner is still alive. */
  unplaceable: Map<string, UnplaceableReason>;
  /** Eligible nodes by name, after the plan. */
  loads: NodeLoad[];
}

/**
 * Sticky, weighted, bounded rendezvous (docs/placement.md): who should own each shard, and the fewest moves there.
 * Pure: the same input gives the same plan on every platform, whatever the order of its shards and nodes.
 * Throws `invalidArgument` for a loadBound that is not a decimal of at least 1.
 */
export function plan(input: PlacementInput): Plan {
  return new Planner(input).plan();
}
