import type { Log } from '@meshkit/crds/log';
import type { Mark } from '@meshkit/shards/change';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { Gap, JournalHead, JournalReader, JournalSlice, JournalState } from '@meshkit/shards/journal';
import { changeOf } from '@meshkit/shards/journal-fold';
import { marksOf } from '@meshkit/shards/journal-slice';
import { compareVersions } from '@meshkit/shards/records';
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
  readonly from: Mark;
  /** The settled state after them. */
  readonly to: Mark;
  readonly gaps: readonly Gap[];
}

/** The anchor of whatever state there was: of one who knows a position, and claims nothing else. */
export const ANY = '';
/** Replayed changes that are kept for the next one who needs them: some 60 MB. */
const KEPT_CHANGES = 20_000;
/** How long one read of the store may take. */
const READ_MS = 10_000;
/** How long a reader waits for a journal that is behind. */
const BEHIND_MS = 3_000;
const LOOK_AGAIN_MS = 100;

/**
 * The journal as streams and answers read it: slices turned into changes once for all, every read with a deadline,
 * and never more than a slice of it at a time.
 */
export class JournalArchive {
  readonly #options: JournalArchiveOptions;
  /** Newest last. */
  readonly #kept = new Map<string, Stretch>();
  #keptChanges = 0;
  #looking: Promise<JournalHead | undefined> | undefined;
  #nonce: string | undefined;
  #floor: Mark | undefined;

  constructor(options: JournalArchiveOptions) {
    this.#options = options;
  }

  get reader(): JournalReader | undefined {
    return this.#options.reader;
  }

  /** The oldest position that can be resumed from; undefined while that is not known. */
  get floor(): string | undefined {
    return this.#floor?.position;
  }

  /** Tells the history that positions belong to from the ones before; empty for a cluster's first, or without a journal. */
  get nonce(): string {
    return this.#nonce ?? '';
  }

  /** The journal's head is this now. True when from now on positions are of another history than before. */
  follow(head: JournalHead): boolean {
    const isOther = head.nonce !== this.nonce;
    this.#nonce = head.nonce;
    this.#floor = head.floor;
    if (isOther) {
      this.#kept.clear();
      this.#keptChanges = 0;
    }
    return isOther;
  }

  /** The newest head; undefined without a journal, or while nothing was written. Rejects with `unavailable`. */
  async head(signal?: AbortSignal): Promise<JournalHead | undefined> {
    const { reader } = this.#options;
    return reader && this.#once((stop) => reader.head(stop), signal);
  }

  /** The state at the head, whose history this then is. Rejects with `unavailable`. */
  async newest(signal: AbortSignal): Promise<JournalState | undefined> {
    const { reader } = this.#options;
    const head = await this.head(signal);
    if (!head || !reader) return undefined;
    this.follow(head);
    return this.#once((stop) => reader.state(stop), signal);
  }

  /**
   * What happened since a settled state. `expired`: the journal does not tell; `other`: the state there was another one.
   * Rejects with `unavailable`.
   */
  async replay(mark: Mark): Promise<Replay | 'expired' | 'other'> {
    const { reader } = this.#options;
    if (!reader) return 'expired';
    const replay = new Replay(this, mark);
    const head = await this.head();
    if (!head || head.nonce !== this.nonce) return head ? 'other' : 'expired';
    if (compareVersions(head.mark.position, mark.position) < 0 && !(await this.beyond(mark.position, true))) {
      return 'expired';
    }
    return replay.open();
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
        const { done, value } = await this.within(stop, () => slices.next());
        if (done) return;
        yield this.stretchOf(value);
      }
    } finally {
      signal.removeEventListener('abort', abort);
    }
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

  /** The changes of a slice. Throws `tokenExpired` when they do not lead where the slice says. */
  stretchOf(slice: JournalSlice): Stretch {
    const { from, to, entries, gaps } = slice;
    const id = `${from.position} ${from.anchor} ${to.position} ${to.anchor}`;
    const kept = this.#kept.get(id);
    if (kept) {
      this.#kept.delete(id);
      this.#kept.set(id, kept);
      return kept;
    }
    const stretch = { id, entries: toldOf(slice), from, to, gaps };
    if ((stretch.entries.at(-1)?.mark ?? from).anchor !== to.anchor) {
      const { log } = this.#options;
      log.error({ from: from.position, to: to.position }, 'the journal contradicts itself');
      throw new ShardError(
        'tokenExpired',
        `the journal contradicts itself between ${from.position} and ${to.position}`,
      );
    }
    this.#kept.set(id, stretch);
    this.#keptChanges += entries.length;
    for (const [oldest, { entries }] of this.#kept) {
      if (this.#keptChanges <= KEPT_CHANGES) break;
      this.#kept.delete(oldest);
      this.#keptChanges -= entries.length;
    }
    return stretch;
  }

  /** Runs a read with a deadline; the controller it aborts is the reader's own. */
  async within<T>(stop: AbortController, read: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const done = new AbortController();
    const late = this.#options.clock.sleep(READ_MS, done.signal).then(
      () =>
        stop.abort(new ShardError('unavailable', 'the journal does not answer', { reason: 'journalSilent' })),
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

  async #lookAgain(): Promise<JournalHead | undefined> {
    await this.#options.clock.sleep(LOOK_AGAIN_MS);
    return this.head();
  }

  /** A read of its own. */
  async #once<T>(read: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const stop = new AbortController();
    const abort = () => stop.abort(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await this.within(stop, read);
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }
}

/** One reading of the journal, as far as whoever reads it has come. */
export class Replay {
  readonly #archive: JournalArchive;
  readonly #stop = new AbortController();
  #slices: AsyncIterator<JournalSlice> | undefined;
  #first: Stretch | undefined;
  #mark: Mark;
  #ended = false;
  #exact = true;
  #from: Mark | undefined;

  constructor(archive: JournalArchive, mark: Mark) {
    this.#archive = archive;
    this.#mark = mark;
  }

  /** The settled state after everything that was given out; at the beginning, the one that was asked for. */
  get mark(): Mark {
    return this.#mark;
  }

  /** The settled state that the first change comes after. */
  get from(): Mark | undefined {
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

  /** Looks whether the journal can go on from the state; see `JournalArchive.replay`. */
  async open(): Promise<Replay | 'expired' | 'other'> {
    const { position, anchor } = this.#mark;
    this.#slices = this.#archive.reader!.read(position, this.#stop.signal)[Symbol.asyncIterator]();
    this.#ended = false;
    const first = await this.#read();
    if (first === 'expired') return first;
    if (first) {
      const inGap = first.gaps.some(
        ({ from, to }) => compareVersions(from, position) < 0 && compareVersions(position, to) < 0,
      );
      if (!inGap && anchor !== ANY && first.from.anchor !== anchor) return 'other';
      this.#first = first;
      this.#exact = !inGap;
      this.#from = first.from;
    }
    return this;
  }

  /** The next changes; undefined when there are none; `expired` when the journal cannot tell them. Rejects with `unavailable`. */
  async next(): Promise<Stretch | 'expired' | undefined> {
    const found = this.#first ?? (await this.#read());
    this.#first = undefined;
    if (found === undefined) this.#ended = true;
    else if (found !== 'expired' && compareVersions(found.to.position, this.#mark.position) >= 0) {
      this.#mark = found.to;
    }
    return found;
  }

  /** At the journal's end: waits a little for more. False when there will be none, or none that goes on from here. */
  async more(): Promise<boolean> {
    if (!(await this.#archive.beyond(this.#mark.position))) return false;
    return (await this.open()) === this;
  }

  /** Nobody reads on. */
  close(): void {
    this.#stop.abort(new ShardError('unavailable', 'nobody reads the journal any more'));
  }

  async #read(): Promise<Stretch | 'expired' | undefined> {
    try {
      const { done, value } = await this.#archive.within(this.#stop, () => this.#slices!.next());
      return done ? undefined : this.#archive.stretchOf(value);
    } catch (error) {
      if (error instanceof ShardError && error.code === 'tokenExpired') return 'expired';
      throw error;
    }
  }
}

function toldOf({ from, to, entries, gaps }: JournalSlice): Told[] {
  const marks = marksOf(from, entries);
  const gapOf = (position: string) =>
    gaps.find((gap) => compareVersions(gap.from, position) < 0 && compareVersions(position, gap.to) <= 0);
  let mark = from;
  return entries.map((entry, at) => {
    const next = entries[at + 1];
    const gap = gapOf(entry.position);
    const settled =
      next === undefined || (next.position !== entry.position && (!gap || gapOf(next.position) !== gap));
    if (settled) {
      const position = next === undefined ? to.position : (gap?.to ?? entry.position);
      mark = { position, ordinal: 0, anchor: marks[at]!.anchor };
    }
    return { change: changeOf(entry), mark, settled, at: entry.at };
  });
}
