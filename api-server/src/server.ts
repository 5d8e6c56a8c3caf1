import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import { Gauge, type Registry } from 'prom-client';
import { AccessRecorder } from './access-record.ts';
import { Authorizer } from './access-review.ts';
import { EncodedViews } from './encoded-views.ts';
import type { Gates } from './grpc-call.ts';
import { type GrpcListener, listenGrpc } from './grpc-listener.ts';
import { shardService } from './grpc-service.ts';
import { HealthListener } from './health.ts';
import { historyOperations } from './history-operations.ts';
import { type JournalSource, KubernetesJournalSource } from './journal-source.ts';
import { KubernetesRepository } from './kubernetes-repository.ts';
import { type ListenAddress, type Listener, listenTls } from './listener.ts';
import { openApiAnswer } from './openapi.ts';
import type { Operation } from './operation.ts';
import { RateLimits } from './rate-limits.ts';
import { createRest } from './rest.ts';
import { REVIEW_CACHE_DEFAULTS, ReviewCache } from './review-cache.ts';
import { shardOperations } from './shard-operations.ts';
import { PLANS } from './simulate-operation.ts';
import { type Certificate, followCertificate, readCertificate, type TlsFiles } from './tls-files.ts';
import { Authenticator, type TokenVerdict } from './token-review.ts';
import { Turns } from './turns.ts';
import { watchShards } from './watch-operation.ts';

export interface ApiServerOptions {
  /** Not closed by the server. */
  client: KubeClient;
  listen: ListenAddress;
  healthListen: ListenAddress;
  /** Absent: no gRPC. */
  grpcListen?: ListenAddress;
  tls: TlsFiles;
  audience: string;
  acceptClusterAudience: boolean;
  /** Of one user; 0: no limit. */
  requestsPerSecond: number;
  /** Absent: the one that the operator keeps in the cluster. */
  journal?: JournalSource;
  /** Changes held for resuming watches and for later pages of a list. */
  ringSize?: number;
  /** Watches open at once, in all and of one user. */
  maxWatches?: number;
  maxWatchesPerUser?: number;
  clock: Clock;
  random: () => number;
  log: Log;
  registry: Registry;
}

export const WATCH_DEFAULTS = { ringSize: 100_000, maxWatches: 10_000, maxWatchesPerUser: 7_500 };
/** The ring holds fewer changes when they take more memory than this; said in `config.ts`. */
const RING_BYTES = 256 * 1024 * 1024;
/** Below the 10 s that a pod is promised here, so that the rest of the shutdown fits in. */
const DRAIN_MS = 8_000;

/**
 * The API server as one object: follows the cluster into memory, and serves it over HTTP/2 with TLS to whoever
 * Kubernetes RBAC allows. It stays up without kube-apiserver: not ready, refusing whom it cannot check.
 */
export class ApiServer {
  readonly #options: ApiServerOptions;
  readonly #repository: KubernetesRepository;
  /** One for all surfaces: plans are worked out one after the other. */
  readonly #plans = new Turns(PLANS);
  readonly #health: HealthListener;
  readonly #stopping = new AbortController();
  #listener: Listener | undefined;
  #grpc: GrpcListener | undefined;
  #started: Promise<unknown> = Promise.resolve();
  #running: Promise<unknown> = Promise.resolve();
  #draining = false;

  constructor(options: ApiServerOptions) {
    this.#options = options;
    const { ringSize, maxWatches, maxWatchesPerUser } = { ...WATCH_DEFAULTS, ...options };
    this.#repository = new KubernetesRepository({
      ...options,
      journal: options.journal ?? new KubernetesJournalSource(options),
      ring: { changes: ringSize, bytes: RING_BYTES },
      watches: { streams: maxWatches, streamsPerCaller: maxWatchesPerUser },
    });
    this.#health = new HealthListener({ notReady: () => this.notReady(), registry: options.registry });
    this.#registerGauges();
  }

  /** Why requests should go elsewhere; undefined when ready. */
  notReady(): string | undefined {
    if (this.#draining) return 'draining';
    const { cold, stale } = this.#repository.health();
    return cold ?? stale;
  }

  /**
   * Resolves once all ports answer; the cache may still be filling (see `/readyz`). Throws in one clear line.
   * `grpcAddress` is `host:port`, when gRPC is on.
   */
  start(): Promise<{ url: string; healthUrl: string; grpcAddress?: string }> {
    const started = this.#start();
    this.#started = started;
    return started;
  }

  async #start() {
    const { tls, healthListen, clock, log } = this.#options;
    const { signal } = this.#stopping;
    const certificate = await readCertificate(tls);
    const healthUrl = await this.#health.listen(healthListen);
    const { listener, grpc } = await this.#listen(certificate);
    const renew = (renewed: Certificate) => {
      listener.renew(renewed);
      grpc?.renew(renewed);
    };
    this.#running = Promise.all([
      this.#repository.run(signal),
      followCertificate(tls, certificate, renew, { clock, log, signal }),
      grpc?.run(signal),
    ]);
    // Handled here so that a failure before anybody waits for `stopped` does not end the process by itself.
    this.#running.catch((error: unknown) => log.error({ err: error }, 'a background task failed'));
    const addresses = { url: listener.url, healthUrl, grpcAddress: grpc?.address };
    log.info(addresses, 'listening');
    return addresses;
  }

  /** Resolves when the server was stopped; rejects when something that must not fail did. */
  async stopped(): Promise<void> {
    await this.#running;
  }

  /** Not ready at once; then requests under way finish, within 8 s; then everything ends. */
  async stop(): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    // What is being opened could not be closed yet.
    await Promise.allSettled([this.#started]);
    await this.#repository.drain();
    await Promise.all([this.#listener?.close(DRAIN_MS), this.#grpc?.close(DRAIN_MS)]);
    this.#stopping.abort();
    await Promise.allSettled([this.#running]);
    await this.#health.close();
  }

  async #listen(certificate: Certificate): Promise<{ listener: Listener; grpc?: GrpcListener }> {
    const { listen, clock } = this.#options;
    const gates = this.#gates();
    try {
      const listener = await listenTls(this.#rest(gates), listen, certificate, clock);
      this.#listener = listener;
      return { listener, grpc: await this.#listenGrpc(gates, certificate) };
    } catch (error) {
      await Promise.all([this.#listener?.close(0), this.#health.close()]);
      throw error;
    }
  }

  #rest(gates: Gates) {
    const { clock, random } = this.#options;
    const repository = this.#repository;
    const source = { repository, views: new EncodedViews(), clock, random, plans: this.#plans };
    const operations = [
      ...shardOperations(source),
      ...historyOperations(source),
      watchShards(source) as Operation,
    ];
    return createRest({ ...gates, operations, openApi: openApiAnswer(operations) });
  }

  async #listenGrpc(gates: Gates, certificate: Certificate): Promise<GrpcListener | undefined> {
    const { grpcListen: address } = this.#options;
    if (address === undefined) return undefined;
    const service = shardService({ ...gates, repository: this.#repository, plans: this.#plans });
    const notReady = () => this.notReady();
    this.#grpc = await listenGrpc({ ...gates, service, address, certificate, notReady });
    return this.#grpc;
  }

  /** One set for all surfaces: what was reviewed or used up on one counts on the others. */
  #gates(): Gates {
    const { client, clock, log, registry, audience, acceptClusterAudience } = this.#options;
    const cache = { ...REVIEW_CACHE_DEFAULTS, clock };
    return {
      authenticator: new Authenticator({
        client,
        cache: new ReviewCache<TokenVerdict>(cache),
        audience,
        acceptClusterAudience,
      }),
      authorizer: new Authorizer({ client, cache: new ReviewCache<boolean>(cache) }),
      limits: new RateLimits({ clock, requestsPerSecond: this.#options.requestsPerSecond }),
      cacheHealth: () => this.#repository.health(),
      recorder: new AccessRecorder(log, registry),
      clock,
      log,
    };
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
    gauge(
      'meshkit_journal_behind_seconds',
      'How long the oldest change has been known here that is not in the journal, by the head that is followed; 0: all are.',
      () => repository.journalBehindMs() / 1_000,
    );
    gauge('meshkit_api_ready', '1 when /readyz says ok.', () => (notReady() === undefined ? 1 : 0));
  }
}
