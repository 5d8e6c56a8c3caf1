import type { KubeObject, MeshNode, ShardAssignment, ShardSet } from '@meshkit/shards/records';
import { GROUP, VERSION } from '@meshkit/shards/records';

export const ADMISSION_GROUP = 'admissionregistration.k8s.io';

/** What the Kubernetes API needs to address a kind; `T` is the object it serves. The core group is `''`. */
export interface Resource<T extends KubeObject = KubeObject> {
  group: string;
  version: string;
  plural: string;
  kind: string;
  namespaced: boolean;
  /** Never set: carries `T`, so that a client's answer is typed by its resource. */
  readonly _type?: T;
}

/** coordination.k8s.io/v1. A node's heartbeat (`meshnode-<name>`) or the operator's leadership. */
export interface Lease extends KubeObject {
  kind: 'Lease';
  spec?: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    /** RFC 3339 with microseconds, e.g. `2026-11-23T08:31:00.000000Z`. */
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
}

/** events.k8s.io/v1. `note` is at most 1,024 bytes; `reason` and `action` at most 128. */
export interface KubeEvent extends KubeObject {
  kind: 'Event';
  /** RFC 3339 with microseconds. */
  eventTime: string;
  reportingController: string;
  reportingInstance: string;
  action: string;
  reason: string;
  type: 'Normal' | 'Warning';
  note?: string;
  regarding?: {
    apiVersion: string;
    kind: string;
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
  };
  related?: KubeEvent['regarding'];
  series?: { count: number; lastObservedTime: string };
}

export interface Namespace extends KubeObject {
  kind: 'Namespace';
  spec?: { finalizers?: string[] };
  status?: { phase?: 'Active' | 'Terminating' };
}

export interface ServiceAccount extends KubeObject {
  kind: 'ServiceAccount';
}

/** apiextensions.k8s.io/v1, as far as an installer reads it. */
export interface CustomResourceDefinition extends KubeObject {
  kind: 'CustomResourceDefinition';
  spec: { group: string; names: { plural: string; kind: string }; scope: 'Namespaced' | 'Cluster' };
  status?: { conditions?: { type: string; status: string; reason?: string; message?: string }[] };
}

export const SHARD_SETS: Resource<ShardSet> = {
  group: GROUP,
  version: VERSION,
  plural: 'shardsets',
  kind: 'ShardSet',
  namespaced: true,
};

export const SHARD_ASSIGNMENTS: Resource<ShardAssignment> = {
  group: GROUP,
  version: VERSION,
  plural: 'shardassignments',
  kind: 'ShardAssignment',
  namespaced: true,
};

export const MESH_NODES: Resource<MeshNode> = {
  group: GROUP,
  version: VERSION,
  plural: 'meshnodes',
  kind: 'MeshNode',
  namespaced: true,
};

export const LEASES: Resource<Lease> = {
  group: 'coordination.k8s.io',
  version: 'v1',
  plural: 'leases',
  kind: 'Lease',
  namespaced: true,
};

export const EVENTS: Resource<KubeEvent> = {
  group: 'events.k8s.io',
  version: 'v1',
  plural: 'events',
  kind: 'Event',
  namespaced: true,
};

export const NAMESPACES: Resource<Namespace> = {
  group: '',
  version: 'v1',
  plural: 'namespaces',
  kind: 'Namespace',
  namespaced: false,
};

export const SERVICE_ACCOUNTS: Resource<ServiceAccount> = {
  group: '',
  version: 'v1',
  plural: 'serviceaccounts',
  kind: 'ServiceAccount',
  namespaced: true,
};

export const CUSTOM_RESOURCE_DEFINITIONS: Resource<CustomResourceDefinition> = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  plural: 'customresourcedefinitions',
  kind: 'CustomResourceDefinition',
  namespaced: false,
};

const rbac = (kind: string, namespaced: boolean): Resource => ({
  group: 'rbac.authorization.k8s.io',
  version: 'v1',
  plural: `${kind.toLowerCase()}s`,
  kind,
  namespaced,
});

const admission = (kind: string, plural: string): Resource => ({
  group: ADMISSION_GROUP,
  version: 'v1',
  plural,
  kind,
  namespaced: false,
});

export const CHANGED_BY_BINDINGS = admission(
  'MutatingAdmissionPolicyBinding',
  'mutatingadmissionpolicybindings',
);

/** Every kind that our manifests and samples are made of. */
const APPLICABLE: readonly Resource[] = [
  SHARD_SETS,
  SHARD_ASSIGNMENTS,
  MESH_NODES,
  LEASES,
  NAMESPACES,
  SERVICE_ACCOUNTS,
  CUSTOM_RESOURCE_DEFINITIONS,
  rbac('Role', true),
  rbac('RoleBinding', true),
  rbac('ClusterRole', false),
  rbac('ClusterRoleBinding', false),
  admission('ValidatingAdmissionPolicy', 'validatingadmissionpolicies'),
  admission('ValidatingAdmissionPolicyBinding', 'validatingadmissionpolicybindings'),
  admission('MutatingAdmissionPolicy', 'mutatingadmissionpolicies'),
  CHANGED_BY_BINDINGS,
];

/** The resource of an object, by its apiVersion and kind; absent for kinds that we never apply. */
export function resourceOf(object: { apiVersion?: string; kind?: string }): Resource | undefined {
  return APPLICABLE.find(
    (resource) => resource.kind === object.kind && apiVersionOf(resource) === object.apiVersion,
  );
}

/** `group/version`, or `v1` in the core group. */
export function apiVersionOf(resource: Resource): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** The path under the API server's root; `name` needs no escaping beyond what DNS names allow. */
export function resourcePath(resource: Resource, key: { namespace?: string; name?: string } = {}): string {
  const root = resource.group === '' ? '/api' : `/apis/${resource.group}`;
  const scope =
    resource.namespaced && key.namespace ? `/namespaces/${encodeURIComponent(key.namespace)}` : '';
  const name = key.name === undefined ? '' : `/${encodeURIComponent(key.name)}`;
  return `${root}/${resource.version}${scope}/${resource.plural}${name}`;
}
