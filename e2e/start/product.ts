import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { applyManifest, installManifests } from '@meshkit/crds/install';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { silentLog } from '@meshkit/crds/log';
import { MESH_NODES } from '@meshkit/crds/resource';
import type { MeshNode } from '@meshkit/shards/records';
import { parse, stringify } from 'yaml';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { Ward } from '../control-plane/ward.ts';
import { Child, freePort, projectRoot } from './child.ts';

export const SYSTEM_NAMESPACE = 'meshkit-system';
const OPERATOR_MAIN = 'operator/src/main.ts';
const API_SERVER_MAIN = 'api-server/src/main.ts';
const DEMO_NODE = 'samples/01-quickstart/demo-node.ts';

export interface ProductOptions {
  controlPlane: ControlPlane;
  /** One line per step that takes a while. */
  say: (line: string) => void;
  signal: AbortSignal;
  /** Preferred port of the API server; another one when it is taken. */
  port?: number;
  /** False: nobody places shards; the starter writes what it needs. */
  operator?: boolean;
  /** Further flags of the API server. */
  apiServerFlags?: readonly string[];
  /** Further flags of the operator. */
  operatorFlags?: readonly string[];
  /** For Node itself, of operators and API servers: loader hooks, for example. */
  nodeArguments?: readonly string[];
  /** Where API server and operator find kube-apiserver (`https://127.0.0.1:<port>`, a proxy's); absent: at its own address. */
  kubeServers?: { apiServer?: string; operator?: string };
}

/** An API server as a process that may end and be started again at the same addresses. */
export interface ApiServerReplica {
  readonly name: string;
  /** `https://127.0.0.1:<port>` */
  readonly url: string;
  /** `127.0.0.1:<port>` */
  readonly grpcAddress: string;
  readonly healthUrl: string;
  readonly args: readonly string[];
  child: Child;
}

export interface OperatorOptions {
  /** Of its log; `operator` unless several run at once. */
  name?: string;
  kubeServer?: string;
  flags?: readonly string[];
}

/** The whole product as processes on a control plane: operator, API server, and demo nodes as asked for. */
export class Product {
  readonly controlPlane: ControlPlane;
  /** As administrator. */
  readonly kube: KubeClient;
  /** The operator that leads, or will. */
  operator!: Child;
  /** Folder of the processes' logs. */
  readonly logs: string;
  /** Paths of files that other programs use. */
  readonly files: { kubeconfig: string; ca: string; token: string };
  readonly #folder: string;
  readonly #signal: AbortSignal;
  readonly #options: ProductOptions;
  /** Of all its API servers. */
  #certificate: Promise<{ cert: string; key: string }> | undefined;
  #replica!: ApiServerReplica;
  #operatorUrl = '';
  readonly #children: Child[] = [];
  /** Ends the processes should we be killed. */
  #ward: Ward | undefined;

  private constructor(options: ProductOptions, kube: KubeClient) {
    this.controlPlane = options.controlPlane;
    this.kube = kube;
    this.#signal = options.signal;
    this.#options = options;
    this.#folder = join(options.controlPlane.folder, 'product');
    this.logs = this.#folder;
    const file = (name: string) => join(this.#folder, name);
    this.files = { kubeconfig: file('kubeconfig'), ca: file('ca.crt'), token: file('token') };
  }

  /** Installs the resources and roles, and starts operator and API server; resolves when both are ready. */
  static async start(options: ProductOptions): Promise<Product> {
    const { controlPlane, say, signal } = options;
    const admin = await controlPlane.kubeconfig('admin');
    const product = new Product(options, kubeFromString(admin));
    try {
      await mkdir(product.#folder, { recursive: true });
      product.#ward = await Ward.create(product.#folder);
      say('Applying resource definitions, admission policies and roles …');
      await installManifests(product.kube, { signal, log: silentLog });
      const operates = options.operator ?? true;
      say(operates ? 'Starting operator and API server …' : 'Starting API server …');
      await Promise.all([
        operates ? product.startOperator() : undefined,
        product.#startApiServer(admin, options.port),
      ]);
      return product;
    } catch (error) {
      await product.stop();
      throw error;
    }
  }

  /** The API server that `start` began, and everything else here means. */
  get apiServer(): Child {
    return this.#replica.child;
  }

  /** `https://127.0.0.1:<port>` */
  get apiUrl(): string {
    return this.#replica.url;
  }

  /** `127.0.0.1:<port>` */
  get grpcAddress(): string {
    return this.#replica.grpcAddress;
  }

  get replica(): ApiServerReplica {
    return this.#replica;
  }

  /** Another operator; with others running it stands by. Resolves when it is ready. */
  async startOperator(options: OperatorOptions = {}): Promise<Child> {
    const { name = 'operator', kubeServer = this.#options.kubeServers?.operator } = options;
    const port = await freePort();
    const operator = await this.#start(name, OPERATOR_MAIN, [
      '--kubeconfig',
      await this.identity('meshkit-operator', { kubeServer }),
      '--listen',
      `127.0.0.1:${port}`,
      ...(this.#options.operatorFlags ?? []),
      ...(options.flags ?? []),
    ]);
    this.#operatorUrl = `http://127.0.0.1:${port}`;
    await operator.ready(`${this.#operatorUrl}/readyz`, this.#signal);
    this.operator = operator;
    return operator;
  }

  /** One process that plays these MeshNodes of the quickstart; their MeshNode objects must exist. */
  async startNodes(
    namespace: string,
    nodes: readonly string[],
    options: { leaseSeconds?: number } = {},
  ): Promise<Child> {
    const kubeconfig = await this.identity('orders-worker', { namespace });
    return await this.#start(nodes.length === 1 ? (nodes[0] as string) : 'demo-nodes', DEMO_NODE, [
      '--kubeconfig',
      kubeconfig,
      '--namespace',
      namespace,
      '--lease-seconds',
      String(options.leaseSeconds ?? 10),
      ...nodes.flatMap((node) => ['--node', node]),
    ]);
  }

  /** Waits until the operator has found these MeshNodes ready; 30 s at most. */
  async nodesReady(namespace: string, names: readonly string[]): Promise<void> {
    const deadline = performance.now() + 30_000;
    for (;;) {
      const { items } = await this.kube.listAll(MESH_NODES, { namespace, signal: this.#signal });
      const ready = new Set(items.filter(isReady).map(({ metadata }) => metadata.name));
      const missing = names.filter((name) => !ready.has(name));
      if (missing.length === 0) return;
      if (performance.now() > deadline) throw new Error(`not ready within 30 s: ${missing.join(', ')}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Applies a YAML file (path from the project's root), as `kubectl apply --server-side` would. */
  async apply(path: string): Promise<void> {
    await applyManifest(this.kube, await readFile(join(projectRoot, path), 'utf8'), { signal: this.#signal });
  }

  /** The API server's /metrics, Prometheus text. */
  async metrics(): Promise<string> {
    return (await fetch(`${this.#replica.healthUrl}/metrics`, { signal: this.#signal })).text();
  }

  /** The same of the operator that was started last. */
  async operatorMetrics(): Promise<string> {
    return (await fetch(`${this.#operatorUrl}/metrics`, { signal: this.#signal })).text();
  }

  /** 200 or 503 of its /readyz, and of the API server's. */
  async readiness(): Promise<{ operator: number; apiServer: number }> {
    const ask = async (url: string) => (await fetch(`${url}/readyz`, { signal: this.#signal })).status;
    return { operator: await ask(this.#operatorUrl), apiServer: await ask(this.#replica.healthUrl) };
  }

  /** Processes that ended although nobody stopped them. */
  crashed(): Child[] {
    return this.#children.filter((child) => !child.running);
  }

  /** Resolves with the first process that ends by itself, or with nothing once `signal` aborts. */
  async firstCrash(signal: AbortSignal): Promise<Child | undefined> {
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([aborted, ...this.#children.map((child) => child.ended)]);
    return signal.aborted ? undefined : this.crashed()[0];
  }

  /** Stops the processes; the control plane is its starter's. */
  async stop(): Promise<void> {
    await Promise.all(this.#children.splice(0).map((child) => child.stop()));
    await this.#ward?.release();
    await this.kube.close();
  }

  /** Another API server, at addresses of its own. Resolves when it is ready. */
  async addApiServer(options: {
    name: string;
    port?: number;
    kubeServer?: string;
  }): Promise<ApiServerReplica> {
    const { name, kubeServer } = options;
    const [port, grpcPort, healthPort] = [await freePort(options.port), await freePort(), await freePort()];
    const { cert, key } = await this.#servingCertificate();
    const grpcAddress = `127.0.0.1:${grpcPort}`;
    const args = [
      '--kubeconfig',
      await this.identity('meshkit-api-server', { kubeServer }),
      '--listen',
      `127.0.0.1:${port}`,
      '--grpc-listen',
      grpcAddress,
      '--health-listen',
      `127.0.0.1:${healthPort}`,
      '--tls-cert',
      cert,
      '--tls-key',
      key,
      // So that people log in with the credentials of their kubeconfig.
      '--accept-cluster-audience',
      ...(this.#options.apiServerFlags ?? []),
    ];
    const replica = {
      name,
      url: `https://127.0.0.1:${port}`,
      grpcAddress,
      healthUrl: `http://127.0.0.1:${healthPort}`,
      args,
      child: await this.#start(name, API_SERVER_MAIN, args),
    };
    await replica.child.ready(`${replica.healthUrl}/readyz`, this.#signal);
    return replica;
  }

  async #startApiServer(adminKubeconfig: string, port?: number): Promise<void> {
    const kubeServer = this.#options.kubeServers?.apiServer;
    this.#replica = await this.addApiServer({ name: 'api-server', port, kubeServer });
    await this.#writeKubeconfig(adminKubeconfig, await readFile(this.files.ca, 'utf8'));
  }

  #servingCertificate(): Promise<{ cert: string; key: string }> {
    this.#certificate ??= this.#writeCertificate();
    return this.#certificate;
  }

  async #writeCertificate(): Promise<{ cert: string; key: string }> {
    const { cert, key, ca } = await this.controlPlane.serverCertificate({
      commonName: 'meshkit-shards',
      hosts: ['localhost', '127.0.0.1'],
    });
    const files = { cert: join(this.#folder, 'api-server.crt'), key: join(this.#folder, 'api-server.key') };
    await Promise.all([
      writeFile(files.cert, cert),
      writeFile(files.key, key, { mode: 0o600 }),
      writeFile(this.files.ca, ca),
    ]);
    return files;
  }

  /** Starts it (again) at the same addresses; the one before must have ended. */
  async startApiServer(replica = this.#replica): Promise<void> {
    this.#children.splice(this.#children.indexOf(replica.child), 1);
    replica.child = await this.#start(replica.name, API_SERVER_MAIN, replica.args);
    await replica.child.ready(`${replica.healthUrl}/readyz`, this.#signal);
  }

  /** The administrator's kubeconfig, told where the API server is, so that `kubectl mesh` needs no flags. */
  async #writeKubeconfig(adminKubeconfig: string, ca: string): Promise<void> {
    const config = parse(adminKubeconfig);
    config.clusters[0].cluster.extensions = [
      {
        name: 'meshkit.omnirelay.io',
        extension: { server: this.apiUrl, certificateAuthorityData: Buffer.from(ca).toString('base64') },
      },
    ];
    await writeFile(this.files.kubeconfig, stringify(config, { lineWidth: 0 }), { mode: 0o600 });
    await writeFile(this.files.token, config.users[0].user.token, { mode: 0o600 });
  }

  /** Path of a kubeconfig with a token of this ServiceAccount; `kubeServer`: its way to kube-apiserver, when not the direct one. */
  async identity(
    serviceAccount: string,
    options: { namespace?: string; kubeServer?: string } = {},
  ): Promise<string> {
    const { namespace = SYSTEM_NAMESPACE, kubeServer } = options;
    const way = kubeServer === undefined ? '' : `.${new URL(kubeServer).port}`;
    const file = join(this.#folder, `${namespace}.${serviceAccount}${way}.kubeconfig`);
    const day = 24 * 3600;
    const yaml = await this.controlPlane.serviceAccountKubeconfig(namespace, serviceAccount, {
      expirationSeconds: day,
    });
    await writeFile(file, kubeServer === undefined ? yaml : yaml.replace(this.controlPlane.url, kubeServer), {
      mode: 0o600,
    });
    return file;
  }

  async #start(name: string, script: string, args: readonly string[]): Promise<Child> {
    const { nodeArguments } = this.#options;
    const child = Child.start({ name, script, args, folder: this.#folder, nodeArguments });
    this.#children.push(child);
    await this.#ward?.add(child);
    return child;
  }
}

function isReady(node: MeshNode): boolean {
  return node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}
