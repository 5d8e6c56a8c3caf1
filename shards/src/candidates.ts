import type { PlacementNode, Standing } from './placement.ts';
import type { LabelSelector, MeshNode, ShardSet } from './records.ts';

/**
 * The nodes of the set's pool as the planner sees them, each with its standing towards the set.
 * Non-candidates are included, so that explain can say why a node gets nothing; nodes of other namespaces are not.
 */
export function placementNodes(
  set: ShardSet,
  nodes: readonly { node: MeshNode; ready: boolean }[],
): PlacementNode[] {
  const pool = poolNamespace(set);
  const found: PlacementNode[] = [];
  for (const { node, ready } of nodes) {
    if (node.metadata.namespace !== pool) continue;
    found.push({
      name: node.metadata.name,
      weight: node.spec.weight ?? 1,
      region: node.spec.region,
      zone: node.spec.zone,
      standing: standing(set, node, ready),
    });
  }
  return found;
}

/** Where the set's MeshNodes live: its own namespace unless it names a shared pool. */
export function poolNamespace(set: ShardSet): string | undefined {
  return set.spec.nodes?.namespace ?? set.metadata.namespace;
}

function standing(set: ShardSet, node: MeshNode, ready: boolean): Standing {
  // A dead node's shards fail over at once, outside the churn budget, so this comes before every planned reason.
  if (!ready) return 'notReady';
  if (!serves(node, set.metadata.namespace)) return 'notServing';
  if (!matchesSelector(set.spec.nodes?.selector, node.metadata.labels)) return 'notSelected';
  if (node.spec.scheduling === 'Drain' || node.metadata.deletionTimestamp !== undefined) return 'draining';
  return node.spec.scheduling === 'Cordoned' ? 'cordoned' : 'eligible';
}

/** A node always serves its own namespace; others only when its `serves` names them or says `*`. */
export function serves(node: MeshNode, namespace: string | undefined): boolean {
  if (node.metadata.namespace === namespace) return true;
  const others = node.spec.serves ?? [];
  return others.includes('*') || (namespace !== undefined && others.includes(namespace));
}

/** Kubernetes label selector semantics: conditions are and-ed, an absent or empty selector matches everything. */
export function matchesSelector(
  selector: LabelSelector | undefined,
  labels: Readonly<Record<string, string>> = {},
): boolean {
  const held = new Map(Object.entries(labels));
  const { matchLabels = {}, matchExpressions = [] } = selector ?? {};
  return (
    Object.entries(matchLabels).every(([key, value]) => held.get(key) === value) &&
    matchExpressions.every((expression) => expressionHolds(expression, held.get(expression.key)))
  );
}

type Expression = NonNullable<LabelSelector['matchExpressions']>[number];

function expressionHolds({ operator, values = [] }: Expression, value: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    // As in Kubernetes, a label that is absent is "not in" any list.
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}
