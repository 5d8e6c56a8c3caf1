import type { NodeState } from './decide.ts';
import type { Standing, UnplaceableReason } from './placement.ts';
import type {
  Freeze,
  HandoffMode,
  LocalityMode,
  MeshNode,
  ShardAssignment,
  ShardSet,
  Strategy,
} from './records.ts';

/** What a plan is made on: the state of one namespace, or of all, as one reader saw it. */
export interface MeshState {
  sets: readonly ShardSet[];
  /** The ShardAssignments of those sets. */
  shards: readonly ShardAssignment[];
  /** At least the MeshNodes of the sets' pools, each with the operator's judgement (see `judged`). */
  nodes: readonly NodeState[];
  basis: StateBasis;
}

/** The state that an answer was worked out on: positions (resourceVersions) of what was read. */
export interface StateBasis {
  lineage?: string;
  /** Of the ShardAssignments. */
  position: string;
  shardSets?: string;
  nodes?: string;
}

/** One thing that somebody thinks of doing. `namespace` is that of the MeshNode; needed only where pools share a name. */
export type SimulatedChange =
  /** `spec.scheduling: Drain`: its shards move elsewhere within the churn budget. */
  | { type: 'drain'; node: string; namespace?: string }
  /** `spec.scheduling: Cordoned`: keeps what it has, gets nothing. */
  | { type: 'cordon'; node: string; namespace?: string }
  /** The node dies, or its MeshNode is deleted. */
  | { type: 'remove'; node: string; namespace?: string }
  /** A new node, counted as ready. */
  | {
      type: 'add';
      node: string;
      namespace?: string;
      weight?: number;
      region?: string;
      zone?: string;
      labels?: Record<string, string>;
    }
  | { type: 'weight'; node: string; namespace?: string; weight: number }
  /** Of one ShardSet, or of all that are simulated. */
  | { type: 'strategy'; shardSet?: string; strategy: Strategy }
  | ({ type: 'policy'; shardSet?: string } & SimulatedPolicy);

/** What is absent stays as it is. */
export interface SimulatedPolicy {
  locality?: LocalityMode;
  loadBound?: string;
  freeze?: Freeze;
  maxConcurrentMoves?: number;
  handoff?: { mode?: HandoffMode; drainTimeout?: string };
}

/** An object as a pull request would apply it; of its metadata name, namespace, labels and annotations count, its status never. */
export type SimulatedManifest = Pick<
  ShardSet | ShardAssignment | MeshNode,
  'apiVersion' | 'kind' | 'metadata' | 'spec'
>;

export interface SimulationRequest {
  /** Absent: the sets of all namespaces. */
  namespace?: string;
  /** Only this set; needs `namespace`. */
  shardSet?: string;
  /** Made in this order, after the manifests. */
  changes?: readonly SimulatedChange[];
  manifests?: readonly SimulatedManifest[];
  /** Each list of the answer has at most this many items altogether; its totals are exact. 1 … 10,000, default 1,000. */
  maxItems?: number;
}

/**
 * Why a shard moves, in the words that the history will use: the operator's causes, and `New` for a shard that does
 * not exist yet.
 */
export type SimulatedReason =
  | 'New'
  | 'Placed'
  | 'NodeDeleted'
  | 'NodeNotReady'
  | 'Drain'
  | 'NotSelected'
  | 'NotServing'
  | 'Locality'
  | 'Pin'
  | 'TargetNotEligible'
  | 'Rebalance';

export interface SimulatedMove {
  shard: string;
  /** Absent when nobody owns it. Equal to `to` where a move under way is taken back. */
  from?: string;
  to: string;
  reason: SimulatedReason;
}

export interface SimulatedUnplaceable {
  shard: string;
  /** The node that keeps it for want of a better one; absent: nobody serves it. */
  owner?: string;
  reason: UnplaceableReason;
  /** What stands in the way, for people. */
  constraint: string;
  /** What to change. */
  knob: string;
}

export interface SimulatedChurn {
  /** Shards that change their node or get their first one. */
  moves: number;
  /** Of these, shards that nobody owns now. */
  placements: number;
  /** Of `moves`, those that the operator would make without any change as well. */
  pending: number;
  /** The fewest moves that any planner could make; absent where that has no closed form: see `lowerBound`. */
  lowerBound?: number;
  /** (moves - placements) / shards; 0 when there is no shard. */
  fraction: number;
  /** Of the sets, after the change. */
  shards: number;
}

export interface SimulatedNode {
  node: string;
  region?: string;
  zone?: string;
  weight: number;
  standing: Standing;
  /** Capacity of its shards; moves under way count at their target. */
  load: number;
  /** Fair share and cap; eligible nodes only. */
  share?: number;
  cap?: number;
}

export interface SimulatedZone {
  /** Empty: nodes without a zone. */
  zone: string;
  /** Eligible nodes. */
  nodes: number;
  load: number;
  share: number;
}

export interface SimulatedBalance {
  /** Load over fair share of the fullest and the emptiest eligible node; absent when there is nothing to share. */
  maxOverMean?: number;
  minOverMean?: number;
  /** Nodes that hold shards of the set or may get some, by name. */
  nodes: SimulatedNode[];
  zones: SimulatedZone[];
}

/** Moves that start together; a phase begins when the one before has ended. */
export interface SimulatedPhase {
  /** From 1. */
  phase: number;
  /** `immediate`: shards that nobody serves, outside the budget. `inFlight`: waits for moves under way. `planned`: within the budget. */
  kind: 'immediate' | 'inFlight' | 'planned';
  moves: number;
  estimatedMs: number;
}

export interface SimulatedSet {
  namespace: string;
  name: string;
  /** `added`: exists in the manifests only. */
  change: 'none' | 'added' | 'changed';
  /** In the order in which they are made. */
  moves: SimulatedMove[];
  /** By shard id. */
  unplaceable: SimulatedUnplaceable[];
  /** Ids that leave the set: drained, then owned by nobody. */
  retired: string[];
  churn: SimulatedChurn;
  /** Exact, whatever the lists have. */
  totals: { moves: number; unplaceable: number; retired: number; phases: number };
  balance: { before: SimulatedBalance; after: SimulatedBalance };
  /** Moves between the same two nodes (`""`: nobody), most first. */
  matrix: { from: string; to: string; shards: number }[];
  /** Under the churn budget; empty under `freeze: All`. */
  phases: SimulatedPhase[];
  /** Until the last phase has ended; absent under `freeze: All` when there is something to do. */
  estimatedDurationMs?: number;
  /** What a drain is taken to last: the median of those that ended lately, or the whole `drainTimeout`. */
  estimateBasis: 'observed' | 'drainTimeout' | 'immediate';
  warnings: string[];
}

export interface Simulation {
  /** Those with moves or shards without a place first, then by namespace and name. */
  sets: SimulatedSet[];
  totals: SimulatedChurn & {
    sets: number;
    unplaceable: number;
    retired: number;
    /** Of the set that takes longest; absent when one does not end by itself. */
    estimatedDurationMs?: number;
  };
  /** Some list is shorter than its total. */
  truncated: boolean;
  /** 16 hex digits: xxh64 of every move, and of every shard without a place. The same plan has the same hash. */
  planHash: string;
  basis: StateBasis;
  /** What the answer takes for granted, and what may surprise. */
  warnings: string[];
}
