import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';

export interface ReviewCacheOptions {
  clock: Clock;
  /** How long an answer holds, counted from the question: a revoked right lives on at most this long. */
  ttlMs: number;
  maxEntries: number;
  /** Questions under way at once; more are refused, so that junk tokens cannot flood kube-apiserver. */
  maxInFlight: number;
}

export const REVIEW_CACHE_DEFAULTS = { ttlMs: 10_000, maxEntries: 10_000, maxInFlight: 256 };

/**
 * Remembers what kube-apiserver said, yes or no, for a short while. Errors are never remembered, equal questions
 * asked at the same time are asked once, and when it is full the oldest answer goes.
 */
export class ReviewCache<T> {
  readonly #options: ReviewCacheOptions;
  /** In the order of the questions, so the first entry is the oldest. */
  readonly #answers = new Map<string, { value: T; askedAt: number }>();
  readonly #inFlight = new Map<string, Promise<T>>();

  constructor(options: ReviewCacheOptions) {
    this.#options = options;
  }

  /** Rejects with `ask`'s error, or `rateLimited` when too many questions are under way. */
  async get(key: string, ask: () => Promise<T>): Promise<T> {
    const { clock, ttlMs, maxInFlight } = this.#options;
    const known = this.#answers.get(key);
    if (known && clock.monotonic() - known.askedAt < ttlMs) return known.value;
    const asked = this.#inFlight.get(key);
    if (asked) return asked;
    if (this.#inFlight.size >= maxInFlight) {
      throw new ShardError('rateLimited', 'too many access reviews are under way; try again in a moment');
    }
    const answer = this.#ask(key, ask);
    this.#inFlight.set(key, answer);
    try {
      return await answer;
    } finally {
      this.#inFlight.delete(key);
    }
  }

  async #ask(key: string, ask: () => Promise<T>): Promise<T> {
    const askedAt = this.#options.clock.monotonic();
    const value = await ask();
    this.#answers.delete(key);
    this.#answers.set(key, { value, askedAt });
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= this.#options.maxEntries) break;
      this.#answers.delete(oldest);
    }
    return value;
  }
}

/**
 * A review that could not be made. Whatever kube-apiserver answered to *us* must not be passed on as if it were
 * about the caller (our own 403 is not theirs): it is 503, and nobody is let in.
 */
export function reviewFailed(kind: 'TokenReview' | 'SubjectAccessReview', error: unknown): ShardError {
  if (error instanceof ShardError && error.code === 'rateLimited') return error;
  const ours =
    error instanceof ShardError && (error.code === 'scopeMissing' || error.code === 'unauthenticated');
  const why = ours
    ? `kube-apiserver refuses this server's own identity (${error.message}); bind it to ClusterRole meshkit-api-server`
    : error instanceof Error
      ? error.message
      : String(error);
  return new ShardError(
    'unavailable',
    `access cannot be checked right now, so nobody is let in: ${kind}: ${why}`,
    { reason: 'reviewUnavailable' },
    error,
  );
}
