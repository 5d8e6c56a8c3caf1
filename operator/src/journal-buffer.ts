import type { Gap, JournalEntry } from '@meshkit/shards/journal';

/** Entries to append together; with `gap` those that a list told, which are one step. */
export interface PendingBatch {
  entries: JournalEntry[];
  gap?: Gap;
  /** The settled position after the last entry, where that is not its own. */
  position?: string;
}

export interface BufferLimits {
  entries: number;
  /** Characters of their JSON, about. */
  bytes: number;
}

/** A batch of the watch is complete with so many. */
const FULL_BATCH = 256;
/** What has piled up is written in batches of this size. */
const MAX_BATCH = 2_048;
/** Beside the two views: position, time, history. */
const ENTRY_OVERHEAD = 300;

/** What the watch has told and the journal not yet taken: in order, and bounded. */
export class JournalBuffer {
  readonly #limits: BufferLimits;
  #batches: { batch: PendingBatch; bytes: number }[] = [];
  #entries = 0;
  #bytes = 0;

  constructor(limits: BufferLimits) {
    this.#limits = limits;
  }

  get entries(): number {
    return this.#entries;
  }

  /** A batch that waits for nothing more. */
  get isUrgent(): boolean {
    return this.#entries >= FULL_BATCH || this.#batches.some(({ batch }) => batch.gap !== undefined);
  }

  /** Entries of one event. False: there is no room, and nothing was taken. */
  push(entries: readonly JournalEntry[]): boolean {
    const bytes = sizeOf(entries);
    // A single event always finds room in an empty buffer.
    const isFull =
      this.#entries + entries.length > this.#limits.entries || this.#bytes + bytes > this.#limits.bytes;
    if (isFull && this.#entries > 0) return false;
    const newest = this.#batches.at(-1);
    if (newest && newest.batch.gap === undefined && newest.batch.entries.length < MAX_BATCH) {
      for (const entry of entries) newest.batch.entries.push(entry);
      newest.bytes += bytes;
    } else this.#batches.push({ batch: { entries: [...entries] }, bytes });
    this.#entries += entries.length;
    this.#bytes += bytes;
    return true;
  }

  /** What a list told: as much as there is, since it is no more than the shards themselves. */
  pushGap(batch: PendingBatch): void {
    const bytes = sizeOf(batch.entries);
    this.#batches.push({ batch, bytes });
    this.#entries += batch.entries.length;
    this.#bytes += bytes;
  }

  shift(): PendingBatch | undefined {
    const oldest = this.#batches.shift();
    if (!oldest) return undefined;
    this.#entries -= oldest.batch.entries.length;
    this.#bytes -= oldest.bytes;
    return oldest.batch;
  }

  /** Forgets everything; returns how many entries that were. */
  clear(): number {
    const dropped = this.#entries;
    this.#batches = [];
    this.#entries = 0;
    this.#bytes = 0;
    return dropped;
  }
}

function sizeOf(entries: readonly JournalEntry[]): number {
  let size = 0;
  for (const { before, after } of entries) {
    size += ENTRY_OVERHEAD + JSON.stringify(after ?? before).length * (before && after ? 2 : 1);
  }
  return size;
}
