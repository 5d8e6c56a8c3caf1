import type { NodeState } from './decide.ts';
import { xxh64 } from './hash.ts';
import { type PlacementInput, type Plan, plan, type Standing, type UnplaceableReason } from './placement.ts';
import type {
  Freeze,
  HandoffMode,
  LocalityMode,
  MeshNode,
  ShardAssignment,
  ShardSet,
  Strategy,
} from './records.ts';
import { fractionOf } from './simulate-balance.ts';
import { keyOf, type Proposal, propose } from './simulate-changes.ts';
import { simulateSet } from './simulate-set.ts';

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
  /** The fewest moves that any planner could make; absent where that has no closed form, or pins and paused shards rule a fair share out: see `lowerBound`. */
  lowerBound?: number;
  /**
   * Shards that leave their node, for another one or because they are retired:
   * (moves - placements + retired) / (shards + retired); 0 when there is no shard.
   */
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
  /** Ids with an owner that leave the set or are disabled: drained, then owned by nobody. */
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

export const MAX_ITEMS = 10_000;
export const DEFAULT_ITEMS = 1_000;

/**
 * What the operator would do if the manifests were applied and the changes made: the same planner with the same
 * input. Nothing is written anywhere. Throws `notFound` and `invalidArgument`, pointing into the request (see `propose`).
 * The lists are complete; `boundedSimulation` cuts them.
 */
export function simulate(
  state: MeshState,
  request: SimulationRequest,
  planWith: (input: PlacementInput) => Plan = plan,
): Simulation {
  const proposal = propose(state, request);
  const warnings = [...proposal.warnings];
  const before = new Map(state.sets.map((set) => [keyOf(set), set]));
  const shardsBefore = bySet(state.shards);
  const shardsAfter = proposal.shards === state.shards ? shardsBefore : bySet(proposal.shards);
  const sets: SimulatedSet[] = [];
  for (const set of proposal.sets) {
    const key = keyOf(set);
    const known = before.get(key);
    const change = changeOf(key, proposal);
    const simulated = simulateSet({
      before: known && { set: known, shards: shardsBefore.get(key) ?? [], nodes: state.nodes },
      after: { set, shards: shardsAfter.get(key) ?? [], nodes: proposal.nodes },
      same: change === 'none' && !proposal.nodesDiffer,
      change,
      planWith,
    });
    if ('skipped' in simulated) warnings.push(simulated.skipped);
    else sets.push(simulated);
  }
  const planHash = hashOf(sets);
  const affected = (set: SimulatedSet) => set.totals.moves + set.totals.unplaceable + set.totals.retired > 0;
  // Stable, so that each part stays in the order of namespace and name.
  sets.sort((a, b) => Number(affected(b)) - Number(affected(a)));
  return { sets, totals: totalsOf(sets), truncated: false, planHash, basis: state.basis, warnings };
}

function changeOf(key: string, { added, changed }: Proposal): SimulatedSet['change'] {
  return added.has(key) ? 'added' : changed.has(key) ? 'changed' : 'none';
}

function bySet(shards: readonly ShardAssignment[]): Map<string, ShardAssignment[]> {
  const found = new Map<string, ShardAssignment[]>();
  for (const shard of shards) {
    const key = `${shard.metadata.namespace}/${shard.spec.shardSet}`;
    const list = found.get(key);
    if (list) list.push(shard);
    else found.set(key, [shard]);
  }
  return found;
}

/** Of all sets in order of namespace and name, so that it does not depend on what else the answer says. */
function hashOf(sets: readonly SimulatedSet[]): string {
  const lines: string[] = [];
  for (const { namespace, name, moves, unplaceable, retired } of sets) {
    lines.push(`${namespace}/${name}`);
    for (const { shard, from = '', to } of moves) lines.push(`${shard} ${from}>${to}`);
    for (const { shard, reason } of unplaceable) lines.push(`${shard} !${reason}`);
    for (const shard of retired) lines.push(`${shard} -`);
  }
  return xxh64(lines.join('\n')).toString(16).padStart(16, '0');
}

function totalsOf(sets: readonly SimulatedSet[]): Simulation['totals'] {
  const sum = (of: (set: SimulatedSet) => number) => sets.reduce((total, set) => total + of(set), 0);
  const bounds = sets.map(({ churn }) => churn.lowerBound);
  const durations = sets.map(({ estimatedDurationMs }) => estimatedDurationMs);
  const moves = sum(({ churn }) => churn.moves);
  const placements = sum(({ churn }) => churn.placements);
  const shards = sum(({ churn }) => churn.shards);
  const retired = sum(({ totals }) => totals.retired);
  return {
    sets: sets.length,
    moves,
    placements,
    pending: sum(({ churn }) => churn.pending),
    lowerBound: bounds.includes(undefined) ? undefined : sum(({ churn }) => churn.lowerBound ?? 0),
    fraction: fractionOf({ moves, placements, shards }, retired),
    shards,
    unplaceable: sum(({ totals }) => totals.unplaceable),
    retired,
    estimatedDurationMs: durations.includes(undefined)
      ? undefined
      : durations.reduce((most: number, ms = 0) => Math.max(most, ms), 0),
  };
}

/** Each kind of list, over all sets together, has at most `maxItems` items; totals, hash and balance stay exact. */
export function boundedSimulation(simulation: Simulation, maxItems: number): Simulation {
  const left = new Map<string, number>();
  let truncated = simulation.truncated;
  const cut = <T>(kind: string, list: T[]): T[] => {
    const room = left.get(kind) ?? maxItems;
    left.set(kind, Math.max(0, room - list.length));
    if (list.length <= room) return list;
    truncated = true;
    return list.slice(0, room);
  };
  const balance = (moment: string, { nodes, zones, ...ratios }: SimulatedBalance): SimulatedBalance => ({
    ...ratios,
    nodes: cut(`nodes ${moment}`, nodes),
    zones: cut(`zones ${moment}`, zones),
  });
  const sets = cut('sets', simulation.sets).map((set) => ({
    ...set,
    moves: cut('moves', set.moves),
    unplaceable: cut('unplaceable', set.unplaceable),
    retired: cut('retired', set.retired),
    matrix: cut('matrix', set.matrix),
    phases: cut('phases', set.phases),
    balance: { before: balance('before', set.balance.before), after: balance('after', set.balance.after) },
  }));
  return { ...simulation, sets, truncated };
}
