import type { JournalClient } from '@meshkit/crds/journal-store';
import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import type { ShardAssignment } from '@meshkit/shards/records';
import type { BufferLimits } from './journal-buffer.ts';
import type { JournalMetrics } from './journal-metrics.ts';
import type { LineageWitness } from './lineage-witness.ts';

/** Settings of the journal that people may change, and their defaults. */
export interface JournalSettings {
  name: string;
  retentionMs: number;
  retentionBytes: number;
  /** Given to `--new-lineage`. */
  newLineage?: string;
  /** A change waits this long for others at most. */
  batchMs?: number;
  /** Status writes wait this long for the journal at most, first grants excepted. */
  catchUpMs?: number;
  /** How often fold and store are looked over. */
  verifyMs?: number;
  buffer?: BufferLimits;
}

export interface JournalControllerOptions {
  client: JournalClient & Pick<KubeClient, 'watch'>;
  settings: JournalSettings;
  /** Follow this namespace alone; absent: all. */
  namespace?: string;
  witness: LineageWitness;
  /** The shards as the reconcilers see them. */
  shards: () => Iterable<ShardAssignment>;
  /** Up to where. */
  position: () => string | undefined;
  /** The largest epoch that this process has seen. */
  highestEpoch: () => number;
  /** A record without a stamp that is not to be believed. */
  believed: (shard: ShardAssignment) => ShardAssignment;
  /** A new lineage began: every set is to be looked at. */
  onRenewed: () => void;
  /** Nobody waits for it any more: sets with shards that were never granted are to be looked at. */
  onKnown: () => void;
  metrics: JournalMetrics;
  clock: Clock;
  random: () => number;
  log: Log;
}
