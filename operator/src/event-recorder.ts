import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { EVENTS, type KubeEvent } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import type { KubeObject } from '@meshkit/shards/records';
import { microTime } from './micro-time.ts';
import type { EventText } from './shard-event.ts';

const BURST = 100;
const PER_SECOND = 10;
/** What waits to be written; the oldest news is worth more than the newest of a storm, so the newest is dropped. */
const MAX_WAITING = 256;
const TIMEOUT_MS = 5000;

export interface EventRecorderOptions {
  client: Pick<KubeClient, 'create'>;
  controller: string;
  /** This process; at most 128 characters. */
  instance: string;
  clock: Clock;
  log: Log;
  count: (result: 'written' | 'failed' | 'dropped') => void;
}

/** Writes Kubernetes Events beside the real work: bounded in rate and number, best effort, never waited for. */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #waiting: KubeEvent[] = [];
  #tokens = BURST;
  #refilledAt: number;
  #sequence = 0;
  #wake: () => void = () => undefined;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#refilledAt = options.clock.monotonic();
  }

  record(regarding: KubeObject, text: EventText): void {
    if (!this.#takeToken() || this.#waiting.length >= MAX_WAITING) {
      this.#options.count('dropped');
      return;
    }
    this.#waiting.push(this.#event(regarding, text));
    this.#wake();
  }

  /** Writes until aborted; what waits then is dropped. */
  async run(signal: AbortSignal): Promise<void> {
    const { client, log, count } = this.#options;
    while (!signal.aborted) {
      const event = this.#waiting.shift();
      if (!event) {
        await this.#idle(signal);
        continue;
      }
      try {
        await client.create(EVENTS, event, { signal, timeoutMs: TIMEOUT_MS });
        count('written');
      } catch (error) {
        if (signal.aborted) break;
        count('failed');
        log.debug({ err: error, event: event.reason }, 'event not written');
      }
    }
    for (const _ of this.#waiting.splice(0)) count('dropped');
  }

  #takeToken(): boolean {
    const now = this.#options.clock.monotonic();
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#refilledAt) / 1000) * PER_SECOND);
    this.#refilledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  #event(regarding: KubeObject, text: EventText): KubeEvent {
    const { controller, instance, clock } = this.#options;
    const { namespace, name, uid, resourceVersion } = regarding.metadata;
    this.#sequence += 1;
    const suffix = `${clock.now().toString(16)}${this.#sequence.toString(16).padStart(4, '0')}`;
    return {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { namespace, name: `${name.slice(0, 200)}.${suffix}` },
      eventTime: microTime(clock.now()),
      reportingController: controller,
      reportingInstance: instance.slice(0, 128),
      ...text,
      regarding: {
        apiVersion: regarding.apiVersion,
        kind: regarding.kind,
        namespace,
        name,
        uid,
        resourceVersion,
      },
    };
  }

  async #idle(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const woken = () => resolve();
    this.#wake = woken;
    signal.addEventListener('abort', woken, { once: true });
    await promise;
    signal.removeEventListener('abort', woken);
    this.#wake = () => undefined;
  }
}
