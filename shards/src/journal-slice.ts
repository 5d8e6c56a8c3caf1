import type { Mark } from './change.ts';
import { ShardError } from './errors.ts';
import type { Gap, JournalEntry, JournalHead, JournalSlice } from './journal.ts';
import { compareVersions } from './records.ts';
import type { ShardView } from './shard-view.ts';
import { type Fingerprint, fingerprintOf, StateDigest } from './state-digest.ts';

/** The marks after each of consecutive entries, from the one before them. */
export function marksOf(from: Mark, entries: readonly JournalEntry[]): Mark[] {
  const digest = StateDigest.of(from.anchor);
  // What was after one change is before the next of the same shard, mostly as the same object.
  const prints = new Map<ShardView, Fingerprint>();
  const printOf = (view: ShardView): Fingerprint => {
    const known = prints.get(view) ?? fingerprintOf(view);
    prints.set(view, known);
    return known;
  };
  return entries.map(({ position, ordinal, before, after }) => {
    if (before) digest.remove(printOf(before));
    if (after) digest.add(printOf(after));
    return { position, ordinal, anchor: digest.toString() };
  });
}

/** The stretch that a position lies strictly inside: at both of its ends the state is known. */
export function gapAround(gaps: readonly Gap[], position: string): Gap | undefined {
  return gaps.find(
    ({ from, to }) => compareVersions(from, position) < 0 && compareVersions(position, to) < 0,
  );
}

/**
 * What of a slice lies after a position. Its `from` is the settled state there, or, when the position lies in a gap, the
 * one at the gap's beginning.
 */
export function sliceAfter(slice: JournalSlice, position: string): JournalSlice {
  const { entries, gaps } = slice;
  const cut = gapAround(gaps, position)?.from ?? position;
  const kept = entries.findIndex((entry) => compareVersions(entry.position, cut) > 0);
  if (kept === 0 && entries.length > 0) return slice;
  const left = kept < 0 ? entries : entries.slice(0, kept);
  const reached = kept < 0 && compareVersions(slice.to.position, cut) <= 0;
  const from = reached ? slice.to : (marksOf(slice.from, left).at(-1) ?? slice.from);
  return {
    from,
    to: slice.to,
    entries: kept < 0 ? [] : entries.slice(kept),
    gaps: gaps.filter(({ to }) => compareVersions(to, from.position) > 0),
  };
}

/** What of a slice lies before a settled state inside it, or at its end. */
export function sliceBefore(slice: JournalSlice, { position, ordinal }: Mark): JournalSlice {
  const { from, to, entries, gaps } = slice;
  if (compareVersions(to.position, position) <= 0) return slice;
  const left = entries.filter((entry) => compareVersions(entry.position, position) <= 0);
  const { anchor } = marksOf(from, left).at(-1) ?? from;
  return {
    from,
    to: { position, ordinal, anchor },
    entries: left,
    gaps: gaps.filter((gap) => compareVersions(gap.from, position) < 0),
  };
}

/** `why`: a clause that says what became of it. */
export function journalExpired(position: string, { floor, mark }: JournalHead, why: string): ShardError {
  return new ShardError(
    'tokenExpired',
    `the journal cannot tell what happened since position ${position}: ${why}; it begins at position ${floor.position} (${floor.at})`,
    { floor: floor.position, head: mark.position },
  );
}
