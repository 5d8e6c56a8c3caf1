import {
  API_VERSION,
  type Condition,
  type MeshNode,
  type Phase,
  type ShardAssignment,
  type ShardLocality,
  type ShardState,
} from './records.ts';
import type { OwningNode } from './repository.ts';

/**
 * A shard as the API serves it: intent and truth on one level. Absent members are unset, never null.
 * Metadata other than name and generation, and the transitions (see `history`), are left out: a change of
 * anything that is in here is an event, a change of anything else is not.
 */
export interface ShardView {
  namespace: string;
  /** `<shardSet>.<shardId>` */
  name: string;
  uid: string;
  shardSet: string;
  shardId: string;
  /** Pending until the operator has seen the shard. */
  phase: Phase;
  /** Intent; Active unless the spec says otherwise. */
  state: ShardState;
  owner?: string;
  ownerEndpoint?: string;
  previousOwner?: string;
  /** Fencing token, larger at every grant; 0 before the first. */
  epoch: number;
  /** +1 on every semantic change of ownership; 0 before the first. */
  version: number;
  /** +1 on every change of intent. */
  generation: number;
  /** Smaller than `generation`: the newest intent is not yet taken up. */
  observedGeneration: number;
  capacity: number;
  locality?: ShardLocality;
  /** The node that a person asked for. */
  pinned?: string;
  /** While Draining: where to (absent when the shard is being retired), since when, until when (RFC 3339). */
  move?: { to?: string; startedAt: string; deadline: string };
  /** When the newest transition happened, RFC 3339. */
  since?: string;
  changeTicket?: string;
  reason?: string;
  /** Only what needs attention: Ready that is not True, Reconciling or Stalled that is not False. */
  conditions?: ConditionView[];
}

export interface ConditionView {
  type: string;
  status: Condition['status'];
  reason: string;
  message: string;
}

/** A mesh node as the API serves it. */
export interface NodeView {
  namespace: string;
  name: string;
  endpoint?: string;
  region?: string;
  zone?: string;
  weight: number;
  ready: boolean;
  scheduling: 'Active' | 'Cordoned' | 'Drain';
  /** How many shards name it as their owner. */
  shards: number;
}

/** What of a record is served, and so what counts as a change of it. The same everywhere: API, hub, journal, CLI. */
export function served(record: ShardAssignment): ShardView {
  const { metadata, spec, status } = record;
  return {
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    uid: metadata.uid ?? '',
    shardSet: spec.shardSet,
    shardId: spec.shardId,
    phase: status?.phase ?? 'Pending',
    state: spec.state ?? 'Active',
    owner: status?.owner,
    ownerEndpoint: status?.ownerEndpoint,
    previousOwner: status?.previousOwner,
    epoch: status?.epoch ?? 0,
    version: status?.version ?? 0,
    generation: metadata.generation ?? 0,
    observedGeneration: status?.observedGeneration ?? 0,
    capacity: status?.effective?.capacity ?? spec.capacity ?? 1,
    locality: spec.locality && { region: spec.locality.region, zone: spec.locality.zone },
    pinned: spec.owner?.pinned,
    move: status?.move && {
      to: status.move.to,
      startedAt: status.move.startedAt,
      deadline: status.move.deadline,
    },
    since: status?.recentTransitions?.at(-1)?.at,
    changeTicket: spec.changeTicket,
    reason: spec.reason,
    conditions: attention(status?.conditions),
  };
}

/**
 * A record of which the same is served: `served(recordOf(view))` equals `view`. What is not served is not in it, or made
 * up where a record must have it (the newest transition has only its time), so read it through `served` and filters alone.
 */
export function recordOf(view: ShardView): ShardAssignment {
  const { namespace, name, uid, generation, pinned, since, capacity } = view;
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace, name, uid, generation },
    spec: {
      shardSet: view.shardSet,
      shardId: view.shardId,
      capacity,
      locality: view.locality,
      owner: pinned === undefined ? undefined : { pinned },
      state: view.state,
      changeTicket: view.changeTicket,
      reason: view.reason,
    },
    status: {
      observedGeneration: view.observedGeneration,
      phase: view.phase,
      owner: view.owner,
      ownerEndpoint: view.ownerEndpoint,
      previousOwner: view.previousOwner,
      epoch: view.epoch,
      version: view.version,
      move: view.move,
      recentTransitions: since === undefined ? undefined : [{ ...UNKNOWN_TRANSITION, at: since }],
      conditions: view.conditions?.map((condition) => ({ ...condition, lastTransitionTime: '' })),
    },
  };
}

/** Older than every other, so that nothing takes it for news. */
const UNKNOWN_TRANSITION = {
  version: 0,
  phase: 'Pending' as const,
  actor: { kind: 'Operator' as const, name: '' },
  reason: '',
};

/** The state in which a condition says nothing worth reading (kstatus). */
const QUIET: Record<string, Condition['status']> = { Ready: 'True', Reconciling: 'False', Stalled: 'False' };

function attention(conditions: readonly Condition[] = []): ConditionView[] | undefined {
  const found = conditions
    .filter(({ type, status }) => status !== QUIET[type])
    .map(({ type, status, reason, message }) => ({ type, status, reason, message }));
  return found.length > 0 ? found : undefined;
}

export function servedNode({ node, shards }: OwningNode): NodeView {
  const { metadata, spec } = node;
  return {
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    endpoint: spec.endpoint,
    region: spec.region,
    zone: spec.zone,
    weight: spec.weight ?? 1,
    ready: isReady(node),
    scheduling: spec.scheduling ?? 'Active',
    shards,
  };
}

/** As the operator judges it from the node's Lease. */
function isReady(node: MeshNode): boolean {
  return node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}
