import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
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
import { kubeconfigYaml } from '../kubeconfig.ts';
import { freePorts } from '../ports.ts';
import { KUBERNETES_VERSION } from '../versions.ts';
import { Ward } from '../ward.ts';
import { Cluster } from './cluster.ts';
import { Identities } from './identity.ts';
import { ApiServer } from './server.ts';

/** A Kubernetes API in this process, for instant start and fast tests; what it does is a closed table (see README.md). */
export async function startEmbedded(options: StartOptions = {}): Promise<ControlPlane> {
  const { folder, signal, version = KUBERNETES_VERSION, log = () => undefined } = options;
  signal?.throwIfAborted();
  if (folder) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    if ((await readdir(folder)).length > 0)
      throw new Error(`the folder for the control plane is not empty: ${folder}`);
  }
  const [port = 0] = await freePorts(1);
  const plane = await EmbeddedControlPlane.create(await Ward.create(folder), port, version);
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

class EmbeddedControlPlane implements ControlPlane {
  readonly kind = 'embedded';
  readonly version: string;
  readonly url: string;
  readonly folder: string;
  readonly #ward: Ward;
  readonly #port: number;
  readonly #authority: KeyedCertificate;
  readonly #certificate: KeyedCertificate;
  readonly #adminToken = randomBytes(24).toString('hex');
  readonly #cluster = new Cluster();
  readonly #identities: Identities;
  readonly #api: ApiServer;
  #server: Server | undefined;
  #stopped: Promise<void> | undefined;

  private constructor(
    ward: Ward,
    port: number,
    version: string,
    authority: KeyedCertificate,
    certificate: KeyedCertificate,
  ) {
    this.version = version;
    this.url = `https://127.0.0.1:${port}`;
    this.folder = ward.folder;
    this.#ward = ward;
    this.#port = port;
    this.#authority = authority;
    this.#certificate = certificate;
    this.#identities = new Identities(this.#cluster.store, this.#adminToken);
    this.#api = new ApiServer(this.#cluster, this.#identities, version);
  }

  static async create(ward: Ward, port: number, version: string): Promise<EmbeddedControlPlane> {
    const authority = await createAuthority('meshkit control plane');
    const hosts = ['127.0.0.1', 'localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
    const certificate = await issueServer(authority, { commonName: 'kube-apiserver', hosts });
    return new EmbeddedControlPlane(ward, port, version, authority, certificate);
  }

  async launch(): Promise<void> {
    const { caCert, caKey, adminKubeconfig } = planeFiles(this.folder);
    const mode = 0o600;
    await Promise.all([
      writeFile(caCert, this.#authority.cert, { mode }),
      writeFile(caKey, this.#authority.key, { mode }),
      writeFile(adminKubeconfig, await this.kubeconfig(), { mode }),
      this.#listen(),
    ]);
  }

  async kubeconfig(user: User | 'admin' = 'admin'): Promise<string> {
    const name = user === 'admin' ? user : user.name;
    const credentials =
      user === 'admin' ? { token: this.#adminToken } : await issueClient(this.#authority, user);
    return kubeconfigYaml({ server: this.url, ca: this.#authority.cert, user: name, credentials });
  }

  async serviceAccountKubeconfig(
    namespace: string,
    name: string,
    options: TokenOptions = {},
  ): Promise<string> {
    const account = this.#cluster.store.get('serviceaccounts.', `${namespace}/${name}`);
    if (!account)
      throw new Error(
        `no token for ServiceAccount ${namespace}/${name}: serviceaccounts "${name}" not found`,
      );
    const { status } = this.#identities.issue(account.object, { spec: options }) as {
      status: { token: string };
    };
    const user = `system:serviceaccount:${namespace}:${name}`;
    return kubeconfigYaml({
      server: this.url,
      ca: this.#authority.cert,
      user,
      credentials: status,
      namespace,
    });
  }

  async serverCertificate(options: {
    commonName: string;
    hosts: readonly string[];
  }): Promise<ServerCertificate> {
    return { ...(await issueServer(this.#authority, options)), ca: this.#authority.cert };
  }

  async compactEtcd(): Promise<void> {
    this.#cluster.store.compact();
  }

  async restart(options: { downMs?: number } = {}): Promise<void> {
    await this.#close();
    await sleep(options.downMs ?? 0);
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
    await this.#ward.release();
  }

  async #listen(): Promise<void> {
    const { cert, key } = this.#certificate;
    const server = createServer(
      // A certificate of another CA is answered by 401, not by a broken handshake.
      {
        cert,
        key,
        ca: this.#authority.cert,
        requestCert: true,
        rejectUnauthorized: false,
        keepAliveTimeout: 90_000,
      },
      (request, response) => void this.#api.handle(request, response),
    );
    this.#server = server;
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
  }

  async #close(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}
