import type { KubeObject } from '@meshkit/shards/records';
import { GROUP } from '@meshkit/shards/records';
import { SHARD_JOURNAL_HEADS, SHARD_JOURNAL_SEGMENTS } from './journal-objects.ts';
import { CHANGED_BY_BINDINGS, LEASES, MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from './resource.ts';

/** Where the operator and the API server run. */
export const SYSTEM_NAMESPACE = 'meshkit-system';
export const OPERATOR_SERVICE_ACCOUNT = 'meshkit-operator';
export const API_SERVER_SERVICE_ACCOUNT = 'meshkit-api-server';
/** The only identity that may write `status`; the admission policy names it. */
export const OPERATOR_USER = `system:serviceaccount:${SYSTEM_NAMESPACE}:${OPERATOR_SERVICE_ACCOUNT}`;
/** The policy that stamps who changed a spec, and its binding. */
export const CHANGED_BY_NAME = 'meshkit-shards-changed-by';

interface PolicyRule {
  apiGroups: string[];
  resources: string[];
  verbs: string[];
  /** Absent: all. */
  resourceNames?: string[];
}

/** A Namespace, ServiceAccount, role or binding. */
export interface AccessObject extends KubeObject {
  rules?: PolicyRule[];
  roleRef?: { apiGroup: string; kind: string; name: string };
  subjects?: { apiGroup?: string; kind: string; name: string; namespace?: string }[];
}

/** Of the operator, unless it was given another one. */
const LEADER_LEASE = 'meshkit-operator';

const RBAC = 'rbac.authorization.k8s.io';
const LABELS = { 'app.kubernetes.io/part-of': 'meshkit-shards' };
const SETS = SHARD_SETS.plural;
const SHARDS = SHARD_ASSIGNMENTS.plural;
const NODES = MESH_NODES.plural;
const JOURNAL = [SHARD_JOURNAL_HEADS.plural, SHARD_JOURNAL_SEGMENTS.plural];
const LOOK = ['get', 'list', 'watch'];
const WRITE = ['create', 'update', 'patch', 'delete', 'deletecollection'];

const ours = (resources: string[], verbs: string[]): PolicyRule => ({ apiGroups: [GROUP], resources, verbs });
const leases = (verbs: string[]): PolicyRule => ({
  apiGroups: [LEASES.group],
  resources: [LEASES.plural],
  verbs,
});

function clusterRole(
  name: string,
  rules: PolicyRule[],
  aggregateTo?: 'view' | 'edit' | 'admin',
): AccessObject {
  const aggregate = aggregateTo ? { [`${RBAC}/aggregate-to-${aggregateTo}`]: 'true' } : {};
  return {
    apiVersion: `${RBAC}/v1`,
    kind: 'ClusterRole',
    metadata: { name, labels: { ...LABELS, ...aggregate } },
    rules,
  };
}

function role(name: string, rules: PolicyRule[]): AccessObject {
  return {
    apiVersion: `${RBAC}/v1`,
    kind: 'Role',
    metadata: { name, namespace: SYSTEM_NAMESPACE, labels: LABELS },
    rules,
  };
}

function serviceAccount(name: string): AccessObject {
  return {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name, namespace: SYSTEM_NAMESPACE, labels: LABELS },
  };
}

/** To a service account, or to everybody who is logged in. */
function binding(kind: 'Role' | 'ClusterRole', role: string, account?: string): AccessObject {
  const namespace = kind === 'Role' ? { namespace: SYSTEM_NAMESPACE } : {};
  return {
    apiVersion: `${RBAC}/v1`,
    kind: `${kind}Binding`,
    metadata: { name: role, ...namespace, labels: LABELS },
    roleRef: { apiGroup: RBAC, kind, name: role },
    subjects: [
      account === undefined
        ? { apiGroup: RBAC, kind: 'Group', name: 'system:authenticated' }
        : { kind: 'ServiceAccount', name: account, namespace: SYSTEM_NAMESPACE },
    ],
  };
}

/** The mesh scopes. Each carries what the one below it has, because bindings do not add up by themselves. */
const people: AccessObject[] = [
  clusterRole('meshkit-shards-reader', [ours([SETS, SHARDS, NODES], LOOK), ours([SHARDS], ['read'])], 'view'),
  clusterRole(
    'meshkit-shards-observer',
    [ours([SETS, SHARDS, NODES], LOOK), ours([SHARDS], ['read', 'observe'])],
    'edit',
  ),
  clusterRole(
    'meshkit-shards-operator',
    [
      ours([SETS, SHARDS, NODES], [...LOOK, ...WRITE]),
      // `release` too: RBAC lets nobody grant what they lack, and namespace admins bind their agents to the node role.
      ours([SHARDS], ['read', 'observe', 'operate', 'release']),
    ],
    'admin',
  ),
];

/** For RoleBindings to the ServiceAccounts of node agents, in the namespace of their MeshNodes and shards. */
const nodeAgent = clusterRole('meshkit-shards-node', [
  leases(['get', 'create', 'update', 'patch']),
  ours([NODES], [...LOOK, 'create', 'patch']),
  ours([SHARDS], [...LOOK, 'patch', 'release']),
]);

/** The uid of kube-system tells this cluster from every other one. */
const clusterIdentity: PolicyRule = {
  apiGroups: [''],
  resources: ['namespaces'],
  resourceNames: ['kube-system'],
  verbs: ['get'],
};

/** Where nobody guards the stamp, it is not to be believed. */
const stampGuard: PolicyRule = {
  apiGroups: [CHANGED_BY_BINDINGS.group],
  resources: [CHANGED_BY_BINDINGS.plural],
  resourceNames: [CHANGED_BY_NAME],
  verbs: ['get'],
};

const operator: AccessObject[] = [
  serviceAccount(OPERATOR_SERVICE_ACCOUNT),
  clusterRole(OPERATOR_SERVICE_ACCOUNT, [
    ours([SETS, NODES], LOOK),
    // No update and no patch: the operator never writes a spec.
    ours([SHARDS], [...LOOK, 'create', 'delete']),
    ours([`${SETS}/status`, `${SHARDS}/status`, `${NODES}/status`], ['get', 'update']),
    // Where OwnerReferencesPermissionEnforcement is on, blockOwnerDeletion needs this.
    ours([`${SETS}/finalizers`], ['update']),
    ours(JOURNAL, [...LOOK, 'create', 'update', 'delete']),
    clusterIdentity,
    stampGuard,
    leases(LOOK),
    { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create', 'patch', 'update'] },
  ]),
  binding('ClusterRole', OPERATOR_SERVICE_ACCOUNT, OPERATOR_SERVICE_ACCOUNT),
  role('meshkit-operator-leader', [leases([...LOOK, 'create', 'update', 'patch'])]),
  binding('Role', 'meshkit-operator-leader', OPERATOR_SERVICE_ACCOUNT),
];

/** So that `status` tells whoever it is asked by whether an operator works. */
const operatorHealth: AccessObject[] = [
  role('meshkit-operator-health', [{ ...leases(['get']), resourceNames: [LEADER_LEASE] }]),
  binding('Role', 'meshkit-operator-health'),
];

const apiServer: AccessObject[] = [
  serviceAccount(API_SERVER_SERVICE_ACCOUNT),
  clusterRole(API_SERVER_SERVICE_ACCOUNT, [
    ours([SETS, SHARDS, NODES, ...JOURNAL], LOOK),
    { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] },
    { apiGroups: ['authorization.k8s.io'], resources: ['subjectaccessreviews'], verbs: ['create'] },
    clusterIdentity,
    stampGuard,
  ]),
  binding('ClusterRole', API_SERVER_SERVICE_ACCOUNT, API_SERVER_SERVICE_ACCOUNT),
];

/** In the order in which they can be applied. */
export const ACCESS: readonly AccessObject[] = [
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: SYSTEM_NAMESPACE, labels: LABELS } },
  ...people,
  nodeAgent,
  ...operator,
  ...operatorHealth,
  ...apiServer,
];
