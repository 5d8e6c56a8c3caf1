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
}

/** The whole product as processes on a control plane: operator, API server, and demo nodes as asked for. */
export class Product {
  readonly controlPlane: ControlPlane;
  /** As administrator. */
  readonly kube: KubeClient;
  /** `https://127.0.0.1:<port>` */
  apiUrl = '';
  /** `127.0.0.1:<port>` */
  grpcAddress = '';
  /** The operator that leads, or will. */
  operator!: Child;
  /** The API server of now. */
  apiServer!: Child;
  /** Folder of the processes' logs. */
  readonly logs: string;
  /** Paths of files that other programs use. */
  readonly files: { kubeconfig: string; ca: string; token: string };
  readonly #folder: string;
  readonly #signal: AbortSignal;
  readonly #apiServerFlags: readonly string[];
  #apiServerArguments: string[] = [];
  #healthUrl = '';
  #operatorUrl = '';
  readonly #children: Child[] = [];
  /** Ends the processes should we be killed. */
  #ward: Ward | undefined;

  private constructor(options: ProductOptions, kube: KubeClient) {
    this.controlPlane = options.controlPlane;
    this.kube = kube;
    this.#signal = options.signal;
    this.#apiServerFlags = options.apiServerFlags ?? [];
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

  async startOperator(): Promise<void> {
    const port = await freePort();
    const operator = await this.#start('operator', OPERATOR_MAIN, [
      '--kubeconfig',
      await this.#identity('meshkit-operator'),
      '--listen',
      `127.0.0.1:${port}`,
    ]);
    this.#operatorUrl = `http://127.0.0.1:${port}`;
    await operator.ready(`${this.#operatorUrl}/readyz`, this.#signal);
    this.operator = operator;
  }

  /** One process that plays these MeshNodes of the quickstart; their MeshNode objects must exist. */
  async startNodes(
    namespace: string,
    nodes: readonly string[],
    options: { leaseSeconds?: number } = {},
  ): Promise<Child> {
    const kubeconfig = await this.#identity('orders-worker', namespace);
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
    return (await fetch(`${this.#healthUrl}/metrics`, { signal: this.#signal })).text();
  }

  /** The same of the operator that was started last. */
  async operatorMetrics(): Promise<string> {
    return (await fetch(`${this.#operatorUrl}/metrics`, { signal: this.#signal })).text();
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

  async #startApiServer(adminKubeconfig: string, preferred?: number): Promise<void> {
    const [port, grpcPort, healthPort] = [await freePort(preferred), await freePort(), await freePort()];
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
    this.apiUrl = `https://127.0.0.1:${port}`;
    this.grpcAddress = `127.0.0.1:${grpcPort}`;
    this.#healthUrl = `http://127.0.0.1:${healthPort}`;
    this.#apiServerArguments = [
      '--kubeconfig',
      await this.#identity('meshkit-api-server'),
      '--listen',
      `127.0.0.1:${port}`,
      '--grpc-listen',
      this.grpcAddress,
      '--health-listen',
      `127.0.0.1:${healthPort}`,
      '--tls-cert',
      files.cert,
      '--tls-key',
      files.key,
      // So that people log in with the credentials of their kubeconfig.
      '--accept-cluster-audience',
      ...this.#apiServerFlags,
    ];
    await this.#writeKubeconfig(adminKubeconfig, ca);
    await this.startApiServer();
  }

  /** Starts it (again) at the same addresses; the one before must have ended. */
  async startApiServer(): Promise<void> {
    if (this.apiServer) this.#children.splice(this.#children.indexOf(this.apiServer), 1);
    this.apiServer = await this.#start('api-server', API_SERVER_MAIN, this.#apiServerArguments);
    await this.apiServer.ready(`${this.#healthUrl}/readyz`, this.#signal);
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

  /** A kubeconfig file with a token of this ServiceAccount. */
  async #identity(serviceAccount: string, namespace = SYSTEM_NAMESPACE): Promise<string> {
    const file = join(this.#folder, `${namespace}.${serviceAccount}.kubeconfig`);
    const day = 24 * 3600;
    const yaml = await this.controlPlane.serviceAccountKubeconfig(namespace, serviceAccount, {
      expirationSeconds: day,
    });
    await writeFile(file, yaml, { mode: 0o600 });
    return file;
  }

  async #start(name: string, script: string, args: string[]): Promise<Child> {
    const child = Child.start({ name, script, args, folder: this.#folder });
    this.#children.push(child);
    await this.#ward?.add(child);
    return child;
  }
}

function isReady(node: MeshNode): boolean {
  return node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}
