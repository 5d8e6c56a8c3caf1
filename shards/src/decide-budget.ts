import type { DecideInput } from './decide.ts';
import type { Situation } from './decide-situation.ts';
import { wantsPlannedMove } from './decide-step.ts';
import type { EffectiveSet } from './defaults.ts';
import type { PlannedMove } from './placement.ts';

export interface Budget {
  starts: Set<string>;
  /** Ids whose planned move waits, in the order in which they will start. */
  waiting: string[];
  /** Moves under way that have a target. */
  inFlight: number;
  /** Planned grants of the last second, oldest first; only in Immediate mode. */
  recentGrants: number[];
}

export const PACE_MS = 1000;

/**
 * Which planned moves may start now, in the plan's order. What is draining was counted before this pass: a drain
 * that ends in it frees its place only once that is written, so the budget holds for every reader.
 */
export function startsWithin(
  settings: EffectiveSet,
  situations: readonly Situation[],
  plannedMoves: ReadonlyMap<string, PlannedMove>,
  { monotonic, memory }: Pick<DecideInput, 'monotonic' | 'memory'>,
): Budget {
  const willing = new Set<string>();
  for (const situation of situations) {
    if (wantsPlannedMove(situation, plannedMoves.get(situation.id)?.to)) willing.add(situation.id);
  }
  const wanted = [...plannedMoves.values()].filter((move) => willing.has(move.shard));
  const recentGrants = memory.grants.filter((at) => at > monotonic - PACE_MS);
  let inFlight = 0;
  for (const { move } of situations) if (move?.to !== undefined) inFlight += 1;
  const used = settings.handoffMode === 'Immediate' ? recentGrants.length : inFlight;
  const free = settings.freeze === 'All' ? 0 : Math.max(0, settings.maxConcurrentMoves - used);
  return {
    starts: new Set(wanted.slice(0, free).map((move) => move.shard)),
    waiting: wanted.slice(free).map((move) => move.shard),
    inFlight,
    recentGrants,
  };
}
