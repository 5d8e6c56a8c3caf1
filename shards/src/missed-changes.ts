import { type Change, type ChangeHistory, historyOf } from './change.ts';
import {
  compareVersions,
  type ShardAssignment,
  type ShardAssignmentStatus,
  type Transition,
} from './records.ts';
import { served } from './shard-view.ts';

/**
 * What must have happened between two states that are both known, when nobody watched: a list after an outage, compared
 * with what was known before. Applied in order to `known`, the changes give `listed`; each carries its `history`.
 *
 * A changed record ends at its own resourceVersion. The transitions it went through, as far as its status still tells
 * them, come before and share that position with smaller ordinals. Transitions that fell out, edits of the spec and other
 * steps between (conditions, endpoints) leave no trace but a version and a generation that have grown: they are counted as
 * `coalesced` on the first change after them. A record that was replaced (another uid) is deleted at its successor's
 * position, ordinal 0; one that is gone, at the list's. Transitions are told by their version, so that none is told twice
 * to whoever knows the one before.
 *
 * @param known keyed by `namespace/name`; records made by `recordOf` will do
 * @param listed as the list gave them, with resourceVersion and recentTransitions
 * @param position the list's own resourceVersion
 */
export function missedChanges(
  known: ReadonlyMap<string, ShardAssignment>,
  listed: Iterable<ShardAssignment>,
  position: string,
): Change[] {
  const groups: { key: string; position: string; steps: Step[] }[] = [];
  const seen = new Set<string>();
  for (const record of listed) {
    const key = `${record.metadata.namespace}/${record.metadata.name}`;
    seen.add(key);
    const before = known.get(key);
    const steps = before === undefined ? stepsTo(undefined, record) : stepsBetween(before, record);
    if (steps.length > 0) groups.push({ key, position: record.metadata.resourceVersion ?? position, steps });
  }
  // A stable sort: records never share a version, but a careless double of a server may let them.
  groups.sort((a, b) => compareVersions(a.position, b.position));
  const gone = [...known].filter(([key]) => !seen.has(key)).sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [key, before] of gone) groups.push({ key, position, steps: [{ before }] });
  return numbered(groups);
}

/** One change without its place. */
type Step = Pick<Change, 'before' | 'after' | 'history' | 'at' | 'coalesced'>;

function numbered(groups: readonly { key: string; position: string; steps: Step[] }[]): Change[] {
  const changes: Change[] = [];
  let last = { position: '', ordinal: 0 };
  for (const { key, position, steps } of groups) {
    for (const step of steps) {
      last = { position, ordinal: last.position === position ? last.ordinal + 1 : 0 };
      changes.push({ ...last, key, source: 'reconcile', ...step, history: step.history ?? historyOf(step) });
    }
  }
  return changes;
}

function stepsBetween(before: ShardAssignment, after: ShardAssignment): Step[] {
  if (before.metadata.uid !== after.metadata.uid) return [{ before }, ...stepsTo(undefined, after)];
  const unchanged = before === after || JSON.stringify(served(before)) === JSON.stringify(served(after));
  return unchanged ? [] : stepsTo(before, after);
}

/** From the same record earlier, or from nothing. */
function stepsTo(before: ShardAssignment | undefined, after: ShardAssignment): Step[] {
  const recent = after.status?.recentTransitions ?? [];
  const since = before?.status?.version ?? 0;
  const missed = recent.filter(({ version }) => version > since).sort((a, b) => a.version - b.version);
  const steps: Step[] = [];
  let from = before;
  const push = (to: ShardAssignment, hop?: Transition) => {
    steps.push({
      before: from,
      after: to,
      history: hop && hopHistory(from, to, hop),
      at: hop?.at,
      ...lostBetween(from, to),
    });
    from = to;
  };
  for (const hop of missed.slice(0, -1)) {
    if (hop.epoch !== undefined) push(hopRecord(from, after, hop, hop.epoch), hop);
  }
  push(after, missed.at(-1));
  return steps;
}

/**
 * An edit of the spec counts its generation up by one, and any other served change its version: what they grew by beyond
 * one change was lost. Of a shard that is new, its creation is told together with the first of them.
 */
function lostBetween(before: ShardAssignment | undefined, after: ShardAssignment): { coalesced?: number } {
  const edits = (after.metadata.generation ?? 1) - (before?.metadata.generation ?? 1);
  const versions = (after.status?.version ?? 0) - (before?.status?.version ?? 0);
  const lost = Math.max(0, edits) + Math.max(0, versions) - 1;
  return lost > 0 ? { coalesced: lost } : {};
}

function hopHistory(
  before: ShardAssignment | undefined,
  after: ShardAssignment,
  { actor, reason, changeTicket }: Transition,
): ChangeHistory {
  const owned = before?.status?.owner;
  return { actor, reason, changeTicket, previousOwner: owned !== after.status?.owner ? owned : undefined };
}

/**
 * The record right after a transition that nobody saw. Intent is left as it was known before: when it was edited, nobody
 * can tell, so the edit shows in the last change. The deadline of a drain is not told either: it stands at its beginning.
 */
function hopRecord(
  before: ShardAssignment | undefined,
  last: ShardAssignment,
  hop: Transition,
  granted: number,
): ShardAssignment {
  const base = before ?? last;
  const was = before?.status;
  const owner = ownerAfter(hop);
  const endpoints = [before?.status, last.status];
  const { resourceVersion: _, managedFields: __, ...metadata } = base.metadata;
  const status: ShardAssignmentStatus = {
    observedGeneration: was?.observedGeneration ?? last.status?.observedGeneration,
    phase: hop.phase,
    owner,
    ownerEndpoint:
      owner === undefined ? undefined : endpoints.find((one) => one?.owner === owner)?.ownerEndpoint,
    previousOwner: was?.owner !== undefined && was.owner !== owner ? was.owner : was?.previousOwner,
    epoch: Math.max(granted, was?.epoch ?? 0),
    version: hop.version,
    effective: base.status?.effective,
    move: hop.phase === 'Draining' ? moveAfter(was, hop) : undefined,
    recentTransitions: last.status?.recentTransitions?.filter(({ version }) => version <= hop.version),
  };
  return { ...base, metadata, status };
}

/** While a shard drains, `to` says where it goes; a lost one keeps its owner for the record. */
function ownerAfter({ phase, from, to }: Transition): string | undefined {
  return phase === 'Draining' || phase === 'Lost' ? from : to;
}

function moveAfter(was: ShardAssignmentStatus | undefined, hop: Transition): ShardAssignmentStatus['move'] {
  const { startedAt = hop.at, deadline = hop.at } = was?.move ?? {};
  return { to: hop.to, startedAt, deadline };
}
