import type { ShardView } from '@meshkit/shards/shard-view';

/**
 * What a watch receives, whatever carried it: SSE and gRPC give the same messages. `token` resumes after the message; inside a
 * snapshot it starts that snapshot again, so that a cut in the middle skips nothing. Positions are decimal numbers of any length:
 * compare them with `compareVersions`. Messages of kinds that this version does not know are passed over.
 */
export type WatchMessage =
  | SnapshotBegin
  | ShardMessage
  | { type: 'snapshot-end'; position: string; token: string; transport?: TransportView }
  | { type: 'bookmark'; position: string; token: string; transport?: TransportView }
  | { type: 'reset'; reason: string; token: string; transport?: TransportView }
  | { type: 'goaway'; reconnectAfterMs: number; token: string; transport?: TransportView };

/** An ADDED `shard` for each shard that passes the filter follows, then `snapshot-end`. Keys that were not listed are gone. */
export interface SnapshotBegin {
  type: 'snapshot-begin';
  position: string;
  token: string;
  /** Positions of different lineages cannot be compared. */
  lineage: string;
  /** Why there is a snapshot although the watch was to be resumed. */
  reason?: string;
  /** Only what differs from what this client said to have follows: what is not listed stays. */
  delta?: boolean;
  transport?: TransportView;
}

export interface ShardMessage {
  type: 'shard';
  event: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** DELETED because it no longer passes the filter; it still exists, and `current` has it. */
  cause?: 'filter';
  position: string;
  /** Absent when it is gone. */
  current?: ShardView;
  /** Absent when it is new, and in a snapshot. */
  previous?: ShardView;
  history?: ChangeHistoryView;
  token: string;
  /** How many changes this one stands for, when more than one. */
  coalesced?: number;
  /** `reconcile`: found out afterwards by comparing states; it may repeat what was said live. */
  source?: 'reconcile';
  transport?: TransportView;
}

/** Who changed a shard, and why. */
export interface ChangeHistoryView {
  actor?: { kind: string; name: string };
  reason?: string;
  changeTicket?: string;
  previousOwner?: string;
}

/** How the stream is carried; on its first message at least. */
export interface TransportView {
  /** `h2`, `http/1.1`, … */
  negotiated: string;
  requested?: string;
  downgraded: boolean;
  reason?: string;
}

/** What to watch, and from where on; the same on every transport. */
export interface WatchCall {
  resumeToken?: string;
  /** Without a token: a snapshot first (default), or only what changes from now on. */
  from?: 'now' | 'beginning';
  /** When the token is too old: `reset` and a snapshot (default), or an error. */
  onExpired?: 'snapshot' | 'fail';
  /** Let several changes of one shard become one when this client does not keep up, instead of an error. */
  allowCoalescing?: boolean;
  /** Ends the stream; the iterable throws its reason. */
  signal?: AbortSignal;
}
