import { describe, expect, test } from 'vitest';
import type { z } from 'zod';
import { meshNodeRules, meshNodeSpec } from './schema-mesh-node.ts';
import {
  shardAssignmentRules,
  shardAssignmentSpec,
  shardAssignmentStatus,
} from './schema-shard-assignment.ts';
import { shardSetRules, shardSetSpec } from './schema-shard-set.ts';

function refusals(schema: z.ZodType, value: unknown): string[] {
  const result = schema.safeParse(value);
  return result.success
    ? []
    : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

describe('ShardSet', () => {
  test.each([
    [{ shards: { count: 64 } }],
    [{ shards: { ids: ['eu-0', 'eu.1'] }, strategy: 'Static', freeze: 'Rebalance' }],
    [{ shards: { count: 1 }, loadBound: '1', handoff: { mode: 'Graceful', drainTimeout: '5m' } }],
    [
      {
        shards: { count: 1 },
        nodes: { selector: { matchLabels: { 'topology.kubernetes.io/zone': 'a', app: '' } } },
      },
    ],
    [
      {
        shards: { count: 1 },
        nodes: { selector: { matchExpressions: [{ key: 'app', operator: 'Exists' }] } },
      },
    ],
  ])('accepts %j', (spec) => {
    expect(refusals(shardSetSpec, spec)).toEqual([]);
  });

  test.each([
    [{ shards: {} }, 'shards: give exactly one of count and ids'],
    [{ shards: { count: 1, ids: ['a'] } }, 'shards: give exactly one of count and ids'],
    [{ shards: { count: 0 } }, 'shards.count: '],
    [{ shards: { count: 1.5 } }, 'shards.count: '],
    [{ shards: { ids: ['Upper'] } }, 'shards.ids.0: use a DNS name'],
    [{ shards: { count: 1 }, strategy: 'Ring' }, 'strategy: '],
    [{ shards: { count: 1 }, loadBound: '0.9' }, 'loadBound: use a decimal of 1 or more'],
    [{ shards: { count: 1 }, loadBound: 1.05 }, 'loadBound: '],
    [
      { shards: { count: 1 }, handoff: { drainTimeout: '1h' } },
      'handoff.drainTimeout: use whole seconds or minutes',
    ],
    [
      { shards: { count: 1 }, handoff: { drainTimeout: '0s' } },
      'handoff.drainTimeout: use whole seconds or minutes',
    ],
    [
      { shards: { count: 1 }, nodes: { selector: { matchExpressions: [{ key: 'app', operator: 'In' }] } } },
      'nodes.selector.matchExpressions.0: In and NotIn need at least one value',
    ],
    [
      { shards: { count: 1 }, nodes: { selector: { matchLabels: { 'a b': 'c' } } } },
      'nodes.selector.matchLabels: every key: use a label key',
    ],
  ])('refuses %j', (spec, message) => {
    expect(refusals(shardSetSpec, spec).join('\n')).toContain(message);
  });

  test('its name has no dot, since the first dot of a shard’s name ends it', () => {
    const holds = (name: string) => shardSetRules.every((rule) => rule.holds?.({ metadata: { name } }));
    expect([holds('orders'), holds('orders.eu'), holds('o'.repeat(64))]).toEqual([true, false, false]);
  });
});

describe('ShardAssignment', () => {
  test.each([
    [{ shardSet: 'orders', shardId: '0042' }],
    [
      {
        shardSet: 'orders',
        shardId: 'eu.0',
        owner: { pinned: 'ip-10-0-0-1.internal' },
        state: 'Paused',
        capacity: 7,
      },
    ],
    [
      {
        shardSet: 'orders',
        shardId: '0042',
        changeTicket: 'CHG-1',
        reason: 'why\nnot',
        locality: { zone: 'eu_1a' },
      },
    ],
  ])('accepts %j', (spec) => {
    expect(refusals(shardAssignmentSpec, spec)).toEqual([]);
  });

  test.each([
    [{ shardId: '0042' }, 'shardSet: '],
    [{ shardSet: 'a.b', shardId: '0042' }, 'shardSet: use a DNS label'],
    [{ shardSet: 'orders', shardId: 'a'.repeat(129) }, 'shardId: '],
    [{ shardSet: 'orders', shardId: '0042', state: 'Gone' }, 'state: '],
    [{ shardSet: 'orders', shardId: '0042', capacity: 0 }, 'capacity: '],
    [{ shardSet: 'orders', shardId: '0042', owner: { pinned: 'Node_1' } }, 'owner.pinned: use a DNS name'],
  ])('refuses %j', (spec, message) => {
    expect(refusals(shardAssignmentSpec, spec).join('\n')).toContain(message);
  });

  test('its name is <shardSet>.<shardId>', () => {
    const holds = (name: string) =>
      shardAssignmentRules.every(
        (rule) => rule.holds?.({ metadata: { name }, spec: { shardSet: 'orders', shardId: '0042' } }) ?? true,
      );
    expect([holds('orders.0042'), holds('orders-0042')]).toEqual([true, false]);
  });

  const move = { startedAt: '2026-11-23T08:00:00Z', deadline: '2026-11-23T08:00:30.5Z' };
  test.each([
    [{ phase: 'Pending', epoch: 0, version: 1 }],
    [{ phase: 'Active', owner: 'node-1', epoch: Number.MAX_SAFE_INTEGER, version: 1 }],
    [{ phase: 'Draining', owner: 'node-1', epoch: 1, version: 1, move: { ...move, to: 'node-2' } }],
    [{ phase: 'Draining', owner: 'node-1', epoch: 1, version: 1, move }],
    [{ phase: 'Paused', epoch: 1, version: 1 }],
  ])('accepts status %j', (status) => {
    expect(refusals(shardAssignmentStatus, status)).toEqual([]);
  });

  test.each([
    [{ phase: 'Active', epoch: 1, version: 1 }, 'Active, Draining or Lost has an owner'],
    [{ phase: 'Lost', epoch: 1, version: 1 }, 'Active, Draining or Lost has an owner'],
    [{ phase: 'Draining', owner: 'node-1', epoch: 1, version: 1 }, 'status.move is there while'],
    [{ phase: 'Active', owner: 'node-1', epoch: 1, version: 1, move }, 'status.move is there while'],
    [{ phase: 'Active', owner: 'node-1', epoch: 0, version: 1 }, 'epoch of 1 or more'],
    [{ phase: 'Active', owner: 'node-1', epoch: Number.MAX_SAFE_INTEGER + 1, version: 1 }, 'epoch: '],
    [{ phase: 'Active', owner: 'node-1', version: 1 }, 'epoch: '],
  ])('refuses status %j', (status, message) => {
    expect(refusals(shardAssignmentStatus, status).join('\n')).toContain(message);
  });
});

describe('MeshNode', () => {
  test.each([
    [{}],
    [
      {
        weight: 2,
        zone: 'eu-central-1a',
        endpoint: 'grpc://10.0.0.1:8443',
        serves: ['*'],
        scheduling: 'Drain',
      },
    ],
  ])('accepts %j', (spec) => {
    expect(refusals(meshNodeSpec, spec)).toEqual([]);
  });

  test.each([
    [{ weight: 0 }, 'weight: '],
    [{ weight: '2' }, 'weight: '],
    [{ endpoint: 'worker-1:8443' }, 'endpoint: use a URL with its scheme'],
    [{ serves: ['team-*'] }, 'serves.0: use the name of a namespace, or "*"'],
    [{ liveness: 'Ping' }, 'liveness: '],
  ])('refuses %j', (spec, message) => {
    expect(refusals(meshNodeSpec, spec).join('\n')).toContain(message);
  });

  test('its name leaves room for its Lease', () => {
    const holds = (name: string) => meshNodeRules.every((rule) => rule.holds?.({ metadata: { name } }));
    expect([holds('n'.repeat(244)), holds('n'.repeat(245))]).toEqual([true, false]);
  });
});
