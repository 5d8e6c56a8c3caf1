import { join } from 'node:path';
import { systemClock } from '@meshkit/crds/clock';
import { AdminApi } from './admin-api.ts';
import { readAudit } from './audit.ts';
import type { Binaries } from './binaries.ts';
import type { AuditEntry, ControlPlane, EtcdAccess, RestartOptions, StartOptions } from './control-plane.ts';
import { PlaneAccess } from './plane-access.ts';
import { type PlaneIdentity, writeIdentity } from './plane-identity.ts';
import { freePorts } from './ports.ts';
import { apiServerFlags, controllerManagerFlags, etcdFlags, FILES } from './server-flags.ts';
import { ServerProcess } from './server-process.ts';
import type { BinaryName } from './versions.ts';
import { requireEmpty, sweepLeftovers, Ward } from './ward.ts';

/** Of kube-controller-manager, while kube-apiserver is not ready. */
const MOST_RESTARTS = 5;
const START_DEADLINE_MS = 60_000;
const POLL_MS = 50;
const PORT_ATTEMPTS = 3;
const ETCD_GRACE_MS = 5_000;

type ServerName = Exclude<BinaryName, 'kubectl'>;
const SERVERS: readonly ServerName[] = ['etcd', 'kube-apiserver', 'kube-controller-manager'];

export interface RealOptions extends StartOptions {
  binaries: Binaries;
}

/**
 * etcd, kube-apiserver and kube-controller-manager on free loopback ports; resolves when kube-apiserver is
 * ready. Rejects with the last lines of the log of whichever server ended early, or after 60 s.
 */
export async function startReal(options: RealOptions): Promise<ControlPlane> {
  const log = options.log ?? (() => undefined);
  for (const line of await sweepLeftovers()) log(line);
  if (options.folder) await requireEmpty(options.folder);
  for (let attempt = 1; ; attempt++) {
    options.signal?.throwIfAborted();
    const ward = await Ward.create(options.folder);
    const [port = 0, etcdPort = 0] = await freePorts(2);
    const identity = await writeIdentity(ward.folder, `https://127.0.0.1:${port}`);
    const plane = new RealControlPlane({ ...options, log, ward, identity, port, etcdPort });
    try {
      await plane.launch(options.signal);
      return plane;
    } catch (error) {
      await plane.stop();
      if (!(error instanceof PortTaken) || attempt === PORT_ATTEMPTS) throw error;
      log(`${error.message.split('\n')[0]}; trying other ports`);
    }
  }
}

/** Something else took the port between our look and the server's. */
class PortTaken extends Error {}

interface PlaneParts {
  log: (line: string) => void;
  binaries: Binaries;
  ward: Ward;
  identity: PlaneIdentity;
  port: number;
  etcdPort: number;
}

class RealControlPlane extends PlaneAccess implements ControlPlane {
  readonly kind = 'real';
  readonly version: string;
  readonly folder: string;
  readonly kubectl: string;
  readonly etcd: EtcdAccess;
  readonly #parts: PlaneParts;
  readonly #servers = new Map<ServerName, ServerProcess>();
  readonly #etcd: AdminApi;
  readonly #stopping = new AbortController();
  /** Whether the last start or restart has come to its end: what happens before that, it reports itself. */
  #serving = false;
  #stopped: Promise<void> | undefined;

  constructor(parts: PlaneParts) {
    const { binaries, identity, ward } = parts;
    super(`https://127.0.0.1:${parts.port}`, identity);
    this.version = binaries.version;
    this.folder = ward.folder;
    this.kubectl = join(binaries.folder, 'kubectl');
    this.#parts = parts;
    const { cert, key } = identity.etcdClient;
    this.etcd = { url: `https://127.0.0.1:${parts.etcdPort}`, ca: identity.etcdCa.cert, cert, key };
    this.#etcd = new AdminApi(this.etcd);
  }

  async launch(signal?: AbortSignal): Promise<void> {
    const began = performance.now();
    for (const name of SERVERS) await this.#start(name);
    await this.#ready(signal);
    this.#serving = true;
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    this.#parts.log(`Kubernetes ${this.version} is ready at ${this.url} after ${seconds} s`);
  }

  async compactEtcd(): Promise<void> {
    // Any answer names the current revision; the key "/" itself does not exist.
    const answer = await this.#etcd.call('POST', '/v3/kv/range', {
      key: Buffer.from('/').toString('base64'),
    });
    const { header } = JSON.parse(answer.body) as { header: { revision: string } };
    const compaction = { revision: header.revision, physical: true };
    const { status, body } = await this.#etcd.call('POST', '/v3/kv/compaction', compaction, 30_000);
    if (status !== 200) throw new Error(`etcd refused the compaction: ${body}`);
    await this.#cycle(['kube-apiserver']);
  }

  restart(options: RestartOptions = {}): Promise<void> {
    return this.#cycle(SERVERS, options);
  }

  audit(since?: number): Promise<AuditEntry[]> {
    return readAudit(join(this.folder, FILES.auditLog), since);
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(new Error('the control plane was stopped'));
    // Nothing is worth a graceful end here: the data goes with the folder.
    await Promise.all([...this.#servers.values()].map((server) => server.stop(0)));
    await Promise.all([this.api.close(), this.#etcd.close()]);
    await this.#parts.ward.release();
  }

  async #cycle(
    names: readonly ServerName[],
    { downMs = 0, whileDown, etcdAlone }: RestartOptions = {},
  ): Promise<void> {
    this.#serving = false;
    // kube-apiserver asked politely waits up to a minute for open watches, so it is killed; etcd is asked.
    for (const name of names.toReversed()) {
      if (name === 'etcd') await etcdAlone?.('before');
      await this.#servers.get(name)?.stop(name === 'etcd' ? ETCD_GRACE_MS : 0);
    }
    await systemClock.sleep(downMs, this.#stopping.signal);
    await whileDown?.();
    for (const name of names) {
      await this.#start(name);
      if (name === 'etcd') await etcdAlone?.('after');
    }
    await this.#ready();
    this.#serving = true;
  }

  async #start(name: ServerName): Promise<void> {
    this.#stopping.signal.throwIfAborted();
    const { binaries, log, port, etcdPort, ward } = this.#parts;
    const flags = {
      etcd: () => etcdFlags(etcdPort),
      'kube-apiserver': () => apiServerFlags({ version: this.version, port, etcdPort }),
      'kube-controller-manager': () => controllerManagerFlags(),
    };
    const server = new ServerProcess({
      name,
      binary: join(binaries.folder, name),
      args: flags[name](),
      logFile: join(this.folder, `${name}.log`),
      cwd: this.folder,
    });
    this.#servers.set(name, server);
    void server.ended.then((ending) => {
      if (this.#serving && !server.stopping)
        log(`${name} ended unexpectedly: ${ending} (its log: ${server.logFile})`);
    });
    await ward.add(server);
  }

  /** Polls `/readyz` until kube-apiserver says ok; the controller manager needs no longer than that. */
  async #ready(signal?: AbortSignal): Promise<void> {
    const deadline = performance.now() + START_DEADLINE_MS;
    const stop = AbortSignal.any([this.#stopping.signal, ...(signal ? [signal] : [])]);
    let last = 'no answer yet';
    let patience = MOST_RESTARTS;
    while (performance.now() < deadline) {
      stop.throwIfAborted();
      // It waits 10 s for a kube-apiserver that is well, which takes longer on a busy machine, and then gives up.
      const manager = this.#servers.get('kube-controller-manager');
      if (manager && !manager.running && patience > 0) {
        patience -= 1;
        await this.#start('kube-controller-manager');
      }
      await this.#throwIfEnded();
      try {
        const { status, body } = await this.api.call('GET', '/readyz', undefined, 2_000);
        if (status === 200) return;
        last = `/readyz says ${status}: ${body.slice(0, 300)}`;
      } catch (error) {
        last = error instanceof Error ? error.message : String(error);
      }
      await systemClock.sleep(POLL_MS, stop);
    }
    const tail = await this.#servers.get('kube-apiserver')?.tail();
    throw new Error(
      `kube-apiserver was not ready within ${START_DEADLINE_MS / 1000} s (${last}); its last lines:\n${tail}`,
    );
  }

  async #throwIfEnded(): Promise<void> {
    for (const server of this.#servers.values()) {
      if (server.running) continue;
      const [ending, tail] = await Promise.all([server.ended, server.tail()]);
      const message = `${server.name} ended before it was ready: ${ending}; its last lines:\n${tail}`;
      throw /address already in use/i.test(tail) ? new PortTaken(message) : new Error(message);
    }
  }
}
