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
  /** So many changes in between were merged into this one. */
  coalesced?: number;
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

/** So many shards that are gone are remembered; only the end of a long stretch without a bookmark can repeat more. */
const MOST_DEPARTED = 10_000;

/**
 * Turns what streams say, one after another and with repeats, into a history in which every change of a shard comes
 * once and in order. Keeps the newest view of each shard that passes the filter.
 */
export class ShardTracker {
  readonly #known = new Map<string, Known>();
  /**
   * Where lives ended, by uid, and how shards left the filter, by key; oldest first. A resumed stream may repeat what was
   * before, and must not bring it back.
   */
  readonly #ended = new Map<string, { position: string }>();
  readonly #left = new Map<string, Known>();
  /** Inside a snapshot: what it has listed so far. */
  #listed: Set<string> | undefined;
  /** A snapshot was heard to its end, so a shard that is not known does not exist. */
  #complete = false;

  apply(message: WatchMessage | Alive): WatchEvent[] {
    switch (message.type) {
      case 'snapshot-begin':
        this.#listed = new Set();
        return [];
      case 'shard':
        return this.#shard(message);
      case 'snapshot-end':
        return this.#endSnapshot(message);
      case 'bookmark':
        // No stream goes back to before a bookmark.
        forget(this.#ended, message.position);
        forget(this.#left, message.position);
        return [{ type: 'BOOKMARK', position: message.position, token: message.token }];
      case 'reset':
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
    this.#listed?.add(key);
    const current = message.current ?? view;
    if (known && known.view.uid === current.uid) return this.#update(key, known, current, message);
    if (!this.#listed && this.#isOver(key, current, message.position)) return [];
    const events: WatchEvent[] = [];
    if (known) {
      // Of two lives of one name the older one may only come as a repeat.
      if (!this.#listed && compareVersions(message.position, known.position) <= 0) return [];
      remember(this.#ended, known.view.uid, { position: message.position });
      events.push(gone(known.view, message.position, message.token));
    }
    this.#left.delete(key);
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
    if (same || (!this.#listed && isRepeat(known, current, message.position))) {
      if (this.#listed) known.position = message.position;
      return [];
    }
    this.#known.set(key, { view: current, position: message.position });
    return [{ ...changeOf(message), type: 'MODIFIED', current, previous: known.view }];
  }

  #remove(key: string, known: Known | undefined, message: ShardMessage): WatchEvent[] {
    this.#listed?.delete(key);
    if (!known) {
      if (this.#complete || this.#left.has(key) || this.#ended.has(message.previous?.uid ?? '')) return [];
      const { current, previous } = message;
      return [{ ...changeOf(message), type: 'DELETED', cause: message.cause, current, previous }];
    }
    const uid = (message.previous ?? message.current)?.uid;
    const { cause, current, position } = message;
    if (uid !== known.view.uid) return [];
    // It left before it came back, and now only the first half is repeated.
    if (cause === 'filter' && current && !this.#listed && isRepeat(known, current, position)) return [];
    this.#known.delete(key);
    if (cause === 'filter') remember(this.#left, key, { view: current ?? known.view, position });
    else remember(this.#ended, uid, { position });
    return [{ ...changeOf(message), type: 'DELETED', cause, current, previous: known.view }];
  }

  /** Whether a change can only be a repeat, of a life that has ended or of before the shard left the filter. */
  #isOver(key: string, current: ShardView, position: string): boolean {
    const left = this.#left.get(key);
    if (this.#ended.has(current.uid)) return true;
    return left?.view.uid === current.uid && isRepeat(left, current, position);
  }

  #endSnapshot({ position, token }: { position: string; token: string }): WatchEvent[] {
    const listed = this.#listed ?? new Set();
    const events: WatchEvent[] = [];
    for (const [key, { view }] of this.#known) {
      if (listed.has(key)) continue;
      this.#known.delete(key);
      events.push(gone(view, position, token));
    }
    this.#listed = undefined;
    this.#complete = true;
    this.#ended.clear();
    this.#left.clear();
    events.push({ type: 'SYNCED', position, token });
    return events;
  }
}

function remember<T>(places: Map<string, T>, key: string, place: T): void {
  places.delete(key);
  places.set(key, place);
  const [oldest] = places.keys();
  if (places.size > MOST_DEPARTED && oldest !== undefined) places.delete(oldest);
}

function forget(places: Map<string, { position: string }>, position: string): void {
  for (const [key, place] of places) {
    if (compareVersions(place.position, position) > 0) break;
    places.delete(key);
  }
}

/** Both counters only ever grow; what moved neither is news only if it is later and looks different. */
function isRepeat({ view, position }: Known, current: ShardView, at: string): boolean {
  const [generation, version] = [current.generation - view.generation, current.version - view.version];
  const later = compareVersions(at, position) > 0;
  if (generation === 0 && version === 0) return !later;
  if (generation <= 0 && version <= 0) return true;
  return generation >= 0 && version >= 0 ? false : !later;
}

function changeOf({ position, history, coalesced, token }: ShardMessage) {
  return { position, history, coalesced, token };
}

function gone(previous: ShardView, position: string, token: string): ShardChange {
  return { type: 'DELETED', cause: 'relist', position, previous, token };
}
