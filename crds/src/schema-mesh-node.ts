import type { MeshNodeSpec, MeshNodeStatus } from '@meshkit/shards/records';
import { z } from 'zod';
import {
  conditions,
  DNS_LABEL,
  ENDPOINT,
  formed,
  integer,
  mirror,
  NODE_NAME,
  observedGeneration,
  type Pattern,
  type Rule,
  TOPOLOGY,
} from './schema.ts';

const SERVED: Pattern = {
  pattern: '^([*]|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$',
  max: DNS_LABEL.max,
  message: 'use the name of a namespace, or "*" for all',
};

export const meshNodeSpec = mirror<MeshNodeSpec>()(
  z
    .object({
      weight: integer(
        1,
        1_000_000,
        'Relative strength: a node of weight 2 gets twice the load. Absent: 1.',
      ).optional(),
      region: formed(TOPOLOGY, 'A region, e.g. eu-central.').optional(),
      zone: formed(TOPOLOGY, 'A zone, e.g. eu-central-1a.').optional(),
      endpoint: formed(
        ENDPOINT,
        'Where routers reach this node; copied into the status of the shards it owns.',
      ).optional(),
      serves: z
        .array(formed(SERVED, 'A namespace, or "*".'))
        .max(256)
        .meta({
          description:
            'Other namespaces whose ShardSets may place shards here; "*": any. Absent: its own namespace only.',
          'x-kubernetes-list-type': 'set',
        })
        .optional(),
      scheduling: z
        .enum(['Active', 'Cordoned', 'Drain'])
        .meta({
          description:
            'Active (absent). Cordoned: keeps its shards, gets none. Drain: its shards move elsewhere.',
        })
        .optional(),
      liveness: z
        .enum(['Lease', 'Always'])
        .meta({
          description:
            'Lease (absent): ready while the coordination.k8s.io Lease meshnode-<name> is renewed. Always: ready without one.',
        })
        .optional(),
    })
    .meta({ description: "What people or the node's agent want; the operator never writes here." }),
);

export const meshNodeStatus = mirror<MeshNodeStatus>()(
  z
    .object({
      observedGeneration: observedGeneration.optional(),
      conditions: conditions.optional(),
    })
    .meta({ description: 'What the operator sees; written by the operator only.' }),
);

export const meshNodeRules: readonly Rule<{ metadata: { name: string } }>[] = [
  {
    rule: `self.metadata.name.size() <= ${NODE_NAME.max}`,
    message: `a MeshNode's name has at most ${NODE_NAME.max} characters, so that its Lease meshnode-<name> can exist`,
    fieldPath: '.metadata.name',
    holds: ({ metadata: { name } }) => name.length <= NODE_NAME.max,
  },
];
