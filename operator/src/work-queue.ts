import { Backoff } from '@meshkit/crds/backoff';
import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import type { QueueMetrics } from './metrics.ts';

/** Brings the world of one key to where it should be. Level-based: it gets no event, only the key. */
export type Reconcile = (key: string, signal: AbortSignal) => Promise<{ requeueAfterMs?: number }>;

export interface WorkQueueOptions {
  name: string;
  reconcile: Reconcile;
  /** How many keys are worked on at once. */
  concurrency: number;
  clock: Clock;
  random: () => number;
  log: Log;
  metrics: QueueMetrics;
  firstBackoffMs?: number;
  longestBackoffMs?: number;
}

/**
 * Keys to reconcile: each waits at most once however often it is added, and is never worked on twice at once (added
 * meanwhile, it runs again afterwards). A failure is tried again with capped, jittered backoff. The number of
 * keys is bounded by the number of objects they name.
 */
export class WorkQueue {
  readonly #options: WorkQueueOptions;
  /** Key -> when it was added, monotonic; in order of addition. */
  readonly #ready = new Map<string, number>();
  /** Key -> when it is due, monotonic. */
  readonly #later = new Map<string, number>();
  readonly #active = new Map<string, number>();
  readonly #backoffs = new Map<string, Backoff>();
  #wake: () => void = () => undefined;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
    options.metrics.observe(options.name, () => ({
      depth: this.#ready.size,
      startedAt: [...this.#active.values()],
    }));
  }

  get depth(): number {
    return this.#ready.size;
  }

  add(key: string): void {
    // A key that is being worked on runs again afterwards: #step leaves active keys alone.
    if (this.#ready.has(key)) return;
    this.#later.delete(key);
    this.#ready.set(key, this.#options.clock.monotonic());
    this.#options.metrics.adds.inc({ name: this.#options.name });
    this.#wake();
  }

  /** The earliest wish wins. */
  addAfter(key: string, ms: number): void {
    if (ms <= 0) {
      this.add(key);
      return;
    }
    if (this.#ready.has(key)) return;
    const due = this.#options.clock.monotonic() + ms;
    if (due < (this.#later.get(key) ?? Number.POSITIVE_INFINITY)) {
      this.#later.set(key, due);
      this.#wake();
    }
  }

  /** Works until aborted; resolves when what was under way has ended. Run it once. */
  async run(signal: AbortSignal): Promise<void> {
    const running = new Set<Promise<void>>();
    while (!signal.aborted) {
      this.#promote();
      for (const key of this.#startable()) {
        const work = this.#work(key, signal).finally(() => {
          running.delete(work);
          this.#wake();
        });
        running.add(work);
      }
      await this.#pause(signal);
    }
    await Promise.all(running);
  }

  #promote(): void {
    const now = this.#options.clock.monotonic();
    for (const [key, due] of this.#later) if (due <= now) this.add(key);
  }

  #startable(): string[] {
    const free = this.#options.concurrency - this.#active.size;
    const keys: string[] = [];
    for (const key of this.#ready.keys()) {
      if (keys.length >= free) break;
      if (!this.#active.has(key)) keys.push(key);
    }
    return keys;
  }

  async #work(key: string, signal: AbortSignal): Promise<void> {
    const { clock, log, metrics, name } = this.#options;
    const startedAt = clock.monotonic();
    metrics.queueSeconds.observe({ name }, (startedAt - (this.#ready.get(key) ?? startedAt)) / 1000);
    this.#ready.delete(key);
    this.#active.set(key, startedAt);
    let result = 'success';
    try {
      const { requeueAfterMs } = await this.#options.reconcile(key, signal);
      this.#backoffs.delete(key);
      if (requeueAfterMs !== undefined) {
        result = 'requeue_after';
        this.addAfter(key, requeueAfterMs);
      }
    } catch (error) {
      if (!signal.aborted) {
        result = 'error';
        const waitMs = this.#backoffOf(key).next();
        metrics.retries.inc({ name });
        log.warn({ controller: name, key, err: error, waitMs }, 'reconcile failed, will be tried again');
        this.addAfter(key, waitMs);
      }
    } finally {
      this.#active.delete(key);
      metrics.done(name, result, (clock.monotonic() - startedAt) / 1000);
    }
  }

  #backoffOf(key: string): Backoff {
    const { firstBackoffMs = 50, longestBackoffMs = 10_000, random } = this.#options;
    const known = this.#backoffs.get(key);
    if (known) return known;
    const backoff = new Backoff({ baseMs: firstBackoffMs, capMs: longestBackoffMs, random });
    this.#backoffs.set(key, backoff);
    return backoff;
  }

  /** Until something was added or ended, the next key is due, or the end. */
  async #pause(signal: AbortSignal): Promise<void> {
    if (this.#startable().length > 0) return;
    const { clock } = this.#options;
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    let due = Number.POSITIVE_INFINITY;
    for (const at of this.#later.values()) due = Math.min(due, at);
    try {
      await clock.sleep(
        Math.min(due - clock.monotonic(), LONGEST_PAUSE_MS),
        AbortSignal.any([signal, woken.signal]),
      );
    } catch (error) {
      // Being woken is the ordinary end of this wait.
      if (!signal.aborted && !woken.signal.aborted) throw error;
    } finally {
      this.#wake = () => undefined;
    }
  }
}

const LONGEST_PAUSE_MS = 3_600_000;
