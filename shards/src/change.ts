import { shardMatches } from './filter.ts';
import { type Actor, compareVersions, type ShardAssignment } from './records.ts';
import type { ShardFilter } from './repository.ts';
import { specActor } from './transition.ts';

/**
 * A place in the one order of all events: after everything up to and including it. `position` is a resourceVersion;
 * `ordinal` tells apart events that share one, which only those do that were reconstructed after lost history.
 */
export interface Point {
  readonly position: string;
  readonly ordinal: number;
}

/**
 * A settled state: what the cluster really was, once everything at or before `position` had happened, and its digest.
 * Between the changes of a reconstructed stretch no state is settled. The position alone names it; `ordinal` is 0.
 */
export interface Mark extends Point {
  readonly anchor: string;
  /** Of the end of a journal segment: the stretch goes on in the next one, so this state is not settled. */
  readonly partial?: boolean;
}

export function comparePoints(a: Point, b: Point): number {
  return compareVersions(a.position, b.position) || a.ordinal - b.ordinal;
}

/**
 * One event of the ordered store: what is served of a shard changed (see `served`); nothing else is an event.
 * Without `before` the shard is new, without `after` it is gone; both always have the same uid, because a shard that
 * was deleted and created again is two changes. A deletion has a position of its own.
 */
export interface Change extends Point {
  /** `namespace/name`. */
  readonly key: string;
  readonly before?: ShardAssignment;
  readonly after?: ShardAssignment;
  /** Where the records do not tell it: of a replayed or reconstructed change. Ask `historyOf`. */
  readonly history?: ChangeHistory;
  /** When it happened, RFC 3339; absent where only the time of its arrival is known. */
  readonly at?: string;
  /** `reconcile`: found out afterwards by comparing states; absent: seen as it happened. */
  readonly source?: 'watch' | 'reconcile';
  /** So many changes before this one could not be told apart from it any more. */
  readonly coalesced?: number;
}

/** What a watcher is told of a change. `cause: 'filter'`: DELETED for this watcher only, the shard still exists. */
export interface Sighting {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  cause?: 'filter';
}

/** How a change looks through a filter; undefined when the shard passes it neither before nor after. */
export function seenThrough(filter: ShardFilter, { before, after }: Change): Sighting | undefined {
  const was = before !== undefined && shardMatches(filter, before);
  const is = after !== undefined && shardMatches(filter, after);
  if (was && is) return { type: 'MODIFIED' };
  if (is) return { type: 'ADDED' };
  if (was) return after === undefined ? { type: 'DELETED' } : { type: 'DELETED', cause: 'filter' };
  return undefined;
}

/** Who changed a shard, and why; members that nobody knows are unset. */
export interface ChangeHistory {
  actor?: Actor;
  reason?: string;
  changeTicket?: string;
  /** Who owned the shard before, when that changed. */
  previousOwner?: string;
}

/**
 * What the change itself says; else from the newest transition when this change brought one, else from the spec edit
 * that it is. Deletions have no actor: Kubernetes does not tell.
 */
export function historyOf(change: Pick<Change, 'before' | 'after' | 'history'>): ChangeHistory {
  const { before, after, history } = change;
  if (history) return history;
  const owned = before?.status?.owner;
  const previousOwner = owned !== after?.status?.owner ? owned : undefined;
  const newest = after?.status?.recentTransitions?.at(-1);
  // By the version of the whole status: a replayed `before` does not have the transitions themselves.
  if (newest && newest.version > (before?.status?.version ?? 0)) {
    const { actor, reason, changeTicket } = newest;
    return { actor, reason, changeTicket, previousOwner };
  }
  if (!after || after.metadata.generation === before?.metadata.generation) return { previousOwner };
  const { reason, changeTicket } = after.spec;
  return { actor: specActor(after.metadata), reason, changeTicket, previousOwner };
}
