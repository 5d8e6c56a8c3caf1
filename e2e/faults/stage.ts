import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShardClient } from '@meshkit/client/shard-client';
import { SHARD_JOURNAL_HEADS } from '@meshkit/crds/journal-objects';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { LEASES } from '@meshkit/crds/resource';
import { compareVersions } from '@meshkit/shards/records';
import type { VersionVector } from '@meshkit/shards/repository';
import type { ControlPlane, ControlPlaneKind } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Ward } from '../control-plane/ward.ts';
import type { Child } from '../start/child.ts';
import { type ApiServerReplica, Product, SYSTEM_NAMESPACE } from '../start/product.ts';
import { EtcdOracle } from './etcd-oracle.ts';
import { Fleet } from './fleet.ts';
import type { FleetNews } from './fleet-messages.ts';
import type { ShardState } from './history.ts';
import { KubeOracle, type Oracle, patiently } from './oracle.ts';
import { QUICK_BOOKMARKS, SHORT_JOURNAL } from './planted/bugs.ts';
import { registrationOf } from './planted/plant.ts';
import { TcpProxy } from './tcp-proxy.ts';
import type { Place } from './watchers.ts';

/** What a run is told of its namespace. */
export interface StageListener {
  truth(position: string, key: string, state: ShardState | undefined): void;
  restored(position: string): void;
  fleet(news: FleetNews & { type: 'grant' | 'write' }): void;
}

export interface StageOptions {
  controlPlane: ControlPlaneKind;
  env: Readonly<Record<string, string | undefined>>;
  say: (line: string) => void;
  signal: AbortSignal;
  nodeArguments: readonly string[];
  /** A few changes only are remembered, so that tokens fall below the floor. */
  shortMemory: boolean;
}

/** A process of the product, and the proxy that is its only way to kube-apiserver. */
interface Server {
  readonly name: string;
  readonly kube: TcpProxy;
}

export interface OperatorServer extends Server {
  child: Child;
}

export interface ApiServer extends Server {
  readonly replica: ApiServerReplica;
}

const FLEET_ACCOUNT = 'fleet';
/** Short enough for several takeovers in a run, long enough for a busy machine. */
export const OPERATOR_LEASE_MS = 4_000;
const CAUGHT_UP_WITHIN_MS = 10_000;

/** A control plane with the whole product on it, where every part can be broken: two operators, two API servers, two fleets. */
export class Stage {
  readonly plane: ControlPlane;
  readonly product: Product;
  readonly oracle: Oracle;
  readonly operators: [OperatorServer, OperatorServer];
  readonly apiServers: [ApiServer, ApiServer];
  readonly fleets: [Fleet, Fleet];
  readonly ca: string;
  readonly token: string;
  readonly options: StageOptions;
  readonly #listeners: Map<string, StageListener>;
  readonly #runs: Map<number, StageListener>;
  readonly #ward: Ward;
  #nodeIdentity: Promise<string> | undefined;

  private constructor(parts: {
    plane: ControlPlane;
    product: Product;
    oracle: Oracle;
    operators: [OperatorServer, OperatorServer];
    apiServers: [ApiServer, ApiServer];
    fleets: [Fleet, Fleet];
    ca: string;
    token: string;
    options: StageOptions;
    listeners: Map<string, StageListener>;
    runs: Map<number, StageListener>;
    ward: Ward;
  }) {
    this.plane = parts.plane;
    this.product = parts.product;
    this.oracle = parts.oracle;
    this.operators = parts.operators;
    this.apiServers = parts.apiServers;
    this.fleets = parts.fleets;
    this.ca = parts.ca;
    this.token = parts.token;
    this.options = parts.options;
    this.#listeners = parts.listeners;
    this.#runs = parts.runs;
    this.#ward = parts.ward;
  }

  static async start(options: StageOptions): Promise<Stage> {
    const { controlPlane: kind, env, say, signal, shortMemory } = options;
    const settings = shortMemory ? [QUICK_BOOKMARKS, SHORT_JOURNAL] : [QUICK_BOOKMARKS];
    const hooks = settings.flatMap(({ name }) => ['--import', registrationOf(name)]);
    const nodeArguments = [...options.nodeArguments, ...hooks];
    const plane = await startControlPlane({ kind, env, log: say, signal });
    let product: Product | undefined;
    let ward: Ward | undefined;
    try {
      const planePort = Number(new URL(plane.url).port);
      const proxies = await Promise.all([0, 1, 2, 3].map(() => TcpProxy.start(planePort)));
      const [kubeA, kubeB, kubeC, kubeD] = proxies as [TcpProxy, TcpProxy, TcpProxy, TcpProxy];
      product = await Product.start({
        controlPlane: plane,
        say,
        signal,
        operator: false,
        nodeArguments,
        apiServerFlags: shortMemory ? ['--ring-size', '10'] : [],
        kubeServers: { apiServer: kubeA.url },
      });
      const listeners = new Map<string, StageListener>();
      const runs = new Map<number, StageListener>();
      const oracle = await startOracle(plane, product.kube, listeners);
      await bindFleet(product.kube);
      ward = await Ward.create(product.logs);
      const listener = (news: FleetNews & { type: 'grant' | 'write' }) => runs.get(news.run)?.fleet(news);
      const fleet = { folder: product.logs, ward, nodeArguments, listener };
      const [operatorA, operatorB, fleetA, fleetB] = await Promise.all([
        startOperator(product, { name: 'operator-a', kube: kubeC }),
        startOperator(product, { name: 'operator-b', kube: kubeD }),
        Fleet.start({ ...fleet, name: 'fleet-a' }),
        Fleet.start({ ...fleet, name: 'fleet-b' }),
      ]);
      // Whoever listed before the journal began gives out tokens from before it, which nobody can continue.
      await journalBegun(product.kube, signal);
      await product.apiServer.kill();
      await product.startApiServer();
      const second = await product.addApiServer({ name: 'api-server-b', kubeServer: kubeB.url });
      return new Stage({
        plane,
        product,
        oracle,
        operators: [
          { name: 'operator-a', kube: kubeC, child: operatorA },
          { name: 'operator-b', kube: kubeD, child: operatorB },
        ],
        apiServers: [
          { name: 'api-server-a', kube: kubeA, replica: product.replica },
          { name: 'api-server-b', kube: kubeB, replica: second },
        ],
        fleets: [fleetA, fleetB],
        ca: await readFile(product.files.ca, 'utf8'),
        token: await readFile(product.files.token, 'utf8'),
        options,
        listeners,
        runs,
        ward,
      });
    } catch (error) {
      await product?.stop();
      await ward?.release();
      await plane.stop();
      throw error;
    }
  }

  get places(): [Place, Place] {
    const place = ({ replica }: ApiServer): Place => ({
      sse: Number(new URL(replica.url).port),
      grpc: Number(replica.grpcAddress.split(':')[1]),
    });
    return [place(this.apiServers[0]), place(this.apiServers[1])];
  }

  /** Every way to kube-apiserver that the product has. */
  get kubeLinks(): TcpProxy[] {
    return [...this.apiServers, ...this.operators].map(({ kube }) => kube);
  }

  listen(run: number, namespace: string, listener: StageListener): void {
    this.#runs.set(run, listener);
    this.#listeners.set(namespace, listener);
  }

  forget(run: number, namespace: string): void {
    this.#runs.delete(run);
    this.#listeners.delete(namespace);
  }

  /** Path of a kubeconfig for a node; `kubeServer`: its way to kube-apiserver, when not the direct one. */
  nodeIdentity(kubeServer?: string): Promise<string> {
    if (kubeServer !== undefined) return this.product.identity(FLEET_ACCOUNT, { kubeServer });
    // One file for all, written once: others read it at any time.
    this.#nodeIdentity ??= this.product.identity(FLEET_ACCOUNT);
    return this.#nodeIdentity;
  }

  /** The operator that holds the Lease. */
  async leader(): Promise<OperatorServer> {
    const key = { namespace: SYSTEM_NAMESPACE, name: 'meshkit-operator' };
    const lease = await patiently(() => this.product.kube.get(LEASES, key));
    const holder = lease.spec?.holderIdentity;
    return this.operators.find(({ name }) => name === holder) ?? this.operators[0];
  }

  /** The journal's: what every API server is to serve (3-api 3.1). */
  async lineage(): Promise<string> {
    const { items } = await patiently(() => this.product.kube.list(SHARD_JOURNAL_HEADS));
    const { cluster = '', nonce = '' } = items[0]?.spec ?? {};
    return nonce === '' ? cluster : `${cluster}.${nonce}`;
  }

  /** Which history each API server serves, and how far it has got; all have to be up. */
  async served(): Promise<VersionVector[]> {
    return Promise.all(this.apiServers.map(({ replica }) => patiently(() => this.#vectorOf(replica.url))));
  }

  /** Every API server knows everything up to this position. */
  async knownToAll(): Promise<string> {
    return positions(await this.served())[0]!;
  }

  /** None knows more than this; each knows what was stored when this was asked, or will be late. */
  async knownToAny(): Promise<string> {
    const { position } = this.oracle;
    const deadline = performance.now() + CAUGHT_UP_WITHIN_MS;
    for (;;) {
      const served = positions(await this.served());
      if (compareVersions(served[0]!, position) >= 0 || performance.now() > deadline) return served.at(-1)!;
      await sleep(20);
    }
  }

  async startOperator(operator: OperatorServer, flags: readonly string[] = []): Promise<void> {
    operator.child = await startOperator(this.product, operator, flags);
  }

  /** Ends operators and API servers without ceremony. */
  async killProduct(): Promise<void> {
    await Promise.all([
      ...this.operators.map(({ child }) => child.kill()),
      ...this.apiServers.map(({ replica }) => replica.child.kill()),
    ]);
  }

  async startProduct(operatorFlags: readonly string[]): Promise<void> {
    await Promise.all([
      ...this.operators.map((operator) => this.startOperator(operator, operatorFlags)),
      ...this.apiServers.map((server) => this.startApiServer(server)),
    ]);
  }

  async startApiServer({ replica }: ApiServer): Promise<void> {
    await this.product.startApiServer(replica);
  }

  async #vectorOf(server: string): Promise<VersionVector> {
    const { ca, token } = this;
    const client = new ShardClient({ server, ca, token });
    try {
      for await (const { versionVector } of client.pages({}, { limit: 1 })) return versionVector;
      throw new Error(`${server} answers a list without a page`);
    } finally {
      await client.close();
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.fleets.map((fleet) => fleet.stop()));
    await this.oracle.stop();
    for (const { child } of this.operators) child.resume();
    // Nothing is worth a graceful end: the data goes with the plane.
    await Promise.all([
      ...this.operators.map(({ child }) => child.kill()),
      ...this.apiServers.map(({ replica }) => replica.child.kill()),
    ]);
    await this.product.stop();
    await Promise.all(this.kubeLinks.map((proxy) => proxy.close()));
    await this.#ward.release();
    await this.plane.stop();
  }
}

/** Oldest first. */
function positions(served: readonly VersionVector[]): string[] {
  return served.map(({ position }) => position).sort(compareVersions);
}

/** 30 s at most. */
async function journalBegun(kube: KubeClient, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + 30_000;
  while ((await kube.list(SHARD_JOURNAL_HEADS, { signal })).items.length === 0) {
    if (performance.now() > deadline) throw new Error('no operator began the journal within 30 s');
    await sleep(50);
  }
}

function startOperator(product: Product, { name, kube }: Server, flags: readonly string[] = []) {
  return product.startOperator({
    name,
    kubeServer: kube.url,
    flags: ['--lease-duration', `${OPERATOR_LEASE_MS / 1_000}s`, '--identity', name, ...flags],
  });
}

function startOracle(
  plane: ControlPlane,
  kube: KubeClient,
  listeners: ReadonlyMap<string, StageListener>,
): Promise<Oracle> {
  const listener = {
    truth(position: string, namespace: string, name: string, state: ShardState | undefined) {
      listeners.get(namespace)?.truth(position, `${namespace}/${name}`, state);
    },
    restored(position: string) {
      for (const one of listeners.values()) one.restored(position);
    },
  };
  return plane.etcd ? EtcdOracle.start(plane.etcd, listener) : KubeOracle.start(kube, listener);
}

/** One identity for the nodes of all runs, with the rights of a node in every namespace. */
async function bindFleet(kube: KubeClient): Promise<void> {
  const account = { namespace: SYSTEM_NAMESPACE, name: FLEET_ACCOUNT };
  await kube.raw('POST', `/api/v1/namespaces/${SYSTEM_NAMESPACE}/serviceaccounts`, {
    body: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: account },
  });
  const group = 'rbac.authorization.k8s.io';
  await kube.raw('POST', `/apis/${group}/v1/clusterrolebindings`, {
    body: {
      apiVersion: `${group}/v1`,
      kind: 'ClusterRoleBinding',
      metadata: { name: FLEET_ACCOUNT },
      roleRef: { apiGroup: group, kind: 'ClusterRole', name: 'meshkit-shards-node' },
      subjects: [{ kind: 'ServiceAccount', ...account }],
    },
  });
}
