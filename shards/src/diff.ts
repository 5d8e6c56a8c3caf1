import type { Change, ChangeHistory } from './change.ts';
import { shardMatches } from './filter.ts';
import type { JournalEntry } from './journal.ts';
import type { ShardFilter } from './repository.ts';
import { type ShardView, served } from './shard-view.ts';

/** One change as audits read it. */
export interface LogItem extends ChangeHistory {
  position: string;
  /** Tells apart changes that share a position, because they were reconstructed. */
  ordinal: number;
  /** RFC 3339. */
  at: string;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  namespace: string;
  name: string;
  uid: string;
  before?: ShardView;
  after?: ShardView;
  source: 'watch' | 'reconcile';
  /** How many changes this one stands for, when more than one. */
  coalesced?: number;
}

/** What became of one shard over a range. */
export interface NetItem {
  namespace: string;
  name: string;
  /** Moved: another owner; Changed: the same owner, something else differs. */
  change: 'Added' | 'Removed' | 'Moved' | 'Changed';
  before?: ShardView;
  after?: ShardView;
  /** How many changes led there. */
  hops: number;
}

export interface DiffSummary {
  /** How many pass the filter at the end of the range. */
  shards: number;
  moved: number;
  added: number;
  removed: number;
  /** The same owner, and something else differs. */
  statusChanged: number;
  /** moved / shards; 0 when there are none. */
  churn: number;
  /** Who gave to whom (`""`: nobody), largest first. */
  matrix: { from: string; to: string; shards: number }[];
}

export function logItem({ before, after, history, coalesced, ...entry }: JournalEntry): LogItem {
  const { namespace, name, uid } = (after ?? before)!;
  const { position, ordinal, at, source } = entry;
  const type = before && after ? 'MODIFIED' : after ? 'ADDED' : 'DELETED';
  const told = { position, ordinal, at, type, namespace, name, uid, before, after, ...history } as const;
  return coalesced ? { ...told, source, coalesced: coalesced + 1 } : { ...told, source };
}

interface Row {
  before: Change['before'];
  after: Change['after'];
  hops: number;
}

/** Changes folded to what they amount to, shard by shard. Holds two records for each shard that changed, however often. */
export class NetFold {
  readonly #rows = new Map<string, Row>();
  #coalesced = 0;

  /** In their order. */
  add({ key, before, after, coalesced = 0 }: Change): void {
    this.#coalesced += coalesced;
    const hops = 1 + coalesced;
    const row = this.#rows.get(key);
    if (row) {
      row.after = after;
      row.hops += hops;
    } else this.#rows.set(key, { before, after, hops });
  }

  /** So many changes could not be told apart from others. */
  get coalesced(): number {
    return this.#coalesced;
  }

  /** By how much the number of shards that pass grew. */
  growth(filter: ShardFilter): number {
    let growth = 0;
    for (const { before, after } of this.#rows.values())
      growth += passes(filter, after) - passes(filter, before);
    return growth;
  }

  /** Of the shards that pass before or after, ordered by namespace, then name. Those that are as they were are left out. */
  items(filter: ShardFilter): NetItem[] {
    const items: NetItem[] = [];
    for (const { before, after, hops } of this.#rows.values()) {
      if (passes(filter, before) + passes(filter, after) === 0) continue;
      const views = { before: before && served(before), after: after && served(after) };
      const { namespace, name } = (views.after ?? views.before)!;
      const change = kindOf(views);
      if (change) items.push({ namespace, name, change, ...views, hops });
    }
    return items.sort((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1));
  }
}

/** Sorts net items; NUL is before every character of a name. */
export function placeOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}\0${name}`;
}

/** `shards`: how many pass at the end. */
export function summaryOf(items: readonly NetItem[], shards: number): DiffSummary {
  const counts = { Added: 0, Removed: 0, Moved: 0, Changed: 0 };
  const matrix = new Map<string, { from: string; to: string; shards: number }>();
  for (const { change, before, after } of items) {
    counts[change] += 1;
    if (change !== 'Moved') continue;
    const [from, to] = [before?.owner ?? '', after?.owner ?? ''];
    const cell = matrix.get(`${from}\0${to}`) ?? { from, to, shards: 0 };
    cell.shards += 1;
    matrix.set(`${from}\0${to}`, cell);
  }
  return {
    shards,
    moved: counts.Moved,
    added: counts.Added,
    removed: counts.Removed,
    statusChanged: counts.Changed,
    churn: shards === 0 ? 0 : counts.Moved / shards,
    matrix: [...matrix.values()].sort(
      (a, b) => b.shards - a.shards || (`${a.from}\0${a.to}` < `${b.from}\0${b.to}` ? -1 : 1),
    ),
  };
}

function kindOf({ before, after }: { before?: ShardView; after?: ShardView }): NetItem['change'] | undefined {
  if (!before || !after) return after ? 'Added' : before ? 'Removed' : undefined;
  if (before.owner !== after.owner) return 'Moved';
  return JSON.stringify(before) === JSON.stringify(after) ? undefined : 'Changed';
}

function passes(filter: ShardFilter, record: Change['before']): number {
  return record && shardMatches(filter, record) ? 1 : 0;
}
