import type { MeshNode } from '@meshkit/shards/records';
import { expect, it } from 'vitest';
import { NodeReconciler, nodeStatus } from './node-reconciler.ts';

const NOW = Date.parse('2026-11-23T08:00:00Z');
const NODE: MeshNode = {
  apiVersion: 'meshkit.omnirelay.io/v1alpha1',
  kind: 'MeshNode',
  metadata: { name: 'a', namespace: 'shop', generation: 3, resourceVersion: '1' },
  spec: {},
};

it('says since when a node is ready, and keeps the time while it stays so', () => {
  const first = nodeStatus(NODE, { ready: true, reason: 'LeaseRenewed', since: 0 }, NOW);
  expect(first).toEqual({
    observedGeneration: 3,
    conditions: [
      {
        type: 'Ready',
        status: 'True',
        reason: 'LeaseRenewed',
        message: 'Lease meshnode-a is being renewed',
        lastTransitionTime: '2026-11-23T08:00:00.000Z',
      },
    ],
  });
  const known = { ...NODE, status: first };
  expect(nodeStatus(known, { ready: true, reason: 'LeaseRenewed', since: 0 }, NOW + 5000)).toEqual(first);
  const dead = nodeStatus(known, { ready: false, reason: 'NoLease', since: 0 }, NOW + 5000).conditions?.[0];
  expect(dead).toMatchObject({ status: 'False', lastTransitionTime: '2026-11-23T08:00:05.000Z' });
  expect(dead?.message).toContain('spec.liveness');
});

it('writes once per change, and nothing for a node that is gone', async () => {
  const nodes = new Map([['shop/a', NODE]]);
  let [writes, ready, leading] = [0, true, true];
  const events: string[] = [];
  const reconciler = new NodeReconciler({
    client: {
      updateStatus: async (_, object) => {
        writes += 1;
        return object;
      },
    },
    nodes: { get: (key) => nodes.get(key), observe: (node) => nodes.set('shop/a', node) },
    readiness: () => ({ ready, reason: ready ? 'LeaseRenewed' : 'LeaseExpired', since: 0 }),
    leads: () => leading,
    events: { record: (_, { reason }) => void events.push(reason) },
    now: () => NOW,
  });
  const { signal } = new AbortController();
  for (const key of ['shop/a', 'shop/a', 'shop/gone']) await reconciler.reconcile(key, signal);
  expect([writes, events]).toEqual([1, []]);
  ready = false;
  await reconciler.reconcile('shop/a', signal);
  await reconciler.reconcile('shop/a', signal);
  expect([writes, events]).toEqual([2, ['NodeNotReady']]);
  ready = true;
  leading = false;
  await reconciler.reconcile('shop/a', signal);
  expect(writes).toBe(2);
});
