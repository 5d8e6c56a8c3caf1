import type { Clock } from '@meshkit/shards/clock';

interface Sleeper {
  at: number;
  ms: number;
  wake: () => void;
}

/** A clock for tests: time passes only by `advance`. */
export class ManualClock implements Clock {
  #now: number;
  readonly #start: number;
  readonly #sleepers = new Set<Sleeper>();

  /** `now` in milliseconds since the Unix epoch. */
  constructor(now = Date.UTC(2026, 0, 1)) {
    this.#now = now;
    this.#start = now;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now - this.#start;
  }

  /** Lengths of the sleeps under way, as they were asked for. */
  get sleeping(): number[] {
    return [...this.#sleepers].map(({ ms }) => ms);
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sleeper = { at: this.#now + Math.max(ms, 0), ms, wake: resolve };
    const aborted = () => reject(signal?.reason);
    this.#sleepers.add(sleeper);
    signal?.addEventListener('abort', aborted, { once: true });
    try {
      await promise;
    } finally {
      this.#sleepers.delete(sleeper);
      signal?.removeEventListener('abort', aborted);
    }
  }

  /** Lets `ms` pass, waking sleepers in order and letting each do what it does until it waits again. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settled();
    for (;;) {
      const [next] = [...this.#sleepers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.#now = Math.max(this.#now, next.at);
      this.#sleepers.delete(next);
      next.wake();
      await settled();
    }
    this.#now = end;
  }
}

/** Whatever is ready to run has run: promises, and what they made ready in turn. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
