import { CRDS, type StructuralSchema } from '@meshkit/crds/crd';
import { headObject, SHARD_JOURNAL_HEADS, SHARD_JOURNAL_SEGMENTS } from '@meshkit/crds/journal-objects';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import {
  API_VERSION,
  type MeshNodeSpec,
  type ShardAssignmentStatus,
  type ShardSetSpec,
} from '@meshkit/shards/records';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Plane, refusal } from './resources-plane.ts';

/*
 * Every CEL rule of every kind, each provoked on a real kube-apiserver. The last test walks the CRDs and fails for
 * a rule that has no row here.
 */

let plane: Plane;
let operator: KubeClient;
const provoked = new Set<string>();

beforeAll(async () => {
  plane = await Plane.open();
  operator = await plane.operator();
});
afterAll(() => plane.close());

/** `field` is where the server points; `rule` where the schema has the rule, when that differs. */
function expectRefused(
  answer: { status: number; message: string },
  row: { kind: string; field: string; rule?: string; says: string },
): void {
  provoked.add(`${row.kind} ${row.rule ?? row.field.replace(/\[\d+\]/g, '[]')}: ${row.says}`);
  expect(answer.status).toBe(422);
  expect(answer.message).toContain(`${row.field}: Invalid value`);
  expect(answer.message).toContain(row.says);
}

const long = 'n'.repeat(245);

describe('ShardSet', () => {
  const create = (name: string, spec: object) =>
    plane.admin.create(SHARD_SETS, {
      apiVersion: API_VERSION,
      kind: 'ShardSet',
      metadata: { name, namespace: plane.namespace },
      spec: spec as ShardSetSpec,
    });
  const one = { count: 1 };
  const selector = (selector: object) => ({ shards: one, nodes: { selector } });

  test.each([
    ['spec.shards', { shards: {} }, 'exactly one of count and ids'],
    ['spec.shards', { shards: { count: 1, ids: ['a'] } }, 'exactly one of count and ids'],
    ['spec.shards.ids[1]', { shards: { ids: ['a', 'B'] } }, 'use a DNS name'],
    ['spec.loadBound', { shards: one, loadBound: '0.9' }, 'use a decimal of 1 or more'],
    ['spec.nodes.namespace', { shards: one, nodes: { namespace: 'a.b' } }, 'use a DNS label'],
    [
      'spec.handoff.drainTimeout',
      { shards: one, handoff: { drainTimeout: '1h' } },
      'whole seconds or minutes',
    ],
    [
      'spec.nodes.selector.matchLabels',
      selector({ matchLabels: { '-a': 'b' } }),
      'every key: use a label key',
    ],
    ['spec.nodes.selector.matchLabels.a', selector({ matchLabels: { a: '-' } }), 'use a label value'],
    [
      'spec.nodes.selector.matchExpressions[0]',
      selector({ matchExpressions: [{ key: 'a', operator: 'In' }] }),
      'In and NotIn need at least one value',
    ],
    [
      'spec.nodes.selector.matchExpressions[0]',
      selector({ matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] }),
      'In and NotIn need at least one value',
    ],
    [
      'spec.nodes.selector.matchExpressions[0].key',
      selector({ matchExpressions: [{ key: 'a b', operator: 'Exists' }] }),
      'use a label key',
    ],
    [
      'spec.nodes.selector.matchExpressions[0].values[0]',
      selector({ matchExpressions: [{ key: 'a', operator: 'In', values: ['b c'] }] }),
      'use a label value',
    ],
  ])('%s: %j', async (field, spec, says) => {
    const rule = field.replace('matchLabels.a', 'matchLabels{}').replace(/\[\d+\]/g, '[]');
    expectRefused(await refusal(create('orders', spec)), { kind: 'ShardSet', field, rule, says });
  });

  test.each(['or.ders', 'o'.repeat(64)])('a name that no shard could carry: %s', async (name) => {
    const answer = await refusal(create(name, { shards: one }));
    const says = 'name a ShardSet with a DNS label';
    expectRefused(answer, { kind: 'ShardSet', field: 'metadata.name', rule: '', says });
  });

  test.each([
    ['a missing field', {}, 'spec.shards: Required value'],
    ['an unknown choice', { shards: one, strategy: 'Ring' }, 'supported values: "Rendezvous", "Static"'],
    [
      'a number for a decimal string',
      { shards: one, loadBound: 1.05 },
      'spec.loadBound in body must be of type string',
    ],
    ['too many shards', { shards: { count: 100_001 } }, 'should be less than or equal to 100000'],
    ['the same id twice', { shards: { ids: ['a', 'a'] } }, 'Duplicate value: "a"'],
    ['a string above its bound', { shards: { ids: [long] } }, 'may not be more than 128 bytes'],
  ])('%s is refused by the schema', async (_, spec, says) => {
    expect((await refusal(create('orders', spec))).message).toContain(says);
  });

  test('its largest forms are accepted: 5,000 ids, and a count of 100,000', async () => {
    const ids = Array.from({ length: 5_000 }, (_, index) => `${'i'.repeat(100)}-${index}`);
    expect((await create('by-id', { shards: { ids } })).spec.shards.ids).toHaveLength(5_000);
    expect((await create('by-count', { shards: { count: 100_000 } })).spec.shards.count).toBe(100_000);
  });
});

describe('MeshNode', () => {
  const create = (name: string, spec: MeshNodeSpec) =>
    plane.admin.create(MESH_NODES, {
      apiVersion: API_VERSION,
      kind: 'MeshNode',
      metadata: { name, namespace: plane.namespace },
      spec,
    });

  test.each([
    ['spec.region', { region: 'eu central' }, 'use a label value'],
    ['spec.zone', { zone: '-a' }, 'use a label value'],
    ['spec.endpoint', { endpoint: 'worker-1:8443' }, 'use a URL with its scheme'],
    ['spec.serves[1]', { serves: ['*', 'a.b'] }, 'use the name of a namespace, or "*"'],
  ])('%s: %j', async (field, spec, says) => {
    expectRefused(await refusal(create('node-1', spec)), { kind: 'MeshNode', field, says });
  });

  test('a name too long for its Lease', async () => {
    const says = "a MeshNode's name has at most 244 characters";
    expectRefused(await refusal(create(long, {})), {
      kind: 'MeshNode',
      field: 'metadata.name',
      rule: '',
      says,
    });
    expect((await create('n'.repeat(244), {})).metadata.uid).toBeDefined();
  });
});

describe('ShardAssignment spec', () => {
  test.each([
    ['spec.shardSet', { shardSet: 'a.b' }, 'use a DNS label'],
    ['spec.shardId', { shardId: '-' }, 'use a DNS name'],
    ['spec.locality.region', { locality: { region: '-' } }, 'use a label value'],
    ['spec.locality.zone', { locality: { zone: '-' } }, 'use a label value'],
    ['spec.owner.pinned', { owner: { pinned: 'Node_1' } }, 'use a DNS name'],
  ])('%s: %j', async (field, spec, says) => {
    const answer = await refusal(plane.admin.create(SHARD_ASSIGNMENTS, plane.shard('0001', spec)));
    expectRefused(answer, { kind: 'ShardAssignment', field, says });
  });

  test('the name is bound to set and id', async () => {
    const shard = plane.shard('0001');
    shard.metadata.name = 'orders.0002';
    const answer = await refusal(plane.admin.create(SHARD_ASSIGNMENTS, shard));
    const says = 'metadata.name must be orders.0001 (spec.shardSet, a dot, spec.shardId)';
    expectRefused(answer, { kind: 'ShardAssignment', field: 'metadata.name', rule: '', says });
  });

  test.each([
    ['shardSet', 'payments', 'shardSet cannot be changed'],
    ['shardId', '0009', 'shardId cannot be changed'],
  ])('%s is immutable', async (name, value, says) => {
    const shard = plane.shard(`immutable-${name.toLowerCase()}`);
    await plane.admin.create(SHARD_ASSIGNMENTS, shard);
    const change = plane.admin.patch(SHARD_ASSIGNMENTS, shard.metadata, { spec: { [name]: value } });
    expectRefused(await refusal(change), { kind: 'ShardAssignment', field: `spec.${name}`, says });
  });
});

describe('ShardAssignment status', () => {
  const at = '2026-11-23T08:00:00Z';
  const move = { to: 'node-2', startedAt: at, deadline: at };
  const active: ShardAssignmentStatus = { phase: 'Active', owner: 'node-1', epoch: 10, version: 3 };
  const hop = {
    version: 3,
    phase: 'Active' as const,
    actor: { kind: 'Operator' as const, name: 'x' },
    reason: 'x',
    at,
  };
  let serial = 0;
  const write = async (
    before: ShardAssignmentStatus | undefined,
    after: ShardAssignmentStatus | undefined,
  ) => {
    serial += 1;
    const shard = plane.shard(`s${serial}`);
    const created = before
      ? await plane.owned(operator, shard, before)
      : await plane.admin.create(SHARD_ASSIGNMENTS, shard);
    return operator.updateStatus(SHARD_ASSIGNMENTS, { ...created, status: after });
  };

  test.each<[string, ShardAssignmentStatus, string, string]>([
    ['status.owner', { phase: 'Active', epoch: 1, version: 1 }, 'an owner', 'status'],
    ['status.move', { ...active, phase: 'Draining' }, 'while the phase is Draining', 'status'],
    ['status.move', { ...active, move }, 'while the phase is Draining', 'status'],
    ['status.epoch', { ...active, epoch: 0 }, 'an epoch of 1 or more', 'status'],
    ['status.owner', { ...active, owner: 'Node' }, 'use a DNS name', 'status.owner'],
    ['status.previousOwner', { ...active, previousOwner: 'Node' }, 'use a DNS name', 'status.previousOwner'],
    ['status.ownerEndpoint', { ...active, ownerEndpoint: 'here' }, 'use a URL', 'status.ownerEndpoint'],
    [
      'status.move.to',
      { ...active, phase: 'Draining', move: { ...move, to: 'Node' } },
      'use a DNS name',
      'status.move.to',
    ],
    [
      'status.recentTransitions[0].from',
      { ...active, recentTransitions: [{ ...hop, from: 'Node' }] },
      'use a DNS name',
      'status.recentTransitions[].from',
    ],
    [
      'status.recentTransitions[0].to',
      { ...active, recentTransitions: [{ ...hop, to: 'Node' }] },
      'use a DNS name',
      'status.recentTransitions[].to',
    ],
  ])('%s: %j', async (field, status, says, rule) => {
    expectRefused(await refusal(write(undefined, status)), { kind: 'ShardAssignment', field, rule, says });
  });

  const { owner: _owner, ...unowned } = { ...active, phase: 'Pending' as const };
  test.each<[string, ShardAssignmentStatus, ShardAssignmentStatus | undefined, string, string]>([
    ['stays', active, undefined, 'status', 'status cannot be removed once it is there'],
    [
      'grows its version',
      active,
      { ...active, previousOwner: 'node-0' },
      'status.version',
      'must grow with every',
    ],
    [
      'never shrinks its version',
      active,
      { ...active, version: 2 },
      'status.version',
      'must grow with every',
    ],
    ['never shrinks its epoch', active, { ...active, version: 4, epoch: 9 }, 'status.epoch', 'never shrinks'],
    [
      'needs a larger epoch for another owner',
      active,
      { ...active, version: 4, owner: 'node-2' },
      'status.epoch',
      'an owner that appears or changes needs a larger',
    ],
    [
      'needs a larger epoch for an owner that appears',
      unowned,
      { ...active, version: 4 },
      'status.epoch',
      'an owner that appears or changes needs a larger',
    ],
  ])('%s', async (_, before, after, field, says) => {
    expectRefused(await refusal(write(before, after)), { kind: 'ShardAssignment', field, rule: '', says });
  });

  test.each<[string, ShardAssignmentStatus, ShardAssignmentStatus]>([
    ['the same again', active, active],
    ['a drain in the same epoch', active, { ...active, version: 4, phase: 'Draining', move }],
    ['a new owner in a larger epoch', active, { ...active, version: 4, owner: 'node-2', epoch: 11 }],
    ['the same owner in a larger epoch', active, { ...active, version: 4, epoch: 11 }],
    ['an owner that goes, in the same epoch', active, { ...unowned, version: 4 }],
    ['a version that skips one', active, { ...active, version: 9 }],
    ['all that it can hold', active, { ...active, version: 4, recentTransitions: Array(8).fill(hop) }],
  ])('accepts %s', async (_, before, after) => {
    expect((await write(before, after)).status).toEqual(after);
  });

  test('a stale resourceVersion conflicts', async () => {
    const shard = await plane.owned(operator, plane.shard('stale'), active);
    await operator.updateStatus(SHARD_ASSIGNMENTS, { ...shard, status: { ...active, version: 4 } });
    const again = operator.updateStatus(SHARD_ASSIGNMENTS, { ...shard, status: { ...active, version: 5 } });
    expect((await refusal(again)).status).toBe(409);
  });

  test('writes to the object leave status alone, and writes to status leave the object alone', async () => {
    const shard = await plane.owned(operator, plane.shard('apart'), active);
    const edited = await plane.admin.patch(SHARD_ASSIGNMENTS, shard.metadata, {
      spec: { capacity: 2 },
      status: { phase: 'Lost', owner: 'node-9' },
    });
    expect(edited.status).toEqual(active);
    const status = { ...active, version: 4 };
    const labels = { forged: 'yes' };
    const metadata = { ...edited.metadata, labels };
    const written = await operator.updateStatus(SHARD_ASSIGNMENTS, {
      ...edited,
      metadata,
      spec: { ...edited.spec, capacity: 3 },
      status,
    });
    expect(written).toMatchObject({ spec: { capacity: 2 }, status, metadata: { generation: 2 } });
    expect(written.metadata.labels).toBeUndefined();
  });
});

describe('the journal', () => {
  const name = `rules-${Math.random().toString(36).slice(2, 10)}`;
  const mark = { position: '1', ordinal: 0, anchor: '0', at: '2026-11-23T12:00:00Z' };

  test('a segment is never changed', async () => {
    const created = await plane.admin.create(SHARD_JOURNAL_SEGMENTS, {
      apiVersion: API_VERSION,
      kind: 'ShardJournalSegment',
      metadata: { name },
      spec: { type: 'Entries', count: 1, from: '1', to: '2', encoding: 'x', checksum: 'x', data: 'AAAA' },
    });
    const changed = { ...created, spec: { ...created.spec, data: 'BBBB' } };
    expectRefused(await refusal(plane.admin.update(SHARD_JOURNAL_SEGMENTS, changed)), {
      kind: 'ShardJournalSegment',
      field: 'spec',
      says: 'a segment is never changed',
    });
    await plane.admin.delete(SHARD_JOURNAL_SEGMENTS, { name });
  });

  test('the term of the head never shrinks', async () => {
    const checkpoint = { name: 'c', chunks: 0, mark };
    const state = {
      cluster: 'c',
      nonce: '',
      nonces: [''],
      mark,
      floor: mark,
      checkpoint,
      entries: 0,
      bytes: 0,
    };
    const created = await plane.admin.create(SHARD_JOURNAL_HEADS, headObject(name, { ...state, term: 2 }));
    const older = headObject(name, { ...state, term: 1 }, created.metadata);
    expectRefused(await refusal(plane.admin.update(SHARD_JOURNAL_HEADS, older)), {
      kind: 'ShardJournalHead',
      field: 'spec.term',
      rule: '',
      says: 'the term never shrinks',
    });
    await plane.admin.delete(SHARD_JOURNAL_HEADS, { name });
  });
});

function* rules(schema: StructuralSchema, path = ''): Generator<{ path: string; message: string }> {
  const own = (schema['x-kubernetes-validations'] ?? []) as { message: string }[];
  for (const { message } of own) yield { path, message };
  const below = (name: string) => (path === '' ? name : `${path}.${name}`);
  for (const [name, child] of Object.entries(schema.properties ?? {})) yield* rules(child, below(name));
  if (schema.items) yield* rules(schema.items, `${path}[]`);
  if (schema.additionalProperties) yield* rules(schema.additionalProperties, `${path}{}`);
}

test('no rule is without a row above', () => {
  const unproven = CRDS.flatMap(({ spec }) => {
    const { versions } = spec as unknown as { versions: { schema: { openAPIV3Schema: StructuralSchema } }[] };
    const schema = versions[0]?.schema.openAPIV3Schema as StructuralSchema;
    return [...rules(schema)].map((rule) => ({ kind: spec.names.kind, ...rule }));
  }).filter(({ kind, path, message }) => {
    const said = [...provoked]
      .filter((one) => one.startsWith(`${kind} ${path}: `))
      .map((one) => one.split(': '));
    // The name binding speaks of the object's own names, so its fixed message is only its beginning.
    return !said.some(
      ([, ...words]) =>
        message.includes(words.join(': ')) ||
        (words.join(': ').startsWith('metadata.name must be orders') &&
          message.startsWith('metadata.name must be')),
    );
  });
  expect(unproven).toEqual([]);
});
