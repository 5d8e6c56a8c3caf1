import type { KubeObject } from '@meshkit/shards/records';
import { expired } from './status.ts';

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

interface Bucket {
  entries: Map<string, Entry>;
  /** Sorted; absent after an addition or a removal, until the next list. */
  keys?: string[];
  history: Change[];
  /** Nothing at or below this version can be watched from or paged at, except the state as it is now. */
  floor: number;
  listeners: Set<(change: Change) => void>;
}

const HISTORY = 20_000;

/** All objects under one global, growing resourceVersion, with a bounded history for watches and paging. */
export class Store {
  /** The newest resourceVersion given out. */
  version = 1;
  readonly #buckets = new Map<string, Bucket>();
  /** Told of each change after it is visible. */
  readonly #observer: (change: Change) => void;

  constructor(observer: (change: Change) => void) {
    this.#observer = observer;
  }

  get(bucket: string, key: string): Entry | undefined {
    return this.#bucket(bucket).entries.get(key);
  }

  everythingIn(namespace: string): Entry[] {
    return [...this.#buckets.keys()].flatMap((bucket) => this.list(bucket, namespace));
  }

  /** Everything below the namespace ('' for all), as of `version`; throws 410 when that is forgotten. */
  list(name: string, namespace: string, version = this.version): Entry[] {
    const bucket = this.#bucket(name);
    let { entries } = bucket;
    bucket.keys ??= [...entries.keys()].sort();
    let { keys } = bucket;
    const since = bucket.history.findLastIndex((change) => change.entry.version <= version) + 1;
    if (since < bucket.history.length || version < bucket.floor) {
      if (version < bucket.floor)
        throw expired(`The resourceVersion for the provided list is too old: ${version}`);
      entries = new Map(entries);
      for (const change of bucket.history.slice(since).reverse()) {
        if (change.previous) entries.set(change.entry.key, change.previous);
        else entries.delete(change.entry.key);
      }
      keys = [...entries.keys()].sort();
    }
    const within = namespace === '' ? keys : keys.filter((key) => key.startsWith(`${namespace}/`));
    return within.map((key) => entries.get(key)!);
  }

  /** Stores the object under the next version, which it stamps. */
  put(bucket: string, key: string, object: Stored): Entry {
    const previous = this.get(bucket, key);
    const entry = this.#entry(bucket, key, object);
    const { entries } = this.#bucket(bucket);
    if (!previous) this.#bucket(bucket).keys = undefined;
    entries.set(key, entry);
    this.#publish({ type: previous ? 'MODIFIED' : 'ADDED', entry, previous });
    return entry;
  }

  delete(previous: Entry): Entry {
    const bucket = this.#bucket(previous.bucket);
    const entry = this.#entry(previous.bucket, previous.key, previous.object);
    bucket.entries.delete(previous.key);
    bucket.keys = undefined;
    this.#publish({ type: 'DELETED', entry, previous });
    return entry;
  }

  /** Calls back for every change after `version` from now on; returns the ones that already happened. Throws 410. */
  follow(name: string, version: number, listener: (change: Change) => void): Change[] {
    const bucket = this.#bucket(name);
    if (version < bucket.floor) throw expired(`too old resource version: ${version} (${bucket.floor})`);
    bucket.listeners.add(listener);
    const since = bucket.history.findLastIndex((change) => change.entry.version <= version) + 1;
    return bucket.history.slice(since);
  }

  unfollow(name: string, listener: (change: Change) => void): void {
    this.#bucket(name).listeners.delete(listener);
  }

  /** Forgets all history: watches and pages from any older version answer 410. */
  compact(): void {
    // The version grows even when nothing was written, so that the newest one known to any client is old now.
    this.version += 1;
    for (const bucket of this.#buckets.values()) {
      bucket.history = [];
      bucket.floor = this.version;
    }
  }

  #entry(bucket: string, key: string, object: Stored): Entry {
    this.version += 1;
    const stamped = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.version) } };
    return { bucket, key, version: this.version, object: stamped, json: JSON.stringify(stamped) };
  }

  #publish(change: Change): void {
    const bucket = this.#bucket(change.entry.bucket);
    bucket.history.push(change);
    if (bucket.history.length > HISTORY) {
      bucket.floor = bucket.history[HISTORY / 2 - 1]!.entry.version;
      bucket.history = bucket.history.slice(HISTORY / 2);
    }
    for (const listener of bucket.listeners) listener(change);
    this.#observer(change);
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
