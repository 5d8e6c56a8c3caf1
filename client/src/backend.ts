import { ShardError } from '@meshkit/shards/errors';
import type { ShardExplanation } from '@meshkit/shards/explain';
import type {
  DiffPage,
  DiffRequest,
  HistoryPage,
  HistoryRequest,
  RepositoryStatus,
  ShardFilter,
  VersionVector,
} from '@meshkit/shards/repository';
import type { Access } from '@meshkit/shards/scope';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import type { Simulation, SimulationRequest } from '@meshkit/shards/simulate';
import type { WatchTransport } from './watch-transport.ts';

export interface BackendCall {
  /** Bearer token; absent: none is sent. */
  bearer?: string;
  signal?: AbortSignal;
  /** Milliseconds for the whole call. */
  timeoutMs: number;
}

export interface PageRequest {
  pageSize: number;
  cursor?: string;
  minVersion?: string;
}

export interface ShardListPage {
  items: ShardView[];
  nextCursor?: string;
  versionVector: VersionVector;
  /** Watches from exactly this list on, with the same filter; absent where pages are not of one state. */
  resumeToken?: string;
  /** `keyset`: this page is of a newer state than the ones before, which the server no longer knew. */
  consistency?: 'snapshot' | 'keyset';
}

/** What a server says of itself, to everybody. */
export interface ServerInfo {
  /** Of its contract, `v1`. */
  api: string;
  /** Of the program; absent when it does not tell. */
  version?: string;
}

/** How a server is: its contract and program, its cache, and the journal beside it. */
export interface ServerStatus extends ServerInfo, RepositoryStatus {}

export interface ExplainRequest {
  namespace: string;
  name: string;
  minVersion?: string;
  maxItems?: number;
}

/** One server by one protocol. Every failure is a ShardError, or the signal's reason. */
export interface Backend {
  page(filter: ShardFilter, request: PageRequest, call: BackendCall): Promise<ShardListPage>;
  /** Throws `notFound` when there is none. */
  get(
    request: { namespace: string; name: string; minVersion?: string },
    call: BackendCall,
  ): Promise<ShardView>;
  nodes(namespace: string | undefined, call: BackendCall): Promise<NodeView[]>;
  about(call: BackendCall): Promise<ServerInfo>;
  status(namespace: string | undefined, call: BackendCall): Promise<ServerStatus>;
  access(namespace: string | undefined, call: BackendCall): Promise<Access>;
  /** Writes nothing. */
  simulate(request: SimulationRequest, call: BackendCall): Promise<Simulation>;
  /** Throws `notFound` when there is no such shard. */
  explain(request: ExplainRequest, call: BackendCall): Promise<ShardExplanation>;
  diff(filter: ShardFilter, request: DiffRequest, call: BackendCall): Promise<DiffPage>;
  /** Throws `notFound` when nothing is known of such a shard. */
  history(request: HistoryRequest, call: BackendCall): Promise<HistoryPage>;
  watch: WatchTransport;
  /** The watch knows `onExpired: diff`. */
  readonly differences?: boolean;
  /** The connection should prove itself before it is used again. */
  suspect?(): void;
  close(): void | Promise<void>;
}

/** To one server. Enough for more watches than it gives to one user; whoever has more opens them and forgets them. */
export const MAX_CONNECTIONS = 80;

export function tooManyStreams(server: string): ShardError {
  const text = `all ${MAX_CONNECTIONS} connections to ${server} have as many streams as one may have; close watches that nobody reads`;
  return new ShardError('unavailable', text, { reason: 'tooManyStreams' });
}
