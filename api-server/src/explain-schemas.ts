import type { ShardExplanation } from '@meshkit/shards/explain';
import { PHASES } from '@meshkit/shards/filter';
import type { NodeVerdict } from '@meshkit/shards/verdict';
import { z } from 'zod';
import { basisSchema, standingSchema, unplaceableReason } from './simulate-schemas.ts';

const text = z.string();
const count = z.int().min(0);
const time = z.iso.datetime({ offset: true }).describe('RFC 3339.');

const verdict = z.enum([
  'owner',
  'target',
  'cordoned',
  'draining',
  'notReady',
  'notSelected',
  'notServing',
  'paused',
  'notPinned',
  'outsideLocality',
  'notNeeded',
  'full',
  'farther',
  'lowerScore',
  'fuller',
  'giver',
  'noGain',
]) satisfies z.ZodType<NodeVerdict>;

const nodeSchema = z
  .strictObject({
    node: text,
    weight: z.int(),
    region: text.optional(),
    zone: text.optional(),
    standing: standingSchema,
    filters: z
      .strictObject({ standing: z.boolean(), locality: z.boolean(), pin: z.boolean(), room: z.boolean() })
      .describe('What stands between the shard and this node: false where it fails.'),
    score: z.number().describe('-weight / ln(h): larger is better.'),
    rank: z.int().min(1),
    distance: z
      .union([z.literal(0), z.literal(1), z.literal(2)])
      .describe('0 where it would like to be, 1 its region only, 2 elsewhere.'),
    load: z.number().optional().describe('Of the other shards here when this one was decided.'),
    mean: z.number().optional().describe('Fair share.'),
    cap: z.number().optional(),
    level: z.enum(['floor', 'ceil', 'cap', 'overCap']).optional(),
    verdict,
    knob: text.optional().describe('The setting whose change could bring the shard here.'),
  })
  .meta({ id: 'ExplainedNode' });

export const explanationSchema = z
  .strictObject({
    namespace: text,
    name: text,
    shardSet: text,
    shardId: text,
    phase: z.enum(PHASES),
    state: z.enum(['Active', 'Paused', 'Disabled']),
    owner: text.optional(),
    pinned: text.optional(),
    locality: z.strictObject({ region: text.optional(), zone: text.optional() }).optional(),
    capacity: z.number(),
    move: z.strictObject({ to: text.optional(), startedAt: time, deadline: time }).optional(),
    course: z
      .enum(['stays', 'moves', 'draining', 'waits', 'unplaceable', 'paused', 'leaves', 'noSet'])
      .describe('What the operator does with it now.'),
    summary: text.describe('Where it is or goes, and why, for people.'),
    target: text.optional().describe('Where the plan has it.'),
    cause: z.enum(['Unowned', 'Drain', 'Locality', 'Pin', 'Rebalance']).optional(),
    held: z
      .strictObject({ by: z.enum(['churnBudget', 'freeze', 'drain']), detail: text, knob: text })
      .optional()
      .describe('Why it has not moved yet, and what lets it.'),
    unplaceable: z.strictObject({ reason: unplaceableReason, constraint: text, knob: text }).optional(),
    overCap: z.boolean(),
    settings: z
      .strictObject({
        strategy: z.enum(['Rendezvous', 'Static']),
        locality: z.enum(['None', 'Preferred', 'Required']),
        loadBound: text,
      })
      .optional(),
    budget: z
      .strictObject({
        maxConcurrentMoves: count,
        inFlight: count,
        waiting: count,
        place: z.int().min(1).optional().describe('Of this shard among those that wait.'),
        freeze: z.enum(['None', 'Rebalance', 'All']),
        handoffMode: z.enum(['Graceful', 'Immediate']),
        drainTimeoutMs: count,
      })
      .optional(),
    nodes: z.array(nodeSchema).describe('The target first, then by rank.'),
    nodesTotal: count,
    nodesElsewhere: count.describe(
      'Nodes of a shared pool that do not serve this namespace: counted, not named.',
    ),
    transitions: z
      .array(
        z.strictObject({
          version: count,
          epoch: count.optional(),
          from: text.optional(),
          to: text.optional(),
          phase: z.enum(PHASES),
          actor: z.strictObject({ kind: z.enum(['User', 'FieldManager', 'Operator']), name: text }),
          reason: text,
          changeTicket: text.optional(),
          at: time,
        }),
      )
      .optional()
      .describe('The last ones, newest first; only for those who may observe.'),
    withheld: z
      .array(z.strictObject({ member: z.enum(['transitions']), scope: text, check: text, grant: text }))
      .optional()
      .describe('What you may not see, and the commands that check and grant it.'),
    basis: basisSchema,
  })
  .meta({ id: 'ShardExplanation' }) satisfies z.ZodType<ShardExplanation>;
