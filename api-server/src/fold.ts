import type { Change } from '@meshkit/shards/change';

export interface FoldedChange {
  change: Change;
  /** How many changes it stands for. */
  count: number;
}

/**
 * Several changes as if each shard had made one step: from what it was before its first to what it is after its last,
 * in the order of the last ones. A shard that came and went in between is left out; one that was deleted and created
 * again stays two changes, because its uid is another.
 */
export function fold(changes: Iterable<Change>): FoldedChange[] {
  const folded = new Map<string, FoldedChange>();
  for (const change of changes) {
    const key = `${change.key} ${(change.after ?? change.before)!.metadata.uid}`;
    const earlier = folded.get(key);
    // Taken out first, so that the map's order is that of the newest.
    folded.delete(key);
    const before = earlier ? earlier.change.before : change.before;
    if (before || change.after) {
      const count = (earlier?.count ?? 0) + 1 + (change.coalesced ?? 0);
      folded.set(key, { change: { ...change, before, coalesced: undefined }, count });
    }
  }
  return [...folded.values()];
}
