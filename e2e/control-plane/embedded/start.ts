import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createAuthority, issueClient, issueServer, type KeyedCertificate } from '../certificates.ts';
import {
  type AuditEntry,
  type ControlPlane,
  planeFiles,
  type ServerCertificate,
  type StartOptions,
  type TokenOptions,
  type User,
} from '../control-plane.ts';
import { type Credentials, kubeconfigYaml } from '../kubeconfig.ts';
import { freePorts } from '../ports.ts';
import { KUBERNETES_VERSION } from '../versions.ts';
import { Ward } from '../ward.ts';
import { Cluster } from './cluster.ts';
import { Identities } from './identity.ts';
import { ApiServer } from './server.ts';

const HOSTS = ['127.0.0.1', 'localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];

/** A Kubernetes API in this process, for instant start and fast tests; what it does is a closed table (README.md). */
export async function startEmbedded(options: StartOptions = {}): Promise<ControlPlane> {
  const { folder, signal, version = KUBERNETES_VERSION, log = () => undefined } = options;
  signal?.throwIfAborted();
  if (folder) await requireEmpty(folder);
  const ca = await createAuthority('meshkit control plane');
  const server = await issueServer(ca, { commonName: 'kube-apiserver', hosts: HOSTS });
  const [port = 0] = await freePorts(1);
  const plane = new EmbeddedControlPlane({ ward: await Ward.create(folder), port, version, ca, server });
  try {
    await plane.launch();
    signal?.throwIfAborted();
  } catch (error) {
    await plane.stop();
    throw error;
  }
  log(`Embedded Kubernetes API (${version}) is ready at ${plane.url}`);
  return plane;
}

async function requireEmpty(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const found = await readdir(folder);
  if (found.length > 0) throw new Error(`the folder for the control plane is not empty: ${folder}`);
}

interface PlaneParts {
  ward: Ward;
  port: number;
  version: string;
  ca: KeyedCertificate;
  server: KeyedCertificate;
}

class EmbeddedControlPlane implements ControlPlane {
  readonly kind = 'embedded';
  readonly version: string;
  readonly url: string;
  readonly folder: string;
  readonly #parts: PlaneParts;
  readonly #adminToken = randomBytes(24).toString('hex');
  readonly #cluster = new Cluster();
  readonly #identities = new Identities(this.#cluster.store, this.#adminToken);
  readonly #api: ApiServer;
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();
  #stopped: Promise<void> | undefined;

  constructor(parts: PlaneParts) {
    this.version = parts.version;
    this.url = `https://127.0.0.1:${parts.port}`;
    this.folder = parts.ward.folder;
    this.#parts = parts;
    this.#api = new ApiServer(this.#cluster, this.#identities, parts.version);
  }

  async launch(): Promise<void> {
    const { caCert, caKey, adminKubeconfig } = planeFiles(this.folder);
    const { ca } = this.#parts;
    const files = { [caCert]: ca.cert, [caKey]: ca.key, [adminKubeconfig]: await this.kubeconfig() };
    const writes = Object.entries(files).map(([path, text]) => writeFile(path, text, { mode: 0o600 }));
    await Promise.all([...writes, this.#listen()]);
  }

  async kubeconfig(user: User | 'admin' = 'admin'): Promise<string> {
    if (user === 'admin') return this.#kubeconfig(user, { token: this.#adminToken });
    return this.#kubeconfig(user.name, await issueClient(this.#parts.ca, user));
  }

  async serviceAccountKubeconfig(namespace: string, name: string, options?: TokenOptions): Promise<string> {
    const account = this.#cluster.store.get('serviceaccounts.', `${namespace}/${name}`);
    const missing = `no token for ServiceAccount ${namespace}/${name}: serviceaccounts "${name}" not found`;
    if (!account) throw new Error(missing);
    const { status } = this.#identities.issue(account.object, { spec: options ?? {} });
    const { token } = status as { token: string };
    return this.#kubeconfig(`system:serviceaccount:${namespace}:${name}`, { token }, namespace);
  }

  #kubeconfig(user: string, credentials: Credentials, namespace?: string): string {
    return kubeconfigYaml({ server: this.url, ca: this.#parts.ca.cert, user, credentials, namespace });
  }

  async serverCertificate(options: {
    commonName: string;
    hosts: readonly string[];
  }): Promise<ServerCertificate> {
    const { ca } = this.#parts;
    return { ...(await issueServer(ca, options)), ca: ca.cert };
  }

  async compactEtcd(): Promise<void> {
    this.#cluster.store.compact();
  }

  async restart(options: { downMs?: number; whileDown?: () => Promise<void> } = {}): Promise<void> {
    await this.#close();
    await sleep(options.downMs ?? 0);
    await options.whileDown?.();
    await this.#listen();
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#end();
    return this.#stopped;
  }

  async audit(since = 0): Promise<AuditEntry[]> {
    return this.#api.audit.filter(({ at }) => at >= since).sort((a, b) => a.at - b.at);
  }

  async #end(): Promise<void> {
    this.#cluster.stop();
    await this.#close();
    await this.#parts.ward.release();
  }

  async #listen(): Promise<void> {
    const { ca, server: pair, port } = this.#parts;
    // A certificate of another CA is answered by 401, not by a broken handshake.
    const clients = { requestCert: true, rejectUnauthorized: false };
    const options = { ...pair, ca: ca.cert, ...clients, keepAliveTimeout: 90_000 };
    const server = createServer(options, (request, response) => void this.#api.handle(request, response));
    this.#server = server;
    // Those in the middle of a TLS handshake are not yet known to the HTTP server, which would wait for them when it closes.
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  }

  async #close(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
