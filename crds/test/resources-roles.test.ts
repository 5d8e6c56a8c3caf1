import { SYSTEM_NAMESPACE } from '@meshkit/crds/roles';
import { GROUP } from '@meshkit/shards/records';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Plane } from './resources-plane.ts';

let plane: Plane;

const ROLES = [
  'meshkit-shards-reader',
  'meshkit-shards-observer',
  'meshkit-shards-operator',
  'meshkit-shards-node',
];
const OPERATOR = `system:serviceaccount:${SYSTEM_NAMESPACE}:meshkit-operator`;
const API_SERVER = `system:serviceaccount:${SYSTEM_NAMESPACE}:meshkit-api-server`;

beforeAll(async () => {
  plane = await Plane.open();
  for (const role of ROLES) await plane.bind(role, `user-of-${role}`);
});
afterAll(() => plane.close());

/** `what` is `verb resource[/subresource][.group]`, our own group when none is given. */
async function allowed(user: string, what: string, namespace: string, name?: string): Promise<boolean> {
  const [verb, target = ''] = what.split(' ');
  const [path = '', ...group] = target.split('.');
  const [resource, subresource] = path.split('/');
  const answer = await plane.admin.raw('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
    body: {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: {
        user,
        groups: ['system:authenticated'],
        resourceAttributes: { verb, group: group.join('.') || GROUP, resource, subresource, namespace, name },
      },
    },
  });
  return (answer as { status: { allowed: boolean } }).status.allowed;
}

async function expectRights(user: string, namespace: string, can: string[], cannot: string[]): Promise<void> {
  const ask = async (list: string[]) => {
    const answers = await Promise.all(list.map((what) => allowed(user, what, namespace)));
    return list.filter((_, index) => answers[index]);
  };
  expect(await ask(can)).toEqual(can);
  expect(await ask(cannot)).toEqual([]);
}

const KINDS = ['shardsets', 'shardassignments', 'meshnodes'];
const each = (verbs: string[], resources = KINDS) =>
  verbs.flatMap((verb) => resources.map((resource) => `${verb} ${resource}`));
const LOOK = each(['get', 'list', 'watch']);
const WRITE = each(['create', 'update', 'patch', 'delete', 'deletecollection']);
const STATUS = KINDS.map((kind) => `update ${kind}/status`);
const JOURNAL = ['shardjournalheads', 'shardjournalsegments'];
const scope = (...verbs: string[]) => each(verbs, ['shardassignments']);

/** Kubernetes' own roles, which carry ours by aggregation. */
const KUBERNETES_ROLES = [
  { role: 'view', can: scope('read'), cannot: scope('observe', 'operate') },
  { role: 'edit', can: scope('read', 'observe'), cannot: [...scope('operate'), ...WRITE] },
  { role: 'admin', can: [...scope('read', 'observe', 'operate', 'release'), ...WRITE], cannot: STATUS },
];

describe('people, in the namespace of their RoleBinding', () => {
  test.each([
    [
      'meshkit-shards-reader',
      [...LOOK, ...scope('read')],
      [...WRITE, ...STATUS, ...scope('observe', 'operate', 'release')],
    ],
    [
      'meshkit-shards-observer',
      [...LOOK, ...scope('read', 'observe')],
      [...WRITE, ...STATUS, ...scope('operate', 'release')],
    ],
    [
      'meshkit-shards-operator',
      [...LOOK, ...WRITE, ...scope('read', 'observe', 'operate', 'release')],
      STATUS,
    ],
  ])('%s', async (role, can, cannot) => {
    await expectRights(`user-of-${role}`, plane.namespace, can, cannot);
    await expectRights(`user-of-${role}`, 'default', [], can);
    // The history of all namespaces is for nobody's eyes but the API server's, which asks for scopes.
    await expectRights(`user-of-${role}`, '', [], each(['get', 'list', 'watch', 'create'], JOURNAL));
  });

  // The embedded plane has no view, edit and admin.
  const aggregated = inject('controlPlane').kind === 'real' ? KUBERNETES_ROLES : [];
  for (const { role, can, cannot } of aggregated) {
    test(`Kubernetes' own role ${role} carries the scope`, async () => {
      const user = `user-of-${role}`;
      await plane.bind(role, user);
      // Aggregation is kube-controller-manager's work and may take a moment after the installation.
      await expect.poll(() => allowed(user, can[0] ?? '', plane.namespace), { timeout: 15_000 }).toBe(true);
      await expectRights(user, plane.namespace, can, cannot);
    });
  }
});

describe('whoever is logged in', () => {
  test('reads the operator’s leader Lease, and no other, nor all of them', async () => {
    const lease = 'leases.coordination.k8s.io';
    const may = (verb: string, name: string) =>
      allowed('anybody', `${verb} ${lease}`, SYSTEM_NAMESPACE, name);
    expect(await may('get', 'meshkit-operator')).toBe(true);
    expect(await may('get', 'another')).toBe(false);
    expect(await may('update', 'meshkit-operator')).toBe(false);
    const more = each(['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'], [lease]);
    await expectRights('anybody', SYSTEM_NAMESPACE, [], [...more, ...LOOK]);
  });
});

describe('programs', () => {
  test('a node agent: its Lease, its MeshNode, and releases', async () => {
    await expectRights(
      'user-of-meshkit-shards-node',
      plane.namespace,
      [
        ...each(['get', 'create', 'update', 'patch'], ['leases.coordination.k8s.io']),
        ...each(['get', 'list', 'watch', 'create', 'patch'], ['meshnodes']),
        ...each(['get', 'list', 'watch', 'patch', 'release'], ['shardassignments']),
      ],
      [
        'delete leases.coordination.k8s.io',
        'delete meshnodes',
        'list shardsets',
        ...scope('create', 'update', 'delete', 'operate'),
        ...STATUS,
      ],
    );
  });

  test('the operator: writes status, creates and deletes shards, and writes no spec', async () => {
    await expectRights(
      OPERATOR,
      plane.namespace,
      [
        ...LOOK,
        ...STATUS,
        ...scope('create', 'delete'),
        ...each(['get', 'list', 'watch'], ['leases.coordination.k8s.io']),
        ...each(['create', 'patch'], ['events.events.k8s.io']),
      ],
      [
        ...each(['update', 'patch']),
        ...each(['create', 'delete'], ['shardsets', 'meshnodes']),
        ...scope('operate', 'release', 'deletecollection'),
        'update leases.coordination.k8s.io',
      ],
    );
    const write = each(['get', 'list', 'watch', 'create', 'update', 'delete'], JOURNAL);
    await expectRights(OPERATOR, '', write, each(['patch', 'deletecollection'], JOURNAL));
    const lead = each(['get', 'create', 'update'], ['leases.coordination.k8s.io']);
    await expectRights(OPERATOR, SYSTEM_NAMESPACE, lead, ['delete leases.coordination.k8s.io']);
  });

  test('the API server: reads, and asks who may do what', async () => {
    await expectRights(
      API_SERVER,
      '',
      [
        ...LOOK,
        ...each(['get', 'list', 'watch'], JOURNAL),
        'create tokenreviews.authentication.k8s.io',
        'create subjectaccessreviews.authorization.k8s.io',
      ],
      [
        ...WRITE,
        ...STATUS,
        ...each(['create', 'update', 'delete'], JOURNAL),
        ...scope('read', 'observe', 'operate', 'release'),
        'list leases.coordination.k8s.io',
      ],
    );
  });
});
