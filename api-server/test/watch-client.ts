import { ShardError } from '@meshkit/shards/errors';
import { compareVersions } from '@meshkit/shards/records';
import { openAnyResumeToken } from '@meshkit/shards/resume-token';
import type { Encoding, Watch, WatchMessage, WatchRequest, WatchSink } from '@meshkit/shards/watch';
import { type Cluster, keyOf, type Replica, type State, text } from './watch-model.ts';

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
    // Inside a reconstructed stretch it may have what nobody knows of any more; a snapshot ends that.
    const { beyond } = openAnyResumeToken(message.token, 'token');
    if (isRepeat) {
      // Only what had to be reconstructed may come again.
      if (message.source === 'reconcile' || beyond) return;
      throw new Error(`${event} ${key} at ${message.position}: told twice`);
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
