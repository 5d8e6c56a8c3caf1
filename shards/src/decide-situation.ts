import type { NodeState } from './decide.ts';
import type { EffectiveSet } from './defaults.ts';
import { isReleased } from './epoch.ts';
import type { Remembered } from './journal-fold.ts';
import type { Standing } from './placement.ts';
import type { Phase, ShardAssignment, ShardAssignmentStatus, ShardSet } from './records.ts';

/** What people want of the shard. `Retired`: its id is not (or no longer) in the set. `Orphaned`: its set is gone. */
export type Intent = 'Active' | 'Paused' | 'Disabled' | 'Retired' | 'Orphaned';

export type Move = NonNullable<ShardAssignmentStatus['move']>;

/** Everything the rules ask about one shard, read once. */
export interface Situation {
  shard: ShardAssignment;
  id: string;
  intent: Intent;
  capacity: number;
  /** Absent until the first status write. */
  phase?: Phase;
  owner?: string;
  /** Of a shard that was never granted, as its status says, or whose status is lost: who owned it, as the journal tells. */
  lostOwner?: string;
  /** The owner's MeshNode exists and is ready. */
  ownerAlive: boolean;
  /** Only while Draining. */
  move?: Move;
  /** The move's target is still eligible. */
  targetValid: boolean;
  /** The owner has released the shard at its present epoch. */
  released: boolean;
  /** Only while Draining: how long until the grant is made anyway; 0 or less: now. */
  dueInMs?: number;
}

export interface Surroundings {
  set?: ShardSet;
  settings?: EffectiveSet;
  ids: ReadonlySet<string>;
  nodes: ReadonlyMap<string, NodeState>;
  standings: ReadonlyMap<string, Standing>;
  /** By name; see DecideInput. */
  remembered?: ReadonlyMap<string, Remembered>;
}

/** `dueInMs` comes from the caller's monotonic memory of the drain: the status has only wall time, for people. */
export function readSituation(
  shard: ShardAssignment,
  around: Surroundings,
  dueInMs: (shard: ShardAssignment) => number,
): Situation {
  const { status, spec } = shard;
  const draining = status?.phase === 'Draining';
  const move = draining ? status.move : undefined;
  const owner = status?.owner;
  return {
    shard,
    id: spec.shardId,
    intent: intentOf(shard, around),
    capacity: spec.capacity ?? 1,
    phase: status?.phase,
    owner,
    lostOwner: wasGranted(shard) ? undefined : around.remembered?.get(shard.metadata.name)?.owner,
    ownerAlive: owner !== undefined && (around.nodes.get(owner)?.ready ?? false),
    move,
    targetValid: move?.to !== undefined && around.standings.get(move.to) === 'eligible',
    released: isReleased(shard),
    dueInMs: draining ? dueInMs(shard) : undefined,
  };
}

/** As its own status says. */
export function wasGranted({ status }: ShardAssignment): boolean {
  return (status?.epoch ?? 0) > 0;
}

function intentOf(shard: ShardAssignment, around: Surroundings): Intent {
  if (around.set === undefined) return 'Orphaned';
  if (!around.ids.has(shard.spec.shardId) || shard.metadata.deletionTimestamp !== undefined) return 'Retired';
  return shard.spec.state ?? 'Active';
}

/** True when the operator stamped this shard for exactly this set; what people or Git applied is never deleted by us. */
export function createdFor(shard: ShardAssignment, set: ShardSet): boolean {
  return ownerUid(shard) === set.metadata.uid;
}

/**
 * True when it was stamped for a ShardSet that is gone (perhaps replaced by one of the same name): Kubernetes'
 * garbage collection would delete it, and so do we where there is none.
 */
export function createdForAnother(shard: ShardAssignment, set: ShardSet | undefined): boolean {
  const uid = ownerUid(shard);
  return uid !== undefined && uid !== set?.metadata.uid;
}

function ownerUid(shard: ShardAssignment): string | undefined {
  return shard.metadata.ownerReferences?.find((owner) => owner.kind === 'ShardSet' && owner.controller)?.uid;
}
