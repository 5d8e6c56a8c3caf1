import { explain } from '@meshkit/shards/explain';
import { API_VERSION, type ShardAssignment } from '@meshkit/shards/records';
import { type MeshState, type SimulationRequest, simulate } from '@meshkit/shards/simulate';

/** Examples for the document, worked out by the code that answers: they cannot say what it would not. */

const NODES: readonly (readonly [string, string])[] = [
  ['node-03', 'eu-central-1a'],
  ['node-17', 'eu-central-1b'],
  ['node-21', 'eu-central-1c'],
];

const STATE: MeshState = {
  sets: [
    {
      apiVersion: API_VERSION,
      kind: 'ShardSet',
      metadata: { name: 'orders', namespace: 'payments', uid: 'b2e2a7c0-5d0e-4e39-9c4c-2f6f7c3f1a01' },
      spec: { shards: { count: 6 } },
    },
  ],
  shards: ['node-03', 'node-03', 'node-17', 'node-17', 'node-21', 'node-21'].map(assignment),
  nodes: NODES.map(([name, zone]) => ({
    node: {
      apiVersion: API_VERSION,
      kind: 'MeshNode',
      metadata: { name, namespace: 'payments' },
      spec: { region: 'eu-central', zone },
    },
    ready: true,
  })),
  basis: {
    lineage: '3f0c9f1e-6f1e-4c57-9a0e-0f4b7f0a9f11',
    position: '918273',
    shardSets: '917001',
    nodes: '918272',
  },
};

function assignment(owner: string, index: number): ShardAssignment {
  const shardId = `000${index}`;
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { name: `orders.${shardId}`, namespace: 'payments', uid: shardId, generation: 1 },
    spec: { shardSet: 'orders', shardId },
    status: {
      observedGeneration: 1,
      phase: 'Active',
      owner,
      epoch: 1_795_412_345,
      version: 1,
      recentTransitions: [
        {
          version: 1,
          to: owner,
          phase: 'Active',
          actor: { kind: 'Operator', name: 'Placed' },
          reason: `placed on ${owner}`,
          at: '2026-11-23T12:00:00Z',
        },
      ],
    },
  };
}

export const EXAMPLE_SIMULATION_REQUEST: SimulationRequest = {
  namespace: 'payments',
  changes: [{ type: 'drain', node: 'node-17' }],
};

export const EXAMPLE_SIMULATION = simulate(STATE, EXAMPLE_SIMULATION_REQUEST);

export const EXAMPLE_EXPLANATION = explain(STATE, { namespace: 'payments', name: 'orders.0002' }, 100);
