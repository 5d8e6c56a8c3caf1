import type { ShardFilter } from '@meshkit/shards/repository';
import type { ShardView } from '@meshkit/shards/shard-view';
import type { WatchCall, WatchMessage } from './watch-message.ts';

/** A heartbeat: the server is there and has nothing to say. */
export interface Alive {
  type: 'alive';
}

export interface WatchStreamRequest extends Omit<WatchCall, 'onExpired'> {
  filter: ShardFilter;
  /** `diff`: what differs from `known`; gRPC only. */
  onExpired?: WatchCall['onExpired'] | 'diff';
  known?: Iterable<ShardView>;
  /** Bearer token; absent: none is sent. */
  bearer?: string;
  /** Milliseconds until the answer must have begun, where the transport can tell. */
  timeoutMs?: number;
  signal: AbortSignal;
}

/**
 * Opens one stream. The iteration throws a ShardError when the server refuses, ends the stream, or the connection
 * breaks (`details.retryMs`: how long the server asks clients to wait), and the signal's reason when that ends it.
 * What is not consumed is not read.
 */
export type WatchTransport = (request: WatchStreamRequest) => AsyncIterable<WatchMessage | Alive>;
