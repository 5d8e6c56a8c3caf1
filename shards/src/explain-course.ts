import { EMPTY_MEMORY } from './decide.ts';
import { type Budget, startsWithin } from './decide-budget.ts';
import { hindrance } from './decide-message.ts';
import { movesByShard, type Outlook } from './decide-plan.ts';
import type { Situation } from './decide-situation.ts';
import { type Step, step } from './decide-step.ts';
import { releaseToken } from './epoch.ts';
import type { BudgetState, Held, ShardCourse, ShardExplanation } from './explain.ts';
import { type Plan, plan } from './placement.ts';
import { RELEASED_ANNOTATION, type ShardAssignment } from './records.ts';

export interface Course {
  course: ShardCourse;
  /** Where the planner's own sentence would not do. */
  summary?: string;
  held?: Held;
  unplaceable?: ShardExplanation['unplaceable'];
  budget: BudgetState;
  /** The target of a move under way that goes on, or ends there now. */
  inFlightTo?: string;
}

/** What the operator's next pass does with the shard, by the operator's own table. */
export function courseOf(outlook: Outlook, shard: ShardAssignment): Course {
  const situation = outlook.situations.find((known) => known.shard === shard)!;
  const planned = plan(outlook.input);
  const plannedMoves = movesByShard(planned);
  const now = { monotonic: 0, memory: EMPTY_MEMORY };
  const budget = startsWithin(outlook.settings, outlook.situations, plannedMoves, now);
  const { starts } = budget;
  const next = step(situation, {
    ...outlook.around,
    plan: planned,
    plannedMoves,
    starts,
    now: 0,
    epochs: EMPTY_MEMORY.epochs,
    attempts: EMPTY_MEMORY.attempts,
    epochFloor: 0,
  });
  const known = new Courses(outlook, planned, situation, budget);
  return { ...known.of(next, plannedMoves.has(situation.id)), budget: known.budget() };
}

class Courses {
  readonly #outlook: Outlook;
  readonly #plan: Plan;
  readonly #situation: Situation;
  readonly #budget: Budget;

  constructor(outlook: Outlook, planned: Plan, situation: Situation, budget: Budget) {
    this.#outlook = outlook;
    this.#plan = planned;
    this.#situation = situation;
    this.#budget = budget;
  }

  of(next: Step, planned: boolean): Omit<Course, 'budget'> {
    const { id, intent, move, owner, shard } = this.#situation;
    const { settings, around } = this.#outlook;
    if (intent === 'Retired' || intent === 'Disabled') {
      return { course: 'leaves', summary: `goes to nobody: ${next.why.reason}` };
    }
    if (next.grant) {
      const inFlightTo = next.owner === move?.to ? next.owner : undefined;
      return { course: 'moves', summary: grantSummary(next, owner), inFlightTo };
    }
    const reason = this.#plan.unplaceable.get(id);
    if (reason)
      return { course: 'unplaceable', unplaceable: { reason, ...hindrance(reason, shard.spec, around) } };
    if (next.phase === 'Paused') return { course: 'paused', summary: `is ${next.verdict.message}` };
    if (next.move?.to !== undefined && move !== undefined) return this.#draining(next.move.to);
    if (next.verdict.reason === 'Frozen') return { course: 'waits', held: this.#frozen() };
    if (planned && !this.#budget.starts.has(id)) {
      const held = settings.freeze === 'All' ? this.#frozen() : this.#budgeted();
      return { course: 'waits', held };
    }
    if (planned) return { course: 'moves' };
    return this.#heldBalance() ?? { course: 'stays' };
  }

  budget(): BudgetState {
    const { maxConcurrentMoves, freeze, handoffMode, drainTimeoutMs } = this.#outlook.settings;
    const { waiting, inFlight } = this.#budget;
    const place = waiting.indexOf(this.#situation.id) + 1;
    return {
      maxConcurrentMoves,
      inFlight,
      waiting: waiting.length,
      place: place > 0 ? place : undefined,
      freeze,
      handoffMode,
      drainTimeoutMs,
    };
  }

  #draining(to: string): Omit<Course, 'budget'> {
    const { owner = '', move, shard } = this.#situation;
    const token = releaseToken(owner, shard.status?.epoch ?? 0);
    return {
      course: 'draining',
      inFlightTo: to,
      summary: `moves from ${owner} to ${to}: ${owner} has not released it yet`,
      held: {
        by: 'drain',
        detail: `waits for the release by ${owner}, until ${move?.deadline} at the latest`,
        knob: `the annotation ${RELEASED_ANNOTATION}: ${token}, set by the owner's agent; a shorter spec.handoff.drainTimeout on the ShardSet for moves that begin later`,
      },
    };
  }

  #frozen(): Held {
    return {
      by: 'freeze',
      detail: 'spec.freeze of the ShardSet is All: nothing starts',
      knob: 'spec.freeze: Rebalance or None on the ShardSet',
    };
  }

  #budgeted(): Held {
    const { settings } = this.#outlook;
    const { inFlight, waiting } = this.#budget;
    const ahead = waiting.indexOf(this.#situation.id);
    return {
      by: 'churnBudget',
      detail: `${settings.maxConcurrentMoves} moves at a time: ${inFlight} are under way, and ${Math.max(0, ahead)} go before this one`,
      knob: 'a larger spec.churn.maxConcurrentMoves on the ShardSet',
    };
  }

  /** Rule 3 is left out under `freeze`; without it, the shard might go elsewhere. */
  #heldBalance(): Omit<Course, 'budget'> | undefined {
    const { settings, input } = this.#outlook;
    const { id } = this.#situation;
    if (settings.freeze === 'None') return undefined;
    const move = movesByShard(plan({ ...input, rebalance: true })).get(id);
    if (!move) return undefined;
    const held: Held = {
      by: 'freeze',
      detail: `spec.freeze of the ShardSet is ${settings.freeze}: balance would move it to ${move.to}`,
      knob: 'spec.freeze: None on the ShardSet',
    };
    return { course: 'waits', held };
  }
}

function grantSummary({ owner: to, why }: Step, from: string | undefined): string {
  const journey =
    from === undefined
      ? `goes to ${to}`
      : from === to
        ? `stays on ${to}, anew`
        : `moves from ${from} to ${to}`;
  return `${journey}: ${why.reason}`;
}
