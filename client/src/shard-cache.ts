import { countedShardId } from '@meshkit/shards/defaults';
import { ShardError } from '@meshkit/shards/errors';
import { shardForKey } from '@meshkit/shards/key';
import type { ShardView } from '@meshkit/shards/shard-view';
import type { ShardChange, WatchEvent } from './shard-tracker.ts';
import { type WatchMeans, type WatchOptions, watchShards } from './watch.ts';

export interface ShardCacheOptions
  extends Pick<WatchOptions, 'silenceMs' | 'onDisconnect' | 'signal' | 'allowCoalescing'> {
  namespace: string;
  shardSet: string;
  /**
   * Shards of the set, for `ownerFor`; absent: as many as there are without a gap from 0000 on. Say it where clients
   * must agree while the set grows or shrinks.
   */
  count?: number;
}

/** Who has a shard. Whoever stores for the shard must refuse a smaller epoch. */
export interface ShardOwner {
  shardId: string;
  node: string;
  /** Absent when its MeshNode has none. */
  endpoint?: string;
  epoch: number;
}

/** Phases in which the recorded owner has the shard; a Lost shard keeps its dead owner for the record only. */
const OWNED: ReadonlySet<string> = new Set(['Active', 'Draining', 'Paused']);

/**
 * The owners of one ShardSet in memory, kept up to date by a watch until `close()` or the signal. Answers are immediate
 * and survive any outage of the server: they are then as old as `stalenessMs` says.
 */
export class ShardCache {
  readonly #options: ShardCacheOptions;
  readonly #means: WatchMeans;
  readonly #shards = new Map<string, ShardView>();
  readonly #handlers = new Set<(change: ShardChange) => void>();
  readonly #stop = new AbortController();
  readonly #synced = Promise.withResolvers<void>();
  readonly #ended: Promise<void>;
  #count: number | undefined;
  #position: string | undefined;
  #heardAt = Number.NEGATIVE_INFINITY;
  #failure: unknown;

  constructor(options: ShardCacheOptions, means: WatchMeans) {
    this.#options = options;
    this.#means = means;
    // Whoever waits hears of it; nobody has to wait.
    this.#synced.promise.catch(() => undefined);
    this.#ended = this.#follow();
    this.#ended.catch(() => undefined);
  }

  /** Resolves once every shard is known. Rejects with the ShardError that retrying cannot cure, or the signal's reason. */
  async ready(signal?: AbortSignal): Promise<void> {
    if (!signal) return this.#synced.promise;
    signal.throwIfAborted();
    const { promise, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      await Promise.race([this.#synced.promise, promise]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** Undefined when nobody has it, or there is no such shard. Throws when the cache can no longer be kept up to date. */
  ownerOf(shardId: string): ShardOwner | undefined {
    const shard = this.get(shardId);
    if (shard?.owner === undefined || !OWNED.has(shard.phase)) return undefined;
    return { shardId, node: shard.owner, endpoint: shard.ownerEndpoint, epoch: shard.epoch };
  }

  /**
   * The owner of the shard that a key belongs to (`shardForKey` of @meshkit/shards/key), in a set with
   * `shards: {count}`. Throws `invalidArgument` for a set with ids of its own.
   */
  ownerFor(key: string): ShardOwner | undefined {
    return this.ownerOf(this.shardFor(key));
  }

  /** The id of the shard that a key belongs to; as `ownerFor`. */
  shardFor(key: string): string {
    const count = this.#options.count ?? this.#present();
    if (count > 0) return shardForKey(key, count);
    const { namespace, shardSet } = this.#options;
    const text = `ShardSet ${namespace}/${shardSet} has no shard ${countedShardId(0)}: keys belong to sets with a count`;
    throw new ShardError('invalidArgument', text);
  }

  get(shardId: string): ShardView | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    return this.#shards.get(shardId);
  }

  /** A copy, in no order. */
  list(): ShardView[] {
    return [...this.#shards.values()];
  }

  get size(): number {
    return this.#shards.size;
  }

  /** resourceVersion up to which the cache is complete; undefined before it is ready. */
  get position(): string | undefined {
    return this.#position;
  }

  /**
   * Milliseconds since the server last said where it stands, which it does every 10 s at least; infinite before it is
   * ready. Beyond some 30 s the connection is lost.
   */
  get stalenessMs(): number {
    return this.#means.clock.monotonic() - this.#heardAt;
  }

  /** After each change has been applied; returns the way to stop it. A handler that throws ends the cache with that. */
  onChange(handler: (change: ShardChange) => void): () => void {
    this.#handlers.add(handler);
    return () => void this.#handlers.delete(handler);
  }

  /** Resolves when the cache was closed; rejects when it can no longer be kept up to date. */
  ended(): Promise<void> {
    return this.#ended;
  }

  async close(): Promise<void> {
    this.#stop.abort(new ShardError('unavailable', 'the cache is closed'));
    await this.#ended.catch(() => undefined);
  }

  async #follow(): Promise<void> {
    const { namespace, shardSet, signal, ...options } = this.#options;
    const stop = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    try {
      const events = watchShards({ namespace, shardSet }, { ...options, signal: stop }, this.#means);
      for await (const event of events) this.#apply(event);
      this.#synced.reject(stop.reason);
    } catch (error) {
      this.#failure = error;
      this.#synced.reject(error);
      throw error;
    }
  }

  #apply(event: WatchEvent): void {
    if (event.type === 'RESET') return;
    if (event.type === 'SYNCED' || event.type === 'BOOKMARK') {
      this.#heard(event.position);
      if (event.type === 'SYNCED') this.#synced.resolve();
      return;
    }
    const { shardId } = (event.current ?? event.previous) as ShardView;
    if (event.type === 'DELETED') this.#shards.delete(shardId);
    else this.#shards.set(shardId, event.current as ShardView);
    if (event.type !== 'MODIFIED') this.#count = undefined;
    // Positions inside a listing are those of the shards, not of the list.
    if (this.#position !== undefined && event.type === 'MODIFIED') this.#heard(event.position);
    for (const handler of this.#handlers) handler(event);
  }

  #heard(position: string): void {
    this.#position = position;
    this.#heardAt = this.#means.clock.monotonic();
  }

  /** How many shards there are from 0000 on without a gap. */
  #present(): number {
    if (this.#count !== undefined) return this.#count;
    let count = 0;
    while (this.#shards.has(countedShardId(count))) count += 1;
    this.#count = count;
    return count;
  }
}
