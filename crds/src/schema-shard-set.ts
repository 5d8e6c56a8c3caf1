import type { LabelSelector, ShardSetSpec, ShardSetStatus } from '@meshkit/shards/records';
import { z } from 'zod';
import {
  conditions,
  DNS_LABEL,
  formed,
  integer,
  mirror,
  observedGeneration,
  type Pattern,
  type Rule,
  ratio,
  ruled,
  SHARD_ID,
} from './schema.ts';

const LABEL_KEY: Pattern = {
  pattern: '^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$',
  max: 317,
  message: 'use a label key, such as app or topology.kubernetes.io/zone',
};

const LABEL_VALUE: Pattern = {
  pattern: '^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$',
  min: 0,
  max: 63,
  message: 'use a label value: letters, digits, "-", "_" and ".", starting and ending with a letter or digit',
};

const LOAD_BOUND: Pattern = {
  pattern: '^[1-9][0-9]?([.][0-9]{1,4})?$',
  max: 7,
  message: 'use a decimal of 1 or more, such as "1.05": how far above its fair share a node may be loaded',
};

const DURATION: Pattern = {
  pattern: '^([1-9][0-9]{0,4}s|[1-9][0-9]{0,3}m)$',
  max: 6,
  message: 'use whole seconds or minutes, such as 30s or 5m',
};

const shards = ruled(
  z
    .object({
      count: integer(
        1,
        100_000,
        'How many shards. Their ids are 0000, 0001, …: four digits at least and never re-padded, so the shard after 9999 is 10000 and growing renames none.',
      ).optional(),
      ids: z
        .array(formed(SHARD_ID, 'A shard id: a DNS name.'))
        .min(1)
        .max(5_000)
        .meta({ description: 'The shards by name, e.g. eu-0, eu-1.', 'x-kubernetes-list-type': 'set' })
        .optional(),
    })
    .meta({ description: 'Which shards there are: exactly one of count and ids.' }),
  [
    {
      rule: 'has(self.count) != has(self.ids)',
      message:
        'give exactly one of count and ids: count: 64 makes the shards 0000 to 0063, ids: [eu-0, eu-1] names them',
      holds: (self) => (self.count === undefined) !== (self.ids === undefined),
    },
  ],
);

const matchExpression = ruled(
  z.object({
    key: formed(LABEL_KEY, 'A label key.'),
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
    values: z
      .array(formed(LABEL_VALUE, 'A label value.'))
      .max(64)
      .meta({
        description: 'For In and NotIn: at least one. For the others: none.',
        'x-kubernetes-list-type': 'atomic',
      })
      .optional(),
  }),
  [
    {
      rule: "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
      message: 'In and NotIn need at least one value; Exists and DoesNotExist take none',
      holds: ({ operator, values }) =>
        (operator === 'In' || operator === 'NotIn') === Boolean(values?.length),
    },
  ],
);

const matchLabels = ruled(
  z
    .record(z.string(), formed(LABEL_VALUE, 'A label value.'))
    .meta({ description: 'Labels that a node must carry.', maxProperties: 32 }),
  [
    {
      rule: `self.all(key, key.size() <= ${LABEL_KEY.max} && key.matches('${LABEL_KEY.pattern}'))`,
      message: `every key: ${LABEL_KEY.message}`,
      holds: (self) =>
        Object.keys(self).every(
          (key) => key.length <= LABEL_KEY.max && new RegExp(LABEL_KEY.pattern).test(key),
        ),
    },
  ],
);

const selector = mirror<LabelSelector>()(
  z
    .object({
      matchLabels: matchLabels.optional(),
      matchExpressions: z
        .array(matchExpression)
        .max(32)
        .meta({ 'x-kubernetes-list-type': 'atomic' })
        .optional(),
    })
    .meta({
      description: 'Which MeshNodes may own shards, by label; absent or empty: all.',
      'x-kubernetes-map-type': 'atomic',
    }),
);

export const shardSetSpec = mirror<ShardSetSpec>()(
  z
    .object({
      shards,
      strategy: z
        .enum(['Rendezvous', 'Static'])
        .meta({
          description:
            'Rendezvous (absent): weighted and bounded. Static: only where spec.owner.pinned says.',
        })
        .optional(),
      locality: z
        .enum(['None', 'Preferred', 'Required'])
        .meta({ description: "How far to honour a shard's zone, then region. Absent: Preferred." })
        .optional(),
      loadBound: formed(
        LOAD_BOUND,
        'A node is loaded to at most max(ceil m, floor(loadBound x m)), m its fair share. Absent: "1.05".',
      ).optional(),
      nodes: z
        .object({
          selector: selector.optional(),
          namespace: formed(
            DNS_LABEL,
            "The namespace of a shared pool of MeshNodes whose spec.serves allows this one. Absent: the ShardSet's own.",
          ).optional(),
        })
        .meta({ description: 'Which MeshNodes may own shards. Absent: all of this namespace.' })
        .optional(),
      churn: z
        .object({
          maxConcurrentMoves: integer(
            1,
            100_000,
            'How many planned moves may be under way at once; failures are not held back. Absent: 5. To stop all planned moves use freeze: Rebalance.',
          ).optional(),
        })
        .optional(),
      handoff: z
        .object({
          mode: z
            .enum(['Graceful', 'Immediate'])
            .meta({
              description: 'Graceful (absent): the old owner drains and releases first. Immediate: no drain.',
            })
            .optional(),
          drainTimeout: formed(
            DURATION,
            'How long a draining owner may take before the shard is granted anyway. Absent: 30s.',
          ).optional(),
        })
        .optional(),
      freeze: z
        .enum(['None', 'Rebalance', 'All'])
        .meta({
          description:
            'None (absent). Rebalance: no move for balance; failures and drains are still served. All: nothing moves, shards of failed nodes wait as Lost.',
        })
        .optional(),
    })
    .meta({ description: 'What people and GitOps want; the operator never writes here.' }),
);

const count = (description: string) => integer(0, 1_000_000, description).optional();

export const shardSetStatus = mirror<ShardSetStatus>()(
  z
    .object({
      observedGeneration: observedGeneration.optional(),
      shards: count('Shards of this set, those being retired included.'),
      owned: count('Shards with a live owner.'),
      draining: count('Shards being handed over.'),
      unplaceable: count('Shards without a place; their conditions say which constraint and which knob.'),
      lost: count('Shards whose owner failed and that could not be placed elsewhere.'),
      nodes: count('Eligible nodes.'),
      balance: z
        .object({
          maxOverMean: ratio('Load over fair share of the fullest eligible node, e.g. "1.03".'),
          minOverMean: ratio('Load over fair share of the emptiest eligible node.'),
        })
        .optional(),
      conditions: conditions.optional(),
    })
    .meta({ description: 'What the operator sees; written by the operator only.' }),
);

export const shardSetRules: readonly Rule<{ metadata: { name: string } }>[] = [
  {
    rule: "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
    message:
      'name a ShardSet with a DNS label (no dots, at most 63 characters): its shards are named <shardSet>.<shardId>',
    fieldPath: '.metadata.name',
    holds: ({ metadata: { name } }) => name.length <= DNS_LABEL.max && !name.includes('.'),
  },
];
