import { Backoff } from '@meshkit/crds/backoff';
import { isChangedByGuarded } from '@meshkit/crds/changed-by';
import { Informer, type InformerOptions } from '@meshkit/crds/informer';
import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { reflect } from '@meshkit/crds/reflector';
import { MESH_NODES, NAMESPACES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { filterDigest } from '@meshkit/shards/cursor';
import { ShardError } from '@meshkit/shards/errors';
import type { JournalHead } from '@meshkit/shards/journal';
import { judged } from '@meshkit/shards/judged-node';
import { owningNodes } from '@meshkit/shards/owning-nodes';
import { compareVersions, type MeshNode, type ShardAssignment, type ShardSet } from '@meshkit/shards/records';
import type {
  AsOf,
  DiffPage,
  DiffRequest,
  HistoryPage,
  HistoryRequest,
  JournalStatus,
  OwningNode,
  PageRequest,
  RepositoryStatus,
  ShardFilter,
  ShardPage,
  ShardRepository,
  VersionVector,
} from '@meshkit/shards/repository';
import { sealResumeToken } from '@meshkit/shards/resume-token';
import type { MeshState } from '@meshkit/shards/simulate';
import { unstamped } from '@meshkit/shards/transition';
import type { Watch, WatchCaller, WatchRequest, WatchSink } from '@meshkit/shards/watch';
import type { Registry } from 'prom-client';
import { HistoryReader } from './history-reader.ts';
import { JournalArchive } from './journal-archive.ts';
import { JournalPast } from './journal-past.ts';
import type { JournalSource } from './journal-source.ts';
import type { RingLimits } from './ring.ts';
import { Timeline, type TimelinePage } from './timeline.ts';
import { Turns } from './turns.ts';
import { WatchHub, type WatchLimits } from './watch-hub.ts';

export interface KubernetesRepositoryOptions {
  client: Pick<KubeClient, 'get' | 'list' | 'watch'>;
  clock: Clock;
  random: () => number;
  log: Log;
  registry: Registry;
  ring: RingLimits;
  watches: WatchLimits;
  /** Absent: history is as long as the ring. */
  journal?: JournalSource;
}

/** What stands between the cache and the cluster's present state; both undefined when nothing does. */
export interface CacheHealth {
  /** The first list is not complete: nothing can be served. */
  cold?: string;
  /** The connection to kube-apiserver is lost: what is served may be old. */
  stale?: string;
}

/** What a follower of one resource says of itself. */
interface Following {
  synced: boolean;
  connected: boolean;
  lastError?: string;
}

interface Waiter {
  position: string;
  reached: () => void;
}

/** How long a watch may wait for this replica to reach its token. */
const CATCH_UP_MS = 3_000;
/** Changes are written down in batches, within a second: one that waits for so long is not under way. */
const BEHIND_MS = 5_000;
/** How long the journal may take to say how far it is: probes wait for that answer. */
const HEAD_MS = 2_000;
/** A reading may go through the whole journal. */
const READINGS = { what: 'readings', atOnce: 4, waiting: 64 };
const IDENTIFY_BASE_MS = 200;
const IDENTIFY_CAP_MS = 5_000;

/** The shards and nodes of a cluster, followed by watch and served from memory. Answers need no I/O. */
export class KubernetesRepository implements ShardRepository {
  readonly #options: KubernetesRepositoryOptions;
  readonly #timeline: Timeline;
  readonly #journal: JournalArchive;
  readonly #hub: WatchHub;
  readonly #history: HistoryReader;
  readonly #readings = new Turns(READINGS);
  readonly #nodes: Informer<MeshNode>;
  readonly #sets: Informer<ShardSet>;
  readonly #waiters = new Set<Waiter>();
  /** The journal's name for history when the timeline began anew last, and how often it had by then. */
  #nonceAtStart = '';
  #restarts = -1;
  /** Ends the present following of shards: the next one begins with a list. */
  #again = new AbortController();
  /** Uid of the namespace kube-system. */
  #cluster = '';
  #connection: Omit<Following, 'synced'> = { connected: false };
  /** A policy guards the stamp of who changed a spec; not believed until kube-apiserver has said so. */
  #guarded = false;
  #saidCramped = false;

  constructor(options: KubernetesRepositoryOptions) {
    this.#options = options;
    const { clock, ring, watches } = options;
    this.#timeline = new Timeline(ring, clock);
    this.#journal = new JournalArchive({ reader: options.journal?.reader, clock, log: options.log });
    this.#hub = new WatchHub({
      ...options,
      limits: watches,
      timeline: this.#timeline,
      journal: this.#journal,
      lineage: () => this.#lineage(),
      newest: () => this.#newest(),
      waitFor: (position) => this.#within(CATCH_UP_MS, (signal) => this.waitFor(position, signal)),
    });
    this.#history = new HistoryReader({
      timeline: this.#timeline,
      journal: this.#journal,
      lineage: () => this.#lineage(),
      clock,
    });
    this.#nodes = new Informer({ ...options, resource: MESH_NODES } satisfies InformerOptions<MeshNode>);
    this.#sets = new Informer({ ...options, resource: SHARD_SETS } satisfies InformerOptions<ShardSet>);
  }

  /** Follows the cluster until aborted; resolves then. */
  async run(signal: AbortSignal): Promise<void> {
    const hub = new AbortController();
    const following = Promise.all([
      this.#follow(signal),
      this.#nodes.run(signal),
      this.#sets.run(signal),
      this.#options.journal?.follow((head) => this.#followJournal(head), signal),
      this.#askForGuard(signal),
    ]);
    const ended = () => hub.abort();
    await Promise.all([following.finally(ended), this.#hub.run(hub.signal)]);
  }

  /** Ends all watches with a `goaway`, and admits no more. */
  async drain(): Promise<void> {
    await this.#hub.drain();
  }

  health(): CacheHealth {
    const health: CacheHealth = {};
    const shards = { ...this.#connection, synced: this.#timeline.synced };
    const followed: [string, Following][] = [
      ['ShardAssignments', shards],
      ['MeshNodes', this.#nodes.state],
      ['ShardSets', this.#sets.state],
    ];
    for (const [name, { synced, connected, lastError }] of followed) {
      const why = lastError === undefined ? '' : `: ${lastError}`;
      if (!synced) health.cold ??= `waiting for the first list of ${name}${why}`;
      else if (!connected) health.stale ??= `lost the watch of ${name}${why}`;
    }
    return health;
  }

  counts(): { shards: number; nodes: number } {
    return { shards: this.#timeline.size, nodes: this.#nodes.list().length };
  }

  async list(filter: ShardFilter, { limit, after, at }: PageRequest): Promise<ShardPage> {
    const page = this.#timeline.page(filter, limit, after, at);
    if (!page) {
      const message = `the state at position ${at} is not known here; go on at the newest state, or start again`;
      throw new ShardError('cursorExpired', message, { position: at });
    }
    const { items, next, mark } = page;
    const point = { ...mark, lineage: this.#lineage(), snapshot: false };
    return {
      items,
      next,
      versionVector: this.#versionVector(page, filter),
      resumeToken: () => sealResumeToken(filterDigest(filter), point),
      consistency: after !== undefined && at === undefined ? 'keyset' : 'snapshot',
    };
  }

  asOf(): AsOf {
    return { lineage: this.#lineage(), position: this.#timeline.position };
  }

  async get(namespace: string, name: string): Promise<ShardAssignment | undefined> {
    return this.#timeline.get(namespace, name);
  }

  async nodes(namespace?: string): Promise<OwningNode[]> {
    const nodes = this.#nodes
      .list()
      .filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace);
    return owningNodes(nodes, this.#timeline.values(), (place, name) => this.#sets.get(`${place}/${name}`));
  }

  async meshState(namespace?: string): Promise<MeshState> {
    const sets = this.#sets
      .list()
      .filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace);
    return {
      sets,
      shards: this.#timeline.all({ namespace }),
      nodes: this.#nodes.list().map(judged),
      basis: {
        ...this.asOf(),
        shardSets: this.#sets.state.resourceVersion,
        nodes: this.#nodes.state.resourceVersion,
      },
    };
  }

  async waitFor(position: string, signal: AbortSignal): Promise<boolean> {
    if (this.#hasReached(position)) return true;
    if (signal.aborted) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const waiter = { position, reached: () => resolve(true) };
    const aborted = () => resolve(false);
    this.#waiters.add(waiter);
    signal.addEventListener('abort', aborted, { once: true });
    try {
      return await promise;
    } finally {
      this.#waiters.delete(waiter);
      signal.removeEventListener('abort', aborted);
    }
  }

  async watch(request: WatchRequest, sink: WatchSink, caller: WatchCaller): Promise<Watch> {
    const { cold } = this.health();
    if (cold) throw new ShardError('unavailable', cold, { reason: 'cacheCold' });
    return this.#hub.watch(request, sink, caller);
  }

  async diff(filter: ShardFilter, request: DiffRequest, signal: AbortSignal): Promise<DiffPage> {
    return this.#readings.run(() => this.#history.diff(filter, request, signal), signal);
  }

  async history(request: HistoryRequest, signal: AbortSignal): Promise<HistoryPage> {
    return this.#readings.run(() => this.#history.history(request, signal), signal);
  }

  async status(signal: AbortSignal): Promise<RepositoryStatus> {
    const journal = await this.#journalStatus(signal);
    const { stale } = this.health();
    return {
      lineage: this.#lineage(),
      position: this.#timeline.position,
      cache: stale === undefined ? { state: 'fresh' } : { state: 'stale', detail: stale },
      journal,
    };
  }

  /** How long the oldest change waits that is not written down, by the newest head that was heard of; 0 when none does. */
  journalBehindMs(): number {
    const { followed } = this.#journal;
    return (followed && this.#waitingMs(followed)) ?? 0;
  }

  async #journalStatus(signal: AbortSignal): Promise<JournalStatus> {
    const { ring } = this.#timeline;
    const newest = ring.at(ring.last)?.change.position;
    try {
      const head = await this.#journal.head(signal, HEAD_MS);
      if (!head) return { state: 'absent', newest };
      const { mark, floor } = head;
      const behindMs = this.#waitingMs(head);
      return {
        state: (behindMs ?? 0) > BEHIND_MS ? 'behind' : 'current',
        head: { position: mark.position },
        floor: { position: floor.position, at: floor.at },
        newest,
        behindMs,
      };
    } catch (error) {
      if (signal.aborted || !(error instanceof ShardError)) throw error;
      return { state: 'unreadable', newest, detail: error.message };
    }
  }

  #waitingMs({ mark }: JournalHead): number | undefined {
    const since = this.#timeline.changedSince(mark);
    return since === undefined ? undefined : Math.round(this.#options.clock.monotonic() - since);
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const past = new JournalPast(this.#journal, this.#timeline, this.#options);
    try {
      // Before the list, so that the list is the newer of the two.
      await past.begin(() => this.#readCluster(signal), signal);
      while (!signal.aborted) {
        this.#again = new AbortController();
        await this.#followFrom(past, AbortSignal.any([signal, this.#again.signal]));
      }
    } finally {
      this.#connection = { ...this.#connection, connected: false };
    }
  }

  /** A list, and what comes after it. */
  async #followFrom(past: JournalPast, signal: AbortSignal): Promise<void> {
    const onState = ({ connected, error }: { connected: boolean; error?: Error }) => {
      this.#connection = { connected, lastError: error?.message };
    };
    const transform = (shard: ShardAssignment) => (this.#guarded ? shard : unstamped(shard));
    const events = reflect({ ...this.#options, resource: SHARD_ASSIGNMENTS, signal, onState, transform });
    for await (const event of events) {
      if (signal.aborted) break;
      // A list may be of another cluster than the one before, behind the same address.
      const cluster = event.type === 'REPLACED' ? await this.#readCluster(signal) : this.#cluster;
      if (cluster === undefined) break;
      const anew = this.#cluster !== '' && cluster !== this.#cluster;
      this.#cluster = cluster;
      if (event.type === 'REPLACED') await past.reach(event.items, event.resourceVersion, signal);
      this.#timeline.apply(event, anew);
      if (event.type === 'REPLACED') this.#nameHistory();
      this.#sayCramped();
      for (const { position, reached } of this.#waiters) if (this.#hasReached(position)) reached();
      this.#hub.changed();
    }
  }

  /** Once: whoever set a size should know that it is not what counts. */
  #sayCramped(): void {
    const { ring } = this.#timeline;
    if (this.#saidCramped || !ring.isCramped) return;
    this.#saidCramped = true;
    const { size: changes, bytes } = ring;
    this.#options.log.warn(
      { changes, bytes, limits: this.#options.ring },
      'the ring holds fewer changes than it may, because of their memory',
    );
  }

  /**
   * The cluster, the journal's name for its history, and one of our own when this process saw it being cut: tokens of
   * other replicas are then answered with a reset, until the journal has a new name.
   */
  #lineage(): string {
    const { branch } = this.#timeline;
    const { nonce } = this.#journal;
    const named = nonce === '' ? this.#cluster : `${this.#cluster}.${nonce}`;
    return branch === '' ? named : `${named}~${branch}`;
  }

  #followJournal(head: JournalHead): void {
    if (!this.#journal.follow(head) || !this.#timeline.synced) return;
    // The new name is for the history that began with the restart that was seen here, or for one yet to be seen.
    if (this.#timeline.branch !== '') this.#nonceAtStart = head.nonce;
    this.#timeline.beginLineage();
    this.#hub.changed();
    // A watch does not notice a restore when versions have been given out a second time meanwhile: lists do.
    this.#again.abort();
    void this.#nodes.relist();
    void this.#sets.relist();
  }

  /** The journal may have named a new history before the list came that shows it. */
  #nameHistory(): void {
    if (this.#restarts === this.#timeline.restarts) return;
    this.#restarts = this.#timeline.restarts;
    if (this.#nonceAtStart !== this.#journal.nonce) this.#timeline.joinLineage();
    this.#nonceAtStart = this.#journal.nonce;
  }

  async #askForGuard(signal: AbortSignal): Promise<void> {
    this.#guarded = await isChangedByGuarded({ ...this.#options, signal });
  }

  /** What tells this cluster from every other one. Tries until it is known; undefined when aborted. */
  async #readCluster(signal: AbortSignal): Promise<string | undefined> {
    const { client, clock, log, random } = this.#options;
    const backoff = new Backoff({ baseMs: IDENTIFY_BASE_MS, capMs: IDENTIFY_CAP_MS, random });
    while (!signal.aborted) {
      try {
        const { metadata } = await client.get(NAMESPACES, { name: 'kube-system' }, { signal });
        return metadata.uid ?? '';
      } catch (error) {
        if (signal.aborted) break;
        const lastError = `cannot read the namespace kube-system: ${error instanceof Error ? error.message : error}`;
        this.#connection = { connected: false, lastError };
        log[backoff.failures > 0 ? 'debug' : 'warn']({ err: error }, 'cannot tell which cluster this is');
        await clock.sleep(backoff.next(), signal).catch((reason: unknown) => {
          if (!signal.aborted) throw reason;
        });
      }
    }
    return undefined;
  }

  /** By a quorum read: an empty page carries the newest position of the whole cluster. */
  async #newest(): Promise<string> {
    const { resourceVersion } = await this.#options.client.list(SHARD_ASSIGNMENTS, { limit: 1 });
    return resourceVersion;
  }

  async #within(ms: number, wait: (signal: AbortSignal) => Promise<boolean>): Promise<boolean> {
    const late = new AbortController();
    const done = new AbortController();
    const timer = this.#options.clock.sleep(ms, done.signal).then(
      () => late.abort(),
      // Woken because the wait is over.
      () => undefined,
    );
    const reached = await wait(late.signal);
    done.abort();
    await timer;
    return reached;
  }

  #hasReached(position: string): boolean {
    return this.#timeline.synced && compareVersions(position, this.#timeline.position) <= 0;
  }

  #versionVector({ items, mark, positionOf }: TimelinePage, filter: ShardFilter): VersionVector {
    const namespaces = new Set(items.map(({ metadata }) => metadata.namespace ?? ''));
    if (filter.namespace !== undefined) namespaces.add(filter.namespace);
    const found: Record<string, string> = {};
    for (const namespace of [...namespaces].sort()) {
      const position = positionOf(namespace);
      if (position !== undefined) found[namespace] = position;
    }
    return { lineage: this.#lineage(), position: mark.position, namespaces: found };
  }
}
