import type { MoveCause, UnplaceableReason } from './placement.ts';
import type { NodeExplanation } from './placement-explain.ts';
import type {
  Freeze,
  HandoffMode,
  LocalityMode,
  Phase,
  ShardState,
  Strategy,
  Transition,
} from './records.ts';
import type { ShardView } from './shard-view.ts';
import type { StateBasis } from './simulate.ts';

/** What the operator does with a shard now. */
export type ShardCourse =
  /** Is where it belongs. */
  | 'stays'
  /** Its next step is made as soon as the operator gets to it. */
  | 'moves'
  /** A move under way waits for the owner's release or the deadline. */
  | 'draining'
  /** Belongs elsewhere, but something holds the move: see `held`. */
  | 'waits'
  /** No node may have it: see `unplaceable`. */
  | 'unplaceable'
  /** `spec.state: Paused`. */
  | 'paused'
  /** `spec.state: Disabled`, or its id is not in the set: goes to nobody. */
  | 'leaves'
  /** Its ShardSet does not exist, or cannot be read. */
  | 'noSet';

/** Why the shard has not moved although it belongs elsewhere, and what lets it. */
export interface Held {
  by: 'churnBudget' | 'freeze' | 'drain';
  detail: string;
  knob: string;
}

export interface BudgetState {
  maxConcurrentMoves: number;
  /** Planned moves under way. */
  inFlight: number;
  /** Planned moves that wait, this one included. */
  waiting: number;
  /** Place of this shard among them, from 1; absent when it does not wait. */
  place?: number;
  freeze: Freeze;
  handoffMode: HandoffMode;
  drainTimeoutMs: number;
}

export interface ShardExplanation {
  namespace: string;
  /** `<shardSet>.<shardId>` */
  name: string;
  shardSet: string;
  shardId: string;
  phase: Phase;
  state: ShardState;
  owner?: string;
  pinned?: string;
  locality?: ShardView['locality'];
  capacity: number;
  move?: ShardView['move'];
  course: ShardCourse;
  /** One sentence: where it is or goes, and why. */
  summary: string;
  /** Where the plan has it; absent when it has no place. */
  target?: string;
  /** Present when it should move. */
  cause?: MoveCause;
  held?: Held;
  unplaceable?: { reason: UnplaceableReason; constraint: string; knob: string };
  /** The target is above its cap with it, because no node had room. */
  overCap: boolean;
  /** What the set asks for, defaults filled in; absent without a set. */
  settings?: { strategy: Strategy; locality: LocalityMode; loadBound: string };
  budget?: BudgetState;
  /** The target first, then by rank; at most `maxItems`. */
  nodes: NodeExplanation[];
  /** Nodes of the pool that the answer could name. */
  nodesTotal: number;
  /** Nodes of a shared pool that do not serve this namespace: counted, not named. */
  nodesElsewhere: number;
  /** Newest first; absent for those who may not observe: see `withheld`. */
  transitions?: Transition[];
  /** What the caller may not see, and the commands that check and grant it. */
  withheld?: { member: 'transitions'; scope: string; check: string; grant: string }[];
  basis: StateBasis;
}
