import type { Situation } from './decide-situation.ts';
import type { Step, StepContext, Verdict } from './decide-step.ts';
import { nextEpoch } from './epoch.ts';
import type { Condition, ShardAssignmentStatus, Transition } from './records.ts';
import { semanticallyEqual } from './semantic-equality.ts';
import { appendTransition } from './transition.ts';

/** The kstatus conditions, in this order; a time changes only together with its status. */
export function conditionsFor(
  verdict: Verdict,
  previous: readonly Condition[] | undefined,
  nowMs: number,
): Condition[] {
  return (['Ready', 'Reconciling', 'Stalled'] as const).map((type) => {
    const holds = verdict.state === type;
    const status = holds ? 'True' : 'False';
    const before = previous?.find((condition) => condition.type === type);
    // Ready says why it is False; the other two only speak when they are True.
    const speaks = holds || type === 'Ready';
    return {
      type,
      status,
      reason: speaks ? verdict.reason : `Not${type}`,
      message: speaks ? verdict.message : '',
      lastTransitionTime:
        before?.status === status ? before.lastTransitionTime : new Date(nowMs).toISOString(),
    };
  });
}

/**
 * True where the rules would surely change nothing: owned by a living node, nothing planned, everything said. A shortcut
 * for the many, so that a release in a set of 10,000 shards does not wait for building 10,000 statuses.
 */
export function isSettled(s: Situation, c: StepContext): boolean {
  const { status, spec, metadata } = s.shard;
  if (status?.phase !== 'Active' || s.intent !== 'Active' || !s.ownerAlive) return false;
  if (status.epoch <= c.epochFloor) return false;
  if (c.plannedMoves.has(s.id) || c.plan.unplaceable.has(s.id)) return false;
  const ready = status.conditions?.[0];
  const { effective } = status;
  return (
    (spec.owner?.pinned ?? s.owner) === s.owner &&
    status.observedGeneration === metadata.generation &&
    status.ownerEndpoint === c.nodes.get(s.owner ?? '')?.node.spec.endpoint &&
    effective?.capacity === s.capacity &&
    effective.strategy === c.settings?.strategy &&
    // The three conditions are always written together, so the first speaks for all.
    ready?.type === 'Ready' &&
    ready.status === 'True' &&
    ready.reason === 'Owned'
  );
}

/**
 * The status after a step, built from zero; undefined when nothing semantic changed. A change of phase, owner, epoch or
 * target is a transition and leaves an entry in `recentTransitions`.
 */
export function nextStatus(
  situation: Situation,
  step: Step,
  context: StepContext,
): { status: ShardAssignmentStatus; transition?: Transition } | undefined {
  const before = situation.shard.status;
  const previous = before?.epoch ?? 0;
  const { name } = situation.shard.metadata;
  const remembered = context.remembered?.get(name)?.epoch ?? 0;
  const passed = Math.max(previous, remembered, context.epochFloor);
  const highest = Math.max(passed, context.epochs.get(name) ?? 0);
  const attempt = attempted(situation, step, context) ?? 0;
  const granted = attempt > passed ? attempt : nextEpoch(highest, context.now);
  const epoch = step.grant ? granted : previous;
  const draft: ShardAssignmentStatus = {
    observedGeneration: situation.shard.metadata.generation,
    phase: step.phase,
    owner: step.owner,
    ownerEndpoint: endpointOf(step.owner, situation, context),
    previousOwner:
      before?.owner !== undefined && before.owner !== step.owner ? before.owner : before?.previousOwner,
    epoch,
    version: before?.version ?? 0,
    effective: context.settings
      ? { strategy: context.settings.strategy, capacity: situation.capacity }
      : before?.effective,
    move: step.move,
    recentTransitions: before?.recentTransitions,
    conditions: conditionsFor(step.verdict, before?.conditions, context.now),
  };
  if (before && semanticallyEqual(draft, before)) return undefined;
  draft.version += 1;
  const hopped =
    before?.phase !== draft.phase ||
    before.owner !== draft.owner ||
    before.epoch !== draft.epoch ||
    before.move?.to !== draft.move?.to;
  if (!hopped) return { status: pruned(draft) };
  const transition: Transition = {
    version: draft.version,
    from: before?.owner,
    // A Lost shard keeps its owner for the record only: nobody owns it now.
    to: step.phase === 'Lost' ? undefined : step.phase === 'Draining' ? step.move?.to : step.owner,
    phase: step.phase,
    epoch,
    actor: { ...step.why.actor, name: step.why.actor.name.slice(0, MAX_TEXT) },
    reason: step.why.reason.slice(0, MAX_TEXT),
    changeTicket: step.why.changeTicket,
    at: new Date(context.now).toISOString(),
  };
  draft.recentTransitions = appendTransition(before?.recentTransitions, pruned(transition));
  return { status: pruned(draft), transition };
}

/** The epoch of the same grant that was decided before on this very state: at most one of the two writes succeeds. */
function attempted({ shard }: Situation, step: Step, { attempts }: StepContext): number | undefined {
  const { name, resourceVersion } = shard.metadata;
  const attempt = attempts.get(name);
  const isSame = attempt?.resourceVersion === resourceVersion && attempt?.owner === step.owner;
  return isSame ? attempt?.epoch : undefined;
}

/** What the CRD lets a transition's reason hold, and the name of its actor. */
const MAX_TEXT = 1024;

/** Routers read the endpoint from the shard alone; of a node that is gone the last known one stays. */
function endpointOf(owner: string | undefined, s: Situation, context: StepContext): string | undefined {
  if (owner === undefined) return undefined;
  const node = context.nodes.get(owner)?.node;
  if (node) return node.spec.endpoint;
  return owner === s.owner ? s.shard.status?.ownerEndpoint : undefined;
}

function pruned<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}
