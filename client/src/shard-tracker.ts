import { isDeepStrictEqual } from 'node:util';
import { compareVersions } from '@meshkit/shards/records';
import type { ShardView } from '@meshkit/shards/shard-view';
import type { ChangeHistoryView, ShardMessage, WatchMessage } from './watch-message.ts';
import type { Alive } from './watch-transport.ts';

/** One change of one shard. `token` resumes after it (inside a listing: starts the listing again). */
export interface ShardChange {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** DELETED only. `filter`: it is there, but no longer passes; `relist`: it was not in a later listing. */
  cause?: 'filter' | 'relist';
  /** resourceVersion of the change: compare with `compareVersions` of @meshkit/shards/records. */
  position: string;
  /** Absent when the shard is gone. */
  current?: ShardView;
  /** As this watch saw it last, or as the server says when it never did. */
  previous?: ShardView;
  history?: ChangeHistoryView;
  /** This one stands for so many changes, when more than one. */
  coalesced?: number;
  /** `reconcile`: found out afterwards by comparing states. */
  source?: 'reconcile';
  token: string;
}

export type WatchEvent =
  | ShardChange
  /** Everything that exists at `position` has been said; from here on come changes. */
  | { type: 'SYNCED'; position: string; token: string }
  /** Nothing that matters changed up to `position`. */
  | { type: 'BOOKMARK'; position: string; token: string }
  /** The stream could not be continued; everything is listed again, and only differences are told. */
  | { type: 'RESET'; reason: string; token: string };

interface Known {
  view: ShardView;
  position: string;
}

/** What was known of a shard when it went; `dead`: it will not come back. */
type Gone = { generation: number; version: number } | 'dead';

/** So many of those that went are remembered, by uid, to tell repeats from news; the oldest are forgotten. */
const MAX_GONE = 20_000;

/**
 * Turns what streams say, one after another and with repeats, into a history in which every change of a shard comes
 * once and in order. Keeps the newest view of each shard that passes the filter.
 */
export class ShardTracker {
  readonly #known = new Map<string, Known>();
  readonly #gone = new Map<string, Gone>();
  /** Inside a snapshot: what it has listed so far. */
  #listed: Set<string> | undefined;
  /** What comes next is of another history. */
  #anew = false;
  /** The snapshot lists differences only. */
  #delta = false;
  /** A snapshot was heard to its end, so a shard that is not known does not exist. */
  #complete = false;

  get size(): number {
    return this.#known.size;
  }

  /** A snapshot was heard to its end, so that `known()` is all there is. */
  get complete(): boolean {
    return this.#complete && this.#listed === undefined;
  }

  *known(): Iterable<ShardView> {
    for (const { view } of this.#known.values()) yield view;
  }

  apply(message: WatchMessage | Alive): WatchEvent[] {
    switch (message.type) {
      case 'snapshot-begin':
        this.#listed = new Set();
        this.#delta = message.delta === true;
        return [];
      case 'shard':
        return this.#shard(message);
      case 'snapshot-end':
        return this.#endSnapshot(message);
      case 'bookmark':
        return [{ type: 'BOOKMARK', position: message.position, token: message.token }];
      case 'reset':
        // Of another history, the same uid may be at an older version again.
        if (message.reason !== 'expired') {
          this.#gone.clear();
          this.#anew = true;
        }
        return [{ type: 'RESET', reason: message.reason, token: message.token }];
      default:
        return [];
    }
  }

  #shard(message: ShardMessage): WatchEvent[] {
    const view = message.current ?? message.previous;
    if (!view) return [];
    const key = `${view.namespace}/${view.name}`;
    const known = this.#known.get(key);
    if (message.event === 'DELETED') return this.#remove(key, known, message);
    const current = message.current ?? view;
    const gone = this.#gone.get(current.uid);
    if (!this.#listed && gone && (gone === 'dead' || isOld(message, current, gone))) return [];
    this.#listed?.add(key);
    this.#gone.delete(current.uid);
    if (known && known.view.uid === current.uid) return this.#update(key, known, current, message);
    const events: WatchEvent[] = [];
    if (known) {
      // Of two lives of one name the older one is a repeat, or was not known to whoever told of this one before.
      const isElder =
        compareVersions(message.position, known.position) <= 0 || current.epoch < known.view.epoch;
      if (!this.#listed && isElder) return [];
      events.push(relisted(known.view, message.position, message.token));
      this.#forget(known.view.uid, 'dead');
    }
    this.#known.set(key, { view: current, position: message.position });
    const type = this.#complete || this.#listed || known ? 'ADDED' : message.event;
    events.push({
      ...changeOf(message),
      type,
      current,
      previous: type === 'ADDED' ? undefined : message.previous,
    });
    return events;
  }

  #update(key: string, known: Known, current: ShardView, message: ShardMessage): WatchEvent[] {
    const same = isDeepStrictEqual(known.view, current);
    // A listing is the truth, even where it goes back: the cluster may have been restored.
    if (same || (!this.#listed && isRepeat(known, current, message))) {
      if (this.#listed) known.position = message.position;
      return [];
    }
    this.#known.set(key, { view: current, position: message.position });
    return [{ ...changeOf(message), type: 'MODIFIED', current, previous: known.view }];
  }

  #remove(key: string, known: Known | undefined, message: ShardMessage): WatchEvent[] {
    this.#listed?.delete(key);
    const last = message.current ?? message.previous;
    if (!known) {
      if (last) this.#forget(last.uid, message.cause === 'filter' ? last : 'dead');
      if (this.#complete) return [];
      const { current, previous } = message;
      return [{ ...changeOf(message), type: 'DELETED', cause: message.cause, current, previous }];
    }
    if (last?.uid !== known.view.uid) {
      if (last && message.cause !== 'filter') this.#forget(last.uid, 'dead');
      return [];
    }
    const { cause, current } = message;
    // It left before it came back, which was told.
    if (current && !this.#listed && isOld(message, current, known.view)) {
      // What is known already came after it, whatever position a reconstructed stretch gives it now.
      const isBefore = current.version < known.view.version || current.generation < known.view.generation;
      if (isBefore || message.source === 'reconcile' || !isLater(message, known)) return [];
    }
    this.#known.delete(key);
    this.#forget(last.uid, cause === 'filter' ? last : 'dead');
    return [{ ...changeOf(message), type: 'DELETED', cause, current, previous: known.view }];
  }

  #endSnapshot({ position, token }: { position: string; token: string }): WatchEvent[] {
    const listed = this.#listed ?? new Set();
    const events: WatchEvent[] = [];
    for (const [key, { view }] of this.#known) {
      if (this.#delta || listed.has(key)) continue;
      this.#known.delete(key);
      // In another history it may come back at a version that was passed in this one.
      if (!this.#anew) this.#forget(view.uid, view);
      events.push(relisted(view, position, token));
    }
    this.#listed = undefined;
    this.#delta = false;
    this.#anew = false;
    this.#complete = true;
    events.push({ type: 'SYNCED', position, token });
    return events;
  }

  #forget(uid: string, gone: Gone): void {
    const earlier = this.#gone.get(uid);
    this.#gone.delete(uid);
    // Its going may be a repeat too, of a time before it came back and went again.
    this.#gone.set(uid, earlier === undefined ? copyOf(gone) : newerOf(earlier, gone));
    const [oldest] = this.#gone.size > MAX_GONE ? this.#gone.keys() : [];
    if (oldest !== undefined) this.#gone.delete(oldest);
  }
}

function copyOf(gone: Gone): Gone {
  return gone === 'dead' ? gone : { generation: gone.generation, version: gone.version };
}

function newerOf(a: Gone, b: Gone): Gone {
  if (a === 'dead' || b === 'dead') return 'dead';
  return { generation: Math.max(a.generation, b.generation), version: Math.max(a.version, b.version) };
}

/** Both counters only ever grow; but each step of a reconstructed stretch has the generation of its end. */
function isOld(
  { source }: ShardMessage,
  view: ShardView,
  than: { generation: number; version: number },
): boolean {
  if (source === 'reconcile' && view.version < than.version) return true;
  return view.generation <= than.generation && view.version <= than.version;
}

function isLater(message: ShardMessage, { position }: Known): boolean {
  return compareVersions(message.position, position) > 0;
}

/** What moved neither counter is news only if it was seen as it happened, is later and looks different. */
function isRepeat(known: Known, current: ShardView, message: ShardMessage): boolean {
  const { view } = known;
  const [generation, version] = [current.generation - view.generation, current.version - view.version];
  const later = isLater(message, known);
  if (generation === 0 && version === 0) return !later || message.source === 'reconcile';
  if (isOld(message, current, view)) return true;
  return generation >= 0 && version >= 0 ? false : !later;
}

function changeOf({ position, history, coalesced, source, token }: ShardMessage) {
  return { position, history, coalesced, source, token };
}

function relisted(previous: ShardView, position: string, token: string): ShardChange {
  return { type: 'DELETED', cause: 'relist', position, previous, token };
}
