/**
 * The resources of `meshkit.omnirelay.io/v1alpha1`, as the Kubernetes API serves them.
 * The zod schemas in `@meshkit/crds` are checked against these interfaces by the compiler.
 */
export const GROUP = 'meshkit.omnirelay.io';
export const VERSION = 'v1alpha1';
export const API_VERSION = `${GROUP}/${VERSION}`;

/** Set by the owner of a draining shard: `<node>/<epoch>`. Honoured only while Draining at that epoch. */
export const RELEASED_ANNOTATION = `${GROUP}/released`;
/** Stamped by the admission policy with the authenticated user whenever a spec changes (Kubernetes 1.36+). */
export const CHANGED_BY_ANNOTATION = `${GROUP}/changed-by`;
/** On ShardAssignments that the operator created (value: the ShardSet's name); absent on adopted ones. */
export const SHARD_SET_LABEL = `${GROUP}/shard-set`;

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

export interface ObjectMeta {
  name: string;
  namespace?: string;
  uid?: string;
  /** A decimal number of unbounded size: compare with `compareVersions`, never as a JS number. */
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: OwnerReference[];
  finalizers?: string[];
  managedFields?: {
    manager?: string;
    operation?: string;
    time?: string;
    subresource?: string;
    fieldsV1?: Record<string, unknown>;
  }[];
}

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

/** The kstatus conditions Ready, Reconciling, Stalled; `reason` is CamelCase, `message` is for people. */
export interface Condition {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason: string;
  message: string;
  lastTransitionTime: string;
  observedGeneration?: number;
}

export type Strategy = 'Rendezvous' | 'Static';
export type LocalityMode = 'None' | 'Preferred' | 'Required';
export type Freeze = 'None' | 'Rebalance' | 'All';
export type HandoffMode = 'Graceful' | 'Immediate';
export type ShardState = 'Active' | 'Paused' | 'Disabled';
export type Phase = 'Pending' | 'Active' | 'Draining' | 'Paused' | 'Disabled' | 'Lost';
export type Scheduling = 'Active' | 'Cordoned' | 'Drain';

export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: {
    key: string;
    operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
    values?: string[];
  }[];
}

export interface ShardSetSpec {
  /** Exactly one of the two. `count` names the shards 0000…; at least 4 digits, never re-padded. */
  shards: { count?: number; ids?: string[] };
  strategy?: Strategy;
  locality?: LocalityMode;
  /** Decimal string, `"1.05"`: a node's cap is max(ceil m, floor(loadBound x m)), m its fair share. */
  loadBound?: string;
  /** Absent: every MeshNode of the set's own namespace. `namespace`: a shared pool that serves this one. */
  nodes?: { selector?: LabelSelector; namespace?: string };
  churn?: { maxConcurrentMoves?: number };
  /** `drainTimeout` is a duration of whole seconds or minutes: `30s`, `5m`. */
  handoff?: { mode?: HandoffMode; drainTimeout?: string };
  freeze?: Freeze;
}

export interface ShardSetStatus {
  observedGeneration?: number;
  shards?: number;
  owned?: number;
  draining?: number;
  unplaceable?: number;
  lost?: number;
  /** Eligible nodes. */
  nodes?: number;
  /** Load over fair share, of the fullest and the emptiest eligible node; decimal strings, `"1.03"`. */
  balance?: { maxOverMean: string; minOverMean: string };
  conditions?: Condition[];
}

export interface ShardSet extends KubeObject {
  kind: 'ShardSet';
  spec: ShardSetSpec;
  status?: ShardSetStatus;
}

export interface ShardLocality {
  region?: string;
  zone?: string;
}

export interface ShardAssignmentSpec {
  shardSet: string;
  shardId: string;
  capacity?: number;
  locality?: ShardLocality;
  owner?: { pinned?: string };
  state?: ShardState;
  changeTicket?: string;
  reason?: string;
}

export interface Actor {
  kind: 'User' | 'FieldManager' | 'Operator';
  name: string;
}

export interface Transition {
  version: number;
  from?: string;
  to?: string;
  phase: Phase;
  /** The fencing token after it; absent on transitions that an older operator wrote. */
  epoch?: number;
  actor: Actor;
  reason: string;
  changeTicket?: string;
  at: string;
}

export interface ShardAssignmentStatus {
  observedGeneration?: number;
  phase: Phase;
  owner?: string;
  ownerEndpoint?: string;
  previousOwner?: string;
  /** Fencing token: larger at every grant, max(previous + 1, Unix seconds). */
  epoch: number;
  /** +1 on every semantic change of this status. */
  version: number;
  effective?: { strategy: Strategy; capacity: number };
  /** Draining: where to (absent when the shard is retired or disabled), since when, and until when. */
  move?: { to?: string; startedAt: string; deadline: string };
  recentTransitions?: Transition[];
  conditions?: Condition[];
}

export interface ShardAssignment extends KubeObject {
  kind: 'ShardAssignment';
  spec: ShardAssignmentSpec;
  status?: ShardAssignmentStatus;
}

export interface MeshNodeSpec {
  /** Relative capacity, integer >= 1; absent = 1. */
  weight?: number;
  region?: string;
  zone?: string;
  endpoint?: string;
  /** Other namespaces whose ShardSets may place shards here (`*` = any); absent = its own only. */
  serves?: string[];
  scheduling?: Scheduling;
  /** `Lease`: ready while its Lease `meshnode-<name>` is renewed. `Always`: ready without one. Absent = Lease. */
  liveness?: 'Lease' | 'Always';
}

export interface MeshNodeStatus {
  observedGeneration?: number;
  conditions?: Condition[];
}

export interface MeshNode extends KubeObject {
  kind: 'MeshNode';
  spec: MeshNodeSpec;
  status?: MeshNodeStatus;
}

/** The coordination.k8s.io Lease that carries a MeshNode's heartbeat. */
export function leaseName(node: string): string {
  return `meshnode-${node}`;
}

/** The ShardAssignment's name: the set's name has no dots, so the first dot splits it. */
export function assignmentName(shardSet: string, shardId: string): string {
  return `${shardSet}.${shardId}`;
}

/** Orders resourceVersions (KEP-5504: decimal, longer is larger, then lexicographic). */
export function compareVersions(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}
