import type { Mark } from '@meshkit/shards/change';
import type { Gap, JournalEntry, JournalState } from '@meshkit/shards/journal';
import { marksOf } from '@meshkit/shards/journal-slice';
import { API_VERSION } from '@meshkit/shards/records';
import { checksumOf, ENCODING, encodeEntries, encodeState, type StatePart } from './journal-codec.ts';
import {
  formatIndex,
  INDEX_ANNOTATION,
  parseIndex,
  type SegmentId,
  type SegmentIndex,
  type ShardJournalSegment,
  type StoredMark,
  segmentName,
} from './journal-objects.ts';

/** Entries of one segment at most; more become several, between which no state is settled. */
const MAX_ENTRIES = 2_048;
/** Characters of data; the API server's limit for an object is about 1.5 MB, etcd's too. */
const MAX_DATA = 500_000;
/** Shards of one chunk of a checkpoint: at about 60 characters a shard, far below the limit of an object. */
const CHUNK_SHARDS = 3_000;

export interface Written {
  object: ShardJournalSegment;
  index: SegmentIndex;
}

/** What comes after `previous`, as one writer of one term writes it. */
export interface Batch {
  journal: string;
  term: number;
  previous: SegmentId | undefined;
  from: Mark;
  entries: readonly JournalEntry[];
  /** The settled state after the last entry. */
  to: StoredMark;
  gap?: Gap;
}

/** The segments of a batch, in order: one, but for a batch that is too large for one. */
export function segmentsOf(batch: Batch): Written[] {
  const { entries, from, to } = batch;
  const half = Math.ceil(entries.length / 2);
  if (entries.length > MAX_ENTRIES) return halves(batch, half);
  const data = encodeEntries(entries);
  if (data.length > MAX_DATA && entries.length > 1) return halves(batch, half);
  const sequence = (batch.previous?.sequence ?? 0) + 1;
  const last = { sequence, term: batch.term };
  const gaps = batch.gap ? [batch.gap] : [];
  const about = { first: sequence, last, previous: batch.previous, from, to, gaps, entries: entries.length };
  return [segment(batch.journal, about, data)];
}

function halves(batch: Batch, half: number): Written[] {
  const { entries, from } = batch;
  const left = entries.slice(0, half);
  const end = left.at(-1)!;
  const next = entries[half]!;
  const mark = marksOf(from, left).at(-1)!;
  // What a list told, and what shares a position, is one step: the state in between never was.
  const partial = batch.gap !== undefined || end.position === next.position;
  const middle = { ...mark, at: end.at, ...(partial ? { partial } : {}) };
  const first = segmentsOf({ ...batch, entries: left, to: middle });
  const { at: _, ...between } = middle;
  const previous = first.at(-1)!.index.last;
  return [...first, ...segmentsOf({ ...batch, previous, from: between, entries: entries.slice(half) })];
}

/** One segment instead of neighbours, with the same entries. */
export function merged(
  journal: string,
  parts: readonly SegmentIndex[],
  entries: readonly JournalEntry[],
): Written | undefined {
  const [oldest, newest] = [parts[0]!, parts.at(-1)!];
  const data = encodeEntries(entries);
  if (data.length > MAX_DATA) return undefined;
  const gaps = new Map(parts.flatMap((part) => part.gaps).map((gap) => [`${gap.from}-${gap.to}`, gap]));
  const { first, previous, from } = oldest;
  const { last, to } = newest;
  return segment(
    journal,
    { first, last, previous, from, to, gaps: [...gaps.values()], entries: entries.length },
    data,
  );
}

function segment(
  journal: string,
  about: Omit<SegmentIndex, 'name' | 'uid' | 'bytes' | 'dataLength'>,
  data: string,
): Written {
  const { first, last, from, to, entries } = about;
  const text = formatIndex({ ...about, dataLength: data.length });
  const name = segmentName(journal, first, last);
  const object = segmentObject(name, 'Entries', entries, [from.position, to.position], data, text);
  return { object, index: parseIndex(name, text)! };
}

/** The chunks of a checkpoint; their names are the given one and a number. */
export function checkpointChunks(
  name: string,
  { mark, shards, departed = [] }: JournalState,
): ShardJournalSegment[] {
  const range: [string, string] = [mark.position, mark.position];
  return [...parts({ shards, departed })].map(({ data, count }, chunk) =>
    segmentObject(`${name}.${chunk}`, 'Checkpoint', count, range, data),
  );
}

function* parts(state: StatePart): Generator<{ data: string; count: number }> {
  const { shards, departed } = state;
  const size = shards.length + departed.length;
  const data = size > CHUNK_SHARDS ? undefined : encodeState(state);
  if (data !== undefined && (data.length <= MAX_DATA || size <= 1)) {
    yield { data, count: shards.length };
    return;
  }
  const [half, rest] = [Math.ceil(shards.length / 2), Math.floor(departed.length / 2)];
  yield* parts({ shards: shards.slice(0, half), departed: departed.slice(0, rest) });
  yield* parts({ shards: shards.slice(half), departed: departed.slice(rest) });
}

function segmentObject(
  name: string,
  type: ShardJournalSegment['spec']['type'],
  count: number,
  [from, to]: [string, string],
  data: string,
  index?: string,
): ShardJournalSegment {
  const checksum = checksumOf(`${type} ${ENCODING} ${index ?? ''}`, data);
  return {
    apiVersion: API_VERSION,
    kind: 'ShardJournalSegment',
    metadata: { name, ...(index === undefined ? {} : { annotations: { [INDEX_ANNOTATION]: index } }) },
    spec: { type, count, from, to, encoding: ENCODING, checksum, data },
  };
}
