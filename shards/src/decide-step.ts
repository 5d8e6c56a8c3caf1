import type { NodeState } from './decide.ts';
import { deadNode, frozenMessage, unplaceableMessage } from './decide-message.ts';
import type { Move, Situation, Surroundings } from './decide-situation.ts';
import {
  byOperator,
  bySpec,
  deadWhy,
  drainEnd,
  leavingWhy,
  pinnedWhy,
  plannedWhy,
  type Why,
} from './decide-why.ts';
import type { Plan, PlannedMove, Standing } from './placement.ts';
import type { Phase } from './records.ts';
import { specActor } from './transition.ts';

/** What happens to a shard in one pass; events and metrics are named after it. */
export type StepKind =
  | 'None'
  | 'Placed'
  | 'Unplaceable'
  | 'MoveStarted'
  | 'Retargeted'
  | 'Moved'
  | 'MoveCancelled'
  | 'FailedOver'
  | 'Lost'
  | 'Recovered'
  | 'Paused'
  | 'Resumed'
  | 'DrainStarted'
  | 'Vacated'
  | 'OwnershipEnded'
  | 'Regranted'
  | 'Rehydrated';

export interface Verdict {
  /** Which of the kstatus conditions is True. */
  state: 'Ready' | 'Reconciling' | 'Stalled';
  reason: string;
  message: string;
}

export interface Step {
  kind: StepKind;
  phase: Phase;
  owner?: string;
  /** Ownership begins, or begins anew: a larger epoch. */
  grant?: boolean;
  move?: Move;
  why: Why;
  verdict: Verdict;
}

export interface StepContext extends Surroundings {
  plan: Plan;
  plannedMoves: ReadonlyMap<string, PlannedMove>;
  /** Ids whose planned move may start in this pass: freeze and budget have been applied. */
  starts: ReadonlySet<string>;
  nodes: ReadonlyMap<string, NodeState>;
  /** Wall milliseconds, for epochs and for the times that people read. */
  now: number;
  /** By name, epochs that may not be handed out again although no status says so; see SetMemory. */
  epochs: ReadonlyMap<string, number>;
  /** Owners with an epoch up to this one are granted their shards again. */
  epochFloor: number;
}

/**
 * The phase x event table of docs/operator.md. The order matters: after a restore no owner may act on its old epoch, so
 * that comes first (0) but for shards whose set is gone; then the end of a shard (1, 2) beats everything; a
 * drain whose reason is gone (3) must be taken back before pausing (4) could keep a released owner; a dead owner (5) is served
 * before anything that only a living owner can take part in (6, 7, 9).
 */
export function step(s: Situation, c: StepContext): Step {
  return (
    orphaned(s) ??
    regranted(s, c) ??
    rehydrated(s, c) ??
    vacating(s, c) ??
    takenBack(s, c) ??
    paused(s, c) ??
    ownerDead(s, c) ??
    moving(s, c) ??
    ownerBack(s, c) ??
    unowned(s, c) ??
    steady(s, c)
  );
}

/** True where `step` would start a planned move if budget and freeze allow. */
export function wantsPlannedMove(s: Situation, target: string | undefined): boolean {
  return (
    s.intent === 'Active' &&
    s.ownerAlive &&
    (s.phase === 'Active' || s.phase === 'Paused') &&
    target !== undefined &&
    target !== s.owner
  );
}

/** 1. Deleting a ShardSet ends the ownership of its shards at once. */
function orphaned(s: Situation): Step | undefined {
  if (s.intent !== 'Orphaned') return undefined;
  const message = `ShardSet ${s.shard.spec.shardSet} does not exist: create it, or delete this ShardAssignment`;
  return {
    kind: s.owner === undefined ? 'None' : 'OwnershipEnded',
    phase: 'Pending',
    why: byOperator(s.owner === undefined ? 'ShardSetNotFound' : 'ShardSetDeleted', message),
    verdict: { state: 'Stalled', reason: 'ShardSetNotFound', message },
  };
}

/** 0. Granted in an earlier lineage: the same owner, a new epoch. A move in flight begins anew. */
function regranted(s: Situation, c: StepContext): Step | undefined {
  if (s.owner === undefined || !s.ownerAlive || s.phase === 'Lost') return undefined;
  if ((s.shard.status?.epoch ?? 0) > c.epochFloor) return undefined;
  return kept(s, c, granted('Regranted', s.owner, byOperator('NewLineage', 'granted again after a restore')));
}

/** 0. Its status is lost, but not the knowledge of who owned it: nothing is reshuffled while the owner lives. */
function rehydrated(s: Situation, c: StepContext): Step | undefined {
  if (s.lostOwner === undefined || !KEEPS.includes(c.standings.get(s.lostOwner))) return undefined;
  if (s.intent !== 'Active' && s.intent !== 'Paused') return undefined;
  const why = byOperator('Rehydrated', `${s.lostOwner} owned it before its status was lost`);
  return kept(s, c, granted('Rehydrated', s.lostOwner, why));
}

/** A node in one of these may own shards, if only for now. */
const KEEPS: readonly (Standing | undefined)[] = ['eligible', 'cordoned', 'draining'];

function kept(s: Situation, c: StepContext, step: Step): Step {
  if (s.intent !== 'Paused') return ownedVerdict(step, s, c);
  return {
    ...step,
    phase: 'Paused',
    verdict: { state: 'Ready', reason: 'Paused', message: `paused on ${step.owner}` },
  };
}

/** 2. Retired by shrinking, or `state: Disabled`: drains without a target, then has no owner. */
function vacating(s: Situation, c: StepContext): Step | undefined {
  if (s.intent !== 'Retired' && s.intent !== 'Disabled') return undefined;
  const why = leavingWhy(s, c);
  const verdict = leavingVerdict(s, why);
  const vacated = (because: Why): Step => ({ kind: 'Vacated', phase: 'Disabled', why: because, verdict });
  if (s.owner === undefined) return { ...vacated(why), kind: s.phase === undefined ? 'None' : 'Vacated' };
  if (!s.ownerAlive) return vacated(deadWhy(s.owner, c));
  if (s.phase === 'Draining') {
    const done = drainEnd(s);
    if (done) return vacated(done);
    const { to: _, ...rest } = s.move ?? newMove(c);
    return {
      kind: 'DrainStarted',
      phase: 'Draining',
      owner: s.owner,
      move: rest,
      why,
      verdict: reconciling(why),
    };
  }
  // A Lost owner that came back holds nothing yet, so there is nothing to drain.
  if (s.phase === 'Lost' || c.settings?.handoffMode === 'Immediate') return vacated(why);
  if (c.settings?.freeze === 'All') {
    return {
      kind: 'None',
      phase: s.phase ?? 'Active',
      owner: s.owner,
      why,
      verdict: stalled('Frozen', frozenMessage(c)),
    };
  }
  return {
    kind: 'DrainStarted',
    phase: 'Draining',
    owner: s.owner,
    move: newMove(c),
    why,
    verdict: reconciling(why),
  };
}

/** 3. Draining without a target, but the shard is wanted again: the same owner, a new epoch (it may have stopped). */
function takenBack(s: Situation, c: StepContext): Step | undefined {
  if (s.phase !== 'Draining' || s.move?.to !== undefined || !s.ownerAlive || s.owner === undefined)
    return undefined;
  const ownSpec = (s.shard.metadata.generation ?? 0) > (s.shard.status?.observedGeneration ?? 0);
  const actor = ownSpec ? specActor(s.shard.metadata) : c.set && specActor(c.set.metadata);
  const why = bySpec('MoveCancelled', actor, 'the shard is wanted again', s);
  const back = granted('MoveCancelled', s.owner, why);
  return s.intent === 'Paused' ? { ...back, phase: 'Paused', verdict: pausedVerdict(s, c) } : back;
}

/** 4. Paused keeps its owner, dead or alive; a move in flight finishes first (6). */
function paused(s: Situation, c: StepContext): Step | undefined {
  if (s.intent !== 'Paused') return undefined;
  if (s.move?.to !== undefined && (s.ownerAlive || s.targetValid)) return undefined;
  const why = bySpec('Paused', specActor(s.shard.metadata), 'spec.state is Paused', s);
  return { kind: 'Paused', phase: 'Paused', owner: s.owner, why, verdict: pausedVerdict(s, c) };
}

/** 5. The owner is dead: grant at once, outside every budget; nowhere to go or `freeze: All`: Lost. */
function ownerDead(s: Situation, c: StepContext): Step | undefined {
  if (s.owner === undefined || s.ownerAlive) return undefined;
  const why = deadWhy(s.owner, c);
  const target = targetOf(s, c);
  if (s.move?.to !== undefined && s.targetValid && target !== undefined) {
    return ownedVerdict(granted('FailedOver', target, why), s, c);
  }
  const lost = (reason: string, knob: string): Step => ({
    kind: s.phase === 'Lost' ? 'None' : 'Lost',
    phase: 'Lost',
    owner: s.owner,
    why,
    verdict: stalled(reason, `${why.reason}; ${knob}`),
  });
  if (c.settings?.freeze === 'All') return lost('Frozen', frozenMessage(c));
  if (target !== undefined && target !== s.owner) {
    return ownedVerdict(granted('FailedOver', target, why), s, c);
  }
  const reason = c.plan.unplaceable.get(s.id) ?? 'NoEligibleNode';
  return lost(reason, unplaceableMessage(reason, s, c));
}

/** 6. A move in flight: finishes on release or deadline, is retargeted, or goes back; the deadline never moves. */
function moving(s: Situation, c: StepContext): Step | undefined {
  if (s.owner === undefined || s.move?.to === undefined) return undefined;
  const target = targetOf(s, c);
  if (target === undefined || target === s.owner) {
    const pinned = s.shard.spec.owner?.pinned === s.owner;
    const why = pinned
      ? bySpec('Pin', specActor(s.shard.metadata), `pinned to ${s.owner}`, s)
      : byOperator('TargetNotEligible', `${s.move.to} can no longer take the shard`);
    return ownedVerdict(granted('MoveCancelled', s.owner, why), s, c);
  }
  const done = drainEnd(s);
  if (done) return ownedVerdict(granted('Moved', target, done), s, c);
  const retargeted = target !== s.move.to;
  const why =
    pinnedWhy(s, target) ?? byOperator('TargetNotEligible', `${s.move.to} can no longer take the shard`);
  return {
    kind: retargeted ? 'Retargeted' : 'None',
    phase: 'Draining',
    owner: s.owner,
    move: { ...s.move, to: target },
    why,
    verdict: reconciling(byOperator('Draining', `moving from ${s.owner} to ${target}`)),
  };
}

/** 7. Lost, and its owner is back: a new epoch, wherever the plan wants it now. */
function ownerBack(s: Situation, c: StepContext): Step | undefined {
  if (s.phase !== 'Lost' || s.owner === undefined) return undefined;
  const planned = c.settings?.freeze === 'All' ? undefined : c.plan.targets.get(s.id);
  const target = planned ?? s.owner;
  const why =
    target === s.owner
      ? byOperator('NodeReady', `${s.owner} is ready again`)
      : byOperator('Placed', `placed on ${target}`);
  return ownedVerdict(granted('Recovered', target, why), s, c);
}

/** 8. No owner: placed as soon as there is a place. */
function unowned(s: Situation, c: StepContext): Step | undefined {
  if (s.owner !== undefined) return undefined;
  const target = c.plan.targets.get(s.id);
  if (c.settings?.freeze === 'All') return pending('Frozen', frozenMessage(c));
  if (target !== undefined) {
    const why = pinnedWhy(s, target) ?? byOperator('Placed', `placed on ${target}`);
    return ownedVerdict(granted('Placed', target, why), s, c);
  }
  const reason = c.plan.unplaceable.get(s.id) ?? 'NoEligibleNode';
  return pending(reason, unplaceableMessage(reason, s, c));
}

/** 9. Owned by a living node: stays, or starts a planned move where budget and freeze allow. */
function steady(s: Situation, c: StepContext): Step {
  const owner = s.owner as string;
  const planned = c.plannedMoves.get(s.id);
  if (planned && c.starts.has(s.id)) {
    const why = plannedWhy(s, planned, c);
    if (c.settings?.handoffMode === 'Immediate') return granted('Moved', planned.to, why);
    return {
      kind: 'MoveStarted',
      phase: 'Draining',
      owner,
      move: { to: planned.to, ...newMove(c) },
      why,
      verdict: reconciling(byOperator('Draining', `moving from ${owner} to ${planned.to}`)),
    };
  }
  const stay: Step = {
    kind: s.phase === 'Active' ? 'None' : 'Resumed',
    phase: 'Active',
    owner,
    why: bySpec('Resumed', specActor(s.shard.metadata), 'spec.state is Active', s),
    verdict: planned?.cause === 'Pin' ? pinHeld(planned, c) : owned(owner),
  };
  return ownedVerdict(stay, s, c);
}

/** Only a pin that waits says so on its shard: a wish is not met; all else that waits shows in the ShardSet's status. */
function pinHeld(planned: PlannedMove, c: StepContext): Verdict {
  const wish = `pinned to ${planned.to}, still on ${planned.from}`;
  if (c.settings?.freeze === 'All') return stalled('Frozen', `${wish}: ${frozenMessage(c)}`);
  const knob = `ShardSet ${c.set?.metadata.name} makes ${c.settings?.maxConcurrentMoves} moves at a time (spec.churn.maxConcurrentMoves)`;
  return { state: 'Reconciling', reason: 'ChurnBudget', message: `${wish}: ${knob}` };
}

function granted(kind: StepKind, to: string, why: Why): Step {
  return { kind, phase: 'Active', owner: to, grant: true, why, verdict: owned(to) };
}

function pending(reason: string, message: string): Step {
  const verdict = stalled(reason, message);
  return { kind: 'Unplaceable', phase: 'Pending', why: byOperator(reason, message), verdict };
}

/** Owned, but not where the spec wants it, and no node can take it: that needs a person. */
function ownedVerdict(step: Step, s: Situation, c: StepContext): Step {
  const pinned = s.shard.spec.owner?.pinned;
  const pinUnmet = pinned !== undefined && pinned !== step.owner && c.plannedMoves.get(s.id)?.cause !== 'Pin';
  const reason = c.plan.unplaceable.get(s.id) ?? (pinUnmet ? 'PinnedNodeNotEligible' : undefined);
  if (reason === undefined) return step;
  return { ...step, verdict: stalled(reason, `owned by ${step.owner}; ${unplaceableMessage(reason, s, c)}`) };
}

/** Where the shard should go: the target of a sound move, unless a pin or Required locality now says otherwise. */
function targetOf(s: Situation, c: StepContext): string | undefined {
  const cause = c.plannedMoves.get(s.id)?.cause;
  const elsewhere = cause === 'Pin' || cause === 'Locality' || c.plan.unplaceable.has(s.id);
  return s.targetValid && !elsewhere ? s.move?.to : c.plan.targets.get(s.id);
}

function newMove(c: StepContext): Move {
  const timeoutMs = c.settings?.drainTimeoutMs ?? 0;
  return { startedAt: new Date(c.now).toISOString(), deadline: new Date(c.now + timeoutMs).toISOString() };
}

/** Disabled on request is what was asked for; an id outside its set is a mistake unless the operator deletes it next. */
function leavingVerdict(s: Situation, why: Why): Verdict {
  if (s.intent === 'Disabled') return { state: 'Ready', reason: 'Disabled', message: why.reason };
  return stalled('OutsideShardSet', `${why.reason}: add it to spec.shards, or delete this ShardAssignment`);
}

function owned(owner: string): Verdict {
  return { state: 'Ready', reason: 'Owned', message: `owned by ${owner}` };
}

function pausedVerdict(s: Situation, c: StepContext): Verdict {
  if (s.owner !== undefined && !s.ownerAlive) {
    const { cause, reason } = deadNode(s.owner, c);
    return stalled(cause, `${reason}; the shard is paused and is placed again when spec.state is Active`);
  }
  const message = s.owner === undefined ? 'paused without an owner' : `paused on ${s.owner}`;
  return { state: 'Ready', reason: 'Paused', message };
}

function reconciling(why: Why): Verdict {
  return { state: 'Reconciling', reason: why.cause, message: why.reason };
}

function stalled(reason: string, message: string): Verdict {
  return { state: 'Stalled', reason, message };
}
