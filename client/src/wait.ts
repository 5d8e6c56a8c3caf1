import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '@meshkit/shards/clock';

/** The machine's clock. A sleep rejects with its signal's reason, and keeps the process alive. */
export const machineClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  async sleep(ms, signal) {
    signal?.throwIfAborted();
    try {
      await sleep(Math.min(Math.max(ms, 0), 2 ** 31 - 1), undefined, { signal });
    } catch (error) {
      // timers/promises rejects with its own AbortError.
      signal?.throwIfAborted();
      throw error;
    }
  },
};

const FIRST_MS = 1_000;
const LONGEST_MS = 15_000;

/**
 * How long to wait before the next attempt: anything between nothing and a ceiling that doubles, so that clients
 * that were cut off together do not come back together.
 */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** Milliseconds; `firstMs`: the ceiling of the first wait, as a server may ask. */
  next(firstMs = FIRST_MS): number {
    const ceiling = Math.min(Math.max(firstMs, 1) * 2 ** Math.min(this.#failures, 16), LONGEST_MS);
    this.#failures += 1;
    return this.#random() * ceiling;
  }

  /** It worked: the next failure is a first one. */
  reset(): void {
    this.#failures = 0;
  }
}
