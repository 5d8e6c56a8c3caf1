import { JournalStore, type JournalStoreOptions, type TakeOver } from '@meshkit/crds/journal-store';
import { silentLog } from '@meshkit/crds/log';
import type { JournalEntry } from '@meshkit/shards/journal';
import { entryOf, JournalFold } from '@meshkit/shards/journal-fold';
import { API_VERSION, type ShardAssignment } from '@meshkit/shards/records';

export const signal = new AbortController().signal;
export const START = Date.parse('2026-11-23T12:00:00.000Z');

/** Shards that move about, and the entries that a watch of them leads to. */
export class Shards {
  readonly records = new Map<string, ShardAssignment>();
  readonly fold: JournalFold;
  position: number;
  now = START;

  constructor(position = 5_000) {
    this.position = position;
    this.fold = JournalFold.listed([], String(position));
  }

  get list(): TakeOver['list'] {
    return async () => ({ items: [...this.records.values()], resourceVersion: String(this.position) });
  }

  /** A grant of shard `name` (created first where it is not there) to a node, `steps` positions later. */
  grant(name: string, node: string, steps = 1): JournalEntry[] {
    this.position += steps;
    this.now += 250;
    const before = this.records.get(name);
    const version = (before?.status?.version ?? 0) + 1;
    const epoch = Math.max((before?.status?.epoch ?? 0) + 1, Math.floor(this.now / 1000));
    const at = new Date(this.now).toISOString();
    const from = before?.status?.owner;
    const actor = { kind: 'Operator', name: 'Rebalance' } as const;
    const reason = `${node} is below its share`;
    const hop = { version, from, to: node, phase: 'Active', epoch, actor, reason, at } as const;
    const record: ShardAssignment = {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: {
        namespace: 'a',
        name,
        uid: before?.metadata.uid ?? `u${this.position}`,
        generation: 1,
        resourceVersion: String(this.position),
      },
      spec: { shardSet: 'orders', shardId: name.slice(7) },
      status: {
        phase: 'Active',
        owner: node,
        previousOwner: from,
        epoch,
        version,
        recentTransitions: [...(before?.status?.recentTransitions ?? []), hop].slice(-8),
      },
    };
    this.records.set(name, record);
    return this.#told(record, false);
  }

  remove(name: string): JournalEntry[] {
    const record = this.records.get(name);
    if (!record) return [];
    this.position += 1;
    this.records.delete(name);
    const resourceVersion = String(this.position);
    return this.#told({ ...record, metadata: { ...record.metadata, resourceVersion } }, true);
  }

  #told(record: ShardAssignment, deleted: boolean): JournalEntry[] {
    const at = new Date(this.now).toISOString();
    const entries = this.fold.changesTo(record, deleted).map((change) => entryOf(change, at));
    for (const entry of entries) this.fold.apply(entry);
    return entries;
  }
}

export function storeOptions(
  client: JournalStoreOptions['client'],
  options: Partial<JournalStoreOptions> = {},
): JournalStoreOptions {
  return {
    client,
    name: 'meshkit',
    cluster: 'cluster-1',
    retention: { ms: 7 * 86_400_000, bytes: 64 << 20 },
    clock: { now: () => START },
    log: silentLog,
    ...options,
  };
}

export function takeOver(
  options: JournalStoreOptions,
  shards: Shards,
  ask: Partial<TakeOver> = {},
): Promise<JournalStore> {
  return JournalStore.takeOver(
    options,
    { list: shards.list, renews: () => false, highestEpoch: 0, ...ask },
    signal,
  );
}
