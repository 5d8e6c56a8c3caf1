import type { KubeClient } from '@meshkit/crds/kube-client';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { OPERATOR_USER } from '@meshkit/crds/roles';
import {
  API_VERSION,
  CHANGED_BY_ANNOTATION,
  GROUP,
  type MeshNode,
  RELEASED_ANNOTATION,
  type ShardAssignment,
  type ShardAssignmentSpec,
  type ShardSet,
} from '@meshkit/shards/records';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Plane, refusal } from './resources-plane.ts';

let plane: Plane;
let operator: KubeClient;
/** May edit ShardAssignments natively, without any mesh verb: what a Git robot with too few rights is like. */
let editor: KubeClient;
let jane: KubeClient;
let agent: KubeClient;
let serial = 0;

const JANE = 'jane@example.com';
const EDITOR = 'git-robot';

beforeAll(async () => {
  plane = await Plane.open();
  operator = await plane.operator();
  const { admin, namespace } = plane;
  const rbac = `/apis/rbac.authorization.k8s.io/v1`;
  await admin.raw('POST', `${rbac}/clusterroles`, {
    body: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: `${namespace}-editor` },
      rules: [
        {
          apiGroups: [GROUP],
          resources: ['*'],
          verbs: ['get', 'list', 'create', 'update', 'patch', 'delete'],
        },
      ],
    },
  });
  await admin.raw('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, {
    body: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'worker' } },
  });
  await plane.bind(`${namespace}-editor`, EDITOR);
  await plane.bind('meshkit-shards-operator', JANE);
  await plane.bind('meshkit-shards-node', `system:serviceaccount:${namespace}:worker`);
  editor = plane.as(EDITOR);
  jane = plane.as(JANE);
  agent = await plane.serviceAccount(namespace, 'worker');
});
afterAll(async () => {
  await plane.admin.raw(
    'DELETE',
    `/apis/rbac.authorization.k8s.io/v1/clusterroles/${plane.namespace}-editor`,
  );
  await plane.close();
});

const fresh = (spec: Partial<ShardAssignmentSpec> = {}) => {
  serial += 1;
  return plane.shard(`s${serial}`, spec);
};
const owned = () =>
  plane.owned(operator, fresh(), { phase: 'Draining', owner: 'node-1', epoch: 7, version: 1, move: move() });
const move = () => ({ to: 'node-2', startedAt: '2026-11-23T08:00:00Z', deadline: '2026-11-23T08:00:30Z' });
const patch = (client: KubeClient, shard: ShardAssignment, body: object) =>
  client.patch(SHARD_ASSIGNMENTS, shard.metadata, body);
const release = (value: string | null) => ({ metadata: { annotations: { [RELEASED_ANNOTATION]: value } } });

const set = (name: string): ShardSet => ({
  apiVersion: API_VERSION,
  kind: 'ShardSet',
  metadata: { name, namespace: plane.namespace },
  spec: { shards: { count: 1 } },
});
const node = (name: string): MeshNode => ({
  apiVersion: API_VERSION,
  kind: 'MeshNode',
  metadata: { name, namespace: plane.namespace },
  spec: { weight: 1 },
});

async function expectForbidden(call: Promise<unknown>, ...says: string[]): Promise<void> {
  const { status, message } = await refusal(call);
  for (const words of says) expect(message).toContain(words);
  expect(status).toBe(403);
}

describe('status is written by the operator only', () => {
  const says = [`is written by ${OPERATOR_USER} only, not by`, 'say in spec what you want'];

  test('ShardAssignment', async () => {
    const shard = await plane.admin.create(SHARD_ASSIGNMENTS, fresh());
    const status = { phase: 'Pending' as const, epoch: 0, version: 1 };
    for (const client of [plane.admin, editor]) {
      await expectForbidden(client.updateStatus(SHARD_ASSIGNMENTS, { ...shard, status }), ...says);
      const merge = client.patch(SHARD_ASSIGNMENTS, shard.metadata, { status }, { subresource: 'status' });
      await expectForbidden(merge, ...says);
    }
    await expectForbidden(
      jane.updateStatus(SHARD_ASSIGNMENTS, { ...shard, status }),
      'cannot update resource',
    );
    expect((await operator.updateStatus(SHARD_ASSIGNMENTS, { ...shard, status })).status).toEqual(status);
  });

  test('ShardSet', async () => {
    const made = await plane.admin.create(SHARD_SETS, set('orders'));
    const next = { ...made, status: { shards: 1 } };
    await expectForbidden(plane.admin.updateStatus(SHARD_SETS, next), 'status of shardsets', ...says);
    expect((await operator.updateStatus(SHARD_SETS, next)).status).toEqual({ shards: 1 });
  });

  test('MeshNode', async () => {
    const made = await plane.admin.create(MESH_NODES, node('node-1'));
    const next = { ...made, status: { observedGeneration: 1 } };
    await expectForbidden(plane.admin.updateStatus(MESH_NODES, next), 'status of meshnodes', ...says);
    expect((await operator.updateStatus(MESH_NODES, next)).status).toEqual({ observedGeneration: 1 });
  });
});

describe('spec.owner and spec.state need the verb operate', () => {
  const missing = () =>
    `missing verb operate on shardassignments in namespace ${plane.namespace} for user ${EDITOR}`;
  const changes: [string, Partial<ShardAssignmentSpec>, object][] = [
    ['a pin that appears', {}, { owner: { pinned: 'node-1' } }],
    ['a pin that changes', { owner: { pinned: 'node-1' } }, { owner: { pinned: 'node-2' } }],
    ['a pin that goes', { owner: { pinned: 'node-1' } }, { owner: null }],
    ['a state that appears', {}, { state: 'Paused' }],
    ['a state that changes', { state: 'Paused' }, { state: 'Active' }],
    ['a state that goes', { state: 'Paused' }, { state: null }],
  ];

  test.each(changes)('%s', async (_, before, spec) => {
    const shard = await plane.admin.create(SHARD_ASSIGNMENTS, fresh(before));
    await expectForbidden(
      patch(editor, shard, { spec }),
      missing(),
      'kubectl auth can-i operate',
      'create rolebinding',
    );
    expect((await patch(jane, shard, { spec })).metadata.generation).toBe(2);
  });

  test.each<[string, Partial<ShardAssignmentSpec>]>([
    ['a pin', { owner: { pinned: 'node-1' } }],
    ['a state', { state: 'Disabled' }],
  ])('%s set at creation', async (_, spec) => {
    const shard = fresh(spec);
    await expectForbidden(editor.create(SHARD_ASSIGNMENTS, shard), missing());
    expect((await jane.create(SHARD_ASSIGNMENTS, shard)).spec).toMatchObject(spec);
  });

  test('everything else needs the native verbs only, on a pinned shard too', async () => {
    const plain = await editor.create(SHARD_ASSIGNMENTS, fresh());
    expect((await patch(editor, plain, { spec: { capacity: 3 } })).spec.capacity).toBe(3);
    const pinned = await jane.create(SHARD_ASSIGNMENTS, fresh({ owner: { pinned: 'node-1' } }));
    const spec = { changeTicket: 'CHG-1', reason: 'why' };
    expect((await patch(editor, pinned, { spec, metadata: { labels: { a: 'b' } } })).spec).toMatchObject(
      spec,
    );
  });

  test('the verb is looked up in the namespace of the shard', async () => {
    const elsewhere = await Plane.open();
    try {
      await elsewhere.bind(`${plane.namespace}-editor`, JANE);
      const shard = elsewhere.shard('0001', { state: 'Paused' });
      await expectForbidden(jane.create(SHARD_ASSIGNMENTS, shard), `in namespace ${elsewhere.namespace}`);
    } finally {
      await elsewhere.close();
    }
  });

  test('kubectl auth can-i tells the truth', async () => {
    const can = (user: string, verb: string) =>
      plane.kubectl(['auth', 'can-i', verb, `shards.${GROUP}`, '--as', user]).catch(() => 'no');
    expect((await can(JANE, 'operate')).trim()).toBe('yes');
    expect((await can(EDITOR, 'operate')).trim()).toBe('no');
  });
});

describe('release', () => {
  test('an agent releases what is owned, at its epoch', async () => {
    const shard = await owned();
    const released = await patch(agent, shard, release('node-1/7'));
    expect(released.metadata.annotations?.[RELEASED_ANNOTATION]).toBe('node-1/7');
    // The same again is no change.
    await patch(agent, shard, release('node-1/7'));
  });

  test.each(['node-1/6', 'node-1/8', 'node-2/7', 'node-1', ''])('the value %j is refused', async (value) => {
    const shard = await owned();
    for (const client of [agent, jane]) {
      const { status, message } = await refusal(patch(client, shard, release(value)));
      expect(message).toContain('must be node-1/7 (<status.owner>/<status.epoch>)');
      expect(status).toBe(422);
    }
  });

  test('there is nothing to release of a shard without an owner', async () => {
    const shard = await plane.admin.create(SHARD_ASSIGNMENTS, fresh());
    const { message } = await refusal(patch(agent, shard, release('/0')));
    expect(message).toContain(`nobody owns ${shard.metadata.name}`);
  });

  test.each<[string, object]>([
    ['spec', { spec: { capacity: 2 } }],
    ['spec.owner', { spec: { owner: { pinned: 'node-2' } } }],
    ['a label', { metadata: { labels: { a: 'b' } } }],
    ['another annotation', { metadata: { annotations: { a: 'b' } } }],
    ['a finalizer', { metadata: { finalizers: ['example.com/stay'] } }],
    [
      'an owner reference',
      { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'x', uid: 'x' }] } },
    ],
  ])('an agent may not change %s, not even along with a release', async (_, body) => {
    const shard = await owned();
    await expectForbidden(patch(agent, shard, body));
    const both = { ...release('node-1/7'), ...body } as { metadata: { annotations?: object } };
    both.metadata = { ...release('node-1/7').metadata, ...both.metadata };
    both.metadata.annotations = { ...both.metadata.annotations, ...release('node-1/7').metadata.annotations };
    // Two policies refuse a pin; which of them speaks first is the server's choice.
    await expectForbidden(patch(agent, shard, both), 'denied request', 'operate');
  });

  test('an agent may not take a release back, but people may', async () => {
    const shard = await owned();
    await patch(agent, shard, release('node-1/7'));
    await expectForbidden(patch(agent, shard, release(null)), 'has the verb release but not operate');
    expect(
      (await patch(jane, shard, release(null))).metadata.annotations?.[RELEASED_ANNOTATION],
    ).toBeUndefined();
  });

  test('native verbs are not enough to release', async () => {
    const shard = await owned();
    const says = `missing verb release on shardassignments in namespace ${plane.namespace} for user ${EDITOR}`;
    await expectForbidden(patch(editor, shard, release('node-1/7')), says);
    const born = fresh();
    born.metadata.annotations = { [RELEASED_ANNOTATION]: 'node-1/7' };
    await expectForbidden(editor.create(SHARD_ASSIGNMENTS, born), says);
  });

  test('a release of an earlier epoch stays and is in nobody’s way', async () => {
    const shard = await owned();
    const released = await patch(agent, shard, release('node-1/7'));
    const granted = { phase: 'Active' as const, owner: 'node-2', epoch: 8, version: 2 };
    await operator.updateStatus(SHARD_ASSIGNMENTS, { ...released, status: granted });
    expect((await patch(editor, shard, { spec: { capacity: 2 } })).spec.capacity).toBe(2);
    await expect(patch(agent, shard, release('node-2/8'))).resolves.toBeDefined();
  });

  test('an agent can neither create nor delete shards, nor write status', async () => {
    const shard = await owned();
    await expectForbidden(agent.create(SHARD_ASSIGNMENTS, fresh()), 'cannot create resource');
    await expectForbidden(agent.delete(SHARD_ASSIGNMENTS, shard.metadata), 'cannot delete resource');
    await expectForbidden(agent.updateStatus(SHARD_ASSIGNMENTS, shard), 'cannot update resource');
  });
});

describe('changed-by names who last changed spec', () => {
  const by = (object: { metadata: { annotations?: Record<string, string> } }) =>
    object.metadata.annotations?.[CHANGED_BY_ANNOTATION];
  const forged = { annotations: { [CHANGED_BY_ANNOTATION]: 'somebody-else' } };

  test('on all three kinds, at creation and change', async () => {
    const stamped = [
      by(await jane.create(SHARD_ASSIGNMENTS, fresh())),
      by(await jane.create(SHARD_SETS, set('stamped'))),
      by(await jane.create(MESH_NODES, node('stamped'))),
      by(await editor.patch(SHARD_SETS, set('stamped').metadata, { spec: { freeze: 'All' } })),
      by(await editor.patch(MESH_NODES, node('stamped').metadata, { spec: { scheduling: 'Drain' } })),
    ];
    expect(stamped).toEqual([JANE, JANE, JANE, EDITOR, EDITOR]);
  });

  test('a change of anything but spec leaves it', async () => {
    const shard = await jane.create(SHARD_ASSIGNMENTS, fresh());
    expect(by(await patch(editor, shard, { metadata: { labels: { a: 'b' } } }))).toBe(JANE);
    const status = { phase: 'Pending' as const, epoch: 0, version: 1 };
    const current = await jane.get(SHARD_ASSIGNMENTS, shard.metadata);
    expect(by(await operator.updateStatus(SHARD_ASSIGNMENTS, { ...current, status }))).toBe(JANE);
  });

  test('it can be neither forged nor removed', async () => {
    const born = fresh();
    born.metadata = { ...born.metadata, ...forged };
    expect(by(await editor.create(SHARD_ASSIGNMENTS, born))).toBe(EDITOR);
    expect(by(await patch(editor, born, { metadata: forged }))).toBe(EDITOR);
    expect(by(await patch(jane, born, { metadata: forged, spec: { capacity: 2 } }))).toBe(JANE);
    expect(by(await patch(editor, born, { metadata: { annotations: null } }))).toBe(JANE);
    expect(
      by(await patch(editor, born, { metadata: { annotations: { [CHANGED_BY_ANNOTATION]: null } } })),
    ).toBe(JANE);
    const whole = await jane.get(SHARD_ASSIGNMENTS, born.metadata);
    const metadata = { ...whole.metadata, annotations: undefined };
    expect(by(await editor.update(SHARD_ASSIGNMENTS, { ...whole, metadata }))).toBe(JANE);
    await expectForbidden(
      editor.updateStatus(SHARD_ASSIGNMENTS, { ...whole, metadata: { ...metadata, ...forged } }),
    );
  });

  test('a change that changes nothing writes nothing', async () => {
    const shard = await jane.create(SHARD_ASSIGNMENTS, fresh({ capacity: 2 }));
    const same = await patch(editor, shard, { spec: { capacity: 2 } });
    expect(same.metadata.resourceVersion).toBe(shard.metadata.resourceVersion);
  });

  test('server-side apply does not own the stamp, so that applying again keeps it', async () => {
    const shard = fresh();
    const apply = (client: KubeClient, spec: object) =>
      client.patch(
        SHARD_ASSIGNMENTS,
        shard.metadata,
        { ...shard, spec: { ...shard.spec, ...spec } },
        { type: 'apply', fieldManager: 'git', force: true },
      );
    expect(by(await apply(jane, {}))).toBe(JANE);
    expect(by(await apply(editor, {}))).toBe(JANE);
    expect(by(await apply(editor, { capacity: 4 }))).toBe(EDITOR);
  });
});

describe('nothing is in the way of deletion', () => {
  const gone = (args: string[]) =>
    expect
      .poll(() => plane.kubectl(['get', ...args, '--ignore-not-found', '-o', 'name']), {
        timeout: 50_000,
        interval: 250,
      })
      .toBe('');

  test('of a namespace with all that is in it', async () => {
    const elsewhere = await Plane.open();
    await elsewhere.owned(operator, elsewhere.shard('0001', { state: 'Paused' }), {
      phase: 'Paused',
      owner: 'node-1',
      epoch: 7,
      version: 1,
    });
    await elsewhere.close();
    await gone(['namespace', elsewhere.namespace]);
  }, 60_000);

  // The garbage collector edits objects: it takes owner references away, and finalizers.
  test.each(['Foreground', 'Background', 'Orphan'])(
    'of a ShardSet and its shards, by %s',
    async (policy) => {
      const name = `owner-${policy.toLowerCase()}`;
      const { metadata } = await plane.admin.create(SHARD_SETS, set(name));
      const shard = plane.shard('0001', {}, name);
      const { apiVersion, kind } = set(name);
      shard.metadata.ownerReferences = [
        { apiVersion, kind, name, uid: metadata.uid ?? '', controller: true, blockOwnerDeletion: true },
      ];
      const created = await operator.create(SHARD_ASSIGNMENTS, shard);
      const status = { phase: 'Draining' as const, owner: 'node-1', epoch: 7, version: 1, move: move() };
      await operator.updateStatus(SHARD_ASSIGNMENTS, { ...created, status });
      await patch(agent, shard, release('node-1/7'));
      await patch(jane, shard, { spec: { owner: { pinned: 'node-2' } } });
      await plane.admin.raw(
        'DELETE',
        `/apis/${API_VERSION}/namespaces/${plane.namespace}/shardsets/${name}`,
        {
          body: { apiVersion: 'v1', kind: 'DeleteOptions', propagationPolicy: policy },
        },
      );
      await gone(['shardset', name]);
      if (policy === 'Orphan') {
        const orphan = await plane.admin.get(SHARD_ASSIGNMENTS, shard.metadata);
        expect(orphan.metadata.ownerReferences).toBeUndefined();
        expect(orphan.metadata.annotations?.[CHANGED_BY_ANNOTATION]).toBe(JANE);
      } else await gone(['shardassignment', shard.metadata.name]);
    },
    60_000,
  );
});

test('the server found no type error in any policy', async () => {
  const policies = await plane.kubectl(['get', 'validatingadmissionpolicies', '-o', 'json']);
  const ours = (
    JSON.parse(policies).items as { metadata: { name: string }; status?: { typeChecking?: object } }[]
  )
    .filter(({ metadata }) => metadata.name.startsWith('meshkit-'))
    .map(({ metadata, status }) => [metadata.name, status?.typeChecking]);
  expect(ours).toEqual([
    ['meshkit-shards-operate', {}],
    ['meshkit-shards-release', {}],
    ['meshkit-shards-status', {}],
  ]);
});
