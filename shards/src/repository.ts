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
export interface VersionVector {
  /** Changes when positions stop being comparable with earlier ones. */
  lineage?: string;
  /** resourceVersion of the newest change that the answer reflects. The only one that clients compare. */
  position: string;
  /** The newest change seen in each namespace of the answer. */
  namespaces: Record<string, string>;
}

export interface ShardPage {
  items: ShardAssignment[];
  /** Present while there is more: pass it as `after` of the next call. Never set after the last item. */
  next?: string;
  /** `position` is the one that the whole list is cut at: pass it as `at` of the next call. */
  versionVector: VersionVector;
  /** Watches from exactly this list on, with the same filter: nothing is missed, nothing comes twice. */
  resumeToken: string;
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

/**
 * What routes, gRPC and CLI know of the store. Kubernetes (reflector, ring and hub) implements it; others may.
 * `history` joins it together with the journal.
 */
export interface ShardRepository {
  /**
   * Ordered by namespace, then name. Rejects with `cursorExpired` when the state at `at` is no longer known, or not
   * yet; the same call without `at` then goes on at the newest state.
   */
  list(filter: ShardFilter, page: PageRequest): Promise<ShardPage>;
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
}
