import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { Identity } from './token-review.ts';

export interface RateLimitsOptions {
  clock: Pick<Clock, 'monotonic'>;
  /** Of one user, in the long run; 0: no limit. */
  requestsPerSecond: number;
}

/** What a user may save up: a fleet that shares one service account reconnects at once. */
const BURST_SECONDS = 10;
const MAX_USERS = 10_000;

interface Usage {
  /** Requests that may be made at once. */
  allowance: number;
  at: number;
}

/**
 * How many requests one user may make of this replica, over REST and gRPC together: a token bucket each. It counts
 * users, not tokens, so that whoever mints tokens does not get more. Streams are counted where they run.
 */
export class RateLimits {
  readonly #options: RateLimitsOptions;
  /** In the order of use, so that the first is the one that was idle longest. */
  readonly #users = new Map<string, Usage>();

  constructor(options: RateLimitsOptions) {
    this.#options = options;
  }

  /** Throws `rateLimited` with `retryAfterSeconds`. */
  request({ user }: Pick<Identity, 'user'>): void {
    const { requestsPerSecond: rate } = this.#options;
    if (rate === 0) return;
    const usage = this.#usage(user);
    if (usage.allowance < 1) {
      const retryAfterSeconds = Math.ceil((1 - usage.allowance) / rate);
      throw new ShardError('rateLimited', `${user} sends more than ${rate} requests a second`, {
        reason: 'requests',
        retryAfterSeconds,
      });
    }
    usage.allowance -= 1;
  }

  #usage(user: string): Usage {
    const { clock, requestsPerSecond: rate } = this.#options;
    const at = clock.monotonic();
    const burst = rate * BURST_SECONDS;
    const known = this.#users.get(user);
    const usage = known ?? { allowance: burst, at };
    usage.allowance = Math.min(burst, usage.allowance + ((at - usage.at) / 1_000) * rate);
    usage.at = at;
    this.#users.delete(user);
    this.#users.set(user, usage);
    const [idle] = this.#users.keys();
    if (this.#users.size > MAX_USERS && idle !== undefined) this.#users.delete(idle);
    return usage;
  }
}
