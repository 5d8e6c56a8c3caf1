import type { Mark } from '@meshkit/shards/change';
import type { Gap } from '@meshkit/shards/journal';
import { API_VERSION, GROUP, type KubeObject, VERSION } from '@meshkit/shards/records';
import type { Resource } from './resource.ts';

/** The newest and oldest things that a journal knows, and who writes it; replaced by compare-and-swap. */
export interface JournalHeadSpec {
  /** Uid of the namespace kube-system: positions of another cluster say nothing here. */
  cluster: string;
  /** +1 with every writer that took over. */
  term: number;
  /** Empty for the first lineage of a cluster. */
  nonce: string;
  /** The nonces so far, oldest first, the present one last; at most 16. */
  nonces: string[];
  /** Ids given to `--new-lineage` that have been served; at most 16. */
  requests?: string[];
  /** Owned shards with an epoch up to this one are granted again: they were granted in an earlier lineage. */
  epochFloor?: number;
  /** The newest segment, as in `SegmentIndex.last`; absent while there is none. */
  last?: SegmentId;
  mark: StoredMark;
  floor: StoredMark;
  checkpoint: CheckpointReference;
  /** Of the segments from the floor on; shown to people. */
  entries: number;
  bytes: number;
}

/** A settled state, and when it was so (RFC 3339). */
export interface StoredMark extends Omit<Mark, 'partial'> {
  at: string;
}

export interface CheckpointReference {
  /** The chunks' names begin with it. */
  name: string;
  chunks: number;
  mark: StoredMark;
  /** The last segment that it contains. */
  last?: SegmentId;
}

/** Sequence numbers go up by one from segment to segment; the term tells apart what two writers gave the same one. */
export interface SegmentId {
  sequence: number;
  term: number;
}

export interface ShardJournalHead extends KubeObject {
  kind: 'ShardJournalHead';
  spec: JournalHeadSpec;
}

/** Consecutive entries, or a part of a checkpoint; never changed, only created and deleted. */
export interface ShardJournalSegment extends KubeObject {
  kind: 'ShardJournalSegment';
  spec: {
    type: 'Entries' | 'Checkpoint';
    /** Entries, or shards. */
    count: number;
    /** Positions of the settled states before and after. */
    from: string;
    to: string;
    /** How `data` is to be read: the version of the codec. */
    encoding: string;
    /** xxh64 of the index annotation and `data`, 16 hex digits. */
    checksum: string;
    data: string;
  };
}

/**
 * What the annotation of a segment says, so that a metadata-only list of all segments is an index of the journal.
 * Short names, because it is stored with each.
 */
export interface SegmentIndex {
  name: string;
  /** Of the object; absent before it is created. */
  uid?: string;
  /** The sequence of its first batch: smaller than `last.sequence` where small segments were merged. */
  first: number;
  last: SegmentId;
  /** The last segment before it; absent for the first of a journal. */
  previous?: SegmentId;
  from: Mark;
  to: Mark & { at: string };
  gaps: Gap[];
  entries: number;
  /** Characters of its data. */
  dataLength: number;
  /** What it takes in etcd, about. */
  bytes: number;
}

export const SHARD_JOURNAL_SEGMENTS: Resource<ShardJournalSegment> = {
  group: GROUP,
  version: VERSION,
  plural: 'shardjournalsegments',
  kind: 'ShardJournalSegment',
  namespaced: false,
};

export const SHARD_JOURNAL_HEADS: Resource<ShardJournalHead> = {
  group: GROUP,
  version: VERSION,
  plural: 'shardjournalheads',
  kind: 'ShardJournalHead',
  namespaced: false,
};

/** The journal of a cluster; its segments' names begin with it. */
export const JOURNAL_NAME = 'meshkit';

export const INDEX_ANNOTATION = `${GROUP}/journal`;

/** What a segment takes beside data and index: names, managed fields, JSON. Measured, see docs/journal.md. */
const SEGMENT_OVERHEAD = 950;

/** The index as the annotation has it: a list, shortest form. */
export function formatIndex(index: Omit<SegmentIndex, 'name' | 'uid' | 'bytes'>): string {
  const { first, last, previous, from, to, gaps, entries, dataLength } = index;
  const mark = ({ position, ordinal, anchor, partial }: Mark) => [position, ordinal, anchor, partial ? 1 : 0];
  return JSON.stringify([
    first,
    last.sequence,
    last.term,
    previous ? [previous.sequence, previous.term] : 0,
    mark(from),
    mark(to),
    to.at,
    entries,
    gaps.map((gap) => [gap.from, gap.to]),
    dataLength,
  ]);
}

type MarkRow = [string, number, string, number];
type IndexRow = [
  number,
  number,
  number,
  [number, number] | 0,
  MarkRow,
  MarkRow,
  string,
  number,
  [string, string][],
  number,
];

/** Undefined for what is no index of ours: a damaged segment, or a chunk of a checkpoint. */
export function parseIndex(name: string, text: string | undefined): SegmentIndex | undefined {
  let row: IndexRow;
  try {
    row = JSON.parse(text ?? '');
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (!Array.isArray(row) || row.length !== 10 || !Array.isArray(row[4]) || !Array.isArray(row[5]))
    return undefined;
  const [first, sequence, term, previous, from, to, at, entries, gaps, dataLength] = row;
  const mark = ([position, ordinal, anchor, partial]: MarkRow): Mark => ({
    position,
    ordinal,
    anchor,
    ...(partial ? { partial: true } : {}),
  });
  return {
    name,
    first,
    last: { sequence, term },
    previous: previous === 0 ? undefined : { sequence: previous[0], term: previous[1] },
    from: mark(from),
    to: { ...mark(to), at },
    gaps: gaps.map(([start, end]) => ({ from: start, to: end })),
    entries,
    dataLength,
    bytes: SEGMENT_OVERHEAD + dataLength + 2 * (text?.length ?? 0),
  };
}

/** In the order of names: by sequence, then term; of a merged one by the sequences that it covers. */
export function segmentName(journal: string, first: number, last: SegmentId): string {
  const range = first === last.sequence ? pad(first) : `${pad(first)}-${pad(last.sequence)}`;
  return `${journal}.${range}.t${last.term}`;
}

/** Of a checkpoint; its chunks add their number. `unique`, because a writer may begin one several times. */
export function checkpointName(journal: string, sequence: number, term: number, unique: string): string {
  return `${journal}.${pad(sequence)}.t${term}.checkpoint-${unique}`;
}

/** The term of the writer of a segment or chunk, by its name; 0 where it says none. */
export function termOf(name: string): number {
  return Number(/\.t(\d{1,15})(\.|$)/.exec(name)?.[1] ?? 0);
}

function pad(sequence: number): string {
  return String(sequence).padStart(10, '0');
}

export function headObject(name: string, spec: JournalHeadSpec, metadata: object = {}): ShardJournalHead {
  return { apiVersion: API_VERSION, kind: 'ShardJournalHead', metadata: { ...metadata, name }, spec };
}
