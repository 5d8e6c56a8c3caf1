import { checkManifest } from '@meshkit/crds/manifest-check';
import { DNS_LABEL } from '@meshkit/shards/filter';
import {
  DEFAULT_ITEMS,
  MAX_ITEMS,
  type SimulatedChange,
  type SimulatedManifest,
  type SimulatedReason,
  type SimulatedSet,
  type Simulation,
  type SimulationRequest,
  type StateBasis,
} from '@meshkit/shards/simulate';
import { z } from 'zod';

/** What a simulation is asked with, and what it answers; the compiler holds both to the domain's interfaces. */

export const MAX_BODY_BYTES = 1 << 20;
const MAX_CHANGES = 1_000;
const MAX_MANIFESTS = 1_000;

const label = z.string().max(63);
const namespace = z
  .string()
  .regex(DNS_LABEL, 'not the name of a namespace: lower-case letters, digits and "-", at most 63 characters');
const shardSet = z
  .string()
  .regex(DNS_LABEL, 'not the name of a ShardSet: lower-case letters, digits and "-", at most 63 characters');
const node = z
  .string()
  .max(244, 'at most 244 characters')
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, 'not the name of a MeshNode');
const topology = z
  .string()
  .max(63, 'at most 63 characters')
  .regex(/^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/, 'not a label value');
const weight = z
  .int('a whole number from 1')
  .min(1, 'a whole number from 1')
  .max(1_000_000, 'at most 1,000,000');

const onNode = {
  node,
  namespace: namespace.optional().describe('Of the node; needed only where pools share a name.'),
};
const onSet = { shardSet: shardSet.optional().describe('Absent: every set that is simulated.') };

const changeSchema = z
  .discriminatedUnion(
    'type',
    [
      z.strictObject({ type: z.literal('drain'), ...onNode }),
      z.strictObject({ type: z.literal('cordon'), ...onNode }),
      z.strictObject({ type: z.literal('remove'), ...onNode }),
      z.strictObject({
        type: z.literal('add'),
        ...onNode,
        weight: weight.optional(),
        region: topology.optional(),
        zone: topology.optional(),
        labels: z
          .record(z.string().max(317), label)
          .refine((labels) => Object.keys(labels).length <= 64, 'at most 64 labels')
          .optional(),
      }),
      z.strictObject({ type: z.literal('weight'), ...onNode, weight }),
      z.strictObject({
        type: z.literal('strategy'),
        ...onSet,
        strategy: z.enum(['Rendezvous', 'Static'], 'Rendezvous or Static'),
      }),
      z.strictObject({
        type: z.literal('policy'),
        ...onSet,
        locality: z.enum(['None', 'Preferred', 'Required'], 'None, Preferred or Required').optional(),
        loadBound: z
          .string('a decimal as a string, such as "1.05"')
          .regex(/^[1-9][0-9]?(\.[0-9]{1,4})?$/, 'a decimal of 1 or more as a string, such as "1.05"')
          .optional(),
        freeze: z.enum(['None', 'Rebalance', 'All'], 'None, Rebalance or All').optional(),
        maxConcurrentMoves: z
          .int('a whole number from 1')
          .min(1, 'a whole number from 1')
          .max(100_000, 'at most 100,000')
          .optional(),
        handoff: z
          .strictObject({
            mode: z.enum(['Graceful', 'Immediate'], 'Graceful or Immediate').optional(),
            drainTimeout: z
              .string()
              .regex(/^([1-9][0-9]{0,4}s|[1-9][0-9]{0,3}m)$/, 'whole seconds or minutes, such as 30s or 5m')
              .optional(),
          })
          .optional(),
      }),
    ],
    'use drain, cordon, remove, add, weight, strategy or policy',
  )
  .meta({ id: 'SimulatedChange' }) satisfies z.ZodType<SimulatedChange>;

const manifestSchema = z
  .unknown()
  .transform((document, context): SimulatedManifest => {
    const checked = checkManifest(document);
    if ('manifest' in checked) return checked.manifest;
    const faults =
      'other' in checked
        ? [{ path: ['kind'], detail: 'use ShardSet, ShardAssignment or MeshNode' }]
        : checked.faults;
    for (const { path, detail } of faults) {
      context.addIssue({ code: 'custom', path: [...path], message: detail });
    }
    return z.NEVER;
  })
  .meta({
    override: {
      type: 'object',
      required: ['apiVersion', 'kind', 'metadata', 'spec'],
      properties: {
        apiVersion: { const: 'meshkit.omnirelay.io/v1alpha1' },
        kind: { enum: ['ShardSet', 'ShardAssignment', 'MeshNode'] },
        metadata: {
          type: 'object',
          required: ['name'],
          properties: {
            name: { type: 'string' },
            namespace: { type: 'string' },
            labels: { type: 'object', additionalProperties: { type: 'string' } },
          },
        },
        spec: { type: 'object' },
      },
    },
  });

export const simulationBody = z
  .strictObject({
    namespace: namespace
      .optional()
      .describe('Simulate the sets of this namespace; absent: of all, which needs the scope for all.'),
    shardSet: shardSet.optional().describe('Only this set; needs `namespace`.'),
    changes: z
      .array(changeSchema)
      .max(MAX_CHANGES, `at most ${MAX_CHANGES} changes`)
      .optional()
      .describe('Made in this order, after the manifests.'),
    manifests: z
      .array(manifestSchema)
      .max(MAX_MANIFESTS, `at most ${MAX_MANIFESTS} manifests`)
      .optional()
      .describe('ShardSets, ShardAssignments and MeshNodes as a pull request would apply them.'),
    maxItems: z
      .int('a whole number from 1')
      .min(1, 'a whole number from 1')
      .max(MAX_ITEMS, `at most ${MAX_ITEMS}`)
      .default(DEFAULT_ITEMS)
      .describe('Each list of the answer has at most this many items altogether; totals are exact.'),
  })
  .meta({ id: 'SimulationRequest' }) satisfies z.ZodType<SimulationRequest>;

const count = z.int().min(0);
const text = z.string();
const ms = z.int().min(0).describe('Milliseconds.');

const churn = {
  moves: count.describe('Shards that change their node or get their first one.'),
  placements: count.describe('Of these, shards that nobody owns now.'),
  pending: count.describe('Of `moves`, those that the operator would make without any change as well.'),
  lowerBound: count
    .optional()
    .describe(
      'The fewest moves that any planner could make; absent where that has no closed form, or pins and paused shards rule a fair share out.',
    ),
  fraction: z
    .number()
    .min(0)
    .describe(
      'Shards that leave their node, for another one or because they are retired: (moves - placements + retired) / (shards + retired).',
    ),
  shards: count,
};

const reason = z.enum([
  'New',
  'Placed',
  'NodeDeleted',
  'NodeNotReady',
  'Drain',
  'NotSelected',
  'NotServing',
  'Locality',
  'Pin',
  'TargetNotEligible',
  'Rebalance',
]) satisfies z.ZodType<SimulatedReason>;

export const standingSchema = z.enum([
  'eligible',
  'cordoned',
  'draining',
  'notReady',
  'notSelected',
  'notServing',
]);
export const unplaceableReason = z.enum([
  'NoNodes',
  'NoEligibleNode',
  'NoNodeInLocality',
  'NoPin',
  'PinnedNodeNotEligible',
]);

const balance = z
  .strictObject({
    maxOverMean: z.number().optional().describe('Load over fair share of the fullest eligible node.'),
    minOverMean: z.number().optional(),
    nodes: z.array(
      z.strictObject({
        node: text,
        region: text.optional(),
        zone: text.optional(),
        weight: z.int(),
        standing: standingSchema,
        load: count,
        share: z.number().optional().describe('Fair share; eligible nodes only.'),
        cap: count.optional(),
      }),
    ),
    zones: z.array(z.strictObject({ zone: text, nodes: count, load: count, share: z.number() })),
  })
  .meta({ id: 'SimulatedBalance' });

const setSchema = z
  .strictObject({
    namespace: text,
    name: text,
    change: z.enum(['none', 'added', 'changed']),
    moves: z
      .array(z.strictObject({ shard: text, from: text.optional(), to: text, reason }))
      .describe('In the order in which they are made.'),
    unplaceable: z.array(
      z.strictObject({
        shard: text,
        owner: text.optional().describe('The node that keeps it for want of a better one.'),
        reason: unplaceableReason,
        constraint: text,
        knob: text,
      }),
    ),
    retired: z
      .array(text)
      .describe('Ids with an owner that leave the set or are disabled: drained, then owned by nobody.'),
    churn: z.strictObject(churn),
    totals: z
      .strictObject({ moves: count, unplaceable: count, retired: count, phases: count })
      .describe('Exact, whatever the lists have.'),
    balance: z.strictObject({ before: balance, after: balance }),
    matrix: z.array(z.strictObject({ from: text, to: text, shards: count })),
    phases: z
      .array(
        z.strictObject({
          phase: z.int().min(1),
          kind: z.enum(['immediate', 'inFlight', 'planned']),
          moves: count,
          estimatedMs: ms,
        }),
      )
      .describe('Moves that start together under the churn budget.'),
    estimatedDurationMs: ms.optional().describe('Absent under `freeze: All` when there is something to do.'),
    estimateBasis: z.enum(['observed', 'drainTimeout', 'immediate']),
    warnings: z.array(text),
  })
  .meta({ id: 'SimulatedSet' }) satisfies z.ZodType<SimulatedSet>;

export const basisSchema = z
  .strictObject({
    lineage: text.optional(),
    position: text,
    shardSets: text.optional(),
    nodes: text.optional(),
  })
  .describe('The state that this was worked out on: resourceVersions of shards, sets and nodes.')
  .meta({ id: 'StateBasis' }) satisfies z.ZodType<StateBasis>;

export const simulationSchema = z
  .strictObject({
    sets: z.array(setSchema).describe('Those with something to do first, then by namespace and name.'),
    totals: z.strictObject({
      ...churn,
      sets: count,
      unplaceable: count,
      retired: count,
      estimatedDurationMs: ms.optional(),
    }),
    truncated: z.boolean().describe('Some list is shorter than its total.'),
    planHash: z
      .string()
      .regex(/^[0-9a-f]{16}$/)
      .describe('xxh64 of every move, placeless and retired shard. The same plan has the same hash.'),
    basis: basisSchema,
    warnings: z.array(text),
  })
  .meta({ id: 'Simulation' }) satisfies z.ZodType<Simulation>;
