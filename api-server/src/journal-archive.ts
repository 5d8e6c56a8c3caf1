import type { Log } from '@meshkit/crds/log';
import type { Mark } from '@meshkit/shards/change';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { Gap, JournalHead, JournalReader, JournalSlice, JournalState } from '@meshkit/shards/journal';
import { changeOf } from '@meshkit/shards/journal-fold';
import { gapAround, marksOf } from '@meshkit/shards/journal-slice';
import { compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import { recordOf, type ShardView } from '@meshkit/shards/shard-view';
import type { Told } from './ring.ts';

export interface JournalArchiveOptions {
  /** Absent: there is no journal, and nothing is older than the ring. */
  reader?: JournalReader;
  clock: Pick<Clock, 'sleep' | 'monotonic'>;
  log: Log;
}

/** Consecutive changes of the journal as the ring would hold them, shared by all who replay them. */
export interface Stretch {
  /** Names these changes among all others. */
  readonly id: string;
  readonly entries: readonly Told[];
  /** The settled states before and after them. */
  readonly from: Mark;
  readonly to: Mark;
  readonly gaps: readonly Gap[];
}

/** What comes after a position: the rest of a stretch. */
export interface Piece {
  readonly stretch: Stretch;
  /** Index of the first change. */
  readonly at: number;
  /** The settled state before it: the one at the position, or, when that lies in a gap, at the gap's beginning. */
  readonly from: Mark;
  /** False: in a gap. */
  readonly exact: boolean;
}

/** Replayed changes that are kept for the next one who needs them: some 60 MB. */
const KEPT_CHANGES = 20_000;
/** How long one read of the store may take. */
const READ_MS = 10_000;
/** How long a reader waits for a journal that is behind. */
const BEHIND_MS = 3_000;
const LOOK_AGAIN_MS = 100;

/**
 * The journal as streams and answers read it: a stretch at a time, each read and turned into changes once however many
 * ask for it, every read with a deadline, and no more of it kept than fits.
 */
export class JournalArchive {
  readonly #options: JournalArchiveOptions;
  /** By id; newest last. */
  readonly #kept = new Map<string, Stretch>();
  #keptChanges = 0;
  /** By position. */
  readonly #reading = new Map<string, Promise<Piece | 'expired' | undefined>>();
  #looking: Promise<JournalHead | undefined> | undefined;
  #followed: JournalHead | undefined;

  constructor(options: JournalArchiveOptions) {
    this.#options = options;
  }

  /** The newest head that was heard of. */
  get followed(): JournalHead | undefined {
    return this.#followed;
  }

  /** The oldest position that can be resumed from; undefined while that is not known. */
  get floor(): string | undefined {
    return this.#followed?.floor.position;
  }

  /** Tells the history that positions belong to from the ones before; empty for a cluster's first, or without a journal. */
  get nonce(): string {
    return this.#followed?.nonce ?? '';
  }

  /** The journal's head is this now. True when from now on positions are of another history than before. */
  follow(head: JournalHead): boolean {
    const isOther = head.nonce !== this.nonce;
    this.#followed = head;
    if (isOther) {
      this.#kept.clear();
      this.#keptChanges = 0;
      this.#reading.clear();
    }
    return isOther;
  }

  /** The newest head; undefined without a journal, or while nothing was written. Rejects with `unavailable`. */
  async head(signal?: AbortSignal, withinMs?: number): Promise<JournalHead | undefined> {
    const { reader } = this.#options;
    return reader && this.#within((stop) => reader.head(stop), signal, withinMs);
  }

  /** The state at the head, whose history this then is. Rejects with `unavailable`. */
  async newest(signal: AbortSignal): Promise<JournalState | undefined> {
    const { reader } = this.#options;
    const head = await this.head(signal);
    if (!head || !reader) return undefined;
    this.follow(head);
    return this.#within((stop) => reader.state(stop), signal);
  }

  /**
   * What happened since a settled state. `expired`: the journal does not tell; `behind`: it has not come so far, and does
   * not soon; `other`: the state there was another one. Without an anchor whatever state there was will do. Rejects with
   * `unavailable`.
   */
  async replay({
    position,
    anchor,
  }: {
    position: string;
    anchor?: string;
  }): Promise<Replay | 'expired' | 'behind' | 'other'> {
    const head = await this.head();
    if (!head || head.nonce !== this.nonce) return head ? 'other' : 'expired';
    const isAhead = compareVersions(head.mark.position, position) < 0;
    if (isAhead && !(await this.beyond(position, true))) return 'behind';
    const piece = await this.after(position);
    if (piece === 'expired') return piece;
    if (piece?.exact && anchor !== undefined && piece.from.anchor !== anchor) return 'other';
    return new Replay(this, { position, ordinal: 0, anchor: anchor ?? piece?.from.anchor ?? '' }, piece);
  }

  /**
   * Waits until the journal's head is beyond a position (`orAt`: or at it), 3 s at most; false when it does not come.
   * However many wait, one of them asks.
   */
  async beyond(position: string, orAt = false): Promise<boolean> {
    const { clock } = this.#options;
    const until = clock.monotonic() + BEHIND_MS;
    for (;;) {
      this.#looking ??= this.#lookAgain().finally(() => {
        this.#looking = undefined;
      });
      const head = await this.#looking;
      const order = head ? compareVersions(head.mark.position, position) : -1;
      if (head && head.nonce === this.nonce && (order > 0 || (orAt && order === 0))) return true;
      if (clock.monotonic() >= until) return false;
    }
  }

  /** Everything that it holds, newest stretch first. Rejects with `unavailable`. */
  async *back(signal: AbortSignal): AsyncGenerator<Stretch> {
    const { reader } = this.#options;
    if (!reader) return;
    const stop = new AbortController();
    const abort = () => stop.abort(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      const slices = reader.readBack(stop.signal)[Symbol.asyncIterator]();
      for (;;) {
        const { done, value } = await this.#timed(stop, () => slices.next());
        if (done) return;
        yield this.#stretchOf(value);
      }
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** The first piece after a position; undefined when there is nothing. Rejects with `unavailable`. */
  async after(position: string): Promise<Piece | 'expired' | undefined> {
    for (const stretch of this.#kept.values()) {
      const isHere =
        compareVersions(stretch.from.position, position) <= 0 &&
        compareVersions(position, stretch.to.position) < 0;
      if (!isHere) continue;
      this.#kept.delete(stretch.id);
      this.#kept.set(stretch.id, stretch);
      return pieceOf(stretch, position);
    }
    const reading = this.#reading.get(position);
    if (reading) return reading;
    const found = this.#read(position).finally(() => {
      if (this.#reading.get(position) === found) this.#reading.delete(position);
    });
    this.#reading.set(position, found);
    return found;
  }

  async #read(position: string): Promise<Piece | 'expired' | undefined> {
    const { reader } = this.#options;
    if (!reader) return 'expired';
    const { nonce } = this;
    try {
      const slice = await this.#within(async (signal) => {
        for await (const first of reader.read(position, signal)) return first;
        return undefined;
      });
      // A stretch of which the rest is not yet there.
      if (!slice || slice.to.partial) return undefined;
      const stretch = this.#stretchOf(slice, nonce);
      const piece = pieceOf(stretch, position);
      return slice.entries.length === 0 && piece.exact && compareVersions(slice.to.position, position) <= 0
        ? { ...piece, from: slice.to }
        : piece;
    } catch (error) {
      if (error instanceof ShardError && error.code === 'tokenExpired') return 'expired';
      throw error;
    }
  }

  /** The changes of a slice. Throws `tokenExpired` when they do not lead where the slice says. */
  #stretchOf(slice: JournalSlice, nonce = this.nonce): Stretch {
    const { from, to, entries, gaps } = slice;
    const id = `${from.position} ${from.anchor} ${to.position} ${to.anchor}`;
    const kept = this.#kept.get(id);
    if (kept) return kept;
    const stretch = { id, entries: toldOf(slice), from, to, gaps };
    if ((stretch.entries.at(-1)?.mark ?? from).anchor !== to.anchor) {
      const { log } = this.#options;
      log.error({ from: from.position, to: to.position }, 'the journal contradicts itself');
      const text = `the journal contradicts itself between ${from.position} and ${to.position}`;
      throw new ShardError('tokenExpired', text);
    }
    if (nonce === this.nonce && entries.length > 0) this.#keep(stretch);
    return stretch;
  }

  #keep(stretch: Stretch): void {
    this.#kept.set(stretch.id, stretch);
    this.#keptChanges += stretch.entries.length;
    for (const [oldest, { entries }] of this.#kept) {
      if (this.#keptChanges <= KEPT_CHANGES || oldest === stretch.id) break;
      this.#kept.delete(oldest);
      this.#keptChanges -= entries.length;
    }
  }

  async #lookAgain(): Promise<JournalHead | undefined> {
    await this.#options.clock.sleep(LOOK_AGAIN_MS);
    return this.head();
  }

  /** A read of its own, with a deadline. */
  async #within<T>(
    read: (signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
    withinMs?: number,
  ): Promise<T> {
    const stop = new AbortController();
    const abort = () => stop.abort(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await this.#timed(stop, read, withinMs);
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  async #timed<T>(
    stop: AbortController,
    read: (signal: AbortSignal) => Promise<T>,
    withinMs = READ_MS,
  ): Promise<T> {
    const done = new AbortController();
    const silent = () =>
      new ShardError('unavailable', 'the journal does not answer', { reason: 'journalSilent' });
    const late = this.#options.clock.sleep(withinMs, done.signal).then(
      () => stop.abort(silent()),
      // Woken because the read is over.
      () => undefined,
    );
    try {
      return await read(stop.signal);
    } catch (error) {
      if (stop.signal.aborted && stop.signal.reason instanceof ShardError) throw stop.signal.reason;
      throw error;
    } finally {
      done.abort();
      await late;
    }
  }
}

/** One reading of the journal, as far as whoever reads it has come. */
export class Replay {
  readonly #archive: JournalArchive;
  readonly #exact: boolean;
  readonly #from: Mark;
  #first: Piece | undefined;
  #mark: Mark;
  #ended = false;

  constructor(archive: JournalArchive, mark: Mark, first: Piece | undefined) {
    this.#archive = archive;
    this.#mark = mark;
    this.#first = first;
    this.#exact = first?.exact ?? true;
    this.#from = first?.from ?? mark;
  }

  /** The settled state after everything that was given out; at the beginning, the one that was asked for. */
  get mark(): Mark {
    return this.#mark;
  }

  /** The settled state that the first change comes after. */
  get from(): Mark {
    return this.#from;
  }

  /** False: the state that was asked for lies in a gap, and is read from the gap's beginning, with repeats. */
  get exact(): boolean {
    return this.#exact;
  }

  /** The journal held nothing more when it was last asked. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The next changes; undefined when there are none; `expired` when the journal cannot tell them. Rejects with `unavailable`. */
  async next(): Promise<Piece | 'expired' | undefined> {
    const found = this.#first ?? (await this.#archive.after(this.#mark.position));
    this.#first = undefined;
    if (found === 'expired') return found;
    this.#ended = found === undefined || found.at === found.stretch.entries.length;
    if (this.#ended || !found) return undefined;
    if (compareVersions(found.stretch.to.position, this.#mark.position) > 0) this.#mark = found.stretch.to;
    return found;
  }

  /** At the journal's end: waits a little for more. False when there will be none. */
  async more(): Promise<boolean> {
    return this.#archive.beyond(this.#mark.position);
  }
}

function pieceOf(stretch: Stretch, position: string): Piece {
  const { entries, gaps } = stretch;
  const gap = gapAround(gaps, position);
  const cut = gap?.from ?? position;
  const found = entries.findIndex(({ change }) => compareVersions(change.position, cut) > 0);
  const at = found < 0 ? entries.length : found;
  return { stretch, at, from: entries[at - 1]?.mark ?? stretch.from, exact: !gap };
}

function toldOf({ from, to, entries, gaps }: JournalSlice): Told[] {
  const marks = marksOf(from, entries);
  const gapOf = (position: string) =>
    gaps.find((gap) => compareVersions(gap.from, position) < 0 && compareVersions(position, gap.to) <= 0);
  // What was after one change is before the next: one record, so that it is encoded once.
  const records = new Map<ShardView, ShardAssignment>();
  const recordFor = (view: ShardView): ShardAssignment => {
    const known = records.get(view) ?? recordOf(view);
    records.set(view, known);
    return known;
  };
  let mark = from;
  return entries.map((entry, index) => {
    const next = entries[index + 1];
    const gap = gapOf(entry.position);
    const isLast = next === undefined;
    const settled = isLast || (next.position !== entry.position && (!gap || gapOf(next.position) !== gap));
    if (settled) {
      const position = isLast ? to.position : (gap?.to ?? entry.position);
      mark = { position, ordinal: 0, anchor: marks[index]!.anchor };
    }
    return { change: changeOf(entry, recordFor), mark, settled, at: entry.at };
  });
}
