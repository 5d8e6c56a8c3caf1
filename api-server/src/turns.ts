import { setImmediate } from 'node:timers/promises';
import { ShardError } from '@meshkit/shards/errors';

interface TurnsLimits {
  /** For the refusal, `plans`. */
  what: string;
  /** So much work is under way at once. */
  atOnce: number;
  /** So many wait for it; more are refused. */
  waiting: number;
}

/** Work that costs much, a little at a time, in the order in which it was asked for. */
export class Turns {
  readonly #limits: TurnsLimits;
  #free: number;
  /** Each begins a turn; oldest first. */
  readonly #waiting = new Set<() => void>();

  constructor(limits: TurnsLimits) {
    this.#limits = limits;
    this.#free = limits.atOnce;
  }

  /** Rejects with `rateLimited` when too many wait, with the signal's reason when its owner does not wait any longer. */
  async run<T>(work: () => T | Promise<T>, signal: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    try {
      // Whatever else the process has to do comes in between.
      await setImmediate();
      signal.throwIfAborted();
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next) {
        this.#waiting.delete(next);
        next();
      } else this.#free += 1;
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { what, waiting } = this.#limits;
    if (this.#waiting.size >= waiting) {
      const message = `too many ${what} are asked for at once; try again in a moment`;
      throw new ShardError('rateLimited', message, { reason: what });
    }
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const left = () => {
      if (this.#waiting.delete(resolve)) reject(signal.reason);
    };
    this.#waiting.add(resolve);
    signal.addEventListener('abort', left, { once: true });
    await promise.finally(() => signal.removeEventListener('abort', left));
  }
}
