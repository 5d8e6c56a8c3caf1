import type { KubeClient } from '@meshkit/crds/kube-client';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { API_VERSION, type Condition, type ShardAssignmentStatus } from '@meshkit/shards/records';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Plane } from './resources-plane.ts';

let plane: Plane;
let operator: KubeClient;

const at = '2026-11-23T08:00:00Z';
const ready = (status: Condition['status']): Condition[] => [
  { type: 'Ready', status, reason: 'Owned', message: 'owned by node-1', lastTransitionTime: at },
];

beforeAll(async () => {
  plane = await Plane.open();
  operator = await plane.operator();
  const { namespace, admin } = plane;
  const active = (owner: string, epoch: number): ShardAssignmentStatus => ({
    phase: 'Active',
    owner,
    epoch,
    version: 3,
    conditions: ready('True'),
  });
  await Promise.all([
    plane.owned(operator, plane.shard('0000', { changeTicket: 'CHG-1' }), active('node-1', 11)),
    plane.owned(operator, plane.shard('0001', { state: 'Paused' }), active('node-2', 12)),
    plane.owned(operator, plane.shard('0002', { owner: { pinned: 'node-2' } }), {
      ...active('node-1', 13),
      phase: 'Draining',
      move: { to: 'node-2', startedAt: at, deadline: at },
    }),
    admin.create(SHARD_ASSIGNMENTS, plane.shard('a', {}, 'caches')),
    admin
      .create(SHARD_SETS, {
        apiVersion: API_VERSION,
        kind: 'ShardSet',
        metadata: { name: 'orders', namespace },
        spec: { shards: { count: 3 }, strategy: 'Rendezvous', freeze: 'Rebalance' },
      })
      .then((set) =>
        operator.updateStatus(SHARD_SETS, {
          ...set,
          status: {
            shards: 3,
            owned: 2,
            draining: 1,
            unplaceable: 0,
            lost: 0,
            nodes: 2,
            balance: { maxOverMean: '1.33', minOverMean: '0.67' },
            conditions: ready('False'),
          },
        }),
      ),
    admin
      .create(MESH_NODES, {
        apiVersion: API_VERSION,
        kind: 'MeshNode',
        metadata: { name: 'node-1', namespace },
        spec: { weight: 2, region: 'eu', zone: 'eu-1a', scheduling: 'Cordoned', endpoint: 'https://n:1' },
      })
      .then((node) => operator.updateStatus(MESH_NODES, { ...node, status: { conditions: ready('True') } })),
  ]);
});
afterAll(() => plane.close());

/** Rows of kubectl's table, cells split at two blanks or more; the age is replaced. */
function table(output: string): string[] {
  return output
    .trimEnd()
    .split('\n')
    .map((line) =>
      line
        .trimEnd()
        .replace(/\b\d+s\b/, '<age>')
        .replace(/ {2,}/g, ' | '),
    );
}

describe('columns', () => {
  test('kubectl get shards', async () => {
    expect(table(await plane.kubectl(['get', 'shards']))).toEqual([
      'NAME | SET | SHARD | OWNER | PHASE | EPOCH | AGE',
      'caches.a | caches | a | <age>',
      'orders.0000 | orders | 0000 | node-1 | Active | 11 | <age>',
      'orders.0001 | orders | 0001 | node-2 | Active | 12 | <age>',
      'orders.0002 | orders | 0002 | node-1 | Draining | 13 | <age>',
    ]);
  });

  test('kubectl get shard -o wide', async () => {
    expect(table(await plane.kubectl(['get', 'shard', 'orders.0000', 'orders.0002', '-o', 'wide']))).toEqual([
      'NAME | SET | SHARD | OWNER | PHASE | EPOCH | AGE | VERSION | MOVE | PIN | TICKET',
      'orders.0000 | orders | 0000 | node-1 | Active | 11 | <age> | 3 | CHG-1',
      'orders.0002 | orders | 0002 | node-1 | Draining | 13 | <age> | 3 | node-2 | node-2',
    ]);
  });

  test('kubectl get shset -o wide', async () => {
    expect(table(await plane.kubectl(['get', 'shset', '-o', 'wide']))).toEqual([
      'NAME | SHARDS | OWNED | DRAINING | NODES | READY | AGE | STRATEGY | FREEZE | UNPLACEABLE | LOST | MAX/MEAN | MESSAGE',
      'orders | 3 | 2 | 1 | 2 | False | <age> | Rendezvous | Rebalance | 0 | 0 | 1.33 | owned by node-1',
    ]);
  });

  test('kubectl get mnode -o wide', async () => {
    expect(table(await plane.kubectl(['get', 'mnode', '-o', 'wide']))).toEqual([
      'NAME | READY | WEIGHT | ZONE | SCHEDULING | AGE | REGION | ENDPOINT | LIVENESS | MESSAGE',
      'node-1 | True | 2 | eu-1a | Cordoned | <age> | eu | https://n:1 | owned by node-1',
    ]);
  });

  test.each(['shard', 'shards', 'shardassignment', 'shset', 'shardset', 'mnode', 'meshnodes'])(
    'kubectl knows the name %s',
    async (name) => {
      expect(await plane.kubectl(['get', name, '-o', 'name'])).toMatch(/^\w+\.meshkit\.omnirelay\.io\//);
    },
  );

  test('kubectl get mesh shows all three kinds', async () => {
    const names = (await plane.kubectl(['get', 'mesh', '-o', 'name'])).trim().split('\n');
    expect(names.map((name) => name.split('.')[0]).sort()).toEqual([
      'meshnode',
      'shardassignment',
      'shardassignment',
      'shardassignment',
      'shardassignment',
      'shardset',
    ]);
  });

  test('kubectl explain says what a field means', async () => {
    expect(await plane.kubectl(['explain', 'shard.status.epoch'])).toContain(
      'Fencing token, larger at every grant',
    );
  });
});

describe('field selectors', () => {
  test.each([
    ['shards', 'status.owner=node-1', ['orders.0000', 'orders.0002']],
    ['shards', 'status.owner=', ['caches.a']],
    ['shards', 'status.phase=Draining', ['orders.0002']],
    ['shards', 'status.phase!=Draining,spec.shardSet=orders', ['orders.0000', 'orders.0001']],
    ['shards', 'spec.shardSet=caches', ['caches.a']],
    ['shards', 'spec.shardId=0001', ['orders.0001']],
    ['shards', 'spec.state=Paused', ['orders.0001']],
    ['shards', 'spec.owner.pinned=node-2', ['orders.0002']],
    ['shards', 'status.move.to=node-2', ['orders.0002']],
    ['shardsets', 'spec.freeze=Rebalance', ['orders']],
    ['meshnodes', 'spec.scheduling=Cordoned,spec.zone=eu-1a', ['node-1']],
  ])('kubectl get %s --field-selector %s', async (kind, selector, names) => {
    const output = await plane.kubectl(['get', kind, '--field-selector', selector, '-o', 'name']);
    expect(
      output
        .trim()
        .split('\n')
        .map((line) => line.split('/')[1]),
    ).toEqual(names);
  });

  test('the client lists by them too, across namespaces', async () => {
    const { namespace } = plane;
    const { items } = await plane.admin.list(SHARD_ASSIGNMENTS, {
      namespace,
      fieldSelector: 'status.owner=node-2',
    });
    expect(items.map(({ metadata }) => metadata.name)).toEqual(['orders.0001']);
    const everywhere = await plane.admin.list(SHARD_ASSIGNMENTS, { fieldSelector: 'status.owner=node-2' });
    expect(everywhere.items.map(({ metadata }) => metadata.name)).toContain('orders.0001');
  });
});

describe('kubectl wait', () => {
  test('--for=condition=Ready returns at once when it holds', async () => {
    const output = await plane.kubectl([
      'wait',
      'shard/orders.0000',
      '--for=condition=Ready',
      '--timeout=5s',
    ]);
    expect(output).toContain('orders.0000 condition met');
  });

  test('--for=condition=Ready returns when the operator says so, and not before', async () => {
    const name = { namespace: plane.namespace, name: 'caches.a' };
    const waiting = plane.kubectl(['wait', 'shard/caches.a', '--for=condition=Ready', '--timeout=15s']);
    const shard = await plane.admin.get(SHARD_ASSIGNMENTS, name);
    await operator.updateStatus(SHARD_ASSIGNMENTS, {
      ...shard,
      status: { phase: 'Pending', epoch: 0, version: 1, conditions: ready('True') },
    });
    expect(await waiting).toContain('caches.a condition met');
    const never = plane.kubectl(['wait', 'shset/orders', '--for=condition=Ready', '--timeout=1s']);
    await expect(never).rejects.toThrow('timed out waiting for the condition');
  });

  test('--for=jsonpath follows the phase', async () => {
    const args = ['wait', 'shard/orders.0002', '--for=jsonpath={.status.phase}=Draining', '--timeout=5s'];
    expect(await plane.kubectl(args)).toContain('condition met');
  });
});

const yaml = (kind: string, name: string, spec: string) =>
  `apiVersion: ${API_VERSION}\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: ${spec}\n`;

describe('a slip in YAML is refused with a message for people', () => {
  test.each([
    [
      'an unknown field',
      yaml('ShardSet', 'x', '{shards: {count: 1}, strateggy: Static}'),
      'unknown field "spec.strateggy"',
    ],
    [
      'an unknown nested field',
      yaml('MeshNode', 'x', '{weight: 1, zones: [a]}'),
      'unknown field "spec.zones"',
    ],
    [
      'both ways to say which shards',
      yaml('ShardSet', 'x', '{shards: {count: 1, ids: [a]}}'),
      'exactly one of count and ids',
    ],
    [
      'a float for the load bound',
      yaml('ShardSet', 'x', '{shards: {count: 1}, loadBound: 1.05}'),
      'must be of type string',
    ],
    [
      'a number for the shard id',
      yaml('ShardAssignment', 'orders.0042', '{shardSet: orders, shardId: 0042}'),
      'spec.shardId',
    ],
    [
      'a name that does not fit',
      yaml('ShardAssignment', 'orders-7', '{shardSet: orders, shardId: "7"}'),
      'must be orders.7',
    ],
  ])('%s', async (_, text, says) => {
    await expect(plane.kubectl(['apply', '-f', '-'], text)).rejects.toThrow(says);
    await expect(plane.kubectl(['create', '-f', '-'], text)).rejects.toThrow(says);
  });

  test('an unknown field is refused by server-side apply as well', async () => {
    const text = yaml('ShardSet', 'x', '{shards: {count: 1}, strateggy: Static}');
    const apply = plane.kubectl(['apply', '--server-side', '-f', '-'], text);
    await expect(apply).rejects.toThrow('.spec.strateggy: field not declared in schema');
  });
});

describe('GitOps', () => {
  test('a second apply changes nothing, and the server adds no default to spec', async () => {
    const text = yaml('ShardSet', 'steady', '{shards: {count: 2}}');
    await plane.kubectl(['apply', '--server-side', '-f', '-'], text);
    const first = await plane.admin.get(SHARD_SETS, { namespace: plane.namespace, name: 'steady' });
    await plane.kubectl(['apply', '--server-side', '-f', '-'], text);
    const second = await plane.admin.get(SHARD_SETS, { namespace: plane.namespace, name: 'steady' });
    expect(second.spec).toEqual({ shards: { count: 2 } });
    expect(second.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
  });
});
