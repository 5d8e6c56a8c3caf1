import { describe, expect, it } from 'vitest';
import type { ShardAssignment } from './records.ts';
import { API_VERSION } from './records.ts';
import { served, servedNode } from './shard-view.ts';

const fresh: ShardAssignment = {
  apiVersion: API_VERSION,
  kind: 'ShardAssignment',
  metadata: { name: 'orders.0042', namespace: 'payments', uid: 'u1', generation: 1 },
  spec: { shardSet: 'orders', shardId: '0042' },
};

describe('served', () => {
  it('shows a shard that nobody has placed yet as Pending at epoch 0', () => {
    expect(JSON.parse(JSON.stringify(served(fresh)))).toEqual({
      namespace: 'payments',
      name: 'orders.0042',
      uid: 'u1',
      shardSet: 'orders',
      shardId: '0042',
      phase: 'Pending',
      state: 'Active',
      epoch: 0,
      version: 0,
      generation: 1,
      observedGeneration: 0,
      capacity: 1,
    });
  });

  it('shows intent and truth side by side, with the time of the newest transition but not the transitions', () => {
    const actor = { kind: 'Operator', name: 'Drain' } as const;
    const view = served({
      ...fresh,
      spec: {
        ...fresh.spec,
        owner: { pinned: 'node-9' },
        locality: { zone: 'a' },
        changeTicket: 'CHG-1',
        reason: 'swap',
      },
      status: {
        phase: 'Draining',
        owner: 'node-1',
        ownerEndpoint: 'https://node-1',
        epoch: 17,
        version: 3,
        effective: { strategy: 'Rendezvous', capacity: 2 },
        move: { to: 'node-9', startedAt: '2026-11-01T00:00:00Z', deadline: '2026-11-01T00:00:30Z' },
        recentTransitions: [
          { version: 2, phase: 'Active', actor, reason: 'Placed', at: '2026-10-01T00:00:00Z' },
          { version: 3, phase: 'Draining', actor, reason: 'Drain', at: '2026-11-01T00:00:00Z' },
        ],
      },
    });
    expect(view).toMatchObject({
      phase: 'Draining',
      owner: 'node-1',
      pinned: 'node-9',
      capacity: 2,
      move: { to: 'node-9' },
      since: '2026-11-01T00:00:00Z',
      changeTicket: 'CHG-1',
    });
    expect(view).not.toHaveProperty('recentTransitions');
  });

  it('keeps only the conditions that need attention', () => {
    const at = { lastTransitionTime: '2026-11-01T00:00:00Z', message: 'm', reason: 'R' };
    const view = served({
      ...fresh,
      status: {
        phase: 'Pending',
        epoch: 0,
        version: 1,
        conditions: [
          { type: 'Ready', status: 'False', ...at },
          { type: 'Reconciling', status: 'False', ...at },
          { type: 'Stalled', status: 'True', ...at },
        ],
      },
    });
    expect(view.conditions?.map(({ type }) => type)).toEqual(['Ready', 'Stalled']);
  });
});

describe('servedNode', () => {
  it('counts a node that never reported as not ready, with weight 1', () => {
    const node = {
      apiVersion: API_VERSION,
      kind: 'MeshNode' as const,
      metadata: { name: 'node-1', namespace: 'payments' },
      spec: {},
    };
    expect(servedNode({ node, shards: 4 })).toMatchObject({
      weight: 1,
      ready: false,
      scheduling: 'Active',
      shards: 4,
    });
  });
});
