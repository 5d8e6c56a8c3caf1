import type { Mark } from './change.ts';
import type { Gap, JournalEntry, JournalHead, JournalReader, JournalSlice, JournalState } from './journal.ts';
import { JournalFold } from './journal-fold.ts';
import { journalExpired, sliceAfter } from './journal-slice.ts';
import { compareVersions } from './records.ts';

/** A journal in memory, for tests and for what needs no durability: the rules of the durable one, without its store. */
export class MemoryJournal implements JournalReader {
  #head: JournalHead;
  readonly #fold: JournalFold;
  #slices: JournalSlice[] = [];
  /** Set: every call rejects with it, as when the store cannot be reached. */
  failure: Error | undefined;

  /** `at`: when the history begins, RFC 3339. */
  constructor(start: JournalState, at: string, nonce = '') {
    this.#fold = new JournalFold(start);
    const { mark } = this.#fold;
    this.#head = { nonce, term: 1, mark, floor: { ...mark, at } };
  }

  /**
   * Entries of the ordered watch, or, with `gap`, those that a list told. `position`: the settled one after them;
   * absent: that of the last.
   */
  append(entries: readonly JournalEntry[], { gap, position }: { gap?: Gap; position?: string } = {}): void {
    const from = this.#fold.mark;
    for (const entry of entries) this.#fold.apply(entry);
    if (position !== undefined) this.#fold.advance(position);
    const to = this.#fold.mark;
    this.#slices.push({ from, to, entries, gaps: gap ? [gap] : [] });
    this.#head = { ...this.#head, mark: to };
  }

  /** Forgets the oldest slices, as retention does, or a damaged one. */
  forget(slices: number): void {
    const last = this.#slices[slices - 1];
    if (!last) return;
    const at = last.entries.at(-1)?.at ?? this.#head.floor.at;
    this.#slices = this.#slices.slice(slices);
    this.#head = { ...this.#head, floor: { ...last.to, at } };
  }

  renew(nonce: string): void {
    this.#head = { ...this.#head, nonce, term: this.#head.term + 1 };
  }

  async head(signal: AbortSignal): Promise<JournalHead | undefined> {
    this.#check(signal);
    return this.#head;
  }

  async *read(after: string, signal: AbortSignal): AsyncIterable<JournalSlice> {
    this.#check(signal);
    const { floor, mark } = this.#head;
    if (compareVersions(after, floor.position) < 0) throw journalExpired(after, this.#head, 'that is gone');
    const first = this.#slices.findIndex((slice) => isBefore(after, slice.to));
    if (first < 0) {
      yield { from: mark, to: mark, entries: [], gaps: [] };
      return;
    }
    for (const [at, slice] of this.#slices.slice(first).entries()) {
      this.#check(signal);
      yield at === 0 ? sliceAfter(slice, after) : slice;
    }
  }

  async *readBack(signal: AbortSignal): AsyncIterable<JournalSlice> {
    for (const slice of this.#slices.toReversed()) {
      this.#check(signal);
      yield slice;
    }
  }

  async state(signal: AbortSignal): Promise<JournalState | undefined> {
    this.#check(signal);
    return this.#fold.state;
  }

  #check(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.failure) throw this.failure;
  }
}

function isBefore(position: string, mark: Mark): boolean {
  return compareVersions(position, mark.position) < 0;
}
