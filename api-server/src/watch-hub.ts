import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Log } from '@meshkit/crds/log';
import type { Mark } from '@meshkit/shards/change';
import type { Clock } from '@meshkit/shards/clock';
import { filterDigest } from '@meshkit/shards/cursor';
import { ERRORS, ShardError } from '@meshkit/shards/errors';
import type { ShardFilter } from '@meshkit/shards/repository';
import type {
  Encoding,
  ResetReason,
  Watch,
  WatchCaller,
  WatchRequest,
  WatchSink,
} from '@meshkit/shards/watch';
import type { Registry } from 'prom-client';
import { Audience, type World } from './audience.ts';
import { ByteCache, type Writes } from './byte-cache.ts';
import type { JournalArchive } from './journal-archive.ts';
import type { Timeline } from './timeline.ts';
import { WatchMetrics } from './watch-metrics.ts';
import { type StartOptions, WatchStart } from './watch-start.ts';
import { type StreamOwner, WatchStream } from './watch-stream.ts';

export interface WatchLimits {
  /** Streams at once, in all and of one caller. */
  streams: number;
  streamsPerCaller: number;
}

export interface WatchHubOptions extends StartOptions {
  clock: Clock;
  random: () => number;
  log: Log;
  registry: Registry;
  limits: WatchLimits;
  /** Absent: as measured to be good. */
  pace?: WatchPace;
}

interface WatchPace {
  /** So many streams are written to before other work of the process gets its turn. */
  turn: number;
  /** So many rows of a snapshot, or changes of a replay, are encoded and written together. */
  lot: number;
}

const PACE: WatchPace = { turn: 500, lot: 50 };
const TICK_MS = 1_000;
/** Idle audiences, and streams that wait for the timeline, get a bookmark this often; a tick less than the promised 10 s. */
const BOOKMARK_MS = 9_000;
const HEARTBEAT_MS = 12_000;
const CHECK_MS = 60_000;
const CHECK_AGAIN_MS = 10_000;
/** So long a stream may go on when nobody can say whether its caller still may. */
const UNCHECKED_MS = 5 * 60_000;
/** A network that takes nothing for this long has no reader any more. */
const STALLED_MS = 30_000;
/** After a goaway; long enough that not all come back at once. */
const RECONNECT_WITHIN_MS = 3_000;
const CACHE_BYTES = 64 * 1024 * 1024;

/**
 * All open watch streams, of every transport. One loop tells live streams what the timeline learned, in its order, and
 * is the only one to do so; streams that are behind pull from the ring by themselves. Nothing waits for a slow one.
 */
export class WatchHub implements StreamOwner {
  readonly timeline: Timeline;
  readonly journal: JournalArchive;
  readonly #options: WatchHubOptions;
  readonly #start: WatchStart;
  readonly #metrics: WatchMetrics;
  readonly #world: World;
  readonly #turn: number;
  /** By encoding, then by digest of the filter. */
  readonly #audiences = new Map<Encoding, Map<string, Audience>>();
  #audiencesMade = 0;
  readonly #callers = new Map<string, number>();
  #streams = 0;
  /** To be pumped by the loop. */
  #parked = new Set<WatchStream>();
  /** Catching up: looked after once a tick. */
  readonly #behind = new Set<WatchStream>();
  #cursor = 0;
  /** What live streams know at least. */
  #mark: Mark | undefined;
  #restarts = 0;
  #wake = Promise.withResolvers<void>();
  #tickDue = false;
  #draining = false;

  constructor(options: WatchHubOptions) {
    this.#options = options;
    this.timeline = options.timeline;
    this.journal = options.journal;
    this.#start = new WatchStart(options);
    const { timeline, lineage } = options;
    const { turn, lot } = options.pace ?? PACE;
    this.#turn = turn;
    this.#world = { timeline, cache: new ByteCache(CACHE_BYTES), lineage, now: () => this.now(), lot };
    this.#metrics = new WatchMetrics(options.registry, {
      streams: () => this.#streamsByEncoding(),
      ring: () => this.#ringFigures(),
    });
  }

  get cursor(): number {
    return this.#cursor;
  }

  now(): number {
    return this.#options.clock.monotonic();
  }

  /** The timeline has moved. */
  changed(): void {
    this.#wake.resolve();
  }

  /** Tells live streams what happens, until aborted; resolves then. */
  async run(signal: AbortSignal): Promise<void> {
    const stopped = () => this.#wake.resolve();
    signal.addEventListener('abort', stopped, { once: true });
    const ticking = this.#tick(signal);
    while (!signal.aborted) {
      await this.#wake.promise;
      this.#wake = Promise.withResolvers();
      do {
        await this.#catchUp();
        // Due even when there is always something new to tell.
        if (this.#tickDue) await this.#lookAfter();
      } while (!this.#isUpToDate && !signal.aborted);
    }
    await ticking;
  }

  /** See `ShardRepository.watch`. */
  async watch(request: WatchRequest, sink: WatchSink, caller: WatchCaller): Promise<Watch> {
    const release = this.#admit(caller);
    try {
      const start = await this.#start.of(request);
      if (this.#draining) throw draining();
      const audience = this.#audienceOf(request.filter, sink.encoding);
      const { onExpired, allowCoalescing = false } = request;
      const failWhenExpired = onExpired === 'fail';
      const stream = new WatchStream(this, {
        audience,
        sink,
        caller,
        start,
        failWhenExpired,
        allowCoalescing,
      });
      stream.checkAt = this.now() + CHECK_MS * (0.8 + 0.2 * this.#options.random());
      audience.streams.add(stream);
      this.#behind.add(stream);
      this.#metrics.begun(sink.encoding.name, start, request.resumeToken !== undefined);
      stream.pump();
      return stream;
    } catch (error) {
      release();
      if (error instanceof ShardError) this.#metrics.refused.inc({ code: error.code });
      throw error;
    }
  }

  /** Says goodbye to every stream, with where to go on, and admits no more. */
  async drain(): Promise<void> {
    this.#draining = true;
    let written = 0;
    for (const audience of this.#everyAudience()) {
      for (const stream of audience.streams) {
        stream.goAway(Math.round(this.#options.random() * RECONNECT_WITHIN_MS));
        written += 1;
        if (written % this.#turn === 0) await nextTurn();
      }
    }
  }

  caughtUp(stream: WatchStream): void {
    this.#behind.delete(stream);
    stream.audience.live.add(stream);
  }

  parked(stream: WatchStream): void {
    stream.audience.live.delete(stream);
    this.#behind.add(stream);
    this.#parked.add(stream);
  }

  lagged(stream: WatchStream): void {
    stream.audience.live.delete(stream);
    this.#behind.add(stream);
    this.#metrics.lagged.inc({ encoding: stream.audience.encoding.name });
  }

  ended(stream: WatchStream, error?: ShardError): void {
    const { audience, caller } = stream;
    if (!audience.streams.delete(stream)) return;
    audience.live.delete(stream);
    this.#behind.delete(stream);
    this.#parked.delete(stream);
    this.#release(caller.key);
    this.#metrics.ended.inc({ encoding: audience.encoding.name, code: error?.code ?? '' });
    if (audience.streams.size > 0) return;
    const others = this.#audiences.get(audience.encoding);
    others?.delete(filterDigest(audience.filter));
    if (others?.size === 0) this.#audiences.delete(audience.encoding);
  }

  resumed(result: 'journal' | ResetReason): void {
    this.#metrics.resumed.inc({ result });
  }

  unexpected(error: unknown): ShardError {
    this.#options.log.error({ err: error }, 'a watch stream failed');
    return new ShardError('internal', 'the server failed on this watch; its log says more', {}, error);
  }

  /** Live streams have heard everything. */
  get #isUpToDate(): boolean {
    return this.#cursor === this.timeline.ring.last && this.#restarts === this.timeline.restarts;
  }

  /** Tells live streams what the timeline has by now, and goes on with those that waited for it. */
  async #catchUp(): Promise<void> {
    if (this.#restarts !== this.timeline.restarts) this.#startAllOver();
    if (!this.#isUpToDate) await this.#pass(this.#cursor, this.timeline.ring.last);
    const parked = this.#parked;
    this.#parked = new Set();
    let pumped = 0;
    for (const stream of parked) {
      stream.pump();
      pumped += 1;
      if (pumped % Math.ceil(this.#turn / 10) === 0) await nextTurn();
    }
  }

  /** Tells every live stream the changes after `from` up to `to`. */
  async #pass(from: number, to: number): Promise<void> {
    const { ring } = this.timeline;
    const arrivedAt = ring.at(from + 1)?.arrivedAt ?? this.now();
    const { restarts } = this.timeline;
    let written = 0;
    for (const audience of this.#everyAudience()) {
      if (restarts !== this.timeline.restarts) return;
      if (!ring.reaches(from)) {
        for (const stream of audience.live) stream.startOver(this.#mark);
        continue;
      }
      if (audience.live.size === 0) continue;
      const writes = this.#changes(audience, from, to);
      if (writes === undefined || writes.messages === 0) continue;
      audience.toldAt = this.now();
      let messages = 0;
      for (const stream of audience.live) {
        messages += stream.tell(from, to, writes);
        written += 1;
        if (written % this.#turn !== 0) continue;
        this.#metrics.delivery.observe((this.now() - arrivedAt) / 1_000);
        await nextTurn();
      }
      this.#metrics.count(audience.encoding.name, messages);
    }
    if (written % this.#turn !== 0) this.#metrics.delivery.observe((this.now() - arrivedAt) / 1_000);
    this.#metrics.changes.inc(to - from);
    this.#cursor = to;
    this.#mark = ring.markAt(to);
  }

  /** What an audience hears; undefined when it cannot be said, which ends its streams. */
  #changes(audience: Audience, from: number, to: number): Writes | undefined {
    try {
      return audience.changes(from, to);
    } catch (error) {
      const failure = this.unexpected(error);
      for (const stream of audience.streams) stream.end(failure);
      return undefined;
    }
  }

  #startAllOver(): void {
    this.#restarts = this.timeline.restarts;
    this.#cursor = this.timeline.ring.last;
    this.#mark = this.timeline.head;
    for (const audience of this.#everyAudience()) for (const stream of audience.live) stream.startOver();
  }

  async #tick(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#options.clock.sleep(TICK_MS, signal).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
      this.#tickDue = true;
      this.#wake.resolve();
    }
  }

  /** What is due by time alone. */
  async #lookAfter(): Promise<void> {
    this.#tickDue = false;
    const now = this.now();
    for (const stream of this.#behind) {
      if (stream.waitingSince !== undefined && now - stream.waitingSince > STALLED_MS) stream.end(stalled());
    }
    // Something came in meanwhile: the next tick finds live streams up to date.
    const isUpToDate = this.#isUpToDate;
    const mark = this.timeline.head;
    const upTo = this.#cursor;
    let written = 0;
    for (const stream of this.#parked) {
      const { audience } = stream;
      const at = stream.reminder(now, BOOKMARK_MS);
      const bookmark = at && this.#bookmark(audience, at);
      if (!bookmark) continue;
      stream.remind(bookmark);
      this.#metrics.count(audience.encoding.name, bookmark.messages);
      written += 1;
      if (written % this.#turn === 0) await nextTurn();
    }
    for (const audience of this.#everyAudience()) {
      audience.tidy();
      for (const stream of audience.streams) if (stream.checkAt <= now) void this.#check(stream);
      const { encoding, live, streams } = audience;
      const silent = isUpToDate && live.size > 0 && now - audience.toldAt >= BOOKMARK_MS;
      const bookmark = silent ? this.#bookmark(audience, mark) : undefined;
      if (bookmark) {
        audience.toldAt = now;
        let messages = 0;
        for (const stream of live) {
          messages += stream.mark(mark, upTo, bookmark);
          written += 1;
          if (written % this.#turn === 0) await nextTurn();
        }
        this.#metrics.count(encoding.name, messages);
      }
      if (!encoding.heartbeat || now - audience.beatAt < HEARTBEAT_MS) continue;
      audience.beatAt = now;
      for (const stream of streams) {
        stream.beat(encoding.heartbeat);
        written += 1;
        if (written % this.#turn === 0) await nextTurn();
      }
    }
  }

  #bookmark(audience: Audience, mark: Mark): Writes | undefined {
    try {
      return audience.bookmark(mark);
    } catch (error) {
      const failure = this.unexpected(error);
      for (const stream of audience.streams) stream.end(failure);
      return undefined;
    }
  }

  /** Ends the stream of a caller who may no longer; patient while nobody can say. */
  async #check(stream: WatchStream): Promise<void> {
    stream.checkAt = Number.POSITIVE_INFINITY;
    try {
      await stream.caller.check();
      stream.uncheckedSince = undefined;
      stream.checkAt = this.now() + CHECK_MS;
    } catch (error) {
      const known = error instanceof ShardError ? error : this.unexpected(error);
      const now = this.now();
      stream.uncheckedSince ??= now;
      if (ERRORS[known.code].retry && now - stream.uncheckedSince < UNCHECKED_MS) {
        stream.checkAt = now + CHECK_AGAIN_MS;
      } else stream.end(known);
    }
  }

  /** Counts a caller in; returns the way out. */
  #admit({ key }: WatchCaller): () => void {
    const { streams, streamsPerCaller } = this.#options.limits;
    const own = this.#callers.get(key) ?? 0;
    const refusal = this.#draining
      ? draining()
      : this.#streams >= streams
        ? tooMany('this server has', streams)
        : own >= streamsPerCaller
          ? tooMany('you have', streamsPerCaller)
          : undefined;
    if (refusal) {
      this.#metrics.refused.inc({ code: refusal.code });
      throw refusal;
    }
    this.#streams += 1;
    this.#callers.set(key, own + 1);
    return () => this.#release(key);
  }

  #release(key: string): void {
    this.#streams -= 1;
    const own = (this.#callers.get(key) ?? 0) - 1;
    if (own > 0) this.#callers.set(key, own);
    else this.#callers.delete(key);
  }

  #audienceOf(filter: ShardFilter, encoding: Encoding): Audience {
    const others = this.#audiences.get(encoding) ?? new Map<string, Audience>();
    this.#audiences.set(encoding, others);
    const digest = filterDigest(filter);
    const known = others.get(digest);
    if (known) return known;
    this.#audiencesMade += 1;
    const audience = new Audience(String(this.#audiencesMade), filter, encoding, this.#world);
    others.set(digest, audience);
    return audience;
  }

  *#everyAudience(): Iterable<Audience> {
    for (const audiences of this.#audiences.values()) yield* audiences.values();
  }

  #streamsByEncoding(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { encoding, streams } of this.#everyAudience()) {
      counts.set(encoding.name, (counts.get(encoding.name) ?? 0) + streams.size);
    }
    return counts;
  }

  #ringFigures() {
    const { ring } = this.timeline;
    const oldest = ring.at(ring.last - ring.size + 1);
    const oldestMs = oldest ? this.now() - oldest.arrivedAt : 0;
    return { changes: ring.size, bytes: ring.bytes, oldestMs };
  }
}

function draining(): ShardError {
  return new ShardError('draining', 'this server is stopping; connect again, to another one');
}

function tooMany(whose: string, limit: number): ShardError {
  return new ShardError(
    'tooManyWatchers',
    `${whose} ${limit} watches open already; close some, or try later`,
    {
      limit,
    },
  );
}

function stalled(): ShardError {
  const seconds = STALLED_MS / 1_000;
  return new ShardError(
    'slowConsumer',
    `this watcher has read nothing for ${seconds} s; resume with the token`,
  );
}
