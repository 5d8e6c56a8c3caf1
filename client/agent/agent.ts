import { systemClock } from '@meshkit/crds/clock';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { loadKube } from '@meshkit/crds/kube-config';
import type { Log } from '@meshkit/crds/log';
import { reflect } from '@meshkit/crds/reflector';
import { MESH_NODES, SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import {
  API_VERSION,
  type MeshNodeSpec,
  type Phase,
  RELEASED_ANNOTATION,
  type ShardAssignment,
} from '@meshkit/shards/records';
import { Heartbeat } from './heartbeat.ts';

/** A shard this node owns. Whoever stores data for it passes `epoch` along, and refuses a lower one. */
export interface HeldShard {
  namespace: string;
  name: string;
  shardSet: string;
  shardId: string;
  epoch: number;
}

export interface NodeAgentOptions {
  /** Path of a kubeconfig; absent: in-cluster credentials or the default kubeconfig. */
  kubeconfig?: string;
  /** Where the MeshNode lives. Absent: the namespace of the credentials. */
  namespace?: string;
  node: string;
  /** When given, the MeshNode is created if it does not exist. An existing one is left to its people. */
  register?: { spec: MeshNodeSpec; labels?: Record<string, string> };
  leaseDurationSeconds?: number;
  /** Watch shards of every namespace (the node serves others); needs the rights for it. */
  allNamespaces?: boolean;
  /** Ownership begins, or begins anew under a larger epoch. */
  onGrant?: (shard: HeldShard) => void;
  /** Finish what is in flight and stop writing; resolving releases the shard. `signal`: ownership was lost meanwhile. */
  onDrain?: (shard: HeldShard, signal: AbortSignal) => Promise<void>;
  /** Ownership ended: granted elsewhere, or the heartbeat could not be renewed in time. Stop at once. */
  onRevoke?: (shard: HeldShard, why: 'moved' | 'leaseLost') => void;
  log: Log;
  clock?: Clock;
  random?: () => number;
  /** Instead of a client made from `kubeconfig`; it is not closed. */
  client?: AgentClient;
}

/** What the agent needs of a KubeClient. */
export type AgentClient = Pick<
  KubeClient,
  'namespace' | 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch'
>;

/** In `Lost` the record still names the last owner, which must wait for a new grant. */
const HOLDING_PHASES: ReadonlySet<Phase> = new Set(['Active', 'Draining', 'Paused']);

/** How often it is looked whether the lease is alive. */
const CHECK_MS = 250;

interface Holding {
  shard: HeldShard;
  lost: AbortController;
  draining: boolean;
  /** Its work is over, though the record still names us until the release is answered. */
  stopped: boolean;
}

/**
 * The worker's side of ownership: heartbeat, learning of grants, and release when asked to drain.
 * `run` works until its signal aborts; the node then falls out of service when its Lease expires
 * (set `scheduling: Drain` first for a planned leave).
 */
export class NodeAgent {
  readonly #options: NodeAgentOptions;
  readonly #clock: Clock;
  readonly #held = new Map<string, Holding>();
  /** Ends the present watch, or the wait for one; see #follow. */
  #session = new AbortController();

  constructor(options: NodeAgentOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** What this node may work on right now. */
  held(): HeldShard[] {
    return [...this.#held.values()].filter(({ stopped }) => !stopped).map(({ shard }) => shard);
  }

  async run(signal: AbortSignal): Promise<void> {
    const own = this.#options.client ? undefined : loadKube({ kubeconfig: this.#options.kubeconfig });
    const client = this.#options.client ?? (own as KubeClient);
    const namespace = this.#options.namespace ?? client.namespace;
    const { node, log } = this.#options;
    const heartbeat = new Heartbeat({
      client,
      namespace,
      node,
      durationSeconds: this.#options.leaseDurationSeconds ?? 10,
      clock: this.#clock,
      log,
    });
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    try {
      await this.#register(client, namespace, both);
      await Promise.all([
        heartbeat.run(both, () => this.#startOver()),
        this.#fence(heartbeat, both),
        this.#follow(client, namespace, heartbeat, both),
      ]);
    } finally {
      stop.abort();
      this.#startOver();
      await own?.close();
    }
  }

  async #register(client: AgentClient, namespace: string, signal: AbortSignal): Promise<void> {
    const { register, node } = this.#options;
    if (register === undefined) return;
    try {
      await client.create(
        MESH_NODES,
        {
          apiVersion: API_VERSION,
          kind: 'MeshNode',
          metadata: { name: node, namespace, labels: register.labels },
          spec: register.spec,
        },
        { signal },
      );
    } catch (error) {
      const exists = error instanceof ShardError && error.code === 'conflict';
      if (!exists) throw error;
    }
  }

  /**
   * Follows the records that name this node while its lease is alive, each time from a fresh LIST: what was known
   * before a loss may have been granted to others meanwhile, and a watch that died silently would not tell.
   */
  async #follow(
    client: AgentClient,
    namespace: string,
    heartbeat: Heartbeat,
    signal: AbortSignal,
  ): Promise<void> {
    while (!signal.aborted) {
      this.#session = new AbortController();
      const session = AbortSignal.any([signal, this.#session.signal]);
      if (!heartbeat.alive()) {
        await this.#clock.sleep(CHECK_MS, session).catch(() => undefined);
        continue;
      }
      const events = reflect<ShardAssignment>({
        client,
        resource: SHARD_ASSIGNMENTS,
        namespace: this.#options.allNamespaces ? undefined : namespace,
        fieldSelector: `status.owner=${this.#options.node}`,
        clock: this.#clock,
        random: this.#options.random ?? Math.random,
        log: this.#options.log,
        signal: session,
      });
      for await (const event of events) {
        if (session.aborted || !heartbeat.alive()) break;
        if (event.type === 'REPLACED') {
          const listed = new Set(event.items.map(keyOf));
          for (const key of [...this.#held.keys()]) if (!listed.has(key)) this.#revoke(key, 'moved');
          for (const record of event.items) this.#take(record, client, signal);
        } else if (event.type === 'DELETED') this.#revoke(keyOf(event.object), 'moved');
        else if (event.type !== 'BOOKMARK') this.#take(event.object, client, signal);
      }
    }
  }

  /** Holds what the record says is ours, and starts the drain it asks for. */
  #take(record: ShardAssignment, client: AgentClient, signal: AbortSignal): void {
    const key = keyOf(record);
    const { status } = record;
    if (status === undefined) return;
    if (!HOLDING_PHASES.has(status.phase)) {
      this.#revoke(key, 'moved');
      return;
    }
    let holding = this.#held.get(key);
    if (holding !== undefined && holding.shard.epoch !== status.epoch) {
      this.#revoke(key, 'moved');
      holding = undefined;
    }
    if (holding === undefined) {
      holding = { shard: heldShard(record), lost: new AbortController(), draining: false, stopped: false };
      this.#held.set(key, holding);
      this.#options.onGrant?.(holding.shard);
    }
    if (status.phase === 'Draining' && !holding.draining) {
      holding.draining = true;
      void this.#drain(client, holding, signal);
    }
  }

  /** Never rejects: a release that fails is tried again until ownership is gone. */
  async #drain(client: AgentClient, holding: Holding, signal: AbortSignal): Promise<void> {
    const { shard } = holding;
    const over = AbortSignal.any([signal, holding.lost.signal]);
    while (!over.aborted) {
      try {
        if (!holding.stopped) await this.#options.onDrain?.(shard, over);
        holding.stopped = true;
        const annotations = { [RELEASED_ANNOTATION]: `${this.#options.node}/${shard.epoch}` };
        await client.patch(SHARD_ASSIGNMENTS, shard, { metadata: { annotations } }, { signal: over });
        return;
      } catch (error) {
        if (over.aborted) return;
        this.#options.log.warn({ shard: shard.name, error: String(error) }, 'shard not released yet');
        await this.#clock.sleep(1000, over).catch(() => undefined);
      }
    }
  }

  /** Lets go of everything as soon as the heartbeat is too old, before anybody grants our shards to others. */
  async #fence(heartbeat: Heartbeat, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (!heartbeat.alive() && this.#held.size > 0) this.#startOver();
      const checkMs = heartbeat.alive() ? Math.min(heartbeat.remainingMs(), CHECK_MS) : CHECK_MS;
      await this.#clock.sleep(Math.max(checkMs, 10), signal).catch(() => undefined);
    }
  }

  /** Nothing is ours any more until a list from now on says so. */
  #startOver(): void {
    this.#session.abort();
    for (const key of [...this.#held.keys()]) this.#revoke(key, 'leaseLost');
  }

  #revoke(key: string, why: 'moved' | 'leaseLost'): void {
    const holding = this.#held.get(key);
    if (holding === undefined) return;
    this.#held.delete(key);
    holding.lost.abort();
    this.#options.onRevoke?.(holding.shard, why);
  }
}

function keyOf(shard: ShardAssignment): string {
  return `${shard.metadata.namespace}/${shard.metadata.name}`;
}

function heldShard(record: ShardAssignment): HeldShard {
  return {
    namespace: record.metadata.namespace as string,
    name: record.metadata.name,
    shardSet: record.spec.shardSet,
    shardId: record.spec.shardId,
    epoch: record.status?.epoch as number,
  };
}
