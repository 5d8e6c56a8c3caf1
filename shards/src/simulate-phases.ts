import type { Outlook } from './decide-plan.ts';
import type { ShardAssignment } from './records.ts';
import type { SimulatedPhase, SimulatedSet } from './simulate.ts';

/** What one status write takes the operator, about; grants outside the budget are made one after the other. */
const GRANT_MS = 5;
/** `handoff.mode: Immediate` makes `maxConcurrentMoves` planned grants a second. */
const PACE_MS = 1_000;
/** So many drains that ended lately tell how long one takes. */
const ENOUGH_SAMPLES = 3;
const MAX_SAMPLES = 200;

type Schedule = Pick<SimulatedSet, 'phases' | 'estimatedDurationMs' | 'estimateBasis'>;

/** How the moves follow one another under the churn budget; `immediate` and `planned` are their numbers. */
export function scheduleOf(outlook: Outlook, immediate: number, planned: number): Schedule {
  const { settings, situations } = outlook;
  const graceful = settings.handoffMode === 'Graceful';
  const observed = graceful ? observedDrainMs(situations.map(({ shard }) => shard)) : undefined;
  const estimateBasis = !graceful ? 'immediate' : observed === undefined ? 'drainTimeout' : 'observed';
  const drainMs = Math.min(observed ?? settings.drainTimeoutMs, settings.drainTimeoutMs);
  let inFlight = 0;
  for (const { move, ownerAlive } of situations) if (move?.to !== undefined && ownerAlive) inFlight += 1;
  const phases: SimulatedPhase[] = [];
  const push = (kind: SimulatedPhase['kind'], moves: number, estimatedMs: number) =>
    phases.push({ phase: phases.length + 1, kind, moves, estimatedMs: Math.round(estimatedMs) });
  if (settings.freeze === 'All') {
    const idle = immediate + planned === 0;
    return { phases, estimatedDurationMs: idle ? 0 : undefined, estimateBasis };
  }
  if (immediate > 0) push('immediate', immediate, immediate * GRANT_MS);
  const budget = settings.maxConcurrentMoves;
  // Moves under way take their part of the budget until they end.
  let free = graceful ? budget - inFlight : budget;
  if (free <= 0 && planned > 0) {
    push('inFlight', inFlight, drainMs);
    free = budget;
  }
  for (let left = planned; left > 0; free = budget) {
    const moves = Math.min(free, left);
    left -= moves;
    push('planned', moves, graceful ? drainMs : left > 0 ? PACE_MS : moves * GRANT_MS);
  }
  const estimatedDurationMs = phases.reduce((sum, { estimatedMs }) => sum + estimatedMs, 0);
  return { phases, estimatedDurationMs, estimateBasis };
}

/** Median of the drains that the shards' newest transitions tell of; undefined when they are too few. */
function observedDrainMs(shards: readonly ShardAssignment[]): number | undefined {
  const samples: number[] = [];
  for (const { status } of shards) {
    const recent = status?.recentTransitions ?? [];
    const begun = recent.findLastIndex(({ phase, to }) => phase === 'Draining' && to !== undefined);
    const end = recent[begun + 1];
    if (begun < 0 || !end) continue;
    const ms = Date.parse(end.at) - Date.parse(recent[begun]!.at);
    if (ms >= 0) samples.push(ms);
    if (samples.length === MAX_SAMPLES) break;
  }
  if (samples.length < ENOUGH_SAMPLES) return undefined;
  return samples.sort((a, b) => a - b)[Math.floor(samples.length / 2)];
}
