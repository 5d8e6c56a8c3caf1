import { objectKey } from '@meshkit/crds/informer';
import type { ReflectorEvent } from '@meshkit/crds/reflector';
import type { Change, Mark } from '@meshkit/shards/change';
import { compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import { type Fingerprint, fingerprint, StateDigest } from '@meshkit/shards/state-digest';
import { ChangeRing, type RingLimits } from './ring.ts';
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

/** From one record to another, one of which may be nothing. */
interface Step {
  position: string;
  before?: ShardAssignment;
  after?: ShardAssignment;
}

interface Range {
  from: string;
  to: string;
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
  readonly #monotonic: () => number;
  #store = new ShardStore();
  #digest = new StateDigest();
  readonly #fingerprints = new WeakMap<ShardAssignment, Fingerprint>();
  #head: { position: string; ordinal: number } = { position: '0', ordinal: 0 };
  /** Stretches (from, to) whose states are unknown in between, because their changes were reconstructed from a list. */
  #gaps: Range[] = [];
  #restarts = 0;
  #branch = '';
  #synced = false;

  constructor(limits: RingLimits, monotonic: () => number) {
    this.ring = new ChangeRing(limits);
    this.#monotonic = monotonic;
  }

  /** The first list has been applied. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Everything up to here has been applied. */
  get position(): string {
    return this.#head.position;
  }

  get head(): Mark {
    return { ...this.#head, anchor: this.#digest.toString() };
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
    if (at === undefined || at === this.#head.position) {
      const positionOf = (namespace: string) => this.#store.positionOf(namespace);
      return { ...this.#store.page(filter, limit, after), mark: this.head, positionOf };
    }
    const past = this.#undo(at);
    if (!past) return undefined;
    const { records, mark, positionOf } = past;
    return { ...this.#store.page(filter, limit, after, records), mark, positionOf };
  }

  /** `anew`: the list is of another cluster than what is known. */
  apply(event: ReflectorEvent<ShardAssignment>, anew = false): void {
    if (event.type === 'REPLACED') this.#replace(event.items.map(slim), event.resourceVersion, anew);
    else if (event.type === 'BOOKMARK') this.#advance(event.resourceVersion);
    else {
      const record = slim(event.object);
      this.#take(event.type === 'DELETED' ? this.#stepsFrom(record) : this.#stepsTo(record));
      this.#advance(versionOf(record));
    }
  }

  /** What it takes for a record to be held; none when nothing that is served changes. */
  #stepsTo(record: ShardAssignment): Step[] {
    const { namespace = '', name, uid } = record.metadata;
    const known = this.#store.get(namespace, name);
    const position = versionOf(record);
    if (known && known.metadata.uid !== uid) {
      return [
        { position, before: known },
        { position, after: record },
      ];
    }
    if (known && this.#fingerprint(known).hash === this.#fingerprint(record).hash) {
      this.#store.put(record);
      return [];
    }
    return [{ position, before: known, after: record }];
  }

  #stepsFrom(last: ShardAssignment): Step[] {
    const { namespace = '', name, uid } = last.metadata;
    const known = this.#store.get(namespace, name);
    return known?.metadata.uid === uid ? [{ position: versionOf(last), before: known }] : [];
  }

  #take(steps: readonly Step[]): void {
    for (const [at, { position, before, after }] of steps.entries()) {
      const record = (after ?? before)!;
      const namespaceBefore = this.#store.positionOf(record.metadata.namespace ?? '');
      if (before) this.#digest.remove(this.#fingerprint(before));
      if (after) {
        this.#digest.add(this.#fingerprint(after));
        this.#store.put(after);
      } else this.#store.remove(record, position);
      this.#head = this.#after(position);
      const change: Change = { ...this.#head, key: objectKey(record), before, after };
      this.ring.push({
        change,
        anchor: this.#digest.toString(),
        namespaceBefore,
        size: MEMORY_PER_CHANGE + MEMORY_PER_CHARACTER * this.#fingerprint(record).size,
        arrivedAt: this.#monotonic(),
        partial: at < steps.length - 1,
      });
    }
  }

  #after(position: string) {
    const head = this.#head;
    return compareVersions(position, head.position) > 0
      ? { position, ordinal: 0 }
      : { position: head.position, ordinal: head.ordinal + 1 };
  }

  #advance(position: string): void {
    if (compareVersions(position, this.#head.position) > 0) this.#head = { position, ordinal: 0 };
  }

  #replace(items: readonly ShardAssignment[], position: string, anew: boolean): void {
    const { head } = this;
    const listed = new Set(items.map(keyOf));
    const changed = items.filter((item) => !this.#isKnown(item));
    const deleted = [...this.#store.values()].filter((record) => !listed.has(keyOf(record)));
    const isNewer = (version = '') => compareVersions(version, head.position) > 0;
    const differs = changed.length + deleted.length > 0;
    const isOlder = differs ? !isNewer(position) : compareVersions(position, head.position) < 0;
    // A change that is not newer than what was known before it cannot have come after it.
    if (
      anew ||
      !this.#synced ||
      isOlder ||
      changed.some(({ metadata }) => !isNewer(metadata.resourceVersion))
    ) {
      this.#startAnew(items, position);
      return;
    }
    changed.sort((a, b) => compareVersions(versionOf(a), versionOf(b)));
    const steps = changed.flatMap((record) => this.#stepsTo(record));
    this.#take([...steps, ...deleted.map((before) => ({ position, before }))]);
    this.#advance(position);
    const floor = this.ring.floor.position;
    this.#gaps = this.#gaps.filter(({ to }) => compareVersions(to, floor) > 0);
    if (differs) this.#gaps.push({ from: head.position, to: position });
  }

  #isKnown(item: ShardAssignment): boolean {
    const known = this.#store.get(item.metadata.namespace ?? '', item.metadata.name);
    return (
      known !== undefined && known.metadata.uid === item.metadata.uid && versionOf(known) === versionOf(item)
    );
  }

  #startAnew(items: readonly ShardAssignment[], position: string): void {
    this.#store = new ShardStore();
    this.#digest = new StateDigest();
    this.#gaps = [];
    for (const item of items) {
      this.#store.put(item);
      this.#digest.add(this.#fingerprint(item));
    }
    this.#head = { position, ordinal: 0 };
    this.ring.restart(this.head);
    if (this.#synced) this.#branch = `${position}-${this.#digest}`;
    this.#restarts += 1;
    this.#synced = true;
  }

  /** How the state at a position differs from the present one. */
  #undo(position: string) {
    const { ring } = this;
    const unknown = this.#gaps.some(
      ({ from, to }) => compareVersions(from, position) < 0 && compareVersions(position, to) < 0,
    );
    const number = ring.numberAt({ position, ordinal: Number.MAX_SAFE_INTEGER });
    const isAhead = compareVersions(position, this.#head.position) > 0;
    if (number === undefined || unknown || isAhead) return undefined;
    const records = new Map<string, ShardAssignment | undefined>();
    const namespaces = new Map<string, string | undefined>();
    for (let at = ring.last; at > number; at -= 1) {
      const { change, namespaceBefore } = ring.at(at)!;
      const record = (change.before ?? change.after)!;
      records.set(keyOf(record), change.before);
      namespaces.set(record.metadata.namespace ?? '', namespaceBefore);
    }
    const { anchor, ...newest } = ring.markAt(number)!;
    const isNewest = compareVersions(newest.position, position) === 0;
    const mark = { position, ordinal: isNewest ? newest.ordinal : 0, anchor };
    const positionOf = (namespace: string) => {
      const found = namespaces.has(namespace) ? namespaces.get(namespace) : this.#store.positionOf(namespace);
      // What is not served may have moved it since.
      return found !== undefined && compareVersions(found, position) > 0 ? position : found;
    };
    return { records: records as Past, mark, positionOf };
  }

  #fingerprint(record: ShardAssignment): Fingerprint {
    const known = this.#fingerprints.get(record);
    if (known) return known;
    const made = fingerprint(record);
    this.#fingerprints.set(record, made);
    return made;
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
