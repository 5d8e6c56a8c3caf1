import { poolNamespace } from './candidates.ts';
import type { MeshNode, ShardAssignment, ShardSet } from './records.ts';
import type { OwningNode } from './repository.ts';

/**
 * The nodes with the number of shards that each owns, ordered by namespace, then name. Node names are unique
 * within a namespace only, so an owner is looked up in the pool of its shard's set.
 */
export function owningNodes(
  nodes: readonly MeshNode[],
  shards: Iterable<ShardAssignment>,
  setOf: (namespace: string | undefined, name: string) => ShardSet | undefined,
): OwningNode[] {
  const owned = new Map<string, number>();
  for (const { metadata, spec, status } of shards) {
    if (status?.owner === undefined) continue;
    const set = setOf(metadata.namespace, spec.shardSet);
    const node = placeOf(set ? poolNamespace(set) : metadata.namespace, status.owner);
    owned.set(node, (owned.get(node) ?? 0) + 1);
  }
  return nodes
    .map((node) => ({ node, place: placeOf(node.metadata.namespace, node.metadata.name) }))
    .sort((a, b) => (a.place < b.place ? -1 : 1))
    .map(({ node, place }) => ({ node, shards: owned.get(place) ?? 0 }));
}

/** NUL sorts below every character of a name, so places sort by namespace, then name. */
function placeOf(namespace: string | undefined, name: string): string {
  return `${namespace}\0${name}`;
}
