import { once } from 'node:events';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditEntry, ControlPlane, RestartOptions, StartOptions } from '../control-plane.ts';
import { PlaneAccess } from '../plane-access.ts';
import { type PlaneSecrets, writeSecrets } from '../plane-identity.ts';
import { freePorts } from '../ports.ts';
import { KUBERNETES_VERSION } from '../versions.ts';
import { requireEmpty, Ward } from '../ward.ts';
import { ApiServer } from './server.ts';

/** A Kubernetes API in this process, for instant start and fast tests; what it does is a closed table (README.md). */
export async function startEmbedded(options: StartOptions = {}): Promise<ControlPlane> {
  const { folder, signal, version = KUBERNETES_VERSION, log = () => undefined } = options;
  signal?.throwIfAborted();
  if (folder) await requireEmpty(folder);
  const [port = 0] = await freePorts(1);
  const ward = await Ward.create(folder);
  const secrets = await writeSecrets(ward.folder, `https://127.0.0.1:${port}`);
  const plane = new EmbeddedControlPlane(ward, port, version, secrets);
  try {
    await plane.listen();
    signal?.throwIfAborted();
  } catch (error) {
    await plane.stop();
    throw error;
  }
  log(`Embedded Kubernetes API (${version}) is ready at ${plane.url}`);
  return plane;
}

class EmbeddedControlPlane extends PlaneAccess implements ControlPlane {
  readonly kind = 'embedded';
  readonly version: string;
  readonly folder: string;
  readonly #ward: Ward;
  readonly #port: number;
  readonly #secrets: PlaneSecrets;
  readonly #server: ApiServer;
  #listener: Server | undefined;
  readonly #sockets = new Set<Socket>();
  #stopped: Promise<void> | undefined;

  constructor(ward: Ward, port: number, version: string, secrets: PlaneSecrets) {
    super(`https://127.0.0.1:${port}`, secrets);
    this.version = version;
    this.folder = ward.folder;
    this.#ward = ward;
    this.#port = port;
    this.#secrets = secrets;
    this.#server = new ApiServer(secrets.adminToken, version);
  }

  async listen(): Promise<void> {
    const { ca, server } = this.#secrets;
    // A certificate of another CA is answered by 401, not by a broken handshake.
    const clients = { ca: ca.cert, requestCert: true, rejectUnauthorized: false };
    const options = { ...server, ...clients, keepAliveTimeout: 90_000 };
    const listener = createServer(
      options,
      (request, response) => void this.#server.handle(request, response),
    );
    // Those in the middle of a TLS handshake are unknown to the HTTP server, which would wait for them when it closes.
    listener.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#listener = listener.listen(this.#port, '127.0.0.1');
    await once(listener, 'listening');
  }

  async compactEtcd(): Promise<void> {
    this.#server.store.compact();
  }

  async restart(options: RestartOptions = {}): Promise<void> {
    await this.#close();
    await sleep(options.downMs ?? 0);
    await options.whileDown?.();
    await this.listen();
  }

  async audit(since = 0): Promise<AuditEntry[]> {
    return this.#server.audit.filter(({ at }) => at >= since).sort((a, b) => a.at - b.at);
  }

  stop(): Promise<void> {
    this.#stopped ??= Promise.all([this.#close(), this.api.close()]).then(() => this.#ward.release());
    return this.#stopped;
  }

  async #close(): Promise<void> {
    if (!this.#listener?.listening) return;
    const closed = once(this.#listener.close(), 'close');
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
