import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { TokenReader } from './token-source.ts';

/** Why a stream was ended by ourselves, although nothing is wrong. */
export class Reopen extends Error {}

export interface GuardOptions {
  clock: Clock;
  /** The caller's: ends everything. */
  signal?: AbortSignal;
  silenceMs: number;
  token?: { reader: TokenReader; bearer: string };
}

/** How often a source is asked for a new token once the present one is about to expire. */
const RENEWAL_CHECK_MS = 5_000;

/**
 * Watches over one stream and ends it by `signal`: when the server was silent for too long, when a newer token is there
 * before the present one expires, and when a server that says goodbye has had its time.
 */
export class StreamGuard {
  readonly #clock: Clock;
  readonly #end = new AbortController();
  readonly #done = new AbortController();
  readonly #tasks: Promise<void>[] = [];
  #waitingSince: number | undefined;
  /** Aborts with a ShardError, a `Reopen`, or the caller's reason. */
  readonly signal: AbortSignal;

  constructor({ clock, signal, silenceMs, token }: GuardOptions) {
    this.#clock = clock;
    this.signal = signal ? AbortSignal.any([signal, this.#end.signal]) : this.#end.signal;
    this.#task(this.#listen(silenceMs));
    if (token) this.#task(this.#renew(token.reader, token.bearer));
  }

  /** The next message, which has `silenceMs` from now; a consumer that takes its time is not the server's silence. */
  async next<T>(iterator: AsyncIterator<T>): Promise<IteratorResult<T>> {
    this.#waitingSince = this.#clock.monotonic();
    try {
      return await iterator.next();
    } finally {
      this.#waitingSince = undefined;
    }
  }

  /** The server is about to close: it has until then. */
  endWithin(ms: number): void {
    this.#task(this.#sleep(ms).then(() => this.#end.abort(new Reopen('the server is going away'))));
  }

  async close(): Promise<void> {
    this.#done.abort();
    await Promise.all(this.#tasks);
  }

  #sleep(ms: number): Promise<void> {
    return this.#clock.sleep(ms, this.#done.signal);
  }

  #task(task: Promise<void>): void {
    const ended = task.catch((error: unknown) => {
      if (!this.#done.signal.aborted) this.#end.abort(error);
    });
    this.#tasks.push(ended);
  }

  async #listen(silenceMs: number): Promise<void> {
    let waitMs = silenceMs;
    while (waitMs > 0) {
      await this.#sleep(waitMs);
      waitMs = (this.#waitingSince ?? this.#clock.monotonic()) + silenceMs - this.#clock.monotonic();
    }
    throw new ShardError('unavailable', `the stream was silent for ${silenceMs / 1_000} s`);
  }

  async #renew(reader: TokenReader, bearer: string): Promise<void> {
    const freshMs = reader.freshMs(bearer);
    if (freshMs === Number.POSITIVE_INFINITY) return;
    // One that is old already, by our clock, would be replaced without a pause by a source that makes new ones.
    await this.#sleep(freshMs > 0 ? freshMs : RENEWAL_CHECK_MS);
    while ((await this.#newest(reader, bearer)) === bearer) await this.#sleep(RENEWAL_CHECK_MS);
    this.#end.abort(new Reopen('there is a newer token'));
  }

  /** The present token is good for a while: a source that fails now may work then. */
  async #newest(reader: TokenReader, bearer: string): Promise<string> {
    try {
      return await reader.read({ signal: this.#done.signal });
    } catch (error) {
      if (error instanceof ShardError) return bearer;
      throw error;
    }
  }
}
