import type { Mark } from '@meshkit/shards/change';
import { ShardError } from '@meshkit/shards/errors';
import { compareVersions } from '@meshkit/shards/records';
import type { KnownShards, ResetReason, Watch, WatchCaller, WatchSink } from '@meshkit/shards/watch';
import type { Audience, BlockProgress } from './audience.ts';
import type { Writes } from './byte-cache.ts';
import type { JournalArchive, Piece, Replay } from './journal-archive.ts';
import type { Told } from './ring.ts';
import type { Timeline } from './timeline.ts';
import { cannotContinue, type Start } from './watch-start.ts';

/** What a stream tells the hub. */
export interface StreamOwner {
  readonly timeline: Timeline;
  readonly journal: JournalArchive;
  /** Live streams have been told everything up to this number. */
  readonly cursor: number;
  now(): number;
  /** It has heard everything. */
  caughtUp(stream: WatchStream): void;
  /** It waits for the timeline to reach it. */
  parked(stream: WatchStream): void;
  /** It does not keep up. */
  lagged(stream: WatchStream): void;
  ended(stream: WatchStream, error?: ShardError): void;
  unexpected(error: unknown): ShardError;
  /** What it knows was continued by the journal, or not at all. */
  resumed(result: 'journal' | ResetReason): void;
}

export interface StreamOptions {
  audience: Audience;
  sink: WatchSink;
  caller: WatchCaller;
  start: Start;
  /** Instead of starting over with a snapshot, fail. */
  failWhenExpired: boolean;
  allowCoalescing: boolean;
}

const PARKED = Symbol('parked');
/** What catching up is made of: something to write, or something to wait for. */
type Step = Writes | typeof PARKED | Promise<void>;
/** Of a live stream; a generator that has ended still holds what it was given. */
const CAUGHT_UP: Iterator<Step, void> = [][Symbol.iterator]();
/** So often may a stream start over without having caught up. */
const MAX_START_OVERS = 3;

/**
 * One stream. It catches up at the pace of its network, pulling what it has to hear (a snapshot, changes of the journal
 * or the ring) lot by lot, and is live once it has heard everything; then the hub pushes. The ring is the queue of all
 * streams, and where it ends the journal is: nothing but what the sink has not sent yet waits for one of them alone.
 */
export class WatchStream implements Watch {
  readonly caller: WatchCaller;
  readonly audience: Audience;
  /** Monotonic time of the next look whether the caller still may. */
  checkAt = 0;
  /** Since when nobody could say whether the caller still may. */
  uncheckedSince: number | undefined;
  readonly #owner: StreamOwner;
  readonly #sink: WatchSink;
  readonly #failWhenExpired: boolean;
  readonly #allowCoalescing: boolean;
  /** Number of the newest change that it has been told of, or that is none of its concern. */
  #told = 0;
  /** The newest settled state that it knows, as far as that is not the one after `told`. */
  #mark: Mark | undefined;
  /** It may know as much already: what it is told does not go back behind that. */
  #known: Mark | undefined;
  /** It was told a part of a reconstructed stretch, up to this position. */
  #beyond: string | undefined;
  /** It may have shards that none of the changes names; a snapshot tells, once it has heard them. */
  #unsure = false;
  #restarts: number;
  #phase: 'catchingUp' | 'live' | 'ended' = 'catchingUp';
  /** What it still has to hear before it is live. */
  #source: Iterator<Step, void>;
  /** Inside a block that can only be resumed as a whole: the token for that. */
  #blockToken: string | undefined;
  readonly #block: BlockProgress = {
    inside: (token) => {
      this.#blockToken = token;
    },
    atEnd: (number, mark) => {
      this.#told = number;
      this.#mark = mark;
      this.#known = undefined;
      this.#beyond = undefined;
      this.#unsure = false;
      this.#blockToken = undefined;
    },
  };
  /** What it knows is ahead of the ring, or behind it: `told` says nothing, only the mark counts. */
  #elsewhere = false;
  #waiting = false;
  #waitingSince: number | undefined;
  /** When it was told last that it waits for the timeline. */
  #remindedAt: number | undefined;
  #startOvers = 0;
  #messages = 0;

  constructor(owner: StreamOwner, options: StreamOptions) {
    this.#owner = owner;
    // Not the start: what the client said to have may be as large as all that there is.
    this.#failWhenExpired = options.failWhenExpired;
    this.#allowCoalescing = options.allowCoalescing;
    this.#sink = options.sink;
    this.caller = options.caller;
    this.audience = options.audience;
    this.#restarts = owner.timeline.restarts;
    this.#source = this.#catchUp(options.start);
  }

  get messages(): number {
    return this.#messages;
  }

  /** Monotonic time since when its network has taken nothing; undefined when it keeps up. */
  get waitingSince(): number | undefined {
    return this.#waitingSince;
  }

  /** Goes on with catching up as far as the network lets it. */
  pump(): void {
    if (this.#waiting) return;
    this.#waitingSince = undefined;
    while (this.#phase === 'catchingUp' && this.#sink.backlog < this.#sink.limit / 2) {
      const { done, value } = this.#next();
      if (done) break;
      if (value === PARKED) {
        this.#owner.parked(this);
        return;
      }
      if (value instanceof Promise) {
        this.#goOnAfter(value);
        return;
      }
      this.#write(value);
    }
    if (this.#phase === 'catchingUp') this.#waitForDrain();
  }

  /**
   * Says to a live stream what it hears of the changes after `from` up to `to`. Streams that went live in between have
   * heard some of them while catching up. Returns the number of messages.
   */
  tell(from: number, to: number, writes: Writes): number {
    if (this.#phase !== 'live' || this.#told >= to) return 0;
    if (this.#told > from && !this.#owner.timeline.ring.reaches(this.#told)) {
      this.startOver();
      return 0;
    }
    const due = this.#told > from ? this.audience.changes(this.#told, to) : writes;
    if (due.messages === 0) return 0;
    if (this.#sink.backlog >= this.#sink.limit) {
      this.#told = Math.max(this.#told, from);
      this.#lag();
      return 0;
    }
    this.#told = to;
    this.#mark = this.#owner.timeline.ring.markAt(to);
    this.#write(due);
    return due.messages;
  }

  /** Says a bookmark of the mark after the change of number `upTo`; not to streams that have heard more than that. */
  mark(mark: Mark, upTo: number, writes: Writes): number {
    if (this.#phase !== 'live' || this.#told > upTo || this.#sink.backlog >= this.#sink.limit) return 0;
    this.#mark = mark;
    this.#write(writes);
    return writes.messages;
  }

  /**
   * While it waits for the timeline: the state that it knows, each time that a bookmark of it is due. Inside a
   * reconstructed stretch there is none to name.
   */
  reminder(now: number, everyMs: number): Mark | undefined {
    if (!this.#elsewhere || this.#unsure || this.#restarts !== this.#owner.timeline.restarts)
      return undefined;
    if (this.#sink.backlog > 0) return undefined;
    this.#remindedAt ??= now;
    if (now - this.#remindedAt < everyMs) return undefined;
    this.#remindedAt = now;
    return this.#mark;
  }

  remind(writes: Writes): void {
    this.#write(writes);
  }

  beat(bytes: Uint8Array): void {
    // Bytes under way show as well that the server is alive.
    if (this.#phase !== 'ended' && this.#sink.backlog === 0) this.#write({ parts: [bytes], messages: 0 });
  }

  /** The ring has left it behind, or history was cut; `mark`: what live streams know. */
  startOver(mark?: Mark): void {
    if (this.#phase !== 'live') return;
    if (mark && compareVersions(mark.position, this.#mark?.position ?? '') > 0) this.#mark = mark;
    this.#phase = 'catchingUp';
    this.#source = this.#goOn();
    this.#owner.parked(this);
  }

  end(error?: ShardError): void {
    if (this.#phase === 'ended') return;
    const token = this.#token();
    this.#phase = 'ended';
    this.#owner.ended(this, error);
    this.#sink.end(error, token);
  }

  goAway(reconnectAfterMs: number): void {
    if (this.#phase === 'ended') return;
    this.#write(this.audience.encode({ type: 'goaway', reconnectAfterMs, token: this.#token() }));
    this.end();
  }

  /** The client went away by itself. */
  close(): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'ended';
    this.#owner.ended(this);
  }

  *#catchUp(start: Start): Generator<Step> {
    if (start.kind === 'snapshot') yield* this.#snapshot(start.reason, start.reset, start.known);
    else {
      // Says at once that the stream goes on, and from where.
      this.#mark = start.mark;
      this.#known = start.mark;
      this.#unsure = start.unsure;
      this.#beyond = start.beyond;
      if (start.kind === 'after') this.#told = start.number;
      else this.#elsewhere = true;
      const { mark, unsure, beyond = mark.position } = start;
      yield this.audience.bookmark(mark, unsure ? beyond : undefined);
      if (start.kind === 'ahead') yield* this.#reach(start.mark);
      if (start.kind === 'journal') yield* this.#fromJournal(start.replay);
    }
    yield* this.#goOn();
  }

  *#goOn(): Generator<Step> {
    const { timeline } = this.#owner;
    const { ring } = timeline;
    for (;;) {
      if (this.#restarts !== timeline.restarts) {
        this.#restarts = timeline.restarts;
        yield* this.#resetTo('lineageChanged');
      } else if (!ring.reaches(this.#told)) yield* this.#goBack();
      else if (this.#told === ring.last) {
        if (!this.#unsure || !this.#known) return;
        yield* this.audience.settled(this.#known, this.#block);
      } else if (this.#known && this.#repeats(ring.at(this.#told + 1)!, this.#known)) {
        this.#told += 1;
        yield this.#repeat(ring.at(this.#told)!, this.#known);
      } else {
        this.#known = undefined;
        const to = this.audience.lotAfter(this.#told);
        const writes = this.audience.changes(this.#told, to);
        this.#told = to;
        const { change, mark, settled } = ring.at(to)!;
        this.#mark = mark;
        this.#beyond = settled ? undefined : change.position;
        yield writes;
      }
    }
  }

  /** Waits for the timeline; what the stream knows already is then passed over. */
  *#reach(mark: Mark): Generator<Step> {
    const { timeline } = this.#owner;
    while (this.#isAhead(mark)) yield PARKED;
    if (this.#restarts === timeline.restarts) yield* this.#handOver(mark);
  }

  #isAhead({ position }: Mark): boolean {
    const { timeline } = this.#owner;
    return this.#restarts === timeline.restarts && compareVersions(position, timeline.position) > 0;
  }

  /** From a settled state that the timeline has reached on with the ring. False when the ring begins after it. */
  *#handOver(mark: Mark, evenInGap = true, isNewest = false): Generator<Step, boolean> {
    const found = this.#owner.timeline.find(mark, isNewest);
    if (found === 'before' || (found !== 'other' && !found.exact && !evenInGap)) return false;
    this.#elsewhere = false;
    // The journal, or another replica, says otherwise than the cluster itself: nobody can tell what the watcher has.
    if (found === 'other') yield* this.#resetTo('lineageChanged');
    else {
      this.#told = found.number;
      if (!found.exact) {
        this.#known ??= mark;
        this.#unsure = true;
      }
    }
    return true;
  }

  /** The ring has forgotten what comes after `told`: on with the journal, where there is one. */
  *#goBack(): Generator<Step> {
    const { journal, timeline } = this.#owner;
    // Whoever is unsure goes on from where it was sure.
    const mark = this.#unsure ? this.#known : this.#mark;
    const replay = mark && timeline.branch === '' ? yield* this.#wait(journal.replay(mark)) : 'expired';
    if (replay === 'expired' || replay === 'behind') yield* this.#resetTo('expired');
    else if (replay === 'other') yield* this.#resetTo('lineageChanged');
    else {
      this.#owner.resumed('journal');
      this.#elsewhere = true;
      this.#known = mark;
      this.#unsure ||= !replay.exact || this.#beyond !== undefined;
      yield* this.#fromJournal(replay);
    }
  }

  /** Changes of the journal, until the ring has what comes next. */
  *#fromJournal(replay: Replay): Generator<Step> {
    const { timeline } = this.#owner;
    while (this.#restarts === timeline.restarts) {
      while (this.#isAhead(replay.mark)) yield PARKED;
      // A place in the ring where nothing has to be repeated may still come.
      if (yield* this.#handOver(replay.mark, replay.ended)) return;
      const piece = yield* this.#wait(replay.next());
      if (piece === 'expired') break;
      if (piece) yield* this.#piece(piece);
      else if (timeline.find(replay.mark) === 'before' && !(yield* this.#wait(replay.more()))) {
        if (yield* this.#handOver(replay.mark, true, true)) return;
        break;
      }
    }
    this.#elsewhere = false;
    if (this.#restarts === timeline.restarts) yield* this.#resetTo('expired');
  }

  *#piece({ stretch, at: begin }: Piece): Generator<Step> {
    const { entries, to } = stretch;
    let at = begin;
    for (; this.#known && at < entries.length; at += 1) {
      const entry = entries[at]!;
      if (!this.#repeats(entry, this.#known)) break;
      yield this.#repeat(entry, this.#known);
    }
    if (at < entries.length) this.#known = undefined;
    while (at < entries.length) {
      const end = this.audience.lotOf(at, entries.length);
      const writes = this.audience.replayed(stretch, at, end);
      at = end;
      this.#know(entries[end - 1]!.mark);
      yield writes;
    }
    this.#know(to);
  }

  #repeat(told: Told, known: Mark): Writes {
    const { position } = told.change;
    const writes = this.audience.repeated(told, known, this.#beyond);
    if (this.#unsure && compareVersions(position, this.#beyond ?? known.position) > 0)
      this.#beyond = position;
    return writes;
  }

  /** The watcher may know of the change, or was told of others that led there. */
  #repeats({ change, mark }: Told, known: Mark): boolean {
    const isBeyond =
      compareVersions(change.position, known.position) > 0 &&
      compareVersions(mark.position, known.position) >= 0;
    return this.#unsure || !isBeyond;
  }

  #know(mark: Mark): void {
    if (compareVersions(mark.position, this.#mark?.position ?? '') > 0) this.#mark = mark;
  }

  *#wait<T>(promise: Promise<T>): Generator<Step, T> {
    let outcome: { value: T } | { error: unknown } | undefined;
    yield promise.then(
      (value) => {
        outcome = { value };
      },
      (error: unknown) => {
        outcome = { error };
      },
    );
    const { value, error } = outcome as unknown as { value: T; error?: unknown };
    if (error !== undefined) throw error;
    return value;
  }

  #goOnAfter(promise: Promise<void>): void {
    this.#waiting = true;
    void promise.then(() => {
      this.#waiting = false;
      if (this.#phase === 'catchingUp') this.pump();
    });
  }

  /** After a lag: what was missed, folded. */
  *#fold(): Generator<Step> {
    const { ring } = this.#owner.timeline;
    if (ring.reaches(this.#told)) {
      yield* this.audience.folded(this.#told, ring.last, this.#block);
    }
    yield* this.#goOn();
  }

  *#resetTo(reason: ResetReason): Generator<Step> {
    const { timeline, journal } = this.#owner;
    if (this.#failWhenExpired) throw cannotContinue(reason, timeline, journal);
    this.#startOvers += 1;
    if (this.#startOvers > MAX_START_OVERS) throw slowConsumer();
    this.#known = undefined;
    this.#unsure = false;
    this.#elsewhere = false;
    this.#owner.resumed(reason);
    yield* this.#snapshot(reason, true);
  }

  *#snapshot(reason: ResetReason | undefined, reset: boolean, known?: KnownShards): Generator<Step> {
    if (reset && reason) {
      this.#blockToken = this.audience.snapshotToken();
      yield this.audience.encode({ type: 'reset', reason, token: this.#blockToken });
    }
    if (known && reason) yield* this.audience.delta(known, reason, this.#block);
    else yield* this.audience.snapshot(reason, this.#block);
  }

  /** The next lot; none left: the stream is live, or has ended. */
  #next(): IteratorResult<Step, void> {
    try {
      const next = this.#source.next();
      if (next.done && this.#phase === 'catchingUp') {
        this.#phase = 'live';
        this.#source = CAUGHT_UP;
        this.#known = undefined;
        this.#startOvers = 0;
        this.#owner.caughtUp(this);
      }
      return next;
    } catch (error) {
      this.end(error instanceof ShardError ? error : this.#owner.unexpected(error));
      return { done: true, value: undefined };
    }
  }

  #lag(): void {
    this.#owner.lagged(this);
    if (!this.#allowCoalescing) this.end(slowConsumer());
    else {
      this.#phase = 'catchingUp';
      this.#source = this.#fold();
      this.#waitForDrain();
    }
  }

  #waitForDrain(): void {
    this.#waitingSince = this.#owner.now();
    this.#sink.onDrain(() => {
      if (this.#phase === 'catchingUp') this.pump();
    });
  }

  #write({ parts, messages }: Writes): void {
    this.#messages += messages;
    try {
      for (const bytes of parts) this.#sink.write(bytes);
    } catch (error) {
      this.#owner.unexpected(error);
      this.close();
    }
  }

  #token(): string {
    if (this.#blockToken !== undefined) return this.#blockToken;
    // History was cut, and the stream has yet to say so.
    if (this.#restarts !== this.#owner.timeline.restarts) return this.audience.foreignToken();
    if (this.#unsure && this.#known)
      return this.audience.tokenAfter(this.#known, this.#beyond ?? this.#known.position);
    if (this.#elsewhere && this.#mark) return this.audience.tokenAfter(this.#mark);
    const told = this.#phase === 'live' ? Math.max(this.#told, this.#owner.cursor) : this.#told;
    return this.audience.tokenAt(told, this.#mark);
  }
}

function slowConsumer(): ShardError {
  return new ShardError(
    'slowConsumer',
    'this watcher reads more slowly than shards change; resume with the token, or ask for coalescing',
  );
}
