import type { ChangeHistory, Mark, Point } from './change.ts';
import type { Departed, JournalFold } from './journal-fold.ts';
import type { ShardView } from './shard-view.ts';

/**
 * One change as the journal keeps it: what was served of a shard before and after. Without `before` the shard is new,
 * without `after` it is gone; both have the same uid.
 */
export interface JournalEntry extends Point {
  /** When it happened, RFC 3339: of its transition when it is one, else when the writer learned of it. */
  readonly at: string;
  readonly before?: ShardView;
  readonly after?: ShardView;
  readonly history: ChangeHistory;
  /** `reconcile`: found out afterwards by comparing states, not seen as it happened. */
  readonly source: 'watch' | 'reconcile';
  /** So many changes in between could not be told apart any more. */
  readonly coalesced?: number;
}

/** A stretch of positions, ends excluded, whose states are unknown because its changes were reconstructed. */
export interface Gap {
  readonly from: string;
  readonly to: string;
}

/** Consecutive entries, oldest first, and the settled states before and after them. */
export interface JournalSlice {
  readonly from: Mark;
  readonly to: Mark;
  readonly entries: readonly JournalEntry[];
  readonly gaps: readonly Gap[];
}

/** The whole served state at a settled position. */
export interface JournalState {
  readonly mark: Mark;
  readonly shards: readonly ShardView[];
  /** Shards that are gone, oldest first: who owned them last. */
  readonly departed?: readonly Departed[];
}

export interface JournalHead {
  /** Changes when positions stop being comparable with earlier ones; empty for a cluster's first history. */
  readonly nonce: string;
  /** +1 with every writer that took over. */
  readonly term: number;
  /** The newest settled state that is written down. */
  readonly mark: Mark;
  /** The oldest settled state from which on every entry is there. */
  readonly floor: Mark & { readonly at: string };
}

/** What the head says beyond what readers need: by it a writer that takes over, and whoever notices a restore, know. */
export interface WrittenHead extends JournalHead {
  readonly mark: Mark & { readonly at: string };
  /** The nonces so far, oldest first, the present one last; at most 16. */
  readonly nonces: readonly string[];
  /** Ids given to `--new-lineage` that have been served; at most 16. */
  readonly requests?: readonly string[];
  /** Owned shards with an epoch up to this one are granted again: they were granted in an earlier lineage. */
  readonly epochFloor?: number;
  /** Grows with every append; absent before the first. */
  readonly last?: { readonly sequence: number };
  /** From the floor on; shown to people. */
  readonly entries: number;
  readonly bytes: number;
}

/**
 * The writing end of the history, for one term: whoever takes over makes every later call reject with reason
 * `journalFenced`. How to take over is the store's own. One call at a time.
 */
export interface JournalWriter {
  readonly spec: WrittenHead;
  /** The state at the head. */
  readonly fold: JournalFold;
  /** The pieces that it is kept in; their number is shown. */
  readonly segments: readonly unknown[];
  /**
   * Writes down consecutive entries after the head. `position`: the settled one after them, where that is not the last
   * entry's. When it rejects with anything but a fence, the same call may be repeated; nothing is written twice.
   */
  append(
    entries: readonly JournalEntry[],
    end: { position?: string; gap?: Gap },
    signal: AbortSignal,
  ): Promise<void>;
  /** Tidies up what appends left behind. To be called after them, so that an idle journal rests. */
  maintain(signal: AbortSignal): Promise<void>;
  /** Looks whether what was written is still there and heals what is not. No writes if all is well. */
  verify(signal: AbortSignal): Promise<void>;
}

/**
 * The durable history of shards. `kubernetes` (segments in the cluster itself) implements it; a relational or object store
 * may. All calls reject with `unavailable` when the store cannot be reached, and take a signal for their deadline.
 */
export interface JournalReader {
  /** Undefined while nothing was ever written. */
  head(signal: AbortSignal): Promise<JournalHead | undefined>;
  /**
   * Entries after a position up to the head, in slices, oldest first; one empty slice when there are none. `from` of the
   * first slice is the settled state at `after`, so that its anchor is the one that a token from there has; its position
   * is that of the newest entry at or before `after`. Inside a gap nothing is settled: then it is the gap's beginning.
   * Rejects with `tokenExpired` (details `floor`, `head`) when `after` is before the floor, or when a segment in between
   * is missing or damaged.
   */
  read(after: string, signal: AbortSignal): AsyncIterable<JournalSlice>;
  /** From the head back to the floor, slices newest first (the entries in them still oldest first). */
  readBack(signal: AbortSignal): AsyncIterable<JournalSlice>;
  /** The state at the head: checkpoint and all entries since. Undefined while nothing was ever written. */
  state(signal: AbortSignal): Promise<JournalState | undefined>;
}
