import type { Change, Mark } from '@meshkit/shards/change';
import { compareVersions } from '@meshkit/shards/records';

/** A change, and the newest settled state that whoever has been told of it knows. */
export interface Told {
  readonly change: Change;
  /** The state that the change led to, or, inside a reconstructed stretch, the one before the stretch. */
  readonly mark: Mark;
  /** The change led to a settled state, which `mark` then is. */
  readonly settled: boolean;
  /** When it happened, RFC 3339, or when it was learned of. */
  readonly at: string;
}

export interface RingEntry extends Told {
  /** The newest position of the change's namespace before it. */
  readonly namespaceBefore: string | undefined;
  /** Roughly, in bytes of memory. */
  readonly size: number;
  /** Monotonic milliseconds. */
  readonly arrivedAt: number;
}

export interface RingLimits {
  /** Changes to hold at most. */
  changes: number;
  /** Memory that they may take, as far as it can be told. */
  bytes: number;
}

/** Slots of forgotten changes are given back in lots of this many. */
const COMPACT_AFTER = 1_024;
const NOWHERE: Mark = { position: '0', ordinal: 0, anchor: '' };

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
  /** What those know who have been told of everything that is no longer held, and of nothing else. */
  #forgotten = NOWHERE;
  #floor = NOWHERE;
  #floorNumber = 0;
  #isCramped = false;

  constructor(limits: RingLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#entries.length - this.#start;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Memory, not the number of changes, is what it has had to forget for. */
  get isCramped(): boolean {
    return this.#isCramped;
  }

  /** Number of the newest change; 0 before the first. */
  get last(): number {
    return this.#last;
  }

  /** The oldest settled state from which on every change is held. */
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

  /** Changes that lead from one settled state to another, in order; only the last of them has to be settled. */
  push(entries: readonly RingEntry[]): void {
    for (const entry of entries) {
      this.#entries.push(entry);
      this.#bytes += entry.size;
    }
    this.#last += entries.length;
    while (this.size > this.#limits.changes || (this.#bytes > this.#limits.bytes && this.size > 0)) {
      this.#isCramped ||= this.size <= this.#limits.changes;
      const oldest = this.#entries[this.#start]!;
      this.#forgotten = oldest.mark;
      this.#bytes -= oldest.size;
      this.#start += 1;
    }
    this.#raiseFloor();
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
    this.#forgotten = floor;
    this.#floor = floor;
    this.#floorNumber = this.#last;
  }

  /** The number of the newest change at or before a position; undefined for positions before the floor. */
  numberAt(position: string): number | undefined {
    if (compareVersions(position, this.#floor.position) < 0) return undefined;
    let low = this.#start;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareVersions(this.#entries[middle]!.change.position, position) <= 0) low = middle + 1;
      else high = middle;
    }
    return this.#last - (this.#entries.length - low);
  }

  /** The newest settled state at or before the change of that number; undefined when that is no longer known. */
  markAt(number: number): Mark | undefined {
    if (number === this.#last - this.size) return this.#forgotten;
    return this.at(number)?.mark;
  }

  #raiseFloor(): void {
    const oldest = this.#last - this.size;
    if (oldest <= this.#floorNumber) return;
    let number = oldest;
    // Forgotten in the middle of a reconstructed stretch: what is left of it leads from no settled state.
    let entry = this.#entries[this.#start - 1];
    for (let at = this.#start; entry && !entry.settled; at += 1) {
      entry = this.#entries[at];
      number += 1;
    }
    if (entry) this.#floor = entry.mark;
    this.#floorNumber = number;
  }
}
