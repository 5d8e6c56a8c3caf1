import { isChangedByGuarded } from '@meshkit/crds/changed-by';
import { Informer, objectKey } from '@meshkit/crds/informer';
import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { reflect } from '@meshkit/crds/reflector';
import { LEASES, type Lease, MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { poolNamespace } from '@meshkit/shards/candidates';
import type { Clock } from '@meshkit/shards/clock';
import { isReleased } from '@meshkit/shards/epoch';
import { ShardError } from '@meshkit/shards/errors';
import type { KubeObject, MeshNode, ShardAssignment, ShardSet } from '@meshkit/shards/records';
import { unstamped } from '@meshkit/shards/transition';
import { EventRecorder } from './event-recorder.ts';
import { type HealthServer, startHealthServer } from './health-server.ts';
import { JournalController } from './journal-controller.ts';
import type { JournalSettings } from './journal-settings.ts';
import { LeaderLease, renewEveryMs } from './leader-lease.ts';
import { LineageWitness } from './lineage-witness.ts';
import { Liveness } from './liveness.ts';
import { OperatorMetrics } from './metrics.ts';
import { NodeReconciler } from './node-reconciler.ts';
import { SetReconciler } from './set-reconciler.ts';
import { type Reconcile, WorkQueue } from './work-queue.ts';

export interface ManagerOptions {
  client: KubeClient;
  /** Of the leader Lease. */
  namespace: string;
  leaseName: string;
  /** Serve this namespace alone; absent: all. */
  watchNamespace?: string;
  leaseDurationMs: number;
  identity: string;
  /** Of this program. */
  version?: string;
  listen: { host: string; port: number };
  nodeLeaseDurationMs: number;
  concurrentSets: number;
  parallelWrites: number;
  clock: Clock;
  random: () => number;
  log: Log;
  /** Memory, CPU and event loop of the process too; off in tests that run several in one process. */
  processMetrics?: boolean;
  /** Absent: no journal is written. */
  journal?: JournalSettings;
  /** Called once `/livez` answers. */
  onListening?: (address: string) => void;
}

/** How long a node's death may wait for kube-apiserver's word, at most, before it is asked again. */
const CONFIRM_TIMEOUT_MS = 1000;
const NODE_WORKERS = 8;
/** After a restore of etcd, writing goes on after this long even if kube-apiserver does not answer lists. */
const REFRESH_WITHIN_MS = 15_000;
/** What could not be written meanwhile is looked at again after this long. */
const HALTED_RETRY_MS = 1000;
/** So many renewals of the leader have to be missing before nobody is believed to be able to write Leases. */
const SILENT_RENEWALS = 2;

/** The queues of one term of leadership. */
interface Term {
  sets: WorkQueue;
  nodes: WorkQueue;
  reconciler: SetReconciler;
}

/**
 * The whole operator: caches and liveness run always, so that a standby is warm; the reconcilers run only while this
 * process leads, anew each term. Whatever changes becomes a key in a queue: `namespace/name` of a ShardSet or MeshNode.
 */
export class Manager {
  readonly #options: ManagerOptions;
  readonly #metrics: OperatorMetrics;
  readonly #sets: Informer<ShardSet>;
  readonly #shards: Informer<ShardAssignment>;
  readonly #nodes: Informer<MeshNode>;
  readonly #leases = { synced: Promise.withResolvers<void>(), isSynced: false, connected: false, error: '' };
  readonly #liveness: Liveness;
  readonly #leader: LeaderLease;
  readonly #events: EventRecorder;
  readonly #witness: LineageWitness | undefined;
  #term: Term | undefined;
  #journal: JournalController | undefined;
  #highestEpoch = 0;
  /** A policy guards the stamp of who changed a spec; not believed until kube-apiserver has said so. */
  #guarded = false;
  readonly #believed = <T extends KubeObject>(object: T): T => (this.#guarded ? object : unstamped(object));
  /** The caches may hold what a restore of etcd took back; by the monotonic clock, no longer than this. */
  #staleUntil = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<unknown> = Promise.resolve();

  constructor(options: ManagerOptions) {
    this.#options = options;
    const { client, clock, random, log, namespace, leaseName, identity } = options;
    this.#metrics = new OperatorMetrics({
      monotonic: () => clock.monotonic(),
      processMetrics: options.processMetrics,
    });
    const base = { client, clock, random, log };
    const watched = { ...base, namespace: options.watchNamespace };
    this.#sets = new Informer({
      ...watched,
      resource: SHARD_SETS,
      indexes: { pool: (set) => [poolNamespace(set) ?? ''] },
    });
    this.#shards = new Informer({
      ...watched,
      resource: SHARD_ASSIGNMENTS,
      indexes: { set: (shard) => [setKey(shard)] },
    });
    this.#nodes = new Informer({
      ...watched,
      resource: MESH_NODES,
      indexes: { namespace: (node) => [node.metadata.namespace ?? ''] },
    });
    this.#liveness = new Liveness({
      clock,
      log,
      confirm: (key, signal) => this.#readLease(key, signal),
      onChange: (key) => this.#nodeReadinessChanged(key),
      defaultDurationMs: options.nodeLeaseDurationMs,
      silenceMs: SILENT_RENEWALS * renewEveryMs(options.leaseDurationMs),
    });
    this.#leader = new LeaderLease({
      ...base,
      namespace,
      name: leaseName,
      version: options.version,
      identity,
      durationMs: options.leaseDurationMs,
      onChange: (leading) => this.#metrics.leader.set({ name: leaseName }, leading ? 1 : 0),
      onHold: () => this.#liveness.heard(),
    });
    this.#events = new EventRecorder({
      client,
      controller: 'meshkit.omnirelay.io/operator',
      instance: identity,
      clock,
      log,
      count: (result) => this.#metrics.events.inc({ result }),
    });
    const { journal } = options;
    this.#witness =
      journal &&
      new LineageWitness({
        ...base,
        journal: journal.name,
        request: journal.newLineage,
        onRestore: () => this.#journal?.restored(),
        onNewHistory: () => this.#refresh(),
      });
    this.#sets.onChange(({ key }) => this.#term?.sets.add(key));
    this.#shards.onChange(({ type, object, previous }) => {
      this.#highestEpoch = Math.max(this.#highestEpoch, object.status?.epoch ?? 0);
      if (type !== 'DELETED' && isReleased(object) && !(previous && isReleased(previous))) {
        this.#term?.reconciler.released(object);
      }
      this.#term?.sets.add(setKey(object));
    });
    this.#nodes.onChange(({ type, key, object, previous }) => {
      if (type === 'DELETED') this.#liveness.nodeDeleted(key);
      else this.#liveness.nodeChanged(object);
      this.#term?.nodes.add(key);
      if (!previous || type === 'DELETED' || matters(previous, object))
        this.#addSetsOf(object.metadata.namespace);
    });
  }

  /**
   * Works until aborted, then stops in order: no new work, what is under way ends, the Lease is given back.
   * Rejects when the health address cannot be bound or something ended that must not.
   */
  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const caches = new AbortController();
    const abort = () => stop.abort(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    const health = await this.#listen();
    // The caches and the events outlive the reconcilers, which still read and write while they stop.
    const background = Promise.all([
      this.#sets.run(caches.signal),
      this.#shards.run(caches.signal),
      this.#nodes.run(caches.signal),
      this.#followLeases(caches.signal),
      this.#liveness.run(caches.signal),
      this.#events.run(caches.signal),
      this.#witness?.run(caches.signal),
      this.#askForGuard(caches.signal),
    ]).catch((error: unknown) => {
      stop.abort(error);
      throw error;
    });
    try {
      await Promise.race([this.#leadWhenSynced(stop.signal), background]);
    } finally {
      signal.removeEventListener('abort', abort);
      stop.abort();
      caches.abort();
      await health.close();
    }
    await background;
    await this.#refreshing;
  }

  /** What keeps this process from being ready; a standby with warm caches is ready. */
  unready(): string[] {
    const watched = [
      ['shardsets', this.#sets.state],
      ['shardassignments', this.#shards.state],
      ['meshnodes', this.#nodes.state],
      ['leases', { ...this.#leases, synced: this.#leases.isSynced, lastError: this.#leases.error }],
    ] as const;
    const problems = watched.flatMap(([resource, { synced, connected, lastError }]) => {
      const error = lastError ? `: ${lastError}` : '';
      if (!synced) return [`${resource} not listed yet${error}`];
      return connected ? [] : [`the watch of ${resource} is interrupted${error}`];
    });
    return [...problems, ...(this.#journal?.unready() ?? [])];
  }

  async #leadWhenSynced(signal: AbortSignal): Promise<void> {
    try {
      await Promise.all([
        this.#sets.synced(signal),
        this.#shards.synced(signal),
        this.#nodes.synced(signal),
        raceAbort(this.#leases.synced.promise, signal),
      ]);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    this.#options.log.info({}, 'caches synced');
    await this.#leader.run(signal, (term) => this.#lead(term));
  }

  /** The journal first: what was granted before this term is written down before anything new is granted. */
  async #lead(signal: AbortSignal): Promise<void> {
    const journal = this.#journalOfTerm();
    if (!journal) return this.#reconcile(signal);
    const over = new AbortController();
    const end = AbortSignal.any([signal, over.signal]);
    this.#journal = journal;
    const writing = journal.run(end).finally(() => over.abort());
    try {
      await journal.ready(end);
      if (!end.aborted) await this.#reconcile(end);
    } finally {
      over.abort();
      await writing;
      this.#journal = undefined;
    }
  }

  #journalOfTerm(): JournalController | undefined {
    const { client, clock, random, log, watchNamespace, journal: settings } = this.#options;
    if (!settings || !this.#witness) return undefined;
    return new JournalController({
      client,
      clock,
      random,
      log,
      settings,
      namespace: watchNamespace,
      witness: this.#witness,
      shards: () => this.#shards.list(),
      position: () => this.#shards.state.resourceVersion,
      highestEpoch: () => this.#highestEpoch,
      believed: this.#believed,
      onRenewed: () => this.#refresh(),
      onKnown: () => this.#addAll(),
      metrics: this.#metrics.journal,
    });
  }

  #addAll(): void {
    for (const set of this.#sets.list()) this.#term?.sets.add(objectKey(set));
    for (const shard of this.#shards.list()) this.#term?.sets.add(setKey(shard));
    for (const node of this.#nodes.list()) this.#term?.nodes.add(objectKey(node));
  }

  /** A restore stops grants until a new lineage has begun, and the caches show what is left. */
  #leads(): boolean {
    const isStale = this.#options.clock.monotonic() < this.#staleUntil;
    return this.#leader.leads() && this.#journal?.halted !== true && !isStale;
  }

  /** A key that was worked on while nothing may be written comes back, however long that lasts. */
  #untilWritten(reconcile: Reconcile): Reconcile {
    return async (key, signal) => {
      const led = this.#leads();
      const result = await reconcile(key, signal);
      return led && this.#leads() ? result : { requeueAfterMs: HALTED_RETRY_MS };
    };
  }

  #refresh(): void {
    this.#staleUntil = this.#options.clock.monotonic() + REFRESH_WITHIN_MS;
    const lists = [this.#sets.relist(), this.#shards.relist(), this.#nodes.relist()];
    this.#refreshing = Promise.all(lists).then(() => {
      this.#staleUntil = Number.NEGATIVE_INFINITY;
      this.#addAll();
    });
  }

  async #reconcile(signal: AbortSignal): Promise<void> {
    const { client, clock, random, log, concurrentSets, parallelWrites } = this.#options;
    const [metrics, readiness] = [this.#metrics, (key: string) => this.#liveness.readiness(key)];
    const reconciler = new SetReconciler({
      client,
      sets: this.#sets,
      shards: this.#shards,
      nodes: this.#nodes,
      readiness,
      remembered: (key) => this.#journal?.remembered(key),
      epochFloor: () => this.#journal?.epochFloor ?? 0,
      believed: this.#believed,
      awaitsJournal: () => this.#journal?.isAwaited ?? false,
      leads: () => this.#leads(),
      events: this.#events,
      metrics,
      clock,
      log,
      parallelWrites,
    });
    const nodeReconciler = new NodeReconciler({
      client,
      nodes: this.#nodes,
      readiness,
      leads: () => this.#leads(),
      events: this.#events,
      now: () => clock.now(),
    });
    const queue = { clock, random, log, metrics };
    const sets = new WorkQueue({
      ...queue,
      name: 'shardset',
      concurrency: concurrentSets,
      reconcile: this.#untilWritten((key, term) => reconciler.reconcile(key, term)),
    });
    const nodes = new WorkQueue({
      ...queue,
      name: 'meshnode',
      concurrency: NODE_WORKERS,
      reconcile: this.#untilWritten((key, term) => nodeReconciler.reconcile(key, term)),
    });
    this.#term = { sets, nodes, reconciler };
    this.#addAll();
    try {
      await Promise.all([sets.run(signal), nodes.run(signal)]);
    } finally {
      this.#term = undefined;
      metrics.shards.reset();
    }
  }

  /** All Leases of the cluster pass by here; those of MeshNodes cost a map update, the others nothing. */
  async #followLeases(signal: AbortSignal): Promise<void> {
    const { client, clock, random, log } = this.#options;
    const events = reflect<Lease>({
      client,
      resource: LEASES,
      namespace: this.#options.watchNamespace,
      clock,
      random,
      log,
      signal,
      onState: ({ connected, error }) => {
        this.#leases.connected = connected;
        this.#leases.error = error?.message ?? '';
        this.#liveness.connection(connected);
      },
    });
    for await (const event of events) {
      if (event.type === 'REPLACED') {
        this.#liveness.leasesReplaced(event.items);
        for (const lease of event.items) this.#leader.observe(lease);
        this.#leases.isSynced = true;
        this.#leases.synced.resolve();
      } else if (event.type === 'DELETED') this.#liveness.leaseDeleted(event.object);
      else if (event.type !== 'BOOKMARK') {
        this.#liveness.leaseChanged(event.object);
        this.#leader.observe(event.object);
      }
    }
  }

  /** Once, at start: whoever installs the policy later restarts the operator. */
  async #askForGuard(signal: AbortSignal): Promise<void> {
    this.#guarded = await isChangedByGuarded({ ...this.#options, signal });
  }

  async #readLease(
    key: { namespace: string; name: string },
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    try {
      return await this.#options.client.get(LEASES, key, { signal, timeoutMs: CONFIRM_TIMEOUT_MS });
    } catch (error) {
      if (error instanceof ShardError && error.code === 'notFound') return undefined;
      throw error;
    }
  }

  #nodeReadinessChanged(key: string): void {
    const { ready, reason } = this.#liveness.readiness(key);
    this.#options.log.info({ node: key, ready, reason }, 'node readiness changed');
    this.#addSetsOf(key.split('/')[0]);
    this.#term?.nodes.add(key);
  }

  /** Every set whose pool is this namespace. */
  #addSetsOf(namespace = ''): void {
    if (!this.#term) return;
    for (const { metadata } of this.#sets.byIndex('pool', namespace)) {
      this.#term.sets.add(`${metadata.namespace}/${metadata.name}`);
    }
  }

  async #listen(): Promise<HealthServer> {
    const { listen, log, onListening } = this.#options;
    const { registry } = this.#metrics;
    const health = await startHealthServer({
      ...listen,
      unready: () => this.unready(),
      metrics: async () => {
        this.#collect();
        return { contentType: registry.contentType, body: await registry.metrics() };
      },
    });
    log.info({ address: health.address }, 'health and metrics are served');
    onListening?.(health.address);
    return health;
  }

  #collect(): void {
    const { nodes, connected } = this.#metrics;
    const { ready, notReady } = this.#liveness.counts();
    nodes.set({ ready: 'true' }, ready);
    nodes.set({ ready: 'false' }, notReady);
    const open = {
      shardsets: this.#sets.state.connected,
      shardassignments: this.#shards.state.connected,
      meshnodes: this.#nodes.state.connected,
      leases: this.#leases.connected,
    };
    for (const [resource, value] of Object.entries(open)) connected.set({ resource }, value ? 1 : 0);
  }
}

function setKey(shard: ShardAssignment): string {
  return `${shard.metadata.namespace}/${shard.spec.shardSet}`;
}

/** A MeshNode's own status does not matter to placement; its spec, labels and end do. */
function matters(before: MeshNode, after: MeshNode): boolean {
  return (
    before.metadata.generation !== after.metadata.generation ||
    before.metadata.deletionTimestamp !== after.metadata.deletionTimestamp ||
    JSON.stringify(before.metadata.labels) !== JSON.stringify(after.metadata.labels)
  );
}

async function raceAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
