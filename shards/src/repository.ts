import type { MeshNode, ShardAssignment } from './records.ts';

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
  /** Changes when positions stop being comparable with earlier ones; absent until the journal provides it. */
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
  versionVector: VersionVector;
}

/** A mesh node and the number of shards whose recorded owner it is, over all namespaces that it serves. */
export interface OwningNode {
  node: MeshNode;
  shards: number;
}

/**
 * What routes, gRPC and CLI know of the store. Kubernetes (informer) implements it; others may.
 * `watch` and `history` join it together with the hub and the journal.
 */
export interface ShardRepository {
  /** Ordered by namespace, then name. `after`: an earlier page's `next`; `limit` >= 1. */
  list(filter: ShardFilter, page: { limit: number; after?: string }): Promise<ShardPage>;
  get(namespace: string, name: string): Promise<ShardAssignment | undefined>;
  /** Ordered by namespace, then name; of one namespace when given. */
  nodes(namespace?: string): Promise<OwningNode[]>;
}
