import type { ServerStatus } from '@meshkit/client/backend';
import type { WatchEvent } from '@meshkit/client/shard-tracker';
import type { ShardError } from '@meshkit/shards/errors';
import type { ShardExplanation } from '@meshkit/shards/explain';
import type { DiffPage, HistoryPage, ShardFilter } from '@meshkit/shards/repository';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import type { Simulation, SimulationRequest } from '@meshkit/shards/simulate';

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

/** Moments are a resume token, a position, RFC 3339, or a duration before now. */
export interface DiffRange {
  mode: 'net' | 'log';
  from: string;
  /** Absent: now. */
  to?: string;
}

export interface SourcePage {
  items: readonly ShardView[];
  /** Goes on from exactly this list; absent where there is no history. */
  resumeToken?: string;
}

export interface FollowOptions {
  signal: AbortSignal;
  /** Milliseconds for the beginning of an answer. */
  timeoutMs: number;
  /** Go on after this; absent: what exists comes first. */
  resumeToken?: string;
  /** The connection was lost, or could not be made, and will be tried again. */
  onDisconnect?: (error: ShardError, retryInMs: number) => void;
}

/** Where the verbs get their data: the MeshKit API (with mesh scopes), or Kubernetes itself (with native RBAC). */
export interface ShardSource {
  readonly kind: 'api' | 'direct';
  /** URL of who is asked. */
  readonly server: string;
  /** The API server that was to be asked first, and refused the connection. */
  readonly refusal?: { server: string; error: ShardError };
  /** Ordered by namespace, then name; at least one page, which may be empty. */
  pages(filter: ShardFilter, limits: ListLimits): AsyncIterable<SourcePage>;
  /** Throws `notFound`. */
  get(namespace: string, name: string, limits: CallLimits): Promise<ShardView>;
  nodes(namespace: string | undefined, limits: CallLimits): Promise<readonly NodeView[]>;
  /** What exists, SYNCED, then every change until the signal aborts. Tokens are empty where nothing can be resumed. */
  watch(filter: ShardFilter, options: FollowOptions): AsyncIterable<WatchEvent>;
  /** What would move; writes nothing. */
  simulate(request: SimulationRequest, limits: CallLimits): Promise<Simulation>;
  /** Throws `notFound`. */
  explain(namespace: string, name: string, limits: CallLimits): Promise<ShardExplanation>;
  /** Pages of what changed in a range, at least one; each with the summary of the whole. */
  diff(filter: ShardFilter, range: DiffRange, limits: ListLimits): AsyncIterable<DiffPage>;
  /** Pages of what happened to one shard, newest first, at least one. Throws `notFound`. */
  history(
    key: { namespace: string; name: string; since?: string },
    limits: ListLimits,
  ): AsyncIterable<HistoryPage>;
  /** How the API server is; undefined of Kubernetes itself. Throws `notFound` when it is too old to tell. */
  status(namespace: string | undefined, limits: CallLimits): Promise<ServerStatus | undefined>;
  close(): Promise<void>;
}
