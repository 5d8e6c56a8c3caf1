import { objectKey } from '@meshkit/crds/informer';
import type { ReflectorEvent } from '@meshkit/crds/reflector';
import type { Change, Mark, Point } from '@meshkit/shards/change';
import type { Clock } from '@meshkit/shards/clock';
import type { Gap, JournalState } from '@meshkit/shards/journal';
import { transitionTime } from '@meshkit/shards/journal-fold';
import { gapAround } from '@meshkit/shards/journal-slice';
import { missedChanges } from '@meshkit/shards/missed-changes';
import { compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import { recordOf } from '@meshkit/shards/shard-view';
import { fingerprint, StateDigest } from '@meshkit/shards/state-digest';
import type { Piece } from './journal-archive.ts';
import { ChangeRing, type RingEntry, type RingLimits } from './ring.ts';
import { keyOf, type Past, ShardStore } from './shard-store.ts';

/** A record takes about this many times the memory of its served JSON: it has its transitions with it, and objects are roomy. */
const MEMORY_PER_CHARACTER = 6;
const MEMORY_PER_CHANGE = 400;

/** A page of the state at a mark. */
export interface TimelinePage {
  items: ShardAssignment[];
  /** Place of the last item, when more follow. */
  next?: string;
  mark: Mark;
  /** The newest position of a namespace in that state. */
  positionOf(namespace: string): string | undefined;
}

/** Where whoever knows a settled state goes on in the ring. */
export interface Found {
  /** Of the newest change that it knows, or may know. */
  number: number;
  /** False: the state lies in a stretch that was reconstructed here, so it goes on from before that, with repeats. */
  exact: boolean;
}

/**
 * The shards as they are, and every change that led there as far back as the ring reaches. Fed by one reflector, event
 * by event; each event is applied as a whole, so readers never see half of one.
 *
 * Points only grow. When the reflector lost its history and lists again, the differences become changes after the old
 * head; when the list is of an older time than what is known (etcd was restored), the timeline starts anew (`restarts`).
 */
export class Timeline {
  readonly ring: ChangeRing;
  readonly #clock: Pick<Clock, 'monotonic' | 'now'>;
  #store = new ShardStore();
  #digest = new StateDigest();
  #position = '0';
  /** Of the newest change. */
  #last: Point = { position: '0', ordinal: 0 };
  #gaps: Gap[] = [];
  #restarts = 0;
  #branch = '';
  #synced = false;
  /** Monotonic milliseconds when the ring's history began. */
  #begunAt = 0;
  #isSeeded = false;

  constructor(limits: RingLimits, clock: Pick<Clock, 'monotonic' | 'now'>) {
    this.ring = new ChangeRing(limits);
    this.#clock = clock;
  }

  /** The first list has been applied. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Everything up to here has been applied. */
  get position(): string {
    return this.#position;
  }

  /** The newest state; it is always settled. */
  get head(): Mark {
    return { position: this.#position, ordinal: 0, anchor: this.#digest.toString() };
  }

  /** Stretches of the ring whose states in between are unknown. */
  get gaps(): readonly Gap[] {
    return this.#gaps;
  }

  /** How often history began, once at least: whoever remembers a number of the ring from before knows nothing any more. */
  get restarts(): number {
    return this.#restarts;
  }

  /**
   * Tells this history from the ones before it; empty for the first. Positions may be given out a second time after a
   * restore, so what names a position has to name the branch too.
   */
  get branch(): string {
    return this.#branch;
  }

  get size(): number {
    return this.#store.size;
  }

  get(namespace: string, name: string): ShardAssignment | undefined {
    return this.#store.get(namespace, name);
  }

  values(): Iterable<ShardAssignment> {
    return this.#store.values();
  }

  /** Every shard that passes, as it is now. */
  all(filter: ShardFilter): ShardAssignment[] {
    return this.#store.all(filter);
  }

  /** A page of the state at a position, or now. Undefined when that state is no longer known, or not yet. */
  page(filter: ShardFilter, limit: number, after?: string, at?: string): TimelinePage | undefined {
    if (at === undefined || at === this.#position) {
      const positionOf = (namespace: string) => this.#store.positionOf(namespace);
      return { ...this.#store.page(filter, limit, after), mark: this.head, positionOf };
    }
    const past = this.#undo(at);
    if (!past) return undefined;
    const { records, mark, positionOf } = past;
    return { ...this.#store.page(filter, limit, after, records), mark, positionOf };
  }

  /**
   * Where whoever knows this state, which is not ahead of the head, goes on. `before`: not in the ring, whose floor is
   * newer. `other`: the state here was another one. `isNewest`: the journal tells of nothing after it; if the ring then
   * begins with the same state, nothing happened in between that anybody knows of.
   */
  find(
    { position, anchor }: Pick<Mark, 'position' | 'anchor'>,
    isNewest = false,
  ): Found | 'before' | 'other' {
    const gap = this.gapAround(position);
    const number = this.ring.numberAt(gap ? gap.from : position);
    if (number === undefined) {
      const { floor } = this.ring;
      const isFloor = isNewest && anchor === floor.anchor;
      return isFloor ? { number: this.ring.numberAt(floor.position)!, exact: true } : 'before';
    }
    if (gap) return { number, exact: false };
    return this.ring.markAt(number)?.anchor === anchor ? { number, exact: true } : 'other';
  }

  /** The reconstructed stretch that a position lies inside. */
  gapAround(position: string): Gap | undefined {
    return gapAround(this.#gaps, position);
  }

  /**
   * Since when (monotonic milliseconds) the oldest change after a state of somebody else's is known here; undefined when there
   * is none. The state tells, not the position: a deletion that a list told has another one here than where it was seen.
   */
  changedSince({ position, anchor }: Mark): number | undefined {
    const { ring } = this;
    const from = ring.numberAt(position);
    const first = from ?? ring.last - ring.size;
    for (let known = first; known <= ring.last; known += 1) {
      if (ring.markAt(known)?.anchor === anchor) return ring.at(known + 1)?.arrivedAt;
    }
    // A state before everything that is held has missed at least what the history here began with.
    return ring.at(first + 1)?.arrivedAt ?? (from === undefined ? this.#begunAt : undefined);
  }

  /** `anew`: the list is of another cluster than what is known. */
  apply(event: ReflectorEvent<ShardAssignment>, anew = false): void {
    if (event.type === 'REPLACED') this.#replace(event.items.map(slim), event.resourceVersion, anew);
    else if (event.type === 'BOOKMARK') this.#advance(event.resourceVersion);
    else {
      const record = slim(event.object);
      const position = versionOf(record);
      this.#take(event.type === 'DELETED' ? this.#end(record) : this.#steps(record), position);
      this.#advance(position);
    }
  }

  /**
   * What was written down of the past, before the first list: that list then becomes what was missed since, so that
   * whoever knows a state from `state.mark` on can go on. False when it contradicts itself, and nothing was taken up.
   */
  seed({ mark, shards }: JournalState): boolean {
    if (this.#synced) return false;
    this.#hold(shards.map(recordOf), mark.position);
    this.#isSeeded = this.#digest.toString() === mark.anchor;
    return this.#isSeeded;
  }

  /** What else was written down, up to a position; see `seed`. */
  extend({ stretch: { entries, gaps }, at }: Piece, upTo: string): void {
    let step: Change[] = [];
    for (const { change, mark, settled } of entries.slice(at)) {
      step.push(change);
      if (!settled) continue;
      if (compareVersions(mark.position, upTo) > 0) break;
      this.#take(step, mark.position);
      this.#advance(mark.position);
      step = [];
    }
    this.#gaps.push(...gaps.filter(({ to }) => compareVersions(to, this.#position) <= 0));
  }

  /** The anchor of a list. */
  anchorOf(items: readonly ShardAssignment[]): string {
    const digest = new StateDigest();
    for (const item of items) digest.add(fingerprint(item));
    return digest.toString();
  }

  /** The history that began with the newest start has a name that others know. */
  joinLineage(): void {
    this.#branch = '';
  }

  /** From now on positions are of another history: whatever anybody knows of earlier ones counts no more. */
  beginLineage(): void {
    this.#branch = '';
    this.#gaps = [];
    this.#begin();
    this.#restarts += 1;
  }

  /** The changes that make a record held; none when nothing that is served changes. */
  #steps(record: ShardAssignment): Change[] {
    const { namespace = '', name, uid } = record.metadata;
    const known = this.#store.get(namespace, name);
    const point = this.#after(versionOf(record));
    const key = objectKey(record);
    if (known && known.metadata.uid !== uid) {
      const next = { ...point, ordinal: point.ordinal + 1 };
      return [
        { ...point, key, before: known },
        { ...next, key, after: record },
      ];
    }
    if (known && fingerprint(known).hash === fingerprint(record).hash) {
      this.#store.put(record);
      return [];
    }
    return [{ ...point, key, before: known, after: record }];
  }

  #end(last: ShardAssignment): Change[] {
    const { namespace = '', name, uid } = last.metadata;
    const known = this.#store.get(namespace, name);
    if (known?.metadata.uid !== uid) return [];
    return [{ ...this.#after(versionOf(last)), key: objectKey(last), before: known }];
  }

  #after(position: string): Point {
    const isNext = compareVersions(position, this.#last.position) > 0;
    return isNext
      ? { position, ordinal: 0 }
      : { position: this.#last.position, ordinal: this.#last.ordinal + 1 };
  }

  /** Changes that are one step: what lies between them never was, or nobody knows it. After them the state is settled. */
  #take(changes: readonly Change[], position: string): void {
    const { head } = this;
    const learnedAt = new Date(this.#clock.now()).toISOString();
    const entries = changes.map((change, at): RingEntry => {
      const { before, after } = change;
      const record = (after ?? before)!;
      const namespaceBefore = this.#store.positionOf(record.metadata.namespace ?? '');
      if (before) this.#digest.remove(fingerprint(before));
      if (after) {
        this.#digest.add(fingerprint(after));
        this.#store.put(after);
      } else this.#store.remove(record, change.position);
      this.#last = change;
      const settled = at === changes.length - 1;
      return {
        change,
        mark: settled ? { position, ordinal: 0, anchor: this.#digest.toString() } : head,
        settled,
        at: change.at ?? transitionTime(change) ?? learnedAt,
        namespaceBefore,
        size: MEMORY_PER_CHANGE + MEMORY_PER_CHARACTER * fingerprint(record).size,
        arrivedAt: this.#clock.monotonic(),
      };
    });
    if (entries.length > 0) this.ring.push(entries);
  }

  #advance(position: string): void {
    if (compareVersions(position, this.#position) > 0) this.#position = position;
  }

  #replace(items: readonly ShardAssignment[], position: string, anew: boolean): void {
    const { head } = this;
    const isNewer = (version = '') => compareVersions(version, head.position) > 0;
    const listed = new Set(items.map(keyOf));
    const changed = items.filter((item) => !this.#isKnown(item));
    const deleted = [...this.#store.values()].filter((record) => !listed.has(keyOf(record)));
    const differs = changed.length + deleted.length > 0;
    const isOlder = differs ? !isNewer(position) : compareVersions(position, head.position) < 0;
    // A change that is not newer than what was known before it cannot have come after it.
    const contradicts = isOlder || changed.some(({ metadata }) => !isNewer(metadata.resourceVersion));
    if (anew || !(this.#synced || this.#isSeeded) || contradicts) {
      this.#startAnew(items, position);
      return;
    }
    this.#synced = true;
    const known = new Map<string, ShardAssignment>();
    for (const { metadata } of [...changed, ...deleted]) {
      const before = this.#store.get(metadata.namespace ?? '', metadata.name);
      if (before) known.set(objectKey(before), before);
    }
    const missed = missedChanges(known, changed, position);
    this.#take(missed, position);
    this.#advance(position);
    // Those that say the same as what is known may be newer all the same.
    for (const item of items) this.#store.put(item);
    const floor = this.ring.floor.position;
    this.#gaps = this.#gaps.filter(({ to }) => compareVersions(to, floor) > 0);
    if (missed.length > 0) this.#gaps.push({ from: head.position, to: position });
  }

  #isKnown(item: ShardAssignment): boolean {
    const known = this.#store.get(item.metadata.namespace ?? '', item.metadata.name);
    if (!known || known.metadata.uid !== item.metadata.uid) return false;
    // What was written down has no version: what is served of it is all that can be compared.
    if (known.metadata.resourceVersion !== undefined) return versionOf(known) === versionOf(item);
    return fingerprint(known).hash === fingerprint(item).hash;
  }

  #startAnew(items: readonly ShardAssignment[], position: string): void {
    this.#hold(items, position);
    if (this.#synced) this.#branch = `${position}-${this.#digest}`;
    this.#restarts += 1;
    this.#synced = true;
  }

  /** This state, and nothing of what led to it. */
  #hold(records: readonly ShardAssignment[], position: string): void {
    this.#store = new ShardStore();
    this.#digest = new StateDigest();
    this.#gaps = [];
    for (const record of records) {
      this.#store.put(record);
      this.#digest.add(fingerprint(record));
    }
    this.#position = position;
    this.#last = { position, ordinal: 0 };
    this.#begin();
  }

  #begin(): void {
    this.ring.restart(this.head);
    this.#begunAt = this.#clock.monotonic();
  }

  /** How the state at a position differs from the present one. */
  #undo(position: string) {
    const { ring } = this;
    const number = ring.numberAt(position);
    const isAhead = compareVersions(position, this.#position) > 0;
    if (number === undefined || this.gapAround(position) || isAhead) return undefined;
    const records = new Map<string, ShardAssignment | undefined>();
    const namespaces = new Map<string, string | undefined>();
    for (let at = ring.last; at > number; at -= 1) {
      const { change, namespaceBefore } = ring.at(at)!;
      const record = (change.before ?? change.after)!;
      records.set(keyOf(record), change.before);
      namespaces.set(record.metadata.namespace ?? '', namespaceBefore);
    }
    const mark = { position, ordinal: 0, anchor: ring.markAt(number)!.anchor };
    const positionOf = (namespace: string) => {
      const found = namespaces.has(namespace) ? namespaces.get(namespace) : this.#store.positionOf(namespace);
      // What is not served may have moved it since.
      return found !== undefined && compareVersions(found, position) > 0 ? position : found;
    };
    return { records: records as Past, mark, positionOf };
  }
}

function versionOf({ metadata }: ShardAssignment): string {
  return metadata.resourceVersion ?? '';
}

/** Without the field lists, which are most of a record; who wrote the spec, and when, stays (see `specActor`). */
function slim(record: ShardAssignment): ShardAssignment {
  const { managedFields, ...metadata } = record.metadata;
  if (!managedFields) return record;
  const writers = managedFields
    .filter(({ subresource, fieldsV1 }) => !subresource && (!fieldsV1 || 'f:spec' in fieldsV1))
    .map(({ manager, operation, time }) => ({ manager, operation, time }));
  return { ...record, metadata: { ...metadata, managedFields: writers } };
}
