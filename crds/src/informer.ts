import type { Clock } from '@meshkit/shards/clock';
import { compareVersions, type KubeObject } from '@meshkit/shards/records';
import { IndexedStore, type IndexFunction } from './indexed-store.ts';
import type { KubeClient } from './kube-client.ts';
import type { Log } from './log.ts';
import { type ReflectorEvent, type ReflectorState, reflect } from './reflector.ts';
import type { Resource } from './resource.ts';

export interface Change<T> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  key: string;
  /** For DELETED the last state that the server told, else the last known one. */
  object: T;
  /** The state before; absent for ADDED. */
  previous?: T;
}

export interface InformerOptions<T extends KubeObject> {
  client: Pick<KubeClient, 'list' | 'watch'>;
  resource: Resource<T>;
  /** Absent: all namespaces. */
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  indexes?: Record<string, IndexFunction<T>>;
  clock: Clock;
  /** In [0, 1). */
  random: () => number;
  log: Log;
  /** Milliseconds of silence until an open watch counts as dead; see WatchOptions. */
  idleTimeoutMs?: number;
}

export interface InformerState {
  /** The first list has been applied. */
  synced: boolean;
  /** A watch is open; false: what is held may be old. */
  connected: boolean;
  /** Everything up to here has been applied. */
  resourceVersion?: string;
  /** The newest failure's message; absent while connected. */
  lastError?: string;
  /** Exceptions thrown by handlers so far. */
  handlerErrors: number;
}

/** `namespace/name`, or `name` of a cluster-scoped object. */
export function objectKey(object: KubeObject): string {
  const { namespace, name } = object.metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/**
 * A local copy of one resource, kept current by a reflector, with indexes and change handlers. After a lost history
 * the differences between copy and new list are told as ordinary changes.
 *
 * Own writes can be shown at once (`observe`, `observeDeleted`), so that a reconciler never decides on a state older
 * than what it wrote itself; events that are older than an own write are then passed over. Objects are shared: treat
 * them as read-only.
 */
export class Informer<T extends KubeObject> {
  readonly #options: InformerOptions<T>;
  readonly #store: IndexedStore<T>;
  readonly #handlers = new Set<(change: Change<T>) => void>();
  /** Changes being told: a handler may cause further ones, which all handlers then see in the same order. */
  readonly #untold: Change<T>[] = [];
  #telling = false;
  /** Keys of own writes since the newest list was asked for, which need not be in it. */
  readonly #written = new Set<string>();
  /** The newest version among them. */
  #newestWrite = '';
  /** Own deletions since then, whose DELETED event has not come yet, by key. */
  readonly #tombstones = new Map<string, T>();
  readonly #firstList = Promise.withResolvers<void>();
  /** Ends the present following, and begins again with a list. */
  #again = new AbortController();
  /** A list was asked for because history is another one: versions say nothing about what is newer. */
  #relisting: PromiseWithResolvers<void> | undefined;
  #state: InformerState = { synced: false, connected: false, handlerErrors: 0 };

  constructor(options: InformerOptions<T>) {
    this.#options = options;
    this.#store = new IndexedStore(options.indexes ?? {});
    // Whoever waits for it hears of a stop; nobody has to.
    this.#firstList.promise.catch(() => undefined);
  }

  get state(): Readonly<InformerState> {
    return this.#state;
  }

  /** Follows the server until aborted; resolves then, and tells nothing afterwards. Run it once. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      while (!signal.aborted) {
        this.#again = new AbortController();
        await this.#follow(AbortSignal.any([signal, this.#again.signal]));
      }
    } finally {
      this.#state = { ...this.#state, connected: false };
      this.#firstList.reject(signal.reason ?? new Error('the informer ended'));
      this.#relisting?.resolve();
    }
  }

  /**
   * Lists again although the watch may work: for whoever learns that etcd was restored, which a watch from a version that
   * was given out a second time does not notice. Resolves when the list has been applied, or the informer ends.
   */
  relist(): Promise<void> {
    this.#relisting ??= Promise.withResolvers();
    this.#again.abort();
    return this.#relisting.promise;
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { indexes: _, ...selection } = this.#options;
    for await (const event of reflect({
      ...selection,
      signal,
      onState: (state) => this.#connection(state),
      // Own writes that the server has not heard of, or deletions that it never told: a restore took them back.
      doubts: (newest) => compareVersions(this.#newestWrite, newest) > 0 || this.#tombstones.size > 0,
      onList: () => {
        this.#newestWrite = '';
        this.#written.clear();
        this.#tombstones.clear();
      },
    })) {
      if (signal.aborted) break;
      this.#apply(event);
    }
  }

  /** Resolves once the first list has been applied; rejects when the informer, or `signal`, is aborted before. */
  async synced(signal?: AbortSignal): Promise<void> {
    if (!signal) return this.#firstList.promise;
    signal.throwIfAborted();
    const { promise, reject } = Promise.withResolvers<never>();
    const aborted = () => reject(signal.reason);
    signal.addEventListener('abort', aborted, { once: true });
    try {
      await Promise.race([this.#firstList.promise, promise]);
    } finally {
      signal.removeEventListener('abort', aborted);
    }
  }

  /** `key` as `objectKey` gives it. */
  get(key: string): T | undefined {
    return this.#store.get(key);
  }

  list(): T[] {
    return this.#store.list();
  }

  byIndex(index: string, value: string): T[] {
    return this.#store.byIndex(index, value);
  }

  /** Runs on every change from now on, synchronously. Returns the way to end that. */
  onChange(handler: (change: Change<T>) => void): () => void {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  /**
   * Takes over the server's answer to an own write, unless something newer is known. Only objects that this
   * informer selects.
   */
  observe(object: T): void {
    const key = objectKey(object);
    // The watch is already past it: what it said since, stands, a deletion too.
    if (this.#reached(object) || this.#isBuried(key, object)) return;
    const known = this.#store.get(key);
    if (known && compareVersions(versionOf(object), versionOf(known)) <= 0) return;
    this.#written.add(key);
    const version = versionOf(object);
    if (compareVersions(version, this.#newestWrite) > 0) this.#newestWrite = version;
    this.#put(key, object);
    this.#tell();
  }

  /** Takes over an own deletion that the server has accepted; `object` is what was deleted. */
  observeDeleted(object: T): void {
    const key = objectKey(object);
    const known = this.#store.get(key);
    // Its DELETED event has come already, and perhaps a successor with another uid; but what is known may also be a
    // predecessor, whose own deletion has not come yet.
    const isOver = known
      ? known.metadata.uid !== object.metadata.uid && !this.#isNewer(key, object)
      : this.#reached(object);
    if (isOver) return;
    this.#tombstones.set(key, object);
    this.#remove(key, object);
    this.#tell();
  }

  #apply(event: ReflectorEvent<T>): void {
    if (event.type === 'REPLACED') this.#replace(event.items, event.resourceVersion);
    else if (event.type === 'DELETED') this.#deleted(event.object);
    else if (event.type !== 'BOOKMARK') this.#changed(event.object);
    const resourceVersion = 'resourceVersion' in event ? event.resourceVersion : versionOf(event.object);
    const synced = this.#state.synced || event.type === 'REPLACED';
    this.#state = { ...this.#state, resourceVersion, synced };
    this.#tell();
    if (event.type !== 'REPLACED') return;
    this.#firstList.resolve();
    this.#relisting?.resolve();
    this.#relisting = undefined;
  }

  /** The list is the truth, but for own writes that were made after it was asked for and are newer. */
  #replace(items: readonly T[], resourceVersion: string): void {
    const listed = new Set<string>();
    // After a restore of etcd the same version may be given to another state.
    const isOlder = compareVersions(resourceVersion, this.#state.resourceVersion ?? '') < 0;
    const restored = isOlder || this.#relisting !== undefined;
    for (const item of items) {
      const key = objectKey(item);
      listed.add(key);
      if (this.#isBuried(key, item) || (this.#written.has(key) && !this.#isNewer(key, item))) continue;
      this.#put(key, item, restored);
    }
    for (const object of this.#store.list()) {
      const key = objectKey(object);
      const isNewer = this.#written.has(key) && compareVersions(versionOf(object), resourceVersion) > 0;
      if (!listed.has(key) && !isNewer) this.#remove(key, object);
    }
    // Their DELETED event lies before the list, so it will not come.
    for (const key of this.#tombstones.keys()) if (!listed.has(key)) this.#tombstones.delete(key);
  }

  #changed(object: T): void {
    const key = objectKey(object);
    if (!this.#isNewer(key, object) || this.#isBuried(key, object)) return;
    this.#written.delete(key);
    this.#put(key, object);
  }

  #deleted(object: T): void {
    const key = objectKey(object);
    if (this.#tombstones.get(key)?.metadata.uid === object.metadata.uid) this.#tombstones.delete(key);
    const known = this.#store.get(key);
    // A successor that we created ourselves is already there.
    if (!known || (known.metadata.uid !== object.metadata.uid && !this.#isNewer(key, object))) return;
    this.#written.delete(key);
    this.#remove(key, object);
  }

  #isNewer(key: string, object: T): boolean {
    const known = this.#store.get(key);
    return !known || compareVersions(versionOf(object), versionOf(known)) > 0;
  }

  /** The watch has told everything up to this object's version. */
  #reached(object: T): boolean {
    const { resourceVersion } = this.#state;
    return resourceVersion !== undefined && compareVersions(versionOf(object), resourceVersion) <= 0;
  }

  /** Older than an own deletion, or another state of what was deleted; but what waits for its finalizers is alive. */
  #isBuried(key: string, object: T): boolean {
    const buried = this.#tombstones.get(key);
    if (!buried) return false;
    if (compareVersions(versionOf(object), versionOf(buried)) <= 0) return true;
    return object.metadata.uid === buried.metadata.uid && object.metadata.deletionTimestamp === undefined;
  }

  #put(key: string, object: T, anyway = false): void {
    const previous = this.#store.get(key);
    if (previous && versionOf(previous) === versionOf(object) && !anyway) return;
    if (previous && previous.metadata.uid !== object.metadata.uid) {
      // Deleted and created again unseen: for whoever keeps state by uid these are two changes.
      this.#remove(key, previous);
      this.#untold.push({ type: 'ADDED', key, object });
    } else if (previous) this.#untold.push({ type: 'MODIFIED', key, object, previous });
    else this.#untold.push({ type: 'ADDED', key, object });
    this.#store.set(key, object);
    this.#tombstones.delete(key);
  }

  /** `object` is the last state, if it is one of the object that is held. */
  #remove(key: string, object: T): void {
    const previous = this.#store.get(key);
    if (!previous) return;
    this.#store.delete(key);
    const last = previous.metadata.uid === object.metadata.uid ? object : previous;
    this.#untold.push({ type: 'DELETED', key, object: last, previous });
  }

  #tell(): void {
    if (this.#telling) return;
    this.#telling = true;
    for (const change of this.#untold)
      for (const handler of [...this.#handlers])
        try {
          handler(change);
        } catch (error) {
          // One consumer's mistake must not starve the others, nor stop the copy.
          this.#state = { ...this.#state, handlerErrors: this.#state.handlerErrors + 1 };
          const { type, key } = change;
          const { plural } = this.#options.resource;
          this.#options.log.error({ err: error, resource: plural, type, key }, 'a change handler failed');
        }
    this.#untold.length = 0;
    this.#telling = false;
  }

  #connection({ connected, error }: ReflectorState): void {
    this.#state = { ...this.#state, connected, lastError: error?.message };
  }
}

function versionOf(object: KubeObject): string {
  return object.metadata.resourceVersion ?? '';
}
