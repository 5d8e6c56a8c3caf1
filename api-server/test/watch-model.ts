import { setImmediate as turn } from 'node:timers/promises';
import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import type { ReflectorEvent } from '@meshkit/crds/reflector';
import { ShardError } from '@meshkit/shards/errors';
import { shardMatches } from '@meshkit/shards/filter';
import type { JournalReader } from '@meshkit/shards/journal';
import { entryOf, JournalFold } from '@meshkit/shards/journal-fold';
import { MemoryJournal } from '@meshkit/shards/journal-memory';
import { API_VERSION, compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import { openAnyResumeToken } from '@meshkit/shards/resume-token';
import { served } from '@meshkit/shards/shard-view';
import { appendTransition, operatorActor } from '@meshkit/shards/transition';
import type { Encoding, Watch, WatchMessage, WatchRequest, WatchSink } from '@meshkit/shards/watch';
import { Registry } from 'prom-client';
import { JournalArchive } from '../src/journal-archive.ts';
import { Timeline } from '../src/timeline.ts';
import { WatchHub, type WatchLimits } from '../src/watch-hub.ts';

/** The state of shards: key -> what is served. */
type State = Map<string, string>;

const text = (record: ShardAssignment) => JSON.stringify(served(record));
const keyOf = ({ metadata }: ShardAssignment) => `${metadata.namespace}/${metadata.name}`;

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
  timeline!: Timeline;
  hub!: WatchHub;
  archive!: JournalArchive;
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(
    cluster: Cluster,
    ringSize: number,
    limits: WatchLimits = { streams: 100, streamsPerCaller: 100 },
  ) {
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
    if (cluster.writer) timeline.seed(cluster.writer.fold.state);
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

/** Bytes stand for messages. */
class TestEncoding implements Encoding {
  readonly name = 'test';
  readonly #messages = new WeakMap<Uint8Array, WatchMessage>();

  encode(message: WatchMessage): Uint8Array {
    const bytes = new Uint8Array(1);
    this.#messages.set(bytes, message);
    return bytes;
  }

  decode(bytes: Uint8Array): WatchMessage {
    return this.#messages.get(bytes)!;
  }
}

export const testEncoding = new TestEncoding();

/** A client, its network, and what it makes of what it hears; throws when it hears what must not be. */
export class Client {
  readonly cluster: Cluster;
  readonly request: WatchRequest;
  /** What it has, once it is complete. */
  state: State = new Map();
  /** Has heard a snapshot to its end, or goes on from something it has. */
  complete = false;
  token: string | undefined;
  error: ShardError | undefined;
  open = false;
  resets: string[] = [];
  heard: WatchMessage[] = [];
  /** Changes that one message stood for without saying so. */
  lost = 0;
  /** Repeats of what it knew. */
  repeats = 0;
  #snapshot: State | undefined;
  /** The newest it was told of each shard, gone or not: key -> uid and version. */
  #versions = new Map<string, { uid: string; version: number }>();
  /** Those that are gone for good. */
  #dead = new Set<string>();
  #position = '0';
  /** Of the newest change that it was told since the last reset. */
  #newest = '0';
  #queue: Uint8Array[] = [];
  #resume: (() => void) | undefined;
  #watch: Watch | undefined;
  #goingAway = false;

  constructor(cluster: Cluster, request: WatchRequest) {
    this.cluster = cluster;
    this.request = request;
    this.token = request.resumeToken;
  }

  get backlog(): number {
    return this.#queue.length;
  }

  /** False when the server refused, to be asked again. */
  async connect(replica: Replica, limit: number): Promise<boolean> {
    this.error = undefined;
    this.#snapshot = undefined;
    // From there on, positions only grow.
    this.#position = this.token === undefined ? '0' : openAnyResumeToken(this.token, 'token').position;
    const client = this;
    const queue: Uint8Array[] = [];
    this.#queue = queue;
    this.#goingAway = false;
    let ended = false;
    const fresh = () => {
      if (ended) throw new Error('the sink was used after its end');
    };
    const sink: WatchSink = {
      encoding: testEncoding,
      limit,
      get backlog() {
        return queue.length;
      },
      write(bytes) {
        fresh();
        queue.push(bytes);
      },
      onDrain(resume) {
        fresh();
        client.#resume = resume;
      },
      end(error) {
        fresh();
        ended = true;
        if (client.#queue === queue) {
          client.error = error;
          client.open = false;
        }
      },
    };
    const caller = { key: 'client', check: async () => undefined };
    try {
      this.open = true;
      this.#watch = await replica.hub.watch({ ...this.request, resumeToken: this.token }, sink, caller);
      return true;
    } catch (error) {
      if (!(error instanceof ShardError)) throw error;
      this.open = false;
      this.error = error;
      return false;
    }
  }

  /** The network delivers. */
  take(count: number): void {
    for (const bytes of this.#queue.splice(0, count)) this.#hear(testEncoding.decode(bytes));
    const resume = this.#resume;
    if (this.#queue.length > 0 || !resume || !this.open) return;
    this.#resume = undefined;
    resume();
  }

  /** The connection breaks; what was under way is lost. */
  cut(): void {
    if (this.open) this.#watch?.close();
    this.open = false;
    this.#queue = [];
    this.#resume = undefined;
  }

  #hear(message: WatchMessage): void {
    this.heard.push(message);
    if (this.#goingAway) throw new Error(`${message.type} after goaway`);
    this.token = message.token;
    if (message.type === 'reset') {
      this.resets.push(message.reason);
      this.#position = '0';
      this.complete = false;
      this.#newest = '0';
      this.#versions.clear();
      this.#dead.clear();
    }
    if ('position' in message) {
      if (compareVersions(message.position, this.#position) < 0) {
        throw new Error(`went back from ${this.#position} to ${message.position}`);
      }
      this.#position = message.position;
    }
    if (message.type === 'goaway') this.#goingAway = true;
    else if (message.type === 'snapshot-begin') this.#snapshot = new Map();
    else if (message.type === 'shard') this.#shard(message);
    else if (message.type === 'snapshot-end') {
      if (!this.#snapshot) throw new Error('the end of no snapshot');
      this.state = this.#snapshot;
      this.#snapshot = undefined;
      this.complete = true;
      this.#check(message.position);
    } else if (message.type === 'bookmark') {
      if (this.#snapshot) throw new Error('a bookmark inside a snapshot');
      if (this.heard.length > 1) this.#check(message.position);
    }
  }

  #shard(message: WatchMessage & { type: 'shard' }): void {
    const { event, cause, current, previous } = message;
    const key = keyOf((current ?? previous)!);
    if (this.#snapshot) {
      if (event !== 'ADDED' || !current || previous) throw new Error('only rows belong into a snapshot');
      if (this.#snapshot.has(key)) throw new Error(`${key} twice in a snapshot`);
      this.#snapshot.set(key, text(current));
      this.#versions.set(key, { uid: current.metadata.uid ?? '', version: current.status!.version });
      return;
    }
    const { uid = '' } = (current ?? previous)!.metadata;
    const version = (current ?? previous)!.status!.version;
    const told = this.#versions.get(key);
    const isGone = event === 'DELETED' && cause === undefined;
    const isRepeat =
      this.#dead.has(uid) ||
      (told?.uid === uid && (isGone ? false : version <= told.version)) ||
      (isGone && told !== undefined && told.uid !== uid);
    if (isRepeat) {
      this.repeats += 1;
      return;
    }
    const jump = isGone ? 1 : version - (told?.uid === uid ? told.version : 0);
    const isOurs = Object.keys(this.request.filter).length === 0;
    if (isOurs && this.complete && jump > (message.coalesced ?? 1)) this.lost += 1;
    if (isGone) this.#dead.add(uid);
    if (compareVersions(message.position, this.#newest) > 0) this.#newest = message.position;
    this.#versions.set(key, { uid, version });
    const known = this.state.get(key);
    const expected = event === 'ADDED' ? undefined : text(previous!);
    // A watch from now on knows only what it has heard.
    // Inside a reconstructed stretch it may have what nobody knows of any more; a snapshot ends that.
    const { beyond } = openAnyResumeToken(message.token, 'token');
    if (this.complete && message.source !== 'reconcile' && !beyond && known !== expected) {
      throw new Error(`${event} ${key} at ${message.position}: had ${known}, expected ${expected}`);
    }
    if (event === 'DELETED') {
      if ((cause === 'filter') !== (current !== undefined)) throw new Error('a cause that is none');
      this.state.delete(key);
    } else this.state.set(key, text(current!));
  }

  #check(position: string): void {
    // In the middle of what was reconstructed it knows more of one shard than of another.
    if (compareVersions(position, this.#newest) < 0) return;
    if (openAnyResumeToken(this.token!, 'token').beyond) return;
    if (this.complete && !this.cluster.wasSo(position, this.request.filter, this.state)) {
      throw new Error(`at ${position} the client has ${[...this.state.values()].join(' ')}`);
    }
  }
}

/** Lets everything that can run, run. */
export async function settle(turns = 30): Promise<void> {
  for (let at = 0; at < turns; at += 1) await turn();
}
