import type { Mark } from '@meshkit/shards/change';
import { compareVersions } from '@meshkit/shards/records';
import type { CheckpointReference, JournalHeadSpec, SegmentId, SegmentIndex } from './journal-objects.ts';

/** The segments that a head names, from its floor on. */
export interface Chain {
  /** Oldest first; each begins at the state at which the one before it ends. */
  readonly segments: readonly SegmentIndex[];
  /** A segment that should be there and is not, or does not fit its successor; the segments after it are in the chain. */
  readonly broken?: SegmentId;
}

/**
 * Follows the segments back from the head. Where a merged segment and its parts are both there, the merged one counts;
 * what is not on the way is garbage: parts of merged ones, and what a writer left behind whose swap failed.
 */
export function chainOf(
  index: Iterable<SegmentIndex>,
  head: Pick<JournalHeadSpec, 'last' | 'mark' | 'floor'>,
): Chain {
  const byLast = new Map<string, SegmentIndex>();
  for (const segment of index) {
    const known = byLast.get(idOf(segment.last));
    if (!known || segment.first < known.first) byLast.set(idOf(segment.last), segment);
  }
  const segments: SegmentIndex[] = [];
  let next: SegmentId | undefined = head.last;
  let end: Mark = head.mark;
  while (next && compareVersions(end.position, head.floor.position) > 0) {
    const segment = byLast.get(idOf(next));
    if (!segment || !sameState(segment.to, end)) return broken(segments, next);
    segments.push(segment);
    end = segment.from;
    next = segment.previous;
  }
  // A beginning that is not the floor: something in between was never there.
  if (compareVersions(end.position, head.floor.position) > 0) return broken(segments, next ?? head.last!);
  return { segments: segments.reverse() };
}

/** What is left of it begins at a settled state. */
function broken(newestFirst: SegmentIndex[], at: SegmentId): Chain {
  while (newestFirst.at(-1)?.from.partial) newestFirst.pop();
  return { segments: newestFirst.reverse(), broken: at };
}

function sameState(a: Mark, b: Mark): boolean {
  return a.position === b.position && a.ordinal === b.ordinal && a.anchor === b.anchor;
}

function idOf({ sequence, term }: SegmentId): string {
  return `${sequence}.${term}`;
}

/** So many pieces at least become one: every change is then rewritten about once for each eightfold of time. */
const LEAST_PIECES = 8;
const MAX_MERGED_LENGTH = 256 << 10;
const MAX_MERGED_ENTRIES = 50_000;

/**
 * Neighbours to merge next; undefined when there are none. Only whole aligned blocks of 2^k sequences are merged, so
 * that two writers who do it at once make blocks of which one contains the other, and never two that overlap.
 */
export function mergeable(segments: readonly SegmentIndex[]): SegmentIndex[] | undefined {
  for (let size = 8; size <= 1 << 20; size *= 2) {
    let largest = false;
    for (const block of blocks(segments, size)) {
      largest = true;
      if (block.length >= LEAST_PIECES && fits(block)) return block;
    }
    if (!largest) return undefined;
  }
  return undefined;
}

/** The segments of each aligned block of that size that is there as a whole. */
function* blocks(segments: readonly SegmentIndex[], size: number): Generator<SegmentIndex[]> {
  let block: SegmentIndex[] = [];
  let start = -1;
  for (const segment of segments) {
    const number = Math.floor((segment.first - 1) / size);
    const begins = (segment.first - 1) % size === 0;
    if (number !== start) block = [];
    start = number;
    if (begins) block = [segment];
    else if (block.length > 0) block.push(segment);
    const ends = segment.last.sequence === (number + 1) * size;
    if (ends && block.length > 0 && block[0]!.first === number * size + 1) yield block;
  }
}

function fits(block: readonly SegmentIndex[]): boolean {
  let length = 0;
  let entries = 0;
  for (const segment of block) {
    length += segment.dataLength;
    entries += segment.entries;
  }
  return length <= MAX_MERGED_LENGTH && entries <= MAX_MERGED_ENTRIES;
}

export interface Retention {
  /** How long changes are kept, milliseconds. */
  ms: number;
  /** What the segments may take in etcd together. */
  bytes: number;
}

/** How many of the oldest segments have to go. The last one stays, whatever its size. */
export function expired(segments: readonly SegmentIndex[], { ms, bytes }: Retention, now: number): number {
  let total = segments.reduce((sum, segment) => sum + segment.bytes, 0);
  let count = 0;
  for (const segment of segments.slice(0, -1)) {
    const tooOld = Date.parse(segment.to.at) < now - ms;
    if (!tooOld && total <= bytes) break;
    total -= segment.bytes;
    count += 1;
  }
  // A gap is kept or dropped as a whole.
  while (count > 0 && segments[count - 1]?.to.partial) count -= 1;
  return count;
}

/** What the head says of the segments. */
export function totals(segments: readonly SegmentIndex[]): { entries: number; bytes: number } {
  let [entries, bytes] = [0, 0];
  for (const segment of segments) {
    entries += segment.entries;
    bytes += segment.bytes;
  }
  return { entries, bytes };
}

/** How many of the oldest segments the checkpoint makes dispensable: the state must stay within reach. */
export function heldBy(checkpoint: CheckpointReference, segments: readonly SegmentIndex[]): number {
  const since = checkpoint.last?.sequence ?? 0;
  const first = segments.findIndex(({ last }) => last.sequence > since);
  return first < 0 ? segments.length : first;
}
