import { randomUUID } from 'node:crypto';
import type { KubeObject } from '@meshkit/shards/records';
import { badRequest, refused, StatusError } from './status.ts';

/** An object as served; never changed in place once it is stored. */
export interface Stored extends KubeObject {
  [field: string]: unknown;
}

/** One version of one object. `json` is encoded once and shared by every list, get and watch. */
export interface Entry {
  readonly bucket: string;
  /** `namespace/name`, or `name` at cluster scope; lists come in this order, as etcd's do. */
  readonly key: string;
  readonly version: number;
  readonly object: Stored;
  readonly json: string;
}

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** A DELETED entry is the last state under the version of the deletion. */
  readonly entry: Entry;
  readonly previous?: Entry;
  /** The encoded watch event, shared by all watchers. */
  line?: Buffer;
}

type Addressed = { group: string; plural: string; bucket: string };

interface Bucket {
  entries: Map<string, Entry>;
  /** In order; absent after an addition or a removal, until the next list. */
  keys?: string[];
  history: Change[];
  /** Nothing below this version can be watched from. */
  floor: number;
  listeners: Set<(change: Change) => void>;
}

const HISTORY = 20_000;
const MOST_SNAPSHOTS = 100;
const TOO_OLD = 'The provided continue parameter is too old to display a consistent list result.';

/** All objects under one global, growing resourceVersion, with a bounded history for watches. */
export class Store {
  /** The newest resourceVersion given out. */
  version = 1;
  readonly #buckets = new Map<string, Bucket>();
  /** What the next pages of lists are cut from, by kind, namespace and the id in their tokens. */
  readonly #snapshots = new Map<string, { version: number; entries: Entry[] }>();
  /** Told of each change after it is visible. */
  readonly #observer: (change: Change) => void;

  constructor(observer: (change: Change) => void) {
    this.#observer = observer;
  }

  get(bucket: string, key: string): Entry | undefined {
    return this.#bucket(bucket).entries.get(key);
  }

  /** Everything below the namespace; '' for all. */
  list(name: string, namespace: string): Entry[] {
    const bucket = this.#bucket(name);
    bucket.keys ??= [...bucket.entries.keys()].sort();
    const within =
      namespace === '' ? bucket.keys : bucket.keys.filter((key) => key.startsWith(`${namespace}/`));
    return within.map((key) => bucket.entries.get(key)!);
  }

  /** Throws 404. */
  find(kind: Addressed, { namespace, name }: { namespace: string; name: string }): Entry {
    const entry = this.get(kind.bucket, keyOf(namespace, name));
    if (!entry) throw refused('NotFound', kind, name, '%s not found');
    return entry;
  }

  everythingIn(namespace: string): Entry[] {
    return [...this.#buckets.keys()].flatMap((bucket) => this.list(bucket, namespace));
  }

  /** At most `limit` entries of the state as it was at the first page, and the token for the next ones. Throws 400, 410. */
  page(scope: string, token: string | null, limit: number, now: () => Entry[]) {
    const [, id = randomUUID(), at = '0'] = /^([0-9a-f-]{36})\.(\d+)$/.exec(token ?? '') ?? [];
    if (token && at === '0') throw badRequest('invalid continue token: continue key is not valid');
    const key = `${scope}/${id}`;
    const snapshot = token ? this.#snapshots.get(key) : { version: this.version, entries: now() };
    if (!snapshot) throw new StatusError(410, 'Expired', TOO_OLD);
    const { version, entries } = snapshot;
    const end = Number(at) + limit;
    const left = Math.max(0, entries.length - end);
    if (left > 0) this.#snapshots.set(key, snapshot);
    const [oldest = ''] = this.#snapshots.keys();
    if (this.#snapshots.size > MOST_SNAPSHOTS) this.#snapshots.delete(oldest);
    return { page: entries.slice(Number(at), end), version, left, next: `${id}.${end}` };
  }

  /** Stores the object under the next version, which it stamps. */
  put(bucket: string, key: string, object: Stored): Entry {
    const previous = this.get(bucket, key);
    return this.#publish(previous ? 'MODIFIED' : 'ADDED', bucket, key, object, previous);
  }

  delete(entry: Entry): void {
    this.#publish('DELETED', entry.bucket, entry.key, entry.object, entry);
  }

  /** Calls back for every change after `version` from now on; returns the ones that already happened. Throws 410. */
  follow(name: string, version: number, listener: (change: Change) => void): Change[] {
    const { floor, history, listeners } = this.#bucket(name);
    const tooOld = `too old resource version: ${version} (${floor})`;
    if (version < floor) throw new StatusError(410, 'Expired', tooOld);
    listeners.add(listener);
    return history.slice(history.findLastIndex((change) => change.entry.version <= version) + 1);
  }

  unfollow(name: string, listener: (change: Change) => void): void {
    this.#bucket(name).listeners.delete(listener);
  }

  /** Forgets all history: watches and pages from any older version answer 410. */
  compact(): void {
    // The version grows even when nothing was written, so that the newest one known to any client is old now.
    this.version += 1;
    this.#snapshots.clear();
    for (const bucket of this.#buckets.values()) {
      bucket.history = [];
      bucket.floor = this.version;
    }
  }

  #publish(type: Change['type'], name: string, key: string, object: Stored, previous?: Entry): Entry {
    this.version += 1;
    const { version } = this;
    const stamped = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    const entry = { bucket: name, key, version, object: stamped, json: JSON.stringify(stamped) };
    const bucket = this.#bucket(name);
    if (type === 'DELETED') bucket.entries.delete(key);
    else bucket.entries.set(key, entry);
    if (type !== 'MODIFIED') bucket.keys = undefined;
    const change = { type, entry, previous };
    bucket.history.push(change);
    if (bucket.history.length > HISTORY) {
      bucket.floor = bucket.history[HISTORY / 2 - 1]!.entry.version;
      bucket.history = bucket.history.slice(HISTORY / 2);
    }
    for (const listener of bucket.listeners) listener(change);
    this.#observer(change);
    return entry;
  }

  #bucket(name: string): Bucket {
    let bucket = this.#buckets.get(name);
    if (!bucket) {
      bucket = { entries: new Map(), history: [], floor: this.version, listeners: new Set() };
      this.#buckets.set(name, bucket);
    }
    return bucket;
  }
}

export function keyOf(namespace: string, name: string): string {
  return namespace ? `${namespace}/${name}` : name;
}
