import { type Budget, PACE_MS, startsWithin } from './decide-budget.ts';
import { movesByShard, outlookOf } from './decide-plan.ts';
import { invalidSetStatus, nextSetStatus } from './decide-set-status.ts';
import {
  createdFor,
  createdForAnother,
  readSituation,
  type Situation,
  type Surroundings,
  wasGranted,
} from './decide-situation.ts';
import { isSettled, nextStatus } from './decide-status.ts';
import { type StepContext, type StepKind, step } from './decide-step.ts';
import { type EffectiveSet, effectiveSet } from './defaults.ts';
import { ShardError } from './errors.ts';
import type { Remembered } from './journal-fold.ts';
import type { PlacementInput, Plan } from './placement.ts';
import type {
  MeshNode,
  ShardAssignment,
  ShardAssignmentStatus,
  ShardSet,
  ShardSetStatus,
  Transition,
} from './records.ts';

export interface NodeState {
  node: MeshNode;
  ready: boolean;
  /** CamelCase, why it is not ready: LeaseExpired, NoLease, … */
  reason?: string;
}

/**
 * What the operator remembers of a set between passes, by its monotonic clock: lost at a takeover, where every
 * deadline starts anew.
 */
export interface SetMemory {
  /** By ShardAssignment name: which drain (epoch and start), and when this process first saw it. */
  drains: ReadonlyMap<string, { id: string; since: number }>;
  /**
   * By name: epochs that the clock has not passed yet. A shard that is deleted and created again within the same second
   * has no status to grow from, and would otherwise be granted to another node at the same epoch.
   */
  epochs: ReadonlyMap<string, number>;
  /**
   * By name: grants that were decided, and of which nobody knows yet whether they were written. Decided again on the same
   * state of the shard, they keep their epoch, or every try would carry it further ahead of the clock.
   */
  attempts: ReadonlyMap<string, Attempt>;
  /** When the planned grants of the last second were made; paces `handoff.mode: Immediate`. */
  grants: readonly number[];
}

/** A grant of a shard as it was at a resourceVersion: the write of another one conflicts with it. */
export interface Attempt {
  resourceVersion: string;
  owner: string;
  epoch: number;
}

export const EMPTY_MEMORY: SetMemory = {
  drains: new Map(),
  epochs: new Map(),
  attempts: new Map(),
  grants: [],
};

export interface DecideInput {
  /** Absent when the ShardSet does not exist (any more). */
  set?: ShardSet;
  /** Every ShardAssignment whose `spec.shardSet` is this set. */
  shards: readonly ShardAssignment[];
  /** At least the MeshNodes of the set's pool. */
  nodes: readonly NodeState[];
  /** Wall milliseconds: for epochs and for times that people read. */
  now: number;
  /** Monotonic milliseconds: for deadlines. */
  monotonic: number;
  memory: SetMemory;
  plan: (input: PlacementInput) => Plan;
  /**
   * By ShardAssignment name, what the journal knows of shards whose status says less: of those without one, and of
   * those whose epoch is smaller than one that was granted before.
   */
  remembered?: ReadonlyMap<string, Remembered>;
  /** Epochs up to this one were granted in an earlier lineage: their owners are granted their shards again. */
  epochFloor?: number;
  /** The journal may know who owned shards that were never granted, and cannot be asked yet: they are left as they are. */
  awaitsJournal?: boolean;
}

export interface StatusWrite {
  shard: ShardAssignment;
  status: ShardAssignmentStatus;
  kind: StepKind;
  /** The cause of the hop; absent where the write is no transition. */
  cause?: string;
  transition?: Transition;
}

export interface Decision {
  /** Ids to stamp a ShardAssignment for. */
  create: string[];
  /** Operator-created objects to delete. */
  remove: ShardAssignment[];
  /** Most urgent first: failures, grants, then everything else. */
  writes: StatusWrite[];
  /** Present when the ShardSet's own status should be written. */
  setStatus?: ShardSetStatus;
  memory: SetMemory;
  /** Decide again after this long, even when nothing changes. */
  requeueAfterMs?: number;
}

/** Gather -> decide -> apply: this is the middle. Pure; the same input gives the same decision. */
export function decide(input: DecideInput): Decision {
  const present = input.set?.metadata.deletionTimestamp === undefined ? input.set : undefined;
  let settings: EffectiveSet | undefined;
  try {
    settings = present && effectiveSet(present.spec);
  } catch (error) {
    if (!(error instanceof ShardError) || !present) throw error;
    // An unreadable set is left exactly as it is: guessing could end ownership.
    const setStatus = invalidSetStatus(present, error.message, input.now);
    return { create: [], remove: [], writes: [], setStatus, memory: input.memory };
  }
  return present && settings ? decideSet(input, present, settings) : decideWithoutSet(input);
}

function decideWithoutSet(input: DecideInput): Decision {
  // While finalizers hold a deleted set, `--cascade=orphan` may still be about to free its shards: nothing is removed yet.
  const gone = input.set === undefined;
  const remove = new Set(gone ? input.shards.filter((shard) => createdForAnother(shard, undefined)) : []);
  const { remembered } = input;
  const around: Surroundings = { ids: new Set(), nodes: new Map(), standings: new Map(), remembered };
  const context = contextOf(input, around, NO_PLAN);
  const writes: StatusWrite[] = [];
  for (const shard of input.shards) {
    if (remove.has(shard)) continue;
    pushWrite(
      writes,
      readSituation(shard, around, () => Number.POSITIVE_INFINITY),
      context,
    );
  }
  const memory = { ...EMPTY_MEMORY, epochs: recentEpochs(input, writes), attempts: attemptsOf(writes) };
  return { create: [], remove: [...remove], writes, memory };
}

function contextOf(input: DecideInput, around: Surroundings, plan: Plan): StepContext {
  const { now, memory, epochFloor = 0 } = input;
  return {
    ...around,
    plan,
    plannedMoves: new Map(),
    starts: new Set(),
    now,
    epochs: memory.epochs,
    attempts: memory.attempts,
    epochFloor,
  };
}

const NO_PLAN: Plan = { targets: new Map(), moves: [], unplaceable: new Map(), loads: [] };

function decideSet(input: DecideInput, set: ShardSet, settings: EffectiveSet): Decision {
  const drains = new Map<string, { id: string; since: number }>();
  const dueInMs = (shard: ShardAssignment) => drainDue(shard, settings, input, drains);
  const outlook = outlookOf(set, settings, input, dueInMs);
  const { around, situations, missing, nodes } = outlook;
  const remove = [...outlook.foreign];
  const plan = input.plan(outlook.input);
  const plannedMoves = movesByShard(plan);
  const budget = startsWithin(settings, situations, plannedMoves, input);
  const context = { ...contextOf(input, around, plan), plannedMoves, starts: budget.starts };

  const writes: StatusWrite[] = [];
  let awaiting = 0;
  for (const situation of situations) {
    if (input.awaitsJournal && situation.intent === 'Active' && !wasGranted(situation.shard)) {
      awaiting += 1;
      continue;
    }
    if (removable(situation, set)) {
      // Deletion is the last step: its owner has let go, and the status said so in an earlier pass.
      if (situation.shard.metadata.deletionTimestamp === undefined) remove.push(situation.shard);
      continue;
    }
    if (!isSettled(situation, context)) pushWrite(writes, situation, context);
  }
  writes.sort((a, b) => URGENCY[a.kind] - URGENCY[b.kind]);
  const waiting = budget.waiting.length;
  const setStatus = nextSetStatus({
    set,
    settings,
    situations,
    missing: missing.length,
    awaiting,
    nodes,
    plan,
    waiting,
    now: input.now,
  });
  const immediate = writes.filter(({ kind }) => kind === 'Moved' && settings.handoffMode === 'Immediate');
  return {
    create: [...missing],
    remove,
    writes,
    setStatus,
    memory: {
      drains,
      epochs: recentEpochs(input, writes),
      attempts: attemptsOf(writes),
      grants: [...budget.recentGrants, ...immediate.map(() => input.monotonic)],
    },
    requeueAfterMs: requeueAfter(situations, budget, input, settings),
  };
}

function attemptsOf(writes: readonly StatusWrite[]): Map<string, Attempt> {
  const attempts = new Map<string, Attempt>();
  for (const { shard, status } of writes) {
    const { name, resourceVersion } = shard.metadata;
    const { owner, epoch } = status;
    const isGrant = owner !== undefined && epoch !== shard.status?.epoch;
    if (isGrant && resourceVersion !== undefined) attempts.set(name, { resourceVersion, owner, epoch });
  }
  return attempts;
}

function recentEpochs(input: DecideInput, writes: readonly StatusWrite[]): Map<string, number> {
  const now = Math.floor(input.now / 1000);
  const recent = new Map<string, number>();
  const note = (name: string, epoch: number) => {
    if (epoch >= now) recent.set(name, epoch);
  };
  for (const [name, epoch] of input.memory.epochs) note(name, epoch);
  for (const { metadata, status } of input.shards) if (status) note(metadata.name, status.epoch);
  for (const { shard, status } of writes) note(shard.metadata.name, status.epoch);
  return recent;
}

/** Milliseconds until the drain's deadline; notes in `drains` what to remember of it. */
function drainDue(
  shard: ShardAssignment,
  settings: EffectiveSet,
  input: DecideInput,
  drains: Map<string, { id: string; since: number }>,
): number {
  const { name } = shard.metadata;
  const move = shard.status?.move;
  const id = `${shard.metadata.uid}/${shard.status?.epoch}/${move?.startedAt}`;
  const known = input.memory.drains.get(name);
  const since = known?.id === id ? known.since : input.monotonic;
  drains.set(name, { id, since });
  const length = move ? Date.parse(move.deadline) - Date.parse(move.startedAt) : Number.NaN;
  return since + (Number.isNaN(length) ? settings.drainTimeoutMs : length) - input.monotonic;
}

function removable(situation: Situation, set: ShardSet): boolean {
  const { intent, owner, shard } = situation;
  return intent === 'Retired' && owner === undefined && createdFor(shard, set);
}

function pushWrite(writes: StatusWrite[], situation: Situation, context: StepContext): void {
  const next = step(situation, context);
  const result = nextStatus(situation, next, context);
  if (!result) return;
  const { status, transition } = result;
  writes.push({
    shard: situation.shard,
    status,
    kind: transition ? next.kind : 'None',
    cause: transition && next.why.cause,
    transition,
  });
}

function requeueAfter(
  situations: readonly Situation[],
  budget: Budget,
  input: DecideInput,
  settings: EffectiveSet,
): number | undefined {
  const waits: number[] = [];
  for (const { dueInMs } of situations) if (dueInMs !== undefined && dueInMs > 0) waits.push(dueInMs);
  const oldest = budget.recentGrants[0] ?? input.monotonic;
  if (settings.handoffMode === 'Immediate' && settings.freeze !== 'All' && budget.waiting.length > 0) {
    waits.push(oldest + PACE_MS - input.monotonic);
  }
  // A loop, not a spread: a set may drain more shards than a call may have arguments.
  return waits.length === 0 ? undefined : waits.reduce((least, wait) => Math.min(least, wait));
}

const URGENCY: Record<StepKind, number> = {
  Regranted: -1,
  FailedOver: 0,
  Rehydrated: 0,
  Recovered: 0,
  Lost: 1,
  Moved: 2,
  MoveCancelled: 2,
  Placed: 2,
  Retargeted: 3,
  Vacated: 3,
  OwnershipEnded: 3,
  MoveStarted: 4,
  DrainStarted: 4,
  Paused: 4,
  Resumed: 4,
  Unplaceable: 5,
  None: 5,
};
