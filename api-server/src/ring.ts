import { type Change, comparePoints, type Mark, type Point } from '@meshkit/shards/change';

export interface RingEntry {
  readonly change: Change;
  /** Of the state after the change. */
  readonly anchor: string;
  /** The newest position of the change's namespace before it. */
  readonly namespaceBefore: string | undefined;
  /** Roughly, in bytes of memory. */
  readonly size: number;
  /** Monotonic milliseconds. */
  readonly arrivedAt: number;
  /** More changes belong to the same step. */
  readonly partial: boolean;
}

export interface RingLimits {
  /** Changes to hold at most. */
  changes: number;
  /** Memory that they may take, as far as it can be told. */
  bytes: number;
}

/** Slots of forgotten changes are given back in lots of this many. */
const COMPACT_AFTER = 1_024;

/**
 * The newest changes, numbered one by one; the oldest make room for new ones. Numbers are never used
 * again, so "everything up to number n" is what a reader remembers of where it is.
 */
export class ChangeRing {
  readonly #limits: RingLimits;
  #entries: RingEntry[] = [];
  /** Index of the oldest entry that counts. */
  #start = 0;
  /** Number of the newest change; 0 before the first. */
  #last = 0;
  #bytes = 0;
  #floor: Mark = { position: '0', ordinal: 0, anchor: '' };

  constructor(limits: RingLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#entries.length - this.#start;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Number of the newest change; 0 before the first. */
  get last(): number {
    return this.#last;
  }

  /** The state from which on every change is held. */
  get floor(): Mark {
    return this.#floor;
  }

  /** Whether every change after that number is still held. */
  reaches(number: number): boolean {
    return number >= this.#last - this.size;
  }

  /** The change of that number; undefined when it is no longer, or not yet, held. */
  at(number: number): RingEntry | undefined {
    const back = this.#last - number;
    return back < 0 || back >= this.size ? undefined : this.#entries[this.#entries.length - 1 - back];
  }

  push(entry: RingEntry): void {
    this.#entries.push(entry);
    this.#last += 1;
    this.#bytes += entry.size;
    while (this.size > this.#limits.changes || (this.#bytes > this.#limits.bytes && this.size > 0)) {
      const oldest = this.#entries[this.#start]!;
      this.#floor = markOf(oldest);
      this.#bytes -= oldest.size;
      this.#start += 1;
    }
    if (this.#start >= COMPACT_AFTER) {
      this.#entries = this.#entries.slice(this.#start);
      this.#start = 0;
    }
  }

  /** Forgets every change: from now on history begins here. One number is passed over, so that no reader is up to date. */
  restart(floor: Mark): void {
    this.#last += 1;
    this.#entries = [];
    this.#start = 0;
    this.#bytes = 0;
    this.#floor = floor;
  }

  /** The number of the newest change at or before a point; undefined for points before the floor. */
  numberAt(point: Point): number | undefined {
    if (comparePoints(point, this.#floor) < 0) return undefined;
    let low = this.#start;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (comparePoints(this.#entries[middle]!.change, point) <= 0) low = middle + 1;
      else high = middle;
    }
    return this.#last - (this.#entries.length - low);
  }

  /** The state after the change of that number; undefined when that is no longer known. */
  markAt(number: number): Mark | undefined {
    if (number === this.#last - this.size) return this.#floor;
    const entry = this.at(number);
    return entry && markOf(entry);
  }
}

function markOf({ change, anchor, partial }: RingEntry): Mark {
  return { position: change.position, ordinal: change.ordinal, anchor, partial };
}
