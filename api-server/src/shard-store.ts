import { shardMatches } from '@meshkit/shards/filter';
import { compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';

/** A record and its place in the order; `record` is undefined once it was removed and until the next tidying. */
interface Entry {
  readonly key: string;
  record: ShardAssignment | undefined;
}

/** What was where the store now holds something else; undefined: nothing was. */
export type Past = ReadonlyMap<string, ShardAssignment | undefined>;

export interface Slice {
  items: ShardAssignment[];
  next?: string;
}

const PRESENT: Past = new Map();
const NONE: Set<Entry> = new Set();

/** What a filter may ask for that is looked up instead of searched for; a record has one value of each, or none. */
const INDEXED = {
  owners: ({ status }: ShardAssignment) => status?.owner,
  phases: ({ status }: ShardAssignment) => status?.phase ?? 'Pending',
  shardSet: ({ spec }: ShardAssignment): string | undefined => spec.shardSet,
};
const MEMBERS = Object.keys(INDEXED) as (keyof typeof INDEXED)[];
/** Sorting what an index holds costs several times as much as passing by an entry in order. */
const WORTH_AN_INDEX = 8;

/** NUL sorts below every character of a name, so keys sort by namespace, then name. */
const SEPARATOR = '\0';

/**
 * The shards in order of namespace, then name, and by owner, phase and set. Additions and removals are put in order by
 * the next reader, all at once, so that loading n shards costs one sort.
 */
export class ShardStore {
  readonly #entries = new Map<string, Entry>();
  #ordered: Entry[] = [];
  #added: Entry[] = [];
  #removed = 0;
  readonly #namespaces = new Map<string, string>();
  /** Entries by member of the filter and value: see `indexKey`. */
  readonly #index = new Map<string, Set<Entry>>();

  get size(): number {
    return this.#entries.size;
  }

  put(record: ShardAssignment): void {
    this.#touch(record);
    const key = keyOf(record);
    const known = this.#entries.get(key);
    if (known) {
      this.#file(known, known.record, record);
      known.record = record;
      return;
    }
    const entry = { key, record };
    this.#entries.set(key, entry);
    this.#file(entry, undefined, record);
    this.#added.push(entry);
  }

  /** `position`: of the deletion; absent: the record's. */
  remove(record: ShardAssignment, position = record.metadata.resourceVersion): void {
    this.#touch(record, position);
    const key = keyOf(record);
    const known = this.#entries.get(key);
    if (!known) return;
    this.#entries.delete(key);
    this.#file(known, known.record, undefined);
    known.record = undefined;
    this.#removed += 1;
  }

  get(namespace: string, name: string): ShardAssignment | undefined {
    return this.#entries.get(`${namespace}${SEPARATOR}${name}`)?.record;
  }

  /** The newest position seen in a namespace, deletions included. */
  positionOf(namespace: string): string | undefined {
    return this.#namespaces.get(namespace);
  }

  *values(): Iterable<ShardAssignment> {
    for (const { record } of this.#entries.values()) if (record) yield record;
  }

  /**
   * Up to `limit` shards that pass, after the given place; `next` when at least one more follows. `past` shows
   * another state than the present one: records by key (see `keyOf`) where the two differ.
   */
  page(filter: ShardFilter, limit: number, after?: string, past: Past = PRESENT): Slice {
    const range = filter.namespace === undefined ? '' : `${filter.namespace}${SEPARATOR}`;
    const items: ShardAssignment[] = [];
    let last = '';
    const from = after !== undefined && after > range ? after : range;
    for (const { key, record } of this.#indexed(filter, from, past) ?? this.#walk(from, past)) {
      if (!key.startsWith(range)) break;
      if (!record || !shardMatches(filter, record)) continue;
      // The match after the last one decides whether there is a next page: none on an exact fit.
      if (items.length === limit) return { items, next: last };
      items.push(record);
      last = key;
    }
    return { items };
  }

  /** Every shard that passes, in order. */
  all(filter: ShardFilter): ShardAssignment[] {
    return this.page(filter, Number.POSITIVE_INFINITY).items;
  }

  /** In order, from the first key larger than `after`: all that may pass; undefined where no index leaves out enough. */
  #indexed(filter: ShardFilter, after: string, past: Past): Entry[] | undefined {
    let fewest: Set<Entry>[] | undefined;
    let size = this.#entries.size / WORTH_AN_INDEX;
    for (const member of MEMBERS) {
      if (filter[member] === undefined) continue;
      const values = [...new Set([filter[member]].flat())];
      const sets = values.map((value) => this.#index.get(indexKey(member, value)) ?? NONE);
      const sum = sets.reduce((total, set) => total + set.size, past.size);
      if (sum < size) [fewest, size] = [sets, sum];
    }
    if (!fewest) return undefined;
    const present = fewest.flatMap((set) => [...set]).filter(({ key }) => key > after && !past.has(key));
    const before = [...past].filter(([key]) => key > after).map(entryOf);
    return [...present, ...before].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** In order, from the first key larger than `after`. */
  *#walk(after: string, past: Past): Iterable<Entry> {
    this.#tidy();
    const gone = [...past].filter(([key]) => key > after && !this.#entries.has(key));
    gone.sort(([a], [b]) => (a < b ? -1 : 1));
    let at = 0;
    for (let index = this.#firstAfter(after); index < this.#ordered.length; index += 1) {
      const entry = this.#ordered[index]!;
      for (; at < gone.length && gone[at]![0] < entry.key; at += 1) yield entryOf(gone[at]!);
      yield past.has(entry.key) ? entryOf([entry.key, past.get(entry.key)]) : entry;
    }
    for (; at < gone.length; at += 1) yield entryOf(gone[at]!);
  }

  #file(entry: Entry, before: ShardAssignment | undefined, after: ShardAssignment | undefined): void {
    for (const member of MEMBERS) {
      const was = before && INDEXED[member](before);
      const is = after && INDEXED[member](after);
      if (was === is) continue;
      const left = was === undefined ? undefined : indexKey(member, was);
      const filed = left === undefined ? undefined : this.#index.get(left);
      filed?.delete(entry);
      if (left !== undefined && filed?.size === 0) this.#index.delete(left);
      if (is === undefined) continue;
      const key = indexKey(member, is);
      const set = this.#index.get(key);
      if (set) set.add(entry);
      else this.#index.set(key, new Set([entry]));
    }
  }

  #touch({ metadata }: ShardAssignment, position = metadata.resourceVersion): void {
    const { namespace = '' } = metadata;
    const known = this.#namespaces.get(namespace);
    if (position === undefined) return;
    if (known === undefined || compareVersions(position, known) > 0)
      this.#namespaces.set(namespace, position);
  }

  #tidy(): void {
    if (this.#removed > 0) {
      this.#ordered = this.#ordered.filter(({ record }) => record !== undefined);
      this.#added = this.#added.filter(({ record }) => record !== undefined);
      this.#removed = 0;
    }
    if (this.#added.length === 0) return;
    const added = this.#added.sort((a, b) => (a.key < b.key ? -1 : 1));
    this.#ordered = merge(this.#ordered, added);
    this.#added = [];
  }

  /** Index of the first entry whose key is larger than `key`. */
  #firstAfter(key: string): number {
    let low = 0;
    let high = this.#ordered.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ordered[middle]!.key > key) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Sorts by namespace, then name. */
export function keyOf({ metadata }: ShardAssignment): string {
  return `${metadata.namespace ?? ''}${SEPARATOR}${metadata.name}`;
}

function indexKey(member: keyof typeof INDEXED, value: string): string {
  return `${member}${SEPARATOR}${value}`;
}

function entryOf([key, record]: readonly [string, ShardAssignment | undefined]): Entry {
  return { key, record };
}

function merge(a: readonly Entry[], b: readonly Entry[]): Entry[] {
  const merged: Entry[] = [];
  let at = 0;
  for (const entry of b) {
    while (at < a.length && a[at]!.key < entry.key) merged.push(a[at++]!);
    merged.push(entry);
  }
  while (at < a.length) merged.push(a[at++]!);
  return merged;
}
