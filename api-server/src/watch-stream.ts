import { comparePoints, type Mark } from '@meshkit/shards/change';
import { ShardError } from '@meshkit/shards/errors';
import type { ResetReason, Watch, WatchCaller, WatchSink } from '@meshkit/shards/watch';
import type { Audience, BlockProgress } from './audience.ts';
import type { Writes } from './byte-cache.ts';
import type { Timeline } from './timeline.ts';

/** Where a stream begins. */
export type Start =
  | { kind: 'snapshot'; reason?: ResetReason; reset: boolean }
  /** With the change after that number of the ring. */
  | { kind: 'after'; number: number; mark: Mark }
  /** With the change after a mark that this server has yet to reach. */
  | { kind: 'ahead'; mark: Mark };

/** What a stream tells the hub. */
export interface StreamOwner {
  readonly timeline: Timeline;
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
/** So often may a stream start over without having caught up. */
const MAX_START_OVERS = 3;

/**
 * One stream. It catches up at the pace of its network, pulling what it has to hear (a snapshot, changes of the ring)
 * lot by lot, and is live once it has heard everything; then the hub pushes. The ring is the queue of all streams:
 * nothing but what the sink has not sent yet waits for one of them alone.
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
  readonly #options: StreamOptions;
  /** Number of the newest change that it has been told of, or that is none of its concern. */
  #told = 0;
  /** How far it was told last that it is: by a bookmark, or the end of a snapshot. */
  #mark: Mark | undefined;
  #restarts: number;
  #phase: 'catchingUp' | 'live' | 'ended' = 'catchingUp';
  /** What it still has to hear before it is live. */
  #source: Generator<Writes | typeof PARKED>;
  /** Inside a block that can only be resumed as a whole: the token for that. */
  #blockToken: string | undefined;
  readonly #block: BlockProgress = {
    inside: (token) => {
      this.#blockToken = token;
    },
    atEnd: (number, mark) => {
      this.#told = number;
      this.#mark = mark;
      this.#blockToken = undefined;
    },
  };
  /** Its mark is yet to be reached. */
  #ahead = false;
  #waitingSince: number | undefined;
  #startOvers = 0;
  #messages = 0;

  constructor(owner: StreamOwner, options: StreamOptions) {
    this.#owner = owner;
    this.#options = options;
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
    this.#waitingSince = undefined;
    while (this.#phase === 'catchingUp' && this.#sink.backlog < this.#sink.limit / 2) {
      const { done, value } = this.#next();
      if (done) break;
      if (value === PARKED) {
        this.#owner.parked(this);
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

  beat(bytes: Uint8Array): void {
    // Bytes under way show as well that the server is alive.
    if (this.#phase !== 'ended' && this.#sink.backlog === 0) this.#write({ parts: [bytes], messages: 0 });
  }

  /** History was cut: what the stream has heard of is of another one. */
  startOver(): void {
    if (this.#phase !== 'live') return;
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

  *#catchUp(start: Start): Generator<Writes | typeof PARKED> {
    if (start.kind === 'snapshot') yield* this.#snapshot(start.reason, start.reset);
    else {
      // Says at once that the stream goes on, and from where.
      this.#mark = start.mark;
      if (start.kind === 'after') this.#told = start.number;
      else this.#ahead = true;
      if (!start.mark.partial) yield this.audience.bookmark(start.mark);
      if (start.kind === 'ahead') yield* this.#reach(start.mark);
    }
    yield* this.#goOn();
  }

  *#goOn(): Generator<Writes> {
    const { timeline } = this.#owner;
    const { ring } = timeline;
    for (;;) {
      if (!ring.reaches(this.#told)) {
        const isOther = this.#restarts !== timeline.restarts;
        this.#restarts = timeline.restarts;
        yield* this.#resetTo(isOther ? 'lineageChanged' : 'expired');
      } else if (this.#told === ring.last) return;
      else {
        const to = this.audience.lotAfter(this.#told);
        const writes = this.audience.changes(this.#told, to);
        this.#told = to;
        yield writes;
      }
    }
  }

  /** Waits for the timeline; what the stream knows already is then passed over. */
  *#reach(mark: Mark): Generator<Writes | typeof PARKED> {
    const { timeline } = this.#owner;
    while (this.#restarts === timeline.restarts && comparePoints(timeline.head, mark) < 0) yield PARKED;
    this.#ahead = false;
    const number = timeline.ring.numberAt(mark);
    const found = number === undefined ? undefined : timeline.ring.markAt(number);
    if (number !== undefined && found?.anchor === mark.anchor) this.#told = number;
    else yield* this.#resetTo('lineageChanged');
  }

  /** After a lag: what was missed, folded. */
  *#fold(): Generator<Writes> {
    const { ring } = this.#owner.timeline;
    if (ring.reaches(this.#told)) {
      yield* this.audience.folded(this.#told, ring.last, this.#block);
    }
    yield* this.#goOn();
  }

  *#resetTo(reason: ResetReason): Generator<Writes> {
    if (this.#options.failWhenExpired) throw cannotContinue(reason, this.#owner.timeline);
    this.#startOvers += 1;
    if (this.#startOvers > MAX_START_OVERS) throw slowConsumer();
    yield* this.#snapshot(reason, true);
  }

  *#snapshot(reason: ResetReason | undefined, reset: boolean): Generator<Writes> {
    if (reset && reason) {
      this.#blockToken = this.audience.snapshotToken();
      yield this.audience.encode({ type: 'reset', reason, token: this.#blockToken });
    }
    yield* this.audience.snapshot(reason, this.#block);
  }

  /** The next lot; none left: the stream is live, or has ended. */
  #next(): IteratorResult<Writes | typeof PARKED, void> {
    try {
      const next = this.#source.next();
      if (next.done && this.#phase === 'catchingUp') {
        this.#phase = 'live';
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
    if (!this.#options.allowCoalescing) this.end(slowConsumer());
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
    if (this.#ahead && this.#mark) return this.audience.tokenAfter(this.#mark);
    const told = this.#phase === 'live' ? Math.max(this.#told, this.#owner.cursor) : this.#told;
    return this.audience.tokenAt(told, this.#mark);
  }
}

/** What `onExpired: fail` asks for; `floor` and `head` say which positions could be resumed. */
export function cannotContinue(reason: ResetReason, { ring, head }: Timeline): ShardError {
  const details = { floor: ring.floor.position, head: head.position };
  return reason === 'expired'
    ? new ShardError(
        'tokenExpired',
        `the changes since are no longer held, only those after position ${details.floor}; start again without the token`,
        details,
      )
    : new ShardError(
        'lineageChanged',
        'the token is of another history (another cluster, or one that was restored since); start again without it',
        details,
      );
}

function slowConsumer(): ShardError {
  return new ShardError(
    'slowConsumer',
    'this watcher reads more slowly than shards change; resume with the token, or ask for coalescing',
  );
}
