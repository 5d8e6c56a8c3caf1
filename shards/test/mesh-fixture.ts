import { type DecideInput, type Decision, decide, EMPTY_MEMORY, type NodeState } from '../src/decide.ts';
import { type PlacementInput, type Plan, plan } from '../src/placement.ts';
import {
  API_VERSION,
  assignmentName,
  type MeshNodeSpec,
  type ShardAssignment,
  type ShardAssignmentSpec,
  type ShardAssignmentStatus,
  type ShardSet,
  type ShardSetSpec,
} from '../src/records.ts';

/** Objects for tests of the pure domain: one set `orders` in namespace `shop`. */
export const NOW = Date.parse('2026-11-23T08:00:00.000Z');

export function shardSet(spec: Partial<ShardSetSpec> = {}, uid = 'set-uid'): ShardSet {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardSet',
    metadata: { name: 'orders', namespace: 'shop', uid, generation: 1 },
    spec: { shards: { count: 1 }, ...spec },
  };
}

export function assignment(
  id: string,
  status?: Partial<ShardAssignmentStatus>,
  spec: Partial<ShardAssignmentSpec> = {},
): ShardAssignment {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: {
      name: assignmentName('orders', id),
      namespace: 'shop',
      uid: `uid-${id}`,
      generation: 1,
      resourceVersion: '1',
    },
    spec: { shardSet: 'orders', shardId: id, ...spec },
    status: status && { phase: 'Active', epoch: 7, version: 1, observedGeneration: 1, ...status },
  };
}

/** As the operator stamps it: garbage collected with its set. */
export function stamped(shard: ShardAssignment, uid = 'set-uid'): ShardAssignment {
  const owner = { apiVersion: API_VERSION, kind: 'ShardSet', name: 'orders', uid, controller: true };
  return { ...shard, metadata: { ...shard.metadata, ownerReferences: [owner] } };
}

export function node(name: string, ready = true, spec: MeshNodeSpec = {}): NodeState {
  return {
    node: {
      apiVersion: API_VERSION,
      kind: 'MeshNode',
      metadata: { name, namespace: 'shop', generation: 1 },
      spec: { endpoint: `https://${name}:8443`, ...spec },
    },
    ready,
    reason: ready ? undefined : 'LeaseExpired',
  };
}

/** Draining from `owner` at epoch 7, begun at NOW, due 30 s later. */
export function draining(owner: string, to?: string): Partial<ShardAssignmentStatus> {
  const deadline = new Date(NOW + 30_000).toISOString();
  return { phase: 'Draining', owner, move: { to, startedAt: new Date(NOW).toISOString(), deadline } };
}

/** The real planner, unless the test says where each shard goes. */
export function decideWith(input: Partial<DecideInput> & { targets?: Record<string, string> }): Decision {
  const { targets, ...rest } = input;
  return decide({
    set: shardSet(),
    shards: [],
    nodes: [],
    now: NOW,
    monotonic: 1_000,
    memory: EMPTY_MEMORY,
    plan: targets ? (asked) => planTo(asked, targets) : plan,
    ...rest,
  });
}

function planTo(input: PlacementInput, wanted: Record<string, string>): Plan {
  const targets = new Map(Object.entries(wanted));
  const moves = input.shards.flatMap(({ id, owner, pinned }) => {
    const to = targets.get(id);
    if (to === undefined || to === owner) return [];
    const cause = owner === undefined ? 'Unowned' : pinned === to ? 'Pin' : 'Rebalance';
    return [{ shard: id, from: owner, to, cause } as const];
  });
  return { targets, moves, unplaceable: new Map(), loads: [] };
}
