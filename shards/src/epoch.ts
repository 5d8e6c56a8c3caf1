import { RELEASED_ANNOTATION, type ShardAssignment } from './records.ts';

/**
 * The fencing token of the next grant: `max(previous + 1, Unix seconds)`. The clock's part makes sure that an
 * object that was deleted and created again, or a restored etcd, never hands out an old epoch again.
 */
export function nextEpoch(previous: number | undefined, nowMs: number): number {
  return Math.max((previous ?? 0) + 1, Math.floor(nowMs / 1000));
}

/** What the owner of a draining shard writes into the release annotation: `<node>/<epoch>`. */
export function releaseToken(owner: string, epoch: number): string {
  return `${owner}/${epoch}`;
}

/** True while the shard is Draining and its owner has released it at exactly this epoch. */
export function isReleased(shard: ShardAssignment): boolean {
  const status = shard.status;
  return (
    status?.phase === 'Draining' &&
    status.owner !== undefined &&
    shard.metadata.annotations?.[RELEASED_ANNOTATION] === releaseToken(status.owner, status.epoch)
  );
}
