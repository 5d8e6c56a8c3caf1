import type {
  HistoryEntry,
  HistoryHeader,
  RunHistory,
  ShardState,
  ToldEntry,
  WatcherInfo,
} from './history.ts';
import { differences, passes, Truth } from './truth.ts';
import type { Violation } from './violation.ts';

/** At most this many words of one difference. */
const SHOWN = 4;

/**
 * What a watcher holds once it has applied what it was told. On the wire repeats may come; they are passed over by a rule of
 * our own (an older state of the same life, or a life that has ended), not by that of the client package.
 */
export class Fold {
  readonly shards = new Map<string, ShardState>();
  readonly #dead = new Set<string>();
  readonly #wire: boolean;
  #listed: Set<string> | undefined;
  /** What the watch of now has told: its program began again with only a token and this fold. */
  #own: Set<string> | undefined;

  constructor(kind: WatcherInfo['kind']) {
    this.#wire = kind === 'wire';
  }

  /** False when the entry tells of a shard and was passed over. */
  take(entry: HistoryEntry): boolean {
    if (entry.kind === 'reset') this.#dead.clear();
    else if (entry.kind === 'restarted') this.#own = new Set();
    else if (entry.kind === 'begin') this.#listed = new Set();
    else if (entry.kind === 'told') return this.#apply(entry);
    else if (entry.kind === 'mark' && entry.type === 'SYNCED') this.#end();
    return true;
  }

  #apply({ key, uid, state, type, cause, row }: ToldEntry): boolean {
    const known = this.shards.get(key);
    if (type === 'DELETED') this.#own?.delete(key);
    else this.#own?.add(key);
    if (row && state) {
      this.#listed?.add(key);
      this.shards.set(key, state);
      return true;
    }
    if (type === 'DELETED') {
      // Of another life than the one that is held: a repeat.
      if (known?.uid !== uid) return false;
      const older =
        this.#wire && state && (state.version < known.version || state.generation < known.generation);
      if (older) return false;
      this.shards.delete(key);
      // With a cause it may come back: it left the filter, or was not listed through it.
      if (cause === undefined) this.#dead.add(uid);
      return true;
    }
    if (!state) return false;
    if (!this.#wire) {
      // What the client package tells is news, also after a restore, where it is older.
      this.shards.set(key, state);
      return true;
    }
    if (this.#dead.has(uid)) return false;
    if (known && known.uid !== uid) this.#dead.add(known.uid);
    else if (known && (state.version < known.version || state.generation < known.generation)) return false;
    this.shards.set(key, state);
    return true;
  }

  /** Everything there is was listed; after a restart the client package cannot say what is gone, as its documentation says. */
  #end(): void {
    const listed = this.#listed ?? this.#own;
    if (!listed) return;
    for (const key of this.shards.keys()) if (!listed.has(key)) this.shards.delete(key);
    this.#listed = undefined;
  }
}

function expectedFor(watcher: WatcherInfo, all: Map<string, ShardState>): Map<string, ShardState> {
  return new Map([...all].filter(([key, state]) => passes(watcher, key, state)));
}

/**
 * Each watcher's fold against the oracle: wherever it was told "complete up to P" (a bookmark, the end of a listing), the fold
 * is the state at P, so nothing at or before P comes later; and when all is quiet, it is the newest state. From one history
 * into another leads a reset only, and without one there is none.
 */
export function checkStates({ header, entries }: RunHistory): Violation[] {
  const truth = new Truth(entries);
  return header.watchers.flatMap((watcher) => checkWatcher(watcher, header, entries, truth));
}

function checkWatcher(
  watcher: WatcherInfo,
  { mayReset, mayReconstruct }: HistoryHeader,
  entries: readonly HistoryEntry[],
  truth: Truth,
): Violation[] {
  const violations: Violation[] = [];
  const add = (counter: Violation['counter'], check: string, detail: string) =>
    violations.push({ counter, check, subject: watcher.id, detail });
  const fold = new Fold(watcher.kind);
  const wire = watcher.kind === 'wire';
  /** The highest position so far, of this stream of positions. */
  let position = 0n;
  let marked = 0n;
  /** The highest position of anything that it was told, by any stream. */
  let told = 0n;
  /** Wire, by key: of which life, and at which position, it was told last. */
  const last = new Map<string, { uid: string; at: bigint }>();
  let inSnapshot = false;
  /** Number of the newest history, and of the one that was the newest at its last reset. */
  let newest = 0;
  let resetIn = 0;
  /** Of the newest history, once the whole product has taken it up. */
  let lineage: string | undefined;
  /** Which histories what it was told may be of: after a restore, one API server may know before another does. */
  let eras = [0];

  for (const entry of entries) {
    if (entry.kind === 'restored') {
      newest += 1;
      lineage = undefined;
    } else if (entry.kind === 'renewed') lineage = entry.lineage;
    else if (entry.kind === 'quiet') {
      if (resetIn < newest) add('missed', 'restoreNotTold', 'nobody said that history had changed');
      const expected = expectedFor(watcher, truth.at(truth.eras - 1));
      const wrong = differences(fold.shards, expected);
      for (const detail of wrong.slice(0, SHOWN)) add('missed', 'finalState', detail);
    }
    if (!('watcher' in entry) || entry.watcher !== watcher.id) continue;
    const applied = fold.take(entry);
    if (entry.kind === 'reset') {
      // It may be in an older history still, or its token is of one that not all API servers go by.
      const isElsewhere = newest > 0 && (eras[0]! < newest || !lineage || entry.lineage !== lineage);
      const isDue = isElsewhere ? entry.reason === 'lineageChanged' : mayReset.includes(entry.reason);
      if (!isDue) add('unexpectedResets', 'reset', entry.reason);
      eras = Array.from({ length: newest + 1 }, (_, era) => era);
      resetIn = newest;
      position = 0n;
      marked = 0n;
      told = 0n;
      last.clear();
    } else if (entry.kind === 'open') {
      // The stream before may have told of a reconstructed stretch, whose tokens are of the state before it.
      const from = BigInt(entry.position);
      if (from < position && !mayReconstruct)
        add('outOfOrder', 'tokenWentBack', `a token of ${from} after ${position}`);
      position = from;
      told = from > told ? from : told;
      marked = from;
    } else if (entry.kind === 'begin') {
      inSnapshot = true;
    } else if (entry.kind === 'told') {
      const at = BigInt(entry.position);
      if (at > told) told = at;
      if (wire && at < position) add('outOfOrder', 'positionWentBack', `${entry.position} after ${position}`);
      if (at > position) position = at;
      const { key, uid } = entry;
      const earlier = last.get(key);
      // Only what had to be reconstructed may come again.
      if (wire && entry.source !== 'reconcile' && !entry.unsettled) {
        if (!entry.row && earlier?.uid === uid && at <= earlier.at)
          add('duplicated', 'toldAgain', `${key} at ${at}, after ${earlier.at}`);
        last.set(key, { uid, at });
      }
      // Repeats of a reconstructed stretch are told at the position that was told last.
      const isEarly = mayReconstruct ? at < marked : at <= marked;
      if (wire && applied && !entry.row && isEarly)
        add('outOfOrder', 'bookmarkBeforeEvent', `${entry.key} at ${at}, after a bookmark of ${marked}`);
    } else if (entry.kind === 'mark') {
      if (entry.type === 'SYNCED') inSnapshot = false;
      const at = BigInt(entry.position);
      if (at < (wire ? position : mayReconstruct ? 0n : told))
        add('outOfOrder', 'positionWentBack', `${entry.type} ${entry.position} after ${position}`);
      position = at > position ? at : position;
      marked = position;
      // More than that was told already, and is told again.
      if (at < told && mayReconstruct) continue;
      if (inSnapshot) continue;
      told = at;
      const wrong = new Map(
        eras.map((era) => [era, differences(fold.shards, expectedFor(watcher, truth.at(era, at)))]),
      );
      const right = eras.filter((era) => wrong.get(era)!.length === 0);
      eras = right.length > 0 ? right : eras.slice(-1);
      for (const detail of wrong.get(eras.at(-1)!)!.slice(0, SHOWN))
        add('outOfOrder', 'markBeforeEvents', `${entry.type} ${entry.position}: ${detail}`);
    }
  }
  return violations;
}
