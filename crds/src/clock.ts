import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '@meshkit/shards/clock';

/** The longest wait a Node timer can hold; a longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The machine's clock. Sleeps keep the process alive; whoever sleeps passes a signal to be woken by. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  async sleep(ms, signal) {
    signal?.throwIfAborted();
    try {
      await sleep(Math.min(Math.max(ms, 0), LONGEST_TIMER_MS), undefined, { signal });
    } catch (error) {
      // timers/promises rejects with its own AbortError; the Clock promises the signal's reason.
      signal?.throwIfAborted();
      throw error;
    }
  },
};
