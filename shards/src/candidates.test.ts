import { describe, expect, test } from 'vitest';
import { matchesSelector, placementNodes } from './candidates.ts';
import type { MeshNode, MeshNodeSpec, ShardSet, ShardSetSpec } from './records.ts';

function shardSet(nodes?: ShardSetSpec['nodes']): ShardSet {
  return {
    apiVersion: 'meshkit.omnirelay.io/v1alpha1',
    kind: 'ShardSet',
    metadata: { name: 'orders', namespace: 'payments' },
    spec: { shards: { count: 4 }, nodes },
  };
}

function meshNode(spec: MeshNodeSpec, labels?: Record<string, string>, namespace = 'payments'): MeshNode {
  return {
    apiVersion: 'meshkit.omnirelay.io/v1alpha1',
    kind: 'MeshNode',
    metadata: { name: 'n', namespace, labels },
    spec,
  };
}

function standingOf(set: ShardSet, node: MeshNode, ready = true) {
  return placementNodes(set, [{ node, ready }]).map(({ standing }) => standing);
}

describe('the standing of a node', () => {
  const pool = { namespace: 'fleet', selector: { matchLabels: { app: 'worker' } } };

  test('comes with its weight, region and zone', () => {
    const node = meshNode({ weight: 3, region: 'eu', zone: 'eu-1a' });
    expect(placementNodes(shardSet(), [{ node, ready: true }])).toEqual([
      { name: 'n', weight: 3, region: 'eu', zone: 'eu-1a', standing: 'eligible' },
    ]);
  });

  test('is eligible when ready and asked for nothing', () => {
    expect(standingOf(shardSet(), meshNode({}))).toEqual(['eligible']);
  });

  test.each([
    ['Cordoned', 'cordoned'],
    ['Drain', 'draining'],
    ['Active', 'eligible'],
  ] as const)('follows scheduling %s', (scheduling, standing) => {
    expect(standingOf(shardSet(), meshNode({ scheduling }))).toEqual([standing]);
  });

  test('a node that is being deleted drains', () => {
    const node = meshNode({});
    node.metadata.deletionTimestamp = '2026-11-23T08:00:00Z';
    expect(standingOf(shardSet(), node)).toEqual(['draining']);
  });

  test('a dead node is not ready whatever else it is, so that its shards fail over at once', () => {
    expect(standingOf(shardSet(pool), meshNode({ scheduling: 'Drain' }, {}, 'fleet'), false)).toEqual([
      'notReady',
    ]);
  });

  test('a shared pool needs both the label and the consent of the node', () => {
    const labels = { app: 'worker' };
    expect(standingOf(shardSet(pool), meshNode({ serves: ['payments'] }, labels, 'fleet'))).toEqual([
      'eligible',
    ]);
    expect(standingOf(shardSet(pool), meshNode({ serves: ['*'] }, labels, 'fleet'))).toEqual(['eligible']);
    expect(standingOf(shardSet(pool), meshNode({ serves: ['search'] }, labels, 'fleet'))).toEqual([
      'notServing',
    ]);
    expect(standingOf(shardSet(pool), meshNode({}, labels, 'fleet'))).toEqual(['notServing']);
    expect(standingOf(shardSet(pool), meshNode({ serves: ['*'] }, {}, 'fleet'))).toEqual(['notSelected']);
  });

  test('nodes of other namespaces are none of the set', () => {
    expect(standingOf(shardSet(pool), meshNode({ serves: ['*'] }, { app: 'worker' }))).toEqual([]);
  });
});

describe('a label selector', () => {
  const labels = { app: 'worker', tier: 'gold' };

  test.each([
    [undefined, true],
    [{}, true],
    [{ matchLabels: { app: 'worker', tier: 'gold' } }, true],
    [{ matchLabels: { app: 'worker', tier: 'iron' } }, false],
    [{ matchLabels: { constructor: 'x' } }, false],
    [{ matchExpressions: [{ key: 'tier', operator: 'In', values: ['gold', 'iron'] }] }, true],
    [{ matchExpressions: [{ key: 'zone', operator: 'In', values: ['a'] }] }, false],
    [{ matchExpressions: [{ key: 'tier', operator: 'NotIn', values: ['gold'] }] }, false],
    [{ matchExpressions: [{ key: 'zone', operator: 'NotIn', values: ['a'] }] }, true],
    [{ matchExpressions: [{ key: 'tier', operator: 'Exists' }] }, true],
    [{ matchExpressions: [{ key: 'tier', operator: 'DoesNotExist' }] }, false],
  ] as const)('%j matches: %s', (selector, expected) => {
    expect(matchesSelector(structuredClone(selector) as Parameters<typeof matchesSelector>[0], labels)).toBe(
      expected,
    );
  });
});
