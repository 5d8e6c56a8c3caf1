import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import { Gauge, type Registry } from 'prom-client';
import { AccessRecorder } from './access-record.ts';
import { Authorizer } from './access-review.ts';
import { HealthListener } from './health.ts';
import { KubernetesRepository } from './kubernetes-repository.ts';
import { type ListenAddress, type Listener, listenTls } from './listener.ts';
import { createRest } from './rest.ts';
import { REVIEW_CACHE_DEFAULTS, ReviewCache } from './review-cache.ts';
import { shardOperations } from './shard-operations.ts';
import { type Certificate, followCertificate, readCertificate, type TlsFiles } from './tls-files.ts';
import { Authenticator, type TokenVerdict } from './token-review.ts';

export interface ApiServerOptions {
  /** Not closed by the server. */
  client: KubeClient;
  listen: ListenAddress;
  healthListen: ListenAddress;
  tls: TlsFiles;
  audience: string;
  acceptClusterAudience: boolean;
  clock: Clock;
  random: () => number;
  log: Log;
  registry: Registry;
}

/** Below the 10 s that a pod is promised here, so that the rest of the shutdown fits in. */
const DRAIN_MS = 8_000;

/**
 * The API server as one object: follows the cluster into memory, and serves it over HTTP/2 with TLS to whoever
 * Kubernetes RBAC allows. It stays up without kube-apiserver: not ready, refusing whom it cannot check.
 */
export class ApiServer {
  readonly #options: ApiServerOptions;
  readonly #repository: KubernetesRepository;
  readonly #health: HealthListener;
  readonly #stopping = new AbortController();
  #listener: Listener | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #draining = false;

  constructor(options: ApiServerOptions) {
    this.#options = options;
    this.#repository = new KubernetesRepository(options);
    this.#health = new HealthListener({ notReady: () => this.notReady(), registry: options.registry });
    this.#registerGauges();
  }

  /** Why requests should go elsewhere; undefined when ready. */
  notReady(): string | undefined {
    if (this.#draining) return 'draining';
    const { cold, stale } = this.#repository.health();
    return cold ?? stale;
  }

  /** Resolves once both ports answer; the cache may still be filling (see `/readyz`). Throws in one clear line. */
  async start(): Promise<{ url: string; healthUrl: string }> {
    const { tls, healthListen, clock, log } = this.#options;
    const { signal } = this.#stopping;
    const certificate = await readCertificate(tls);
    const healthUrl = await this.#health.listen(healthListen);
    const listener = await this.#listen(certificate);
    this.#running = Promise.all([
      this.#repository.run(signal),
      followCertificate(tls, certificate, (renewed) => listener.renew(renewed), { clock, log, signal }),
    ]);
    // Handled here so that a failure before anybody waits for `stopped` does not end the process by itself.
    this.#running.catch((error: unknown) => log.error({ err: error }, 'a background task failed'));
    log.info({ url: listener.url, healthUrl }, 'listening');
    return { url: listener.url, healthUrl };
  }

  /** Resolves when the server was stopped; rejects when something that must not fail did. */
  async stopped(): Promise<void> {
    await this.#running;
  }

  /** Not ready at once; then requests under way finish, within 8 s; then everything ends. */
  async stop(): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    await this.#listener?.close(DRAIN_MS);
    this.#stopping.abort();
    await Promise.allSettled([this.#running]);
    await this.#health.close();
  }

  async #listen(certificate: Certificate): Promise<Listener> {
    try {
      this.#listener = await listenTls(this.#rest(), this.#options.listen, certificate, this.#options.clock);
      return this.#listener;
    } catch (error) {
      await this.#health.close();
      throw error;
    }
  }

  #rest() {
    const { client, clock, log, registry, audience, acceptClusterAudience } = this.#options;
    const cache = { ...REVIEW_CACHE_DEFAULTS, clock };
    return createRest({
      operations: shardOperations(this.#repository),
      authenticator: new Authenticator({
        client,
        cache: new ReviewCache<TokenVerdict>(cache),
        audience,
        acceptClusterAudience,
      }),
      authorizer: new Authorizer({ client, cache: new ReviewCache<boolean>(cache) }),
      cacheHealth: () => this.#repository.health(),
      recorder: new AccessRecorder(log, registry),
      clock,
      log,
    });
  }

  #registerGauges(): void {
    const { registry } = this.#options;
    const repository = this.#repository;
    const notReady = () => this.notReady();
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(value());
        },
      });
    gauge('meshkit_cache_shards', 'Shards in memory.', () => repository.counts().shards);
    gauge('meshkit_cache_nodes', 'Mesh nodes in memory.', () => repository.counts().nodes);
    gauge('meshkit_api_ready', '1 when /readyz says ok.', () => (notReady() === undefined ? 1 : 0));
  }
}
