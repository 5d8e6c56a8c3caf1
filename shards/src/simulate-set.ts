import { poolNamespace } from './candidates.ts';
import type { NodeState } from './decide.ts';
import { deadNode, hindrance } from './decide-message.ts';
import { movesByShard, type Outlook, outlookOf } from './decide-plan.ts';
import type { Situation } from './decide-situation.ts';
import { plannedWhy } from './decide-why.ts';
import { effectiveSet } from './defaults.ts';
import { ShardError } from './errors.ts';
import { hasLowerBound, lowerBound } from './lower-bound.ts';
import type { PlacementInput, Plan, PlannedMove } from './placement.ts';
import type { ShardAssignment, ShardSet } from './records.ts';
import type { SimulatedMove, SimulatedReason, SimulatedSet, SimulatedUnplaceable } from './simulate.ts';
import { afterMoves, balanceOf, beforeMoves, fractionOf, shownNodes } from './simulate-balance.ts';
import { scheduleOf } from './simulate-phases.ts';

interface Stage {
  set: ShardSet;
  shards: readonly ShardAssignment[];
  nodes: readonly NodeState[];
}

export interface SetSimulation {
  /** Absent for a set that does not exist yet. */
  before?: Stage;
  after: Stage;
  /** Nothing differs between the two. */
  same: boolean;
  change: SimulatedSet['change'];
  planWith: (input: PlacementInput) => Plan;
}

/** One set before and after; `skipped` says why the operator would plan nothing. */
export function simulateSet(simulation: SetSimulation): SimulatedSet | { skipped: string } {
  const { after, change, planWith } = simulation;
  const outlook = look(after);
  if ('skipped' in outlook) return outlook;
  const { set, settings, situations } = outlook;
  const plan = planWith(outlook.input);
  const planned = movesByShard(plan);
  const known = new Map(situations.map((situation) => [situation.id, situation]));
  const moves: SimulatedMove[] = [];
  let placements = 0;
  let immediate = 0;
  for (const move of planned.values()) {
    const situation = known.get(move.shard);
    const from = situation?.owner;
    moves.push({ shard: move.shard, from, to: move.to, reason: reasonOf(move, situation, outlook) });
    if (from === undefined) placements += 1;
    if (!situation?.ownerAlive || situation.move?.to !== undefined) immediate += 1;
  }
  const retired = situations
    .filter(({ intent, owner }) => (intent === 'Retired' || intent === 'Disabled') && owner !== undefined)
    .map(({ id }) => id)
    .sort();
  const unplaceable = unplaceableOf(plan, known, outlook);
  const earlier = simulation.same ? { outlook, plan } : earlierOf(simulation);
  const now = afterMoves(outlook, plan);
  const then = earlier ? beforeMoves(earlier.outlook, earlier.plan) : undefined;
  const shown = shownNodes(then ? [then, now] : [now]);
  const schedule = scheduleOf(outlook, immediate, moves.length - immediate);
  const shards = outlook.input.shards.length;
  const pending = earlier ? movesByShard(earlier.plan) : new Map<string, PlannedMove>();
  return {
    namespace: set.metadata.namespace ?? '',
    name: set.metadata.name,
    change,
    moves,
    unplaceable,
    retired,
    churn: {
      moves: moves.length,
      placements,
      pending: moves.filter(({ shard }) => pending.has(shard)).length,
      lowerBound: boundOf(outlook),
      fraction: fractionOf({ moves: moves.length, placements, shards }, retired.length),
      shards,
    },
    totals: {
      moves: moves.length,
      unplaceable: unplaceable.length,
      retired: retired.length,
      phases: schedule.phases.length,
    },
    balance: {
      before: then ? balanceOf(then, shown) : { nodes: [], zones: [] },
      after: balanceOf(now, shown),
    },
    matrix: matrixOf(moves),
    ...schedule,
    warnings: warningsOf(outlook, moves, settings.freeze),
  };
}

function look({ set, shards, nodes }: Stage): Outlook | { skipped: string } {
  const name = `ShardSet ${set.metadata.namespace}/${set.metadata.name}`;
  if (set.metadata.deletionTimestamp !== undefined) {
    return { skipped: `${name} is being deleted: the ownership of its shards ends` };
  }
  try {
    return outlookOf(set, effectiveSet(set.spec), { shards, nodes }, () => Number.POSITIVE_INFINITY);
  } catch (error) {
    if (!(error instanceof ShardError)) throw error;
    return { skipped: `${name} cannot be read, so the operator leaves it as it is: ${error.message}` };
  }
}

/** The set as it is, and what the operator does with it anyway. */
function earlierOf({ before, planWith }: SetSimulation): { outlook: Outlook; plan: Plan } | undefined {
  const outlook = before && look(before);
  if (!outlook || 'skipped' in outlook) return undefined;
  return { outlook, plan: planWith(outlook.input) };
}

function reasonOf(move: PlannedMove, situation: Situation | undefined, outlook: Outlook): SimulatedReason {
  if (!situation) return 'New';
  if (situation.owner === undefined)
    return move.cause === 'Pin' || isPinned(situation, move) ? 'Pin' : 'Placed';
  if (!situation.ownerAlive) return deadNode(situation.owner, outlook.around).cause as SimulatedReason;
  if (situation.move?.to !== undefined && !situation.targetValid) return 'TargetNotEligible';
  return plannedWhy(situation, move, outlook.around).cause as SimulatedReason;
}

function isPinned({ shard }: Situation, { to }: PlannedMove): boolean {
  return shard.spec.owner?.pinned === to;
}

function unplaceableOf(
  plan: Plan,
  known: ReadonlyMap<string, Situation>,
  { around }: Outlook,
): SimulatedUnplaceable[] {
  return [...plan.unplaceable].map(([shard, reason]) => {
    const situation = known.get(shard);
    const owner = situation?.ownerAlive ? situation.owner : undefined;
    return { shard, owner, reason, ...hindrance(reason, situation?.shard.spec ?? {}, around) };
  });
}

function boundOf({ input }: Outlook): number | undefined {
  const bound = hasLowerBound(input) ? lowerBound(input) : undefined;
  return bound?.attainable ? bound.moves : undefined;
}

function matrixOf(moves: readonly SimulatedMove[]): SimulatedSet['matrix'] {
  const flows = new Map<string, Map<string, number>>();
  for (const { from = '', to } of moves) {
    const row = flows.get(from) ?? new Map<string, number>();
    flows.set(from, row.set(to, (row.get(to) ?? 0) + 1));
  }
  const cells = [...flows].flatMap(([from, row]) => [...row].map(([to, shards]) => ({ from, to, shards })));
  const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
  return cells.sort((a, b) => b.shards - a.shards || order(a.from, b.from) || order(a.to, b.to));
}

function warningsOf(outlook: Outlook, moves: readonly SimulatedMove[], freeze: string): string[] {
  const { set, nodes, foreign } = outlook;
  const warnings: string[] = [];
  if (freeze === 'All' && moves.length > 0) {
    warnings.push('spec.freeze is All: none of these moves is made, and shards of dead nodes wait as Lost');
  }
  if (freeze === 'Rebalance') warnings.push('spec.freeze is Rebalance: nothing moves for balance');
  if (!nodes.some(({ standing }) => standing === 'eligible')) {
    warnings.push(`no MeshNode in namespace ${poolNamespace(set)} may have shards of this set`);
  }
  if (foreign.length > 0) {
    warnings.push(`${foreign.length} ShardAssignments of an earlier set of this name are deleted`);
  }
  return warnings;
}
