import { readFile } from 'node:fs/promises';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { OnExpired, WatchFrom, WatchRequest } from '@meshkit/proto/v1/watch';
import { API_VERSION, assignmentName, SHARD_SET_LABEL, type ShardAssignment } from '@meshkit/shards/records';
import { parse } from 'yaml';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Product, SYSTEM_NAMESPACE } from '../start/product.ts';
import { planeProcess } from './load/process-usage.ts';
import type { OpenWatches, StreamSpec } from './load/watch-load.ts';
import { BENCH_SET, type ShardState, specOf, statusOf } from './load/write-load.ts';

/** 200 nodes: as many filters as the fan-out bench asks for. */
export const NODES: readonly string[] = Array.from(
  { length: 200 },
  (_, at) => `node-${String(at).padStart(3, '0')}`,
);
const PARALLEL_WRITES = 32;

/** A server under test, seen from a client. */
export interface Target {
  subject: string;
  url: string;
  ca: string;
  headers: Record<string, string>;
  pid: () => number;
}

export interface WatchOptions {
  owners?: readonly string[];
  resumeToken?: string;
}

/** A real control plane with shards in it, and our API server; no operator, since the benches write statuses themselves. */
export class BenchProduct {
  readonly meshkit: Target;
  readonly grpc: Target;
  readonly kube: Target;
  /** Token of the operator's ServiceAccount: nobody else may write status. */
  readonly operatorToken: string;
  readonly product: Product;
  readonly #plane: ControlPlane;
  readonly #operator: KubeClient;

  private constructor(
    plane: ControlPlane,
    product: Product,
    adminToken: string,
    ca: string,
    operatorYaml: string,
  ) {
    this.#plane = plane;
    this.product = product;
    this.#operator = kubeFromString(operatorYaml);
    this.operatorToken = parse(operatorYaml).users[0].user.token;
    // One identity for all: what is compared is the serving, not how different people log in.
    const headers = { authorization: `Bearer ${adminToken}` };
    const own = { ca, headers, pid: () => product.apiServer.pid };
    this.meshkit = { ...own, subject: 'meshkit', url: product.apiUrl };
    this.grpc = { ...own, subject: 'meshkit-grpc', url: `https://${product.grpcAddress}` };
    const kube = planeProcess(plane.folder, 'kube-apiserver');
    this.kube = { ca, headers, subject: 'kube-apiserver', url: plane.url, pid: () => kube };
  }

  static async start(say: (line: string) => void, signal: AbortSignal): Promise<BenchProduct> {
    const plane = await startControlPlane({ kind: 'real', env: process.env, log: say, signal });
    let product: Product | undefined;
    try {
      // Limits protect a server from one user; here one user is everybody.
      const apiServerFlags = ['--requests-per-second', '0', '--max-watches-per-user', '20000'];
      product = await Product.start({ controlPlane: plane, say, signal, operator: false, apiServerFlags });
      const [token, ca, operator] = await Promise.all([
        readFile(product.files.token, 'utf8'),
        readFile(product.files.ca, 'utf8'),
        plane.serviceAccountKubeconfig(SYSTEM_NAMESPACE, 'meshkit-operator', {
          expirationSeconds: 24 * 3600,
        }),
      ]);
      return new BenchProduct(plane, product, token.trim(), ca, operator);
    } catch (error) {
      await product?.stop();
      await plane.stop();
      throw error;
    }
  }

  /** `count` owned shards in a namespace of their own, spread over `NODES`; resolves when our server has them too. */
  async shards(namespace: string, count: number): Promise<ShardState[]> {
    const { kube } = this.product;
    await kube.raw('POST', '/api/v1/namespaces', {
      body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
    });
    const states = Array.from({ length: count }, (_, at): ShardState => {
      const shardId = String(at).padStart(4, '0');
      return {
        namespace,
        name: assignmentName(BENCH_SET, shardId),
        owner: at % NODES.length,
        version: 1,
        epoch: 1,
        resourceVersion: '',
      };
    });
    const queue = states.values();
    await Promise.all(
      Array.from({ length: PARALLEL_WRITES }, async () => {
        for (const state of queue) await this.#create(state);
      }),
    );
    await this.#served(namespace, count);
    return states;
  }

  /** The ShardSet of `count` shards and its nodes, ready, in three zones; the namespace must exist. */
  async mesh(namespace: string, count: number): Promise<void> {
    const { kube } = this.product;
    await kube.create(SHARD_SETS, {
      apiVersion: API_VERSION,
      kind: 'ShardSet',
      metadata: { namespace, name: BENCH_SET },
      spec: { shards: { count } },
    });
    const lastTransitionTime = new Date().toISOString();
    const ready = {
      type: 'Ready',
      status: 'True',
      reason: 'Always',
      message: '',
      lastTransitionTime,
    } as const;
    for (const [at, name] of NODES.entries()) {
      const created = await kube.create(MESH_NODES, {
        apiVersion: API_VERSION,
        kind: 'MeshNode',
        metadata: { namespace, name },
        spec: { liveness: 'Always', zone: `zone-${at % 3}` },
      });
      await this.#operator.updateStatus(MESH_NODES, { ...created, status: { conditions: [ready] } });
    }
  }

  /**
   * `count` watches of a namespace from now on, by server-sent events, gRPC or kube-apiserver's own watch. `owners`: as
   * many of each owner's shards as comes out even; kube-apiserver's go by field selector.
   */
  async watches(
    target: Target,
    namespace: string,
    count: number,
    options: WatchOptions = {},
  ): Promise<OpenWatches> {
    const { owners, resumeToken } = options;
    const specs = await Promise.all(
      (owners ?? [undefined]).map((owner) => this.#watch(target, namespace, owner, resumeToken)),
    );
    const { url, ca } = target;
    const kind = target === this.kube ? 'kube' : target === this.grpc ? 'grpc' : 'sse';
    return {
      target: { kind, url, ca },
      streams: specs.map((spec) => ({ spec, count: count / specs.length })),
    };
  }

  async #watch(
    target: Target,
    namespace: string,
    owner: string | undefined,
    resumeToken: string | undefined,
  ): Promise<StreamSpec> {
    const { headers } = target;
    if (target === this.kube) {
      const { resourceVersion } = await this.product.kube.list(SHARD_ASSIGNMENTS, { namespace, limit: 1 });
      const query = new URLSearchParams({ watch: '1', resourceVersion, allowWatchBookmarks: 'true' });
      if (owner !== undefined) query.set('fieldSelector', `status.owner=${owner}`);
      const collection = `/apis/${API_VERSION}/namespaces/${namespace}/shardassignments`;
      return { path: `${collection}?${query}`, headers };
    }
    if (target === this.grpc) {
      const filter = { namespace, owners: owner === undefined ? [] : [owner], phases: [], zones: [] };
      const message = WatchRequest.encode({
        filter,
        resumeToken: resumeToken ?? '',
        from: resumeToken === undefined ? WatchFrom.NOW : WatchFrom.UNSPECIFIED,
        onExpired: OnExpired.UNSPECIFIED,
        allowCoalescing: false,
        known: [],
      }).finish();
      const head = Buffer.alloc(5);
      head.writeUInt32BE(message.length, 1);
      return {
        path: '/meshkit.shards.v1.ShardService/Watch',
        body: Buffer.concat([head, message]).toString('base64'),
        headers: { ...headers, 'content-type': 'application/grpc', te: 'trailers' },
      };
    }
    const query = new URLSearchParams({ namespace });
    if (owner !== undefined) query.set('owner', owner);
    if (resumeToken === undefined) query.set('from', 'now');
    else query.set('resumeToken', resumeToken);
    return { path: `/meshkit/shards/watch?${query}`, headers: { ...headers, accept: 'text/event-stream' } };
  }

  async stop(): Promise<void> {
    await this.#operator.close();
    await this.product.stop();
    await this.#plane.stop();
  }

  async #create(state: ShardState): Promise<void> {
    const { namespace, name } = state;
    const created = await this.product.kube.create<ShardAssignment>(SHARD_ASSIGNMENTS, {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: { namespace, name, labels: { [SHARD_SET_LABEL]: BENCH_SET } },
      spec: specOf(name),
    });
    const status = statusOf(NODES, state) as ShardAssignment['status'];
    const written = await this.#operator.updateStatus(SHARD_ASSIGNMENTS, { ...created, status });
    state.resourceVersion = written.metadata.resourceVersion ?? '';
  }

  async #served(namespace: string, count: number): Promise<void> {
    const deadline = performance.now() + 30_000;
    for (;;) {
      const metrics = await this.product.metrics();
      const total = Number(/^meshkit_cache_shards (\d+)$/m.exec(metrics)?.[1] ?? 0);
      const { items } = await this.product.kube.listAll(SHARD_ASSIGNMENTS, {});
      if (
        total === items.length &&
        items.filter(({ metadata }) => metadata.namespace === namespace).length === count
      ) {
        return;
      }
      if (performance.now() > deadline)
        throw new Error(`the API server has ${total} of ${items.length} shards`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Runs `work` on a product of its own, which is gone afterwards whatever happens; Ctrl-C ends it early. */
export async function withBenchProduct<T>(
  say: (line: string) => void,
  work: (product: BenchProduct, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const interrupt = (): void => stop.abort(new Error('interrupted'));
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  const product = await BenchProduct.start(say, stop.signal);
  const aborted = Promise.withResolvers<never>();
  stop.signal.addEventListener('abort', () => aborted.reject(stop.signal.reason), { once: true });
  try {
    return await Promise.race([work(product, stop.signal), aborted.promise]);
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
    await product.stop();
  }
}
