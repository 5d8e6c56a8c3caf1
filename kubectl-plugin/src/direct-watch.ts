import type { WatchEvent } from '@meshkit/client/shard-tracker';
import { silentLog } from '@meshkit/crds/log';
import { type ReflectorEvent, reflect } from '@meshkit/crds/reflector';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { type Change, historyOf, seenThrough } from '@meshkit/shards/change';
import type { Clock } from '@meshkit/shards/clock';
import { ERRORS, ShardError } from '@meshkit/shards/errors';
import type { ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import { semanticallyEqual } from '@meshkit/shards/semantic-equality';
import { served } from '@meshkit/shards/shard-view';
import type { FollowOptions } from './shard-source.ts';
import type { Kube } from './surroundings.ts';

/** The same events as the API server's watch, from the watch of Kubernetes; they have no tokens. */
export async function* followKubernetes(
  client: Pick<Kube, 'list' | 'watch'>,
  filter: ShardFilter,
  { signal, timeoutMs, onDisconnect }: FollowOptions,
  { clock, random }: { clock: Clock; random: () => number },
): AsyncGenerator<WatchEvent, void> {
  const failed = new AbortController();
  let connected = false;
  const events = reflect<ShardAssignment>({
    client,
    resource: SHARD_ASSIGNMENTS,
    namespace: filter.namespace,
    clock,
    random,
    log: silentLog,
    timeoutMs,
    signal: AbortSignal.any([signal, failed.signal]),
    onState: (state) => {
      connected ||= state.connected;
      const { error } = state;
      if (error === undefined) return;
      // A reflector tries for ever, which is right for a server and wrong for somebody who may not look.
      if (!(error instanceof ShardError) || !(connected || ERRORS[error.code].retry)) failed.abort(error);
      else onDisconnect?.(error, 0);
    },
  });
  const known = new Known(filter);
  for await (const event of events) yield* known.apply(event);
  if (failed.signal.aborted) throw failed.signal.reason;
}

/** The shards as Kubernetes told them last, so that each event has a before. */
class Known {
  readonly #filter: ShardFilter;
  readonly #shards = new Map<string, ShardAssignment>();
  #synced = false;

  constructor(filter: ShardFilter) {
    this.#filter = filter;
  }

  *apply(event: ReflectorEvent<ShardAssignment>): Generator<WatchEvent, void> {
    if (event.type === 'BOOKMARK') {
      yield { type: 'BOOKMARK', position: event.resourceVersion, token: '' };
    } else if (event.type === 'REPLACED') {
      yield* this.#replace(event.items, event.resourceVersion);
    } else {
      const { object } = event;
      yield* this.#change(keyOf(object), event.type === 'DELETED' ? undefined : object, versionOf(object));
    }
  }

  *#replace(items: readonly ShardAssignment[], position: string): Generator<WatchEvent, void> {
    const listed = new Set(items.map(keyOf));
    for (const key of [...this.#shards.keys()]) {
      if (!listed.has(key)) yield* this.#change(key, undefined, position);
    }
    for (const item of items) yield* this.#change(keyOf(item), item, versionOf(item));
    if (!this.#synced) yield { type: 'SYNCED', position, token: '' };
    this.#synced = true;
  }

  *#change(key: string, after: ShardAssignment | undefined, position: string): Generator<WatchEvent, void> {
    const before = this.#shards.get(key);
    if (after) this.#shards.set(key, after);
    else this.#shards.delete(key);
    // The same name with another uid is another shard.
    if (before && after && before.metadata.uid !== after.metadata.uid) {
      yield* this.#tell({ key, position, ordinal: 0, before });
      yield* this.#tell({ key, position, ordinal: 1, after });
    } else if (!before || !after || !semanticallyEqual(served(before), served(after))) {
      yield* this.#tell({ key, position, ordinal: 0, before, after });
    }
  }

  *#tell(change: Change): Generator<WatchEvent, void> {
    const sighting = seenThrough(this.#filter, change);
    if (!sighting) return;
    const { before, after, position } = change;
    yield {
      ...sighting,
      position,
      current: after && served(after),
      previous: before && sighting.type !== 'ADDED' ? served(before) : undefined,
      history: this.#synced ? historyOf(change) : undefined,
      token: '',
    };
  }
}

function keyOf({ metadata }: ShardAssignment): string {
  return `${metadata.namespace}/${metadata.name}`;
}

function versionOf({ metadata }: ShardAssignment): string {
  return metadata.resourceVersion ?? '';
}
