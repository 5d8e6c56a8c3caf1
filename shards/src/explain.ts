import { poolNamespace } from './candidates.ts';
import { type Outlook, outlookOf } from './decide-plan.ts';
import { createdForAnother } from './decide-situation.ts';
import { effectiveSet } from './defaults.ts';
import { ShardError } from './errors.ts';
import { courseOf } from './explain-course.ts';
import type { MoveCause, UnplaceableReason } from './placement.ts';
import { explainPlacement, type NodeExplanation } from './placement-explain.ts';
import type {
  Freeze,
  HandoffMode,
  LocalityMode,
  Phase,
  ShardAssignment,
  ShardSet,
  ShardState,
  Strategy,
  Transition,
} from './records.ts';
import { type ShardView, served } from './shard-view.ts';
import type { MeshState, StateBasis } from './simulate.ts';

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

/** A node of the pool, and why it has the shard, gets it, or does not. */
export interface ExplainedNode extends NodeExplanation {
  weight: number;
  region?: string;
  zone?: string;
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
  nodes: ExplainedNode[];
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

/**
 * What the operator does with one shard now, and why: its own plan and table, asked about this shard. Throws
 * `notFound`. At most `maxItems` nodes are listed. `withheld` is for the caller to fill, who knows what may be seen.
 */
export function explain(
  state: MeshState,
  { namespace, name }: { namespace: string; name: string },
  maxItems: number,
): ShardExplanation {
  const shard = state.shards.find(
    ({ metadata }) => metadata.namespace === namespace && metadata.name === name,
  );
  if (!shard) {
    throw new ShardError('notFound', `there is no shard ${name} in namespace ${namespace}`, {
      errors: [{ pointer: '/path/name', detail: 'no such shard' }],
    });
  }
  const head = headOf(shard);
  const { basis } = state;
  const transitions = shard.status?.recentTransitions?.toReversed() ?? [];
  const set = state.sets.find(
    ({ metadata }) => metadata.namespace === namespace && metadata.name === shard.spec.shardSet,
  );
  const outlook = outlookFor(set, shard, state);
  if ('nothing' in outlook) {
    const none = { overCap: false, nodes: [], nodesTotal: 0, nodesElsewhere: 0 };
    return { ...head, ...outlook.nothing, ...none, transitions, basis };
  }
  const course = courseOf(outlook, shard);
  const { settings, input } = outlook;
  const { strategy, locality, loadBound } = settings;
  const planned = input.shards.some(({ id }) => id === shard.spec.shardId);
  const rows = planned ? explainPlacement(input, shard.spec.shardId) : undefined;
  const { elsewhere, nodes } = nodesOf(rows?.nodes ?? [], outlook, course.inFlightTo, shard);
  return {
    ...head,
    course: course.course,
    summary: course.summary ?? rows?.summary ?? '',
    target: course.inFlightTo ?? rows?.target,
    cause: rows?.cause,
    held: course.held,
    unplaceable: course.unplaceable,
    overCap: rows?.overCap ?? false,
    settings: { strategy, locality, loadBound },
    budget: course.budget,
    nodes: nodes.slice(0, maxItems),
    nodesTotal: nodes.length,
    nodesElsewhere: elsewhere,
    transitions,
    basis,
  };
}

function headOf(shard: ShardAssignment) {
  const { namespace, name, shardSet, shardId, phase, state, owner, pinned, locality, capacity, move } =
    served(shard);
  return {
    namespace,
    name,
    shardSet,
    shardId,
    phase,
    state,
    owner,
    pinned,
    locality,
    capacity,
    move,
  };
}

type Nothing = Pick<ShardExplanation, 'course' | 'summary'>;

/** What to plan from, or why nothing is planned for this shard. */
function outlookFor(
  set: ShardSet | undefined,
  shard: ShardAssignment,
  state: MeshState,
): Outlook | { nothing: Nothing } {
  const name = `ShardSet ${shard.spec.shardSet}`;
  if (!set || set.metadata.deletionTimestamp !== undefined) {
    const what = set ? 'is being deleted' : 'does not exist';
    const summary = `nobody owns it: ${name} ${what}; create it, or delete this ShardAssignment`;
    return { nothing: { course: 'noSet', summary } };
  }
  if (createdForAnother(shard, set)) {
    const summary = `is deleted: it was stamped for an earlier ${name}`;
    return { nothing: { course: 'leaves', summary } };
  }
  const { namespace } = set.metadata;
  const own = state.shards.filter(
    ({ metadata, spec }) => metadata.namespace === namespace && spec.shardSet === set.metadata.name,
  );
  try {
    const settings = effectiveSet(set.spec);
    return outlookOf(set, settings, { shards: own, nodes: state.nodes }, () => Number.POSITIVE_INFINITY);
  } catch (error) {
    if (!(error instanceof ShardError)) throw error;
    const summary = `is left as it is: ${name} cannot be read: ${error.message}`;
    return { nothing: { course: 'noSet', summary } };
  }
}

/** Nodes of a shared pool that do not serve this namespace are none of the caller's business, unless they have the shard. */
function nodesOf(
  rows: readonly NodeExplanation[],
  { set, nodes: pool }: Outlook,
  inFlightTo: string | undefined,
  shard: ShardAssignment,
): { elsewhere: number; nodes: ExplainedNode[] } {
  const shared = poolNamespace(set) !== set.metadata.namespace;
  const owner = shard.status?.owner;
  const known = new Map(pool.map((node) => [node.name, node]));
  const nodes: ExplainedNode[] = [];
  let elsewhere = 0;
  for (const row of rows) {
    if (shared && row.standing === 'notServing' && row.node !== owner) {
      elsewhere += 1;
      continue;
    }
    const { weight = 1, region, zone } = known.get(row.node) ?? {};
    nodes.push({ ...(inFlightTo === undefined ? row : underWay(row, inFlightTo)), weight, region, zone });
  }
  return { elsewhere, nodes };
}

/** The planner takes a move under way for granted; for people its target is the target, and a pin would change it. */
function underWay(row: NodeExplanation, to: string): NodeExplanation {
  if (row.node === to) return { ...row, verdict: 'target', knob: undefined };
  if (row.verdict !== 'paused') return row;
  const knob = `spec.owner.pinned: ${row.node} on the ShardAssignment`;
  return { ...row, verdict: 'notNeeded', knob };
}
