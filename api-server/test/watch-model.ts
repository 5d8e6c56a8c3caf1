import { setImmediate as turn } from 'node:timers/promises';
import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import type { ReflectorEvent } from '@meshkit/crds/reflector';
import { shardMatches } from '@meshkit/shards/filter';
import type { JournalReader } from '@meshkit/shards/journal';
import { entryOf, JournalFold } from '@meshkit/shards/journal-fold';
import { MemoryJournal } from '@meshkit/shards/journal-memory';
import { API_VERSION, compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import { served } from '@meshkit/shards/shard-view';
import { appendTransition, operatorActor } from '@meshkit/shards/transition';
import { Registry } from 'prom-client';
import { JournalArchive } from '../src/journal-archive.ts';
import { Timeline } from '../src/timeline.ts';
import { WatchHub, type WatchLimits } from '../src/watch-hub.ts';

/** The state of shards: key -> what is served. */
export type State = Map<string, string>;

export const text = (record: ShardAssignment) => JSON.stringify(served(record));
export const keyOf = ({ metadata }: ShardAssignment) => `${metadata.namespace}/${metadata.name}`;

/** A cluster: the truth, and the history of it. */
export class Cluster {
  readonly shards = new Map<string, ShardAssignment>();
  /** Every state that ever was, by position; more than one where history was cut. */
  readonly #history = new Map<string, Map<string, ShardAssignment>[]>();
  /** The positions of the history that counts. */
  #line: string[] = [];
  /** How often history was cut. */
  restores = 0;
  #position = 100;
  #uids = 0;
  readonly followers: Replica[] = [];
  /** What keeps history for good; absent: nothing does. */
  writer: Writer | undefined;

  constructor(journal: 'journal' | 'no journal' = 'no journal') {
    this.#remember();
    if (journal === 'journal') this.writer = new Writer(this, 0);
  }

  get position(): string {
    return String(this.#position);
  }

  /** Creates the shard, or moves it to another owner. */
  write(key: string, owner: string, step = 1): void {
    this.#position += step;
    const known = this.shards.get(key);
    const [namespace = '', name = ''] = key.split('/');
    const version = (known?.status?.version ?? 0) + 1;
    this.#uids += known ? 0 : 1;
    const hop = { version, from: known?.status?.owner, to: owner, phase: 'Active' as const, epoch: version };
    const transition = { ...hop, actor: operatorActor('Placed'), reason: 'so', at: '2026-11-23T12:00:00Z' };
    const record: ShardAssignment = {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: {
        namespace,
        name,
        uid: known?.metadata.uid ?? `uid-${this.#uids}`,
        resourceVersion: this.position,
        generation: 1,
      },
      spec: { shardSet: 'orders', shardId: name.slice('orders.'.length) },
      status: {
        phase: 'Active',
        owner,
        epoch: version,
        version,
        recentTransitions: appendTransition(known?.status?.recentTransitions, transition),
      },
    };
    this.shards.set(key, record);
    this.#tell({ type: known ? 'MODIFIED' : 'ADDED', object: record });
  }

  /** A change of nothing that is served. */
  annotate(key: string): void {
    const known = this.shards.get(key);
    if (!known) return;
    this.#position += 1;
    const metadata = {
      ...known.metadata,
      resourceVersion: this.position,
      annotations: { at: this.position },
    };
    const record = { ...known, metadata };
    this.shards.set(key, record);
    this.#tell({ type: 'MODIFIED', object: record });
  }

  remove(key: string): void {
    const known = this.shards.get(key);
    if (!known) return;
    this.#position += 1;
    this.shards.delete(key);
    const object = { ...known, metadata: { ...known.metadata, resourceVersion: this.position } };
    this.#tell({ type: 'DELETED', object });
  }

  /** Something else in the cluster changes. */
  pass(step: number): void {
    this.#position += step;
    this.#tell({ type: 'BOOKMARK', resourceVersion: this.position });
  }

  /** etcd is restored to the state of some steps ago, and every replica finds out. */
  restore(back: number): void {
    this.restores += 1;
    this.#line.splice(Math.max(1, this.#line.length - back));
    const to = this.#line.at(-1)!;
    const state = this.#history.get(to)!.at(-1)!;
    this.#position = Number(to);
    this.shards.clear();
    for (const [key, record] of state) this.shards.set(key, record);
    for (const follower of this.followers) follower.relist();
    if (!this.writer) return;
    // The leader notices, and begins a new history.
    this.writer = new Writer(this, this.restores);
    for (const follower of this.followers) follower.followJournal();
  }

  listed(): ReflectorEvent<ShardAssignment> {
    return { type: 'REPLACED', items: [...this.shards.values()], resourceVersion: this.position };
  }

  /** Whether a client that holds this may be at that position; true for positions that nobody remembers. */
  wasSo(position: string, filter: ShardFilter, state: State): boolean {
    const known = this.#history.get(position);
    return !known || known.some((shards) => same(seen(filter, shards.values()), state));
  }

  #tell(event: ReflectorEvent<ShardAssignment>): void {
    this.#remember();
    for (const follower of this.followers) follower.pending.push(event);
    this.writer?.pending.push(event);
  }

  #remember(): void {
    const states = this.#history.get(this.position) ?? [];
    this.#history.set(this.position, [...states, new Map(this.shards)]);
    this.#line.push(this.position);
  }
}

export function seen(filter: ShardFilter, records: Iterable<ShardAssignment>): State {
  const passing = [...records].filter((record) => shardMatches(filter, record));
  return new Map(passing.map((record) => [keyOf(record), text(record)]));
}

export function same(a: State, b: State): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value);
}

/** The operator's leader as it keeps the journal, in its own time. */
export class Writer {
  readonly pending: ReflectorEvent<ShardAssignment>[] = [];
  readonly journal: MemoryJournal;
  readonly fold: JournalFold;
  readonly nonce: string;
  readonly #cluster: Cluster;

  constructor(cluster: Cluster, lineage: number) {
    this.#cluster = cluster;
    this.fold = JournalFold.listed(cluster.shards.values(), cluster.position);
    this.nonce = lineage === 0 ? '' : `n${lineage}`;
    this.journal = new MemoryJournal(this.fold.state, AT, this.nonce);
  }

  /** Writes the next events down, each for itself. */
  hear(count: number): void {
    for (const event of this.pending.splice(0, count)) {
      if (event.type === 'REPLACED' || event.type === 'BOOKMARK') continue;
      const changes = this.fold.changesTo(event.object, event.type === 'DELETED');
      const entries = changes.map((change) => entryOf(change, AT));
      for (const entry of entries) this.fold.apply(entry);
      if (entries.length > 0) this.journal.append(entries);
    }
  }

  /** What has not been heard is lost; a list takes its place. */
  relist(): void {
    this.pending.length = 0;
    const { position } = this.#cluster;
    const from = this.fold.mark.position;
    const entries = this.fold
      .changesToList(this.#cluster.shards.values(), position)
      .map((change) => entryOf(change, AT));
    if (entries.length === 0) return;
    for (const entry of entries) this.fold.apply(entry);
    this.fold.advance(position);
    this.journal.append(entries, { gap: { from, to: position }, position });
  }
}

const AT = '2026-11-23T12:00:00.000Z';

/** An API server that hears of the cluster in its own time. */
export class Replica {
  readonly pending: ReflectorEvent<ShardAssignment>[] = [];
  readonly cluster: Cluster;
  readonly clock: ManualClock;
  readonly #ringSize: number;
  readonly #limits: WatchLimits;
  /** It takes up the journal before its first list. */
  readonly #reads: boolean;
  timeline!: Timeline;
  hub!: WatchHub;
  archive!: JournalArchive;
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(
    cluster: Cluster,
    ringSize: number,
    limits: WatchLimits = { streams: 100, streamsPerCaller: 100 },
    reads = true,
  ) {
    this.#reads = reads;
    this.cluster = cluster;
    this.#ringSize = ringSize;
    this.#limits = limits;
    this.clock = new ManualClock();
    cluster.followers.push(this);
    this.start();
  }

  start(): void {
    const { clock, cluster } = this;
    const limits = { changes: this.#ringSize, bytes: 1 << 30 };
    const timeline = new Timeline(limits, clock);
    this.timeline = timeline;
    // Waits are over at once: time is not what is tested.
    let waited = 0;
    const hasty = {
      monotonic: () => waited,
      async sleep(ms: number, signal?: AbortSignal) {
        if (signal) return new Promise<void>((_, reject) => signal.addEventListener('abort', reject));
        waited += ms;
        await turn();
      },
    };
    const reader: JournalReader | undefined = cluster.writer && {
      head: (signal) => cluster.writer!.journal.head(signal),
      read: (after, signal) => cluster.writer!.journal.read(after, signal),
      readBack: (signal) => cluster.writer!.journal.readBack(signal),
      state: (signal) => cluster.writer!.journal.state(signal),
    };
    const archive = new JournalArchive({ reader, clock: hasty, log: silentLog });
    this.archive = archive;
    this.hub = new WatchHub({
      timeline,
      journal: archive,
      lineage: () => `lineage.${archive.nonce}${timeline.branch}`,
      newest: async () => cluster.position,
      waitFor: async (position) => compareVersions(position, timeline.position) <= 0,
      clock,
      random: () => 0.5,
      log: { ...silentLog, error: (fields) => this.errors.push(fields.err) },
      registry: new Registry(),
      limits: this.#limits,
      // Other things happen after every stream, and hardly anything fits into a lot.
      pace: { turn: 1, lot: 2 },
    });
    this.#stop = new AbortController();
    this.#running = this.hub.run(this.#stop.signal);
    this.followJournal();
    if (cluster.writer && this.#reads) timeline.seed(cluster.writer.fold.state);
    this.relist();
  }

  /** Hears of the journal's head. */
  followJournal(): void {
    const { writer } = this.cluster;
    if (!writer) return;
    const { mark } = writer.fold;
    const { nonce } = writer;
    if (!this.archive.follow({ nonce, term: 1, mark, floor: { ...mark, at: AT } })) return;
    if (this.timeline.synced) this.timeline.beginLineage();
    this.hub.changed();
  }

  readonly errors: unknown[] = [];

  /** Hears of the next events. */
  hear(count: number): void {
    for (const event of this.pending.splice(0, count)) {
      this.timeline.apply(event);
      this.hub.changed();
    }
  }

  /** What has not been heard is lost; a list takes its place. */
  relist(): void {
    this.pending.length = 0;
    this.timeline.apply(this.cluster.listed());
    this.hub.changed();
  }

  async restart(): Promise<void> {
    await this.hub.drain();
    await this.stop();
    this.start();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

/** Lets everything that can run, run. */
export async function settle(turns = 30): Promise<void> {
  for (let at = 0; at < turns; at += 1) await turn();
}
