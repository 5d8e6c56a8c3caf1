import type { DiffSummary, LogItem, NetItem } from './diff.ts';
import type { MeshNode, ShardAssignment } from './records.ts';
import type { MeshState } from './simulate.ts';
import type { Watch, WatchCaller, WatchRequest, WatchSink } from './watch.ts';

/** Conditions are and-ed; within a list, or-ed. Absent means: do not filter on it. */
export interface ShardFilter {
  namespace?: string;
  shardSet?: string;
  owners?: readonly string[];
  phases?: readonly string[];
  /** Matches spec.locality.zone. */
  zones?: readonly string[];
  /** Literal substring of the shard id. */
  search?: string;
}

/** How new an answer is. Positions are resourceVersions: compare them with `compareVersions`. */
export interface AsOf {
  /** Changes when positions stop being comparable with earlier ones. */
  lineage?: string;
  /** resourceVersion of the newest change that the answer reflects. The only one that clients compare. */
  position: string;
}

export interface VersionVector extends AsOf {
  /** The newest change seen in each namespace of the answer. */
  namespaces: Record<string, string>;
}

export interface ShardPage {
  items: ShardAssignment[];
  /** Present while there is more: pass it as `after` of the next call. Never set after the last item. */
  next?: string;
  /** `position` is the one that the whole list is cut at: pass it as `at` of the next call. */
  versionVector: VersionVector;
  /** Of a watch from exactly this list on, with the same filter: nothing is missed, nothing comes twice. */
  resumeToken(): string;
  /** `keyset`: goes on after an earlier page, but at a newer state than that one's. */
  consistency: 'snapshot' | 'keyset';
}

export interface PageRequest {
  /** From 1. */
  limit: number;
  /** An earlier page's `next`. */
  after?: string;
  /** The position of the list's first page; absent: the newest. */
  at?: string;
}

/** A mesh node and the number of shards whose recorded owner it is, over all namespaces that it serves. */
export interface OwningNode {
  node: MeshNode;
  shards: number;
}

export interface DiffRequest {
  mode: 'net' | 'log';
  /** A resume token, a position, RFC 3339, or a duration before now; not needed with a cursor. */
  from?: string;
  /** As `from`; absent: now. */
  to?: string;
  /** From 1. */
  limit: number;
  /** An earlier page's `next`, for the same filter and mode; it has the range. */
  cursor?: string;
}

/** A place in the history; without `at` where nobody knows when that was. */
export interface HistoryPoint {
  position: string;
  /** RFC 3339. */
  at?: string;
}

/** What changed in (from, to]. */
export interface DiffPage {
  mode: 'net' | 'log';
  lineage: string;
  from: HistoryPoint;
  to: HistoryPoint;
  /** Of the whole range, whatever the page. */
  summary: DiffSummary;
  items: NetItem[] | LogItem[];
  next?: string;
  /** So many changes in the range could not be told apart from others. */
  coalesced: number;
}

export interface HistoryRequest {
  namespace: string;
  name: string;
  /** From 1. */
  limit: number;
  /** An earlier page's `next`. */
  cursor?: string;
  /** Nothing at or before it; as `DiffRequest.from`. */
  since?: string;
}

/** What happened to one shard, newest first. */
export interface HistoryPage {
  namespace: string;
  name: string;
  /** Where the history that is kept begins. */
  floor: HistoryPoint;
  items: LogItem[];
  next?: string;
}

/** What stands between what is served and what is, and between that and what is written down. */
export interface RepositoryStatus {
  lineage: string;
  /** Everything up to here is served. */
  position: string;
  /** `stale`: the cluster is out of reach, so what is served may be old. */
  cache: { state: 'fresh' | 'stale'; detail?: string };
  journal: JournalStatus;
}

export interface JournalStatus {
  /** `behind`: a change has been waiting to be written down for longer than it takes; `absent`: there is none. */
  state: 'current' | 'behind' | 'absent' | 'unreadable';
  /** The newest and the oldest state that it tells of. */
  head?: HistoryPoint;
  floor?: HistoryPoint;
  /**
   * Of the newest change that is held here; absent: none is. One that was found out by comparing lists may have a larger
   * position here than in the journal, so a newer one than the head's does not mean `behind`.
   */
  newest?: string;
  /** How long the oldest change that is not written down has been known here, in milliseconds; absent: all are. */
  behindMs?: number;
  /** For people: why it cannot be read. */
  detail?: string;
}

/**
 * What routes, gRPC and CLI know of the store. Kubernetes (reflector, ring, hub and journal) implements it; others may.
 */
export interface ShardRepository {
  /**
   * Ordered by namespace, then name. Rejects with `cursorExpired` when the state at `at` is no longer known, or not
   * yet; the same call without `at` then goes on at the newest state.
   */
  list(filter: ShardFilter, page: PageRequest): Promise<ShardPage>;
  /** How new an answer is, at least, that is asked for afterwards. */
  asOf(): AsOf;
  get(namespace: string, name: string): Promise<ShardAssignment | undefined>;
  /** Ordered by namespace, then name; of one namespace when given. */
  nodes(namespace?: string): Promise<OwningNode[]>;
  /** What plans are made on: the sets and shards of a namespace, or of all, and the nodes of every pool. */
  meshState(namespace?: string): Promise<MeshState>;
  /** Whether everything up to the position is served, waiting for it until `signal` is aborted; false then. */
  waitFor(position: string, signal: AbortSignal): Promise<boolean>;
  /**
   * Starts a stream; from when it resolves, the sink has been, or will be, written to. Rejects before anything was
   * written: `tokenInvalid`, `filterMismatch`, `tokenExpired` and `lineageChanged` (under `onExpired: fail`),
   * `tooManyWatchers`, `draining`, `unavailable`. Whoever lost the client meanwhile closes the watch it gets.
   */
  watch(request: WatchRequest, sink: WatchSink, caller: WatchCaller): Promise<Watch>;
  /**
   * Rejects with `tokenExpired` when the range begins before the history that is kept, `lineageChanged` for a token of
   * another one, `invalidArgument`, `tokenInvalid`, `filterMismatch` (of a cursor), `unavailable` (`noJournal`, `journalBehind`, …).
   */
  diff(filter: ShardFilter, request: DiffRequest, signal: AbortSignal): Promise<DiffPage>;
  /** Rejects as `diff`, and with `notFound` when there is no such shard and nothing is known of one. */
  history(request: HistoryRequest, signal: AbortSignal): Promise<HistoryPage>;
  /** A journal that cannot be read is an answer, not a failure. */
  status(signal: AbortSignal): Promise<RepositoryStatus>;
}
