import type { Clock } from '@meshkit/shards/clock';
import { ERRORS, ShardError } from '@meshkit/shards/errors';
import type { ShardFilter } from '@meshkit/shards/repository';
import { ShardTracker, type WatchEvent } from './shard-tracker.ts';
import { Reopen, StreamGuard } from './stream-guard.ts';
import type { TokenReader } from './token-source.ts';
import { Backoff } from './wait.ts';
import type { WatchCall, WatchMessage } from './watch-message.ts';
import type { Alive, WatchStreamRequest, WatchTransport } from './watch-transport.ts';

export interface WatchOptions extends WatchCall {
  /** Milliseconds until a stream must have begun, by `sse` (default 10,000); by `grpc`, `silenceMs` has to do. */
  timeoutMs?: number;
  /** The server says something every 15 s at least; one that is silent for longer (default 35 s) counts as gone. */
  silenceMs?: number;
  /** Told whenever the stream is lost or refused and will be tried again: for logs and metrics. */
  onDisconnect?: (error: ShardError, retryInMs: number) => void;
}

/** What a watch stands on. */
export interface WatchMeans {
  open: WatchTransport;
  /** The transport knows `onExpired: diff`. */
  differences?: boolean;
  token?: TokenReader;
  clock: Clock;
  random: () => number;
  /** The connection should prove itself before it is used again. */
  suspect?: () => void;
}

const SILENCE_MS = 35_000;
/** Shards that a watch says to have, at most: some 80 bytes each. */
const MAX_KNOWN = 20_000;

/**
 * Every change of the shards that pass, each once, in the order of each shard, over as many streams as it takes: a lost
 * one is resumed after its last token. Ends when the signal aborts; throws the ShardError that retrying cannot cure
 * (a refused argument, token or scope; a token that is too old or unknown under `onExpired: fail`).
 */
export async function* watchShards(
  filter: ShardFilter,
  options: WatchOptions,
  means: WatchMeans,
): AsyncGenerator<WatchEvent, void> {
  const watch = new Watch(filter, options, means);
  while (!options.signal?.aborted) {
    try {
      yield* watch.stream();
    } catch (error) {
      if (options.signal?.aborted) return;
      const waitMs = await watch.retryAfter(error);
      try {
        await means.clock.sleep(waitMs, options.signal);
      } catch (aborted) {
        if (!options.signal?.aborted) throw aborted;
      }
    }
  }
}

class Watch {
  readonly #filter: ShardFilter;
  readonly #options: WatchOptions;
  readonly #means: WatchMeans;
  readonly #tracker = new ShardTracker();
  readonly #backoff: Backoff;
  #resumeToken: string | undefined;
  /** The token came from a stream of this watch, so a server that does not know it can be asked for a snapshot. */
  #ownToken = false;
  #bearer: string | undefined;
  /** How the next stream is to begin, because the last one could not go on. */
  #expired: 'diff' | 'snapshot' | undefined;
  /** Our token was refused, so that what comes next is a listing in its place, whatever the caller began with. */
  #refused = false;
  /** New tokens that were tried since a stream last worked. */
  #renewals = 0;
  /** When a server that says goodbye wants us back, monotonic milliseconds. */
  #backAt = Number.NEGATIVE_INFINITY;

  constructor(filter: ShardFilter, options: WatchOptions, means: WatchMeans) {
    this.#filter = filter;
    this.#options = options;
    this.#means = means;
    this.#resumeToken = options.resumeToken;
    this.#backoff = new Backoff(means.random);
  }

  /** One stream, from its opening to its end; always throws why it ended. */
  async *stream(): AsyncGenerator<WatchEvent, void> {
    const { clock, open, token } = this.#means;
    const { allowCoalescing, signal, timeoutMs, silenceMs = SILENCE_MS } = this.#options;
    const bearer = await this.#readToken();
    this.#bearer = bearer;
    const guard = new StreamGuard({
      clock,
      signal,
      silenceMs,
      token: token && bearer !== undefined ? { reader: token, bearer } : undefined,
    });
    const resumeToken = this.#resumeToken;
    const from = this.#refused ? 'beginning' : this.#options.from;
    const start = resumeToken === undefined ? { from } : { resumeToken };
    const call = {
      ...start,
      ...this.#whenExpired(),
      filter: this.#filter,
      allowCoalescing,
      timeoutMs,
      bearer,
    };
    const messages = open({ ...call, signal: guard.signal })[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { done, value: message } = await guard.next(messages);
        if (done) throw new ShardError('unavailable', 'the server ended the stream');
        if (message.type === 'goaway') {
          this.#backAt = clock.monotonic() + message.reconnectAfterMs;
          guard.endWithin(message.reconnectAfterMs);
        }
        for (const event of this.#told(message)) yield event;
        this.#took(message);
      }
    } catch (error) {
      guard.signal.throwIfAborted();
      throw error;
    } finally {
      await guard.close();
      await messages.return?.();
    }
  }

  /** A source that gave a token before is waited for, as a server would be. */
  async #readToken(): Promise<string | undefined> {
    try {
      return await this.#means.token?.read({ signal: this.#options.signal });
    } catch (error) {
      if (this.#bearer === undefined || !(error instanceof ShardError)) throw error;
      throw new ShardError('unavailable', `there is no token: ${error.message}`, error.details, error);
    }
  }

  /** A listing in place of a token that was refused begins with a RESET, as with one that has expired. */
  #told(message: WatchMessage | Alive): WatchEvent[] {
    if (!this.#refused || message.type !== 'snapshot-begin') return this.#tracker.apply(message);
    this.#refused = false;
    const reset = { type: 'reset', reason: 'tokenInvalid', token: message.token } as const;
    return [...this.#tracker.apply(reset), ...this.#tracker.apply(message)];
  }

  /** What this watch has is sent only once a server says that it is needed: it may be much. */
  #whenExpired(): Pick<WatchStreamRequest, 'onExpired' | 'known'> {
    const { onExpired } = this.#options;
    const tracker = this.#tracker;
    if (!this.#asksFirst()) return { onExpired };
    if (this.#expired === undefined) return { onExpired: 'fail' };
    return this.#expired === 'diff' ? { onExpired: 'diff', known: tracker.known() } : {};
  }

  #asksFirst(): boolean {
    const { size, complete } = this.#tracker;
    const { differences = false } = this.#means;
    return (
      differences && this.#options.onExpired !== 'fail' && this.#ownToken && complete && size <= MAX_KNOWN
    );
  }

  #took(message: { type: string; token?: string }): void {
    // A heartbeat proves the connection, not that the server can serve.
    if (message.type === 'alive') return;
    this.#backoff.reset();
    this.#expired = undefined;
    this.#renewals = 0;
    if (message.token === undefined || message.token === '') return;
    this.#resumeToken = message.token;
    this.#ownToken = true;
  }

  /** Milliseconds to wait before the next stream. Throws what waiting cannot cure. */
  async retryAfter(error: unknown): Promise<number> {
    if (error instanceof Reopen) return 0;
    if (!(error instanceof ShardError)) throw error;
    const waitMs = (await this.#cured(error)) ? 0 : this.#waitAfter(error);
    this.#options.onDisconnect?.(error, waitMs);
    this.#means.suspect?.();
    return waitMs;
  }

  #waitAfter({ details }: ShardError): number {
    const untilBack = this.#backAt - this.#means.clock.monotonic();
    this.#backAt = Number.NEGATIVE_INFINITY;
    // The server has spread its clients already; whatever happens next is not part of the goodbye.
    if (untilBack > 0) return untilBack;
    const { retryMs, retryAfterSeconds, retryAfterMs } = details;
    const atLeast = number(retryAfterMs) ?? (number(retryAfterSeconds) ?? 0) * 1_000;
    return atLeast + this.#backoff.next(number(retryMs));
  }

  /** Whether there is a reason to expect better of the very next attempt; throws when there will never be one. */
  async #cured(error: ShardError): Promise<boolean> {
    if (ERRORS[error.code].retry) return false;
    const { token } = this.#means;
    if (error.code === 'unauthenticated' && token && this.#bearer !== undefined && this.#renewals === 0) {
      this.#renewals += 1;
      const { signal } = this.#options;
      // A source that fails now is asked again by the next attempt, which waits for it.
      const renewed = await token.renewed(this.#bearer, { signal }).catch(() => null);
      if (renewed !== undefined) return renewed !== null;
    }
    if (this.#expired === undefined && this.#asksFirst()) {
      if (error.code === 'tokenExpired') this.#expired = 'diff';
      if (error.code === 'lineageChanged') this.#expired = 'snapshot';
      if (this.#expired !== undefined) return true;
    }
    if (error.code === 'tokenInvalid' && this.#ownToken && this.#options.onExpired !== 'fail') {
      // A server of another version, perhaps: what it does not know it will list.
      this.#resumeToken = undefined;
      this.#ownToken = false;
      this.#refused = true;
      return true;
    }
    throw error;
  }
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined;
}
