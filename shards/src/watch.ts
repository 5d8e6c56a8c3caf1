import type { ChangeHistory, Sighting } from './change.ts';
import type { ShardError } from './errors.ts';
import type { ShardAssignment } from './records.ts';
import type { ShardFilter } from './repository.ts';

/**
 * Why what a watcher knows cannot be continued. `expired`: the changes since are no longer held; `lineageChanged`:
 * they happened in another history (another cluster, or one that was restored), so positions cannot be compared;
 * `snapshotInterrupted`: the token was handed out inside a snapshot, which starts again. `unsettled` (of a snapshot
 * without a reset): the token is of a stretch that had to be reconstructed; all that is known of it was said, and what
 * the watcher may have besides is found by the snapshot.
 */
export type ResetReason = 'expired' | 'lineageChanged' | 'snapshotInterrupted' | 'unsettled';

/**
 * What a stream says, whatever carries it. Sequence: `snapshot-begin`, an ADDED `shard` for each shard that passes,
 * `snapshot-end` (or, for a resumed stream and `from: now`, one `bookmark` at once), then changes as they happen with a
 * `bookmark` now and then; `reset` and a snapshot may come at any time.
 *
 * `token` resumes after the message. Inside a snapshot (`reset`, `snapshot-begin` and its rows) it starts that
 * snapshot again, so that a cut in the middle skips nothing; between coalesced messages it starts a snapshot too. Among
 * changes that were reconstructed (`source: 'reconcile'`) it resumes before the first of them, because no state in between
 * is known. Positions never go back on a stream but at a `reset`, and never below that of the token that it began with.
 */
export type WatchMessage =
  | {
      type: 'snapshot-begin';
      position: string;
      lineage: string;
      reason?: ResetReason;
      /** Only what differs from what the watcher said to have follows, what is gone as DELETED. */
      delta?: boolean;
      token: string;
    }
  | ShardMessage
  | { type: 'snapshot-end'; position: string; token: string }
  /** Everything that passes the filter, up to `position`, has been said. */
  | { type: 'bookmark'; position: string; token: string }
  | { type: 'reset'; reason: ResetReason; token: string }
  /** The server ends this stream next; `reconnectAfterMs` differs from stream to stream. */
  | { type: 'goaway'; reconnectAfterMs: number; token: string };

export interface ShardMessage {
  type: 'shard';
  event: Sighting['type'];
  cause?: Sighting['cause'];
  /** Rows of a snapshot all have the snapshot's. */
  position: string;
  /** Absent when the shard is gone; with `cause: 'filter'` the state that no longer passes. */
  current?: ShardAssignment;
  /** Absent when the shard is new, and in a snapshot. */
  previous?: ShardAssignment;
  /** Absent in a snapshot. */
  history?: ChangeHistory;
  token: string;
  /** How many changes this one stands for, when more than one. */
  coalesced?: number;
  /** `reconcile`: found out afterwards by comparing states; it may repeat what was said live. */
  source?: 'reconcile';
}

/** What a watcher has of a shard. */
export interface KnownShard {
  uid: string;
  generation: number;
  version: number;
}

/** By `namespace/name`. */
export type KnownShards = ReadonlyMap<string, KnownShard>;

export interface WatchRequest {
  filter: ShardFilter;
  /** From a list or an earlier watch with the same filter: go on after it. */
  resumeToken?: string;
  /** Without a token: a snapshot first (default), or only what changes from now on. */
  from?: 'now' | 'beginning';
  /** When the token cannot be continued: `reset` and a snapshot (default), or what differs from `known`, or an error. */
  onExpired?: 'snapshot' | 'diff' | 'fail';
  /** With `diff`: all that passes the filter and that the watcher has. */
  known?: KnownShards;
  /** Let several changes of one shard become one when the client does not keep up, instead of ending the stream. */
  allowCoalescing?: boolean;
}

/** On whose behalf a stream is open. */
export interface WatchCaller {
  /** Streams are counted by it. */
  readonly key: string;
  /** Called about once a minute: rejects with the error that ends the stream, `unavailable` when nobody can say. */
  check(): Promise<void>;
}

/**
 * How messages become bytes. The hub encodes a message once for all streams with the same encoding object and the same
 * filter, and shares the bytes, so make few of these objects: one for each way a message can look, not one per stream.
 */
export interface Encoding {
  /** `sse` or `grpc`: the label of the metrics. */
  readonly name: string;
  encode(message: WatchMessage): Uint8Array;
  /** Present when messages may be glued together: then several become one `write`. */
  join?(parts: readonly Uint8Array[]): Uint8Array;
  /** Bytes that mean nothing, for a connection that must not fall silent. */
  readonly heartbeat?: Uint8Array;
}

/** A transport's end of one stream. Nothing of it is called after `end`, nor after `Watch.close`. */
export interface WatchSink {
  readonly encoding: Encoding;
  /** The bytes are shared with other streams: never alter them. */
  write(bytes: Uint8Array): void;
  /** Written, and not yet taken by the network; in the unit of `limit` (bytes for SSE, messages for gRPC). */
  readonly backlog: number;
  /** At this backlog the stream lags behind: it coalesces, or ends with `slowConsumer`. */
  readonly limit: number;
  /** Calls back, once, when the backlog has gone down to almost nothing. Asked for only while it is not. */
  onDrain(resume: () => void): void;
  /** The last thing said: what was written still goes out, then the error, if any, with the token that resumes. */
  end(error?: ShardError, token?: string): void;
}

export interface Watch {
  /** Given to the sink so far. */
  readonly messages: number;
  /** The client went away: forgets the stream, and calls nothing of its sink any more. */
  close(): void;
}
