import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { LEASES, type Lease } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { leaseName } from '@meshkit/shards/records';

/** Kubernetes' MicroTime: RFC 3339 with exactly six decimals; anything else is refused by the API server. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}

type HeartbeatClient = Pick<KubeClient, 'get' | 'create' | 'update'>;

/**
 * Keeps a MeshNode's Lease renewed: three tries fit into one lease duration. `alive()` is what fencing at the
 * node rests on: it turns false a fifth of the duration before anybody else may consider the Lease expired.
 */
export class Heartbeat {
  readonly #client: HeartbeatClient;
  readonly #namespace: string;
  readonly #node: string;
  readonly #durationSeconds: number;
  readonly #clock: Clock;
  readonly #log: Log;
  #lease: Lease | undefined;
  #renewedAt = Number.NEGATIVE_INFINITY;

  constructor(options: {
    client: HeartbeatClient;
    namespace: string;
    node: string;
    durationSeconds: number;
    clock: Clock;
    log: Log;
  }) {
    this.#client = options.client;
    this.#namespace = options.namespace;
    this.#node = options.node;
    this.#durationSeconds = options.durationSeconds;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Milliseconds until this node must consider itself dead; 0 or less: it must not work. */
  remainingMs(): number {
    return this.#renewedAt + this.#durationSeconds * 800 - this.#clock.monotonic();
  }

  alive(): boolean {
    return this.remainingMs() > 0;
  }

  /** Renews until aborted. `onRevived` runs after a renewal that found the node not alive: the first one, and one after each loss. */
  async run(signal: AbortSignal, onRevived: () => void): Promise<void> {
    const intervalMs = (this.#durationSeconds * 1000) / 3;
    while (!signal.aborted) {
      const started = this.#clock.monotonic();
      try {
        await this.#renew(signal, intervalMs);
        const wasAlive = this.alive();
        // Counted from before the request: the API server cannot have stored it earlier than that.
        this.#renewedAt = started;
        if (!wasAlive) onRevived();
      } catch (error) {
        if (signal.aborted) return;
        this.#lease = undefined;
        this.#log.warn({ node: this.#node, error: String(error) }, 'lease not renewed');
      }
      const waitMs = Math.max(50, started + intervalMs - this.#clock.monotonic());
      await this.#clock.sleep(waitMs, signal).catch(() => undefined);
    }
  }

  async #renew(signal: AbortSignal, timeoutMs: number): Promise<void> {
    const current = this.#lease ?? (await this.#read(signal, timeoutMs));
    const renewTime = microTime(this.#clock.now());
    if (current === undefined) {
      this.#lease = await this.#client.create(
        LEASES,
        {
          apiVersion: 'coordination.k8s.io/v1',
          kind: 'Lease',
          metadata: { name: leaseName(this.#node), namespace: this.#namespace },
          spec: {
            holderIdentity: this.#node,
            leaseDurationSeconds: this.#durationSeconds,
            acquireTime: renewTime,
            renewTime,
          },
        },
        { signal, timeoutMs },
      );
      return;
    }
    const spec = {
      ...current.spec,
      holderIdentity: this.#node,
      leaseDurationSeconds: this.#durationSeconds,
      renewTime,
    };
    this.#lease = await this.#client.update(LEASES, { ...current, spec }, { signal, timeoutMs });
  }

  async #read(signal: AbortSignal, timeoutMs: number): Promise<Lease | undefined> {
    try {
      const key = { namespace: this.#namespace, name: leaseName(this.#node) };
      return await this.#client.get(LEASES, key, { signal, timeoutMs });
    } catch (error) {
      if (error instanceof ShardError && error.code === 'notFound') return undefined;
      throw error;
    }
  }
}
