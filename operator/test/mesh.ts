import { randomBytes } from 'node:crypto';
import { systemClock } from '@meshkit/crds/clock';
import { Informer } from '@meshkit/crds/informer';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString, loadKube } from '@meshkit/crds/kube-config';
import { silentLog } from '@meshkit/crds/log';
import { LEASES, MESH_NODES, NAMESPACES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE } from '@meshkit/crds/roles';
import { isReleased, releaseToken } from '@meshkit/shards/epoch';
import {
  API_VERSION,
  leaseName,
  type MeshNode,
  type MeshNodeSpec,
  RELEASED_ANNOTATION,
  type ShardAssignment,
  type ShardSet,
  type ShardSetSpec,
} from '@meshkit/shards/records';
import { inject } from 'vitest';
import { Manager, type ManagerOptions } from '../src/manager.ts';
import { microTime } from '../src/micro-time.ts';

const RENEW_EVERY_MS = 300;

export interface RunningOperator {
  /** `http://host:port` of /readyz and /metrics. */
  url: string;
  /** Graceful: releases the leader Lease. */
  stop: () => Promise<void>;
}

/**
 * A namespace of its own on the control plane under test, with an operator that serves it alone (so that tests do not get
 * into each other's way), and workers that renew their Leases and release what drains.
 */
export class Mesh {
  readonly namespace = `op-${randomBytes(4).toString('hex')}`;
  readonly admin: KubeClient;
  readonly shards: Informer<ShardAssignment>;
  /** Every state of every shard that the watch has told, oldest first. */
  readonly seen: ShardAssignment[] = [];
  readonly #stop = new AbortController();
  readonly #background: Promise<unknown>[] = [];
  readonly #operators: RunningOperator[] = [];
  readonly #clients: KubeClient[] = [];
  readonly #hearts = new Map<string, AbortController>();
  /** Nodes that answer a drain with a release. */
  readonly releasing = new Set<string>();

  private constructor() {
    this.admin = loadKube({ kubeconfig: inject('controlPlane').adminKubeconfig });
    this.#clients.push(this.admin);
    this.shards = new Informer({
      client: this.admin,
      resource: SHARD_ASSIGNMENTS,
      namespace: this.namespace,
      clock: systemClock,
      random: Math.random,
      log: silentLog,
    });
    this.shards.onChange(({ type, object }) => {
      if (type === 'DELETED') return;
      this.seen.push(object);
      if (object.status?.phase === 'Draining' && this.releasing.has(object.status.owner ?? '')) {
        this.#background.push(this.release(object));
      }
    });
  }

  static async open(): Promise<Mesh> {
    const mesh = new Mesh();
    await mesh.admin.create(NAMESPACES, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: mesh.namespace },
    });
    mesh.#background.push(mesh.shards.run(mesh.#stop.signal));
    await mesh.shards.synced();
    return mesh;
  }

  async close(): Promise<void> {
    await Promise.all(this.#operators.map(({ stop }) => stop()));
    for (const heart of this.#hearts.values()) heart.abort();
    this.#stop.abort();
    await Promise.all(this.#background);
    await this.admin.delete(NAMESPACES, { name: this.namespace });
    await Promise.all(this.#clients.map((client) => client.close()));
  }

  /** In this process, as the operator's ServiceAccount, with a leader Lease of this test's own. */
  async operator(
    options: Partial<ManagerOptions> & { faulty?: (client: KubeClient) => KubeClient } = {},
  ): Promise<RunningOperator> {
    const { faulty, ...given } = options;
    const own = await this.#operatorClient();
    const client = faulty ? faulty(own) : own;
    const listening = Promise.withResolvers<string>();
    const stop = new AbortController();
    const manager = new Manager({
      client,
      namespace: SYSTEM_NAMESPACE,
      leaseName: this.namespace,
      watchNamespace: this.namespace,
      leaseDurationMs: 2_000,
      identity: randomBytes(4).toString('hex'),
      listen: { host: '127.0.0.1', port: 0 },
      nodeLeaseDurationMs: 10_000,
      concurrentSets: 4,
      parallelWrites: 32,
      clock: systemClock,
      random: Math.random,
      log: silentLog,
      onListening: listening.resolve,
      ...given,
    });
    const ended = manager.run(stop.signal);
    const running = {
      url: `http://${await listening.promise}`,
      stop: async () => {
        stop.abort();
        await ended;
      },
    };
    this.#operators.push(running);
    return running;
  }

  async node(name: string, spec: MeshNodeSpec = {}, labels?: Record<string, string>): Promise<MeshNode> {
    const metadata = { name, namespace: this.namespace, labels };
    return this.admin.create(MESH_NODES, { apiVersion: API_VERSION, kind: 'MeshNode', metadata, spec });
  }

  /** A node whose worker is alive; its Lease runs out this long after `die`. */
  async worker(name: string, spec: MeshNodeSpec = {}, leaseSeconds = 1): Promise<void> {
    const heart = new AbortController();
    this.#hearts.set(name, heart);
    const metadata = { name: leaseName(name), namespace: this.namespace };
    const beat = () => ({
      holderIdentity: name,
      leaseDurationSeconds: leaseSeconds,
      renewTime: microTime(Date.now()),
    });
    const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata } as const;
    await this.admin.create(LEASES, { ...lease, spec: beat() });
    await this.node(name, spec);
    this.#background.push(
      (async () => {
        while (!heart.signal.aborted) {
          await systemClock.sleep(RENEW_EVERY_MS, heart.signal).catch(() => undefined);
          if (!heart.signal.aborted) await this.admin.patch(LEASES, metadata, { spec: beat() });
        }
      })(),
    );
    this.releasing.add(name);
  }

  die(name: string): void {
    this.#hearts.get(name)?.abort();
  }

  async set(spec: Partial<ShardSetSpec> = {}, name = 'orders'): Promise<ShardSet> {
    return this.admin.create(SHARD_SETS, {
      apiVersion: API_VERSION,
      kind: 'ShardSet',
      metadata: { name, namespace: this.namespace },
      spec: { shards: { count: 8 }, ...spec },
    });
  }

  async patchSet(spec: object, name = 'orders'): Promise<void> {
    await this.admin.patch(SHARD_SETS, { namespace: this.namespace, name }, { spec });
  }

  async patchNode(name: string, spec: object): Promise<void> {
    await this.admin.patch(MESH_NODES, { namespace: this.namespace, name }, { spec });
  }

  async patchShard(name: string, spec: object): Promise<void> {
    await this.admin.patch(SHARD_ASSIGNMENTS, { namespace: this.namespace, name }, { spec });
  }

  async release(shard: ShardAssignment): Promise<void> {
    const { owner = '', epoch = 0 } = shard.status ?? {};
    if (isReleased(shard)) return;
    const metadata = { annotations: { [RELEASED_ANNOTATION]: releaseToken(owner, epoch) } };
    await this.admin.patch(
      SHARD_ASSIGNMENTS,
      { namespace: this.namespace, name: shard.metadata.name },
      { metadata },
    );
  }

  get(name: string): ShardAssignment | undefined {
    return this.shards.get(`${this.namespace}/${name}`);
  }

  /** Waits for the cache of shards to say so; what it says instead is in the error. */
  async until(
    what: string,
    holds: (shards: ShardAssignment[]) => boolean,
    timeoutMs = 15_000,
  ): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!holds(this.shards.list())) {
      if (performance.now() > deadline) {
        const now = this.shards.list().map(({ metadata, status }) => {
          return `${metadata.name}: ${status?.phase} ${status?.owner} -> ${status?.move?.to}`;
        });
        throw new Error(`not within ${timeoutMs} ms: ${what}; instead\n${now.sort().join('\n')}`);
      }
      await systemClock.sleep(10);
    }
  }

  /** All of them Active, and so many. */
  async owned(count: number, timeoutMs?: number): Promise<void> {
    const all = (shards: ShardAssignment[]) =>
      shards.length === count && shards.every(({ status }) => status?.phase === 'Active');
    await this.until(`${count} shards are owned`, all, timeoutMs);
  }

  owners(): Map<string, string | undefined> {
    return new Map(this.shards.list().map(({ metadata, status }) => [metadata.name, status?.owner]));
  }

  async #operatorClient(): Promise<KubeClient> {
    const path = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/serviceaccounts/${OPERATOR_SERVICE_ACCOUNT}/token`;
    const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} };
    const answer = await this.admin.raw('POST', path, { body: request });
    const { token } = (answer as { status: { token: string } }).status;
    const client = kubeFromString(kubeconfigFor(token));
    this.#clients.push(client);
    return client;
  }
}

/** JSON, which is YAML. */
export function kubeconfigFor(token: string): string {
  const { url, caCert } = inject('controlPlane');
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'plane', cluster: { server: url, 'certificate-authority': caCert } }],
    users: [{ name: 'user', user: { token } }],
    contexts: [{ name: 'plane', context: { cluster: 'plane', user: 'user' } }],
    'current-context': 'plane',
  });
}
