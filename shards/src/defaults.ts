import { ShardError } from './errors.ts';
import type { Freeze, HandoffMode, LocalityMode, ShardSetSpec, Strategy } from './records.ts';

/** A ShardSet's spec with every default filled in. Defaults live here and never in `spec` (GitOps stays clean). */
export interface EffectiveSet {
  /** Ascending by code unit. */
  ids: string[];
  strategy: Strategy;
  locality: LocalityMode;
  /** c, a decimal string such as "1.05". */
  loadBound: string;
  maxConcurrentMoves: number;
  handoffMode: HandoffMode;
  drainTimeoutMs: number;
  freeze: Freeze;
}

/** Throws `invalidArgument` where a spec says something the CRD's own validation would have refused. */
export function effectiveSet(spec: ShardSetSpec): EffectiveSet {
  return {
    ids: shardIds(spec),
    strategy: spec.strategy ?? 'Rendezvous',
    locality: spec.locality ?? 'Preferred',
    loadBound: spec.loadBound ?? '1.05',
    maxConcurrentMoves: spec.churn?.maxConcurrentMoves ?? 5,
    handoffMode: spec.handoff?.mode ?? 'Graceful',
    drainTimeoutMs: parseDuration(spec.handoff?.drainTimeout ?? '30s'),
    freeze: spec.freeze ?? 'None',
  };
}

/** The ids a ShardSet asks for, ascending by code unit; `count` names them 0000, 0001, … */
export function shardIds(spec: ShardSetSpec): string[] {
  const { count, ids } = spec.shards;
  if ((count === undefined) === (ids === undefined)) {
    throw new ShardError('invalidArgument', 'spec.shards needs exactly one of count and ids', {
      field: 'spec.shards',
    });
  }
  if (ids) return [...new Set(ids)].sort();
  const counted = Array.from({ length: count ?? 0 }, (_, index) => countedShardId(index));
  // Only where some have more digits than others are they not in order already.
  return counted.length > 10_000 ? counted.sort() : counted;
}

/** Four digits at least and never re-padded, so that growing a set beyond 10,000 renames no shard. */
export function countedShardId(index: number): string {
  return String(index).padStart(4, '0');
}

/** Milliseconds of a duration of whole seconds or minutes: `30s`, `5m`. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,6})(s|m)$/.exec(text);
  if (!match) {
    throw new ShardError(
      'invalidArgument',
      `"${text}" is not a duration: write whole seconds or minutes, such as 30s or 5m`,
    );
  }
  return Number(match[1]) * (match[2] === 'm' ? 60_000 : 1_000);
}
