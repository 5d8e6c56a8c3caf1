import type { ShardFilter } from '@meshkit/shards/repository';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';

export interface CallLimits {
  signal: AbortSignal;
  /** Milliseconds for each request. */
  timeoutMs: number;
}

export interface ListLimits extends CallLimits {
  pageSize: number;
  /** Absent: all. */
  limit?: number;
}

/** Where the verbs get their data: the MeshKit API (with mesh scopes), or Kubernetes itself (with native RBAC). */
export interface ShardSource {
  /** Ordered by namespace, then name; at least one page, which may be empty. */
  pages(filter: ShardFilter, limits: ListLimits): AsyncIterable<readonly ShardView[]>;
  /** Throws `notFound`. */
  get(namespace: string, name: string, limits: CallLimits): Promise<ShardView>;
  nodes(namespace: string | undefined, limits: CallLimits): Promise<readonly NodeView[]>;
  close(): Promise<void>;
}
