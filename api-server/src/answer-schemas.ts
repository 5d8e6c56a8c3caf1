import type { ChangeHistory } from '@meshkit/shards/change';
import { ERRORS, type ErrorCode } from '@meshkit/shards/errors';
import { PHASES } from '@meshkit/shards/filter';
import type { Problem } from '@meshkit/shards/problem';
import type { DiffPage, HistoryPage, RepositoryStatus } from '@meshkit/shards/repository';
import type { Access } from '@meshkit/shards/scope';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import type { ResetReason } from '@meshkit/shards/watch';
import { z } from 'zod';
import type { Transport } from './operation.ts';

/** What the API answers, for its document and its tests; the compiler holds the schemas to the views' interfaces. */

const time = z.iso.datetime().describe('RFC 3339.');
const count = z.int().min(0);
const position = z.string().regex(/^\d+$/).describe('A resourceVersion: a decimal number of any length.');

export const shardSchema = z
  .strictObject({
    namespace: z.string(),
    name: z.string().describe('SHARDSET.SHARDID'),
    uid: z.string(),
    shardSet: z.string(),
    shardId: z.string(),
    phase: z.enum(PHASES).describe('Pending until the operator has seen the shard.'),
    state: z.enum(['Active', 'Paused', 'Disabled']).describe('Intent.'),
    owner: z.string().optional().describe('The node that has it now.'),
    ownerEndpoint: z.string().optional(),
    previousOwner: z.string().optional(),
    epoch: count.describe('Fencing token, larger at every grant; 0 before the first.'),
    version: count.describe('+1 on every change of ownership or phase.'),
    generation: count.describe('+1 on every change of intent.'),
    observedGeneration: count.describe('Smaller than generation: the newest intent is not yet taken up.'),
    capacity: z.number(),
    locality: z.strictObject({ region: z.string().optional(), zone: z.string().optional() }).optional(),
    pinned: z.string().optional().describe('The node that a person asked for.'),
    move: z
      .strictObject({ to: z.string().optional(), startedAt: time, deadline: time })
      .optional()
      .describe('While Draining; without `to` when the shard is being retired.'),
    since: time.optional().describe('When the newest transition happened.'),
    changeTicket: z.string().optional(),
    reason: z.string().optional(),
    conditions: z
      .array(
        z.strictObject({
          type: z.string(),
          status: z.enum(['True', 'False', 'Unknown']),
          reason: z.string(),
          message: z.string(),
        }),
      )
      .optional()
      .describe('Only what needs attention.'),
  })
  .describe('A shard: intent and truth on one level. Members without a value are left out.')
  .meta({ id: 'Shard' }) satisfies z.ZodType<ShardView>;

const nodeSchema = z
  .strictObject({
    namespace: z.string(),
    name: z.string(),
    endpoint: z.string().optional(),
    region: z.string().optional(),
    zone: z.string().optional(),
    weight: z.int(),
    ready: z.boolean().describe("As the operator judges it from the node's Lease."),
    scheduling: z.enum(['Active', 'Cordoned', 'Drain']),
    shards: count.describe('How many shards name it as their owner.'),
  })
  .meta({ id: 'Node' }) satisfies z.ZodType<NodeView>;

const versionVectorSchema = z
  .strictObject({
    lineage: z
      .string()
      .optional()
      .describe('Changes when positions stop being comparable with earlier ones.'),
    position: position.describe('What the answer is complete up to. The only member to compare.'),
    namespaces: z.record(z.string(), position).describe('The newest change in each namespace of the answer.'),
  })
  .meta({ id: 'VersionVector' });

export const listSchema = z
  .strictObject({
    items: z.array(shardSchema).describe('Ordered by namespace, then name.'),
    nextCursor: z.string().optional().describe('Absent on the last page, also on an exact fit.'),
    consistency: z
      .enum(['snapshot', 'keyset'])
      .describe(
        '`snapshot`: all pages show the state of one position. `keyset`: they do not, by your consent.',
      ),
    resumeToken: z
      .string()
      .optional()
      .describe('Watches from exactly this list on. Absent on `keyset` pages: watch without a token then.'),
    versionVector: versionVectorSchema,
  })
  .meta({ id: 'ShardList' });

export const nodesSchema = z.strictObject({ items: z.array(nodeSchema) }).meta({ id: 'NodeList' });

const codes = Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]];

export const problemSchema = z
  .looseObject({
    type: z.string().describe('`urn:meshkit:error:CODE`'),
    title: z.string(),
    status: z.int(),
    code: z.enum(codes).meta({ id: 'ErrorCode' }),
    detail: z.string().describe('What is wrong and what to do, for people.'),
    errors: z
      .array(z.strictObject({ pointer: z.string(), detail: z.string() }))
      .readonly()
      .optional()
      .describe('What is wrong and where: /query/NAME, /path/NAME, /header/NAME or a place in the body.'),
  })
  .describe('RFC 9457; further members by code, see docs/errors.md.')
  .meta({ id: 'Problem' }) satisfies z.ZodType<Problem>;

const transport = z
  .strictObject({
    negotiated: z.string(),
    requested: z.string(),
    downgraded: z.boolean(),
    reason: z.string().optional().describe('Why, as the client said; only when downgraded.'),
  })
  .describe('How the stream travels.')
  .meta({ id: 'Transport' }) satisfies z.ZodType<Transport>;

const resetReason = z.enum([
  'expired',
  'lineageChanged',
  'snapshotInterrupted',
  'unsettled',
]) satisfies z.ZodType<ResetReason>;

/** Who changed a shard, and why. */
const history = {
  actor: z
    .strictObject({ kind: z.enum(['User', 'FieldManager', 'Operator']), name: z.string() })
    .optional()
    .describe('Absent for deletions: Kubernetes does not tell.'),
  reason: z.string().optional(),
  changeTicket: z.string().optional(),
  previousOwner: z.string().optional().describe('Who owned it before, when that changed.'),
};
const coalesced = z.int().min(2).optional().describe('How many changes this one stands for.');

const logItemSchema = z
  .strictObject({
    position,
    ordinal: count.describe('Tells apart changes that share a position, because they were reconstructed.'),
    at: time,
    type: z.enum(['ADDED', 'MODIFIED', 'DELETED']),
    namespace: z.string(),
    name: z.string(),
    uid: z.string(),
    before: shardSchema.optional(),
    after: shardSchema.optional(),
    ...history,
    source: z
      .enum(['watch', 'reconcile'])
      .describe('`reconcile`: found out afterwards by comparing states; states in between may be missing.'),
    coalesced,
  })
  .meta({ id: 'LogItem' });

const netItemSchema = z
  .strictObject({
    namespace: z.string(),
    name: z.string(),
    change: z
      .enum(['Added', 'Removed', 'Moved', 'Changed'])
      .describe('Moved: another owner; Changed: the same owner, something else differs.'),
    before: shardSchema.optional(),
    after: shardSchema.optional(),
    hops: z.int().min(1).describe('How many changes led there.'),
  })
  .meta({ id: 'NetItem' });

const pointSchema = z
  .strictObject({ position, at: time.optional() })
  .describe('`at` where somebody asked by time, or knows it.')
  .meta({ id: 'HistoryPoint' });

export const diffSchema = z
  .strictObject({
    mode: z.enum(['net', 'log']),
    lineage: z.string(),
    from: pointSchema,
    to: pointSchema,
    summary: z
      .strictObject({
        shards: count.describe('How many pass the filter at the end of the range.'),
        moved: count,
        added: count,
        removed: count,
        statusChanged: count.describe('The same owner, and something else differs.'),
        churn: z.number().min(0).describe('moved / shards; 0 when there are none.'),
        matrix: z
          .array(z.strictObject({ from: z.string(), to: z.string(), shards: count }))
          .describe('Who gave to whom (empty: nobody), largest first.'),
      })
      .describe('Of the whole range, the same on every page.')
      .meta({ id: 'DiffSummary' }),
    items: z.union([z.array(netItemSchema), z.array(logItemSchema)]),
    next: z.string().optional().describe('`cursor` of the next page; absent on the last.'),
    coalesced: count.describe('So many changes could not be told apart from others.'),
  })
  .meta({ id: 'Diff' }) satisfies z.ZodType<DiffPage>;

export const historySchema = z
  .strictObject({
    namespace: z.string(),
    name: z.string(),
    floor: pointSchema.describe('Where the history that is kept begins.'),
    items: z.array(logItemSchema).describe('Newest first.'),
    next: z.string().optional().describe('`cursor` of the next page; absent on the last.'),
  })
  .meta({ id: 'History' }) satisfies z.ZodType<HistoryPage>;

export const accessSchema = z
  .strictObject({
    user: z.string(),
    groups: z.array(z.string()).readonly(),
    namespace: z.string().optional().describe('Absent: in all namespaces.'),
    scopes: z
      .array(
        z.strictObject({
          scope: z.string().describe('`mesh.read`, `mesh.observe` or `mesh.operate`.'),
          allowed: z.boolean(),
          check: z.string().optional().describe('When not allowed: the command that checks it.'),
          grant: z.string().optional().describe('When not allowed: the command that grants it.'),
        }),
      )
      .readonly(),
  })
  .meta({ id: 'Access' }) satisfies z.ZodType<Access>;

const detail = z.string().optional().describe('Why, for people.');

export const statusSchema = z
  .strictObject({
    api: z.string().describe('Version of this contract.'),
    version: z.string().describe('Of the program.'),
    lineage: z.string(),
    position: position.describe('Everything up to here is served.'),
    cache: z
      .strictObject({ state: z.enum(['fresh', 'stale']), detail })
      .describe('`stale`: kube-apiserver is out of reach, so what is served may be of the past.'),
    journal: z
      .strictObject({
        state: z
          .enum(['current', 'behind', 'absent', 'unreadable'])
          .describe('`behind`: a change has been waiting to be written down for more than 5 s.'),
        head: pointSchema.optional().describe('The newest state that it tells of.'),
        floor: pointSchema.optional().describe('The oldest.'),
        newest: position
          .optional()
          .describe(
            'Of the newest change that this server holds; absent: it holds none. Found out by comparing lists it may be larger than in the journal: go by `state`.',
          ),
        behindMs: count
          .optional()
          .describe(
            'How long this server has known the oldest change that is not written down; absent: all are.',
          ),
        detail,
      })
      .meta({ id: 'JournalStatus' }),
  })
  .meta({ id: 'Status' }) satisfies z.ZodType<RepositoryStatus>;

/** What is in `data` of each event of a watch, as JSON. */
export const watchDataSchemas = {
  'snapshot-begin': z
    .strictObject({
      position,
      lineage: z.string(),
      reason: resetReason.optional(),
      delta: z.boolean().optional().describe('gRPC only: what is not listed stays as it is.'),
      transport,
    })
    .describe('A `shard` follows for each that passes; drop all others at `snapshot-end`.')
    .meta({ id: 'SnapshotBegin' }),
  shard: z
    .strictObject({
      type: z.enum(['ADDED', 'MODIFIED', 'DELETED']),
      cause: z
        .enum(['filter'])
        .optional()
        .describe('With DELETED: it still exists, but does not pass any more.'),
      position,
      current: shardSchema.optional(),
      previous: shardSchema.optional(),
      history: z.strictObject(history).optional().describe('Absent in a snapshot.') satisfies z.ZodType<
        ChangeHistory | undefined
      >,
      coalesced,
      source: z
        .enum(['reconcile'])
        .optional()
        .describe('Found out afterwards by comparing states: it may repeat what was said live.'),
    })
    .meta({ id: 'ShardEvent' }),
  'snapshot-end': z.strictObject({ position }).meta({ id: 'SnapshotEnd' }),
  bookmark: z
    .strictObject({ position, transport })
    .describe('Everything up to the position has been said.')
    .meta({ id: 'Bookmark' }),
  reset: z
    .strictObject({ reason: resetReason, transport })
    .describe('The token could not be continued; a snapshot follows.')
    .meta({ id: 'Reset' }),
  goaway: z
    .strictObject({ reconnectAfterMs: z.number().min(0) })
    .describe('The server ends the stream next.')
    .meta({ id: 'GoAway' }),
  'shard-error': problemSchema,
};

/** Server-sent events (WHATWG HTML, 9.2) of a watch; `id` resumes after the event. */
export const watchEventSchema = z
  .union(
    Object.entries(watchDataSchemas).map(([event, data]) =>
      z.strictObject({
        id: z.string().optional(),
        event: z.literal(event),
        data: z.string().meta({
          contentMediaType: 'application/json',
          contentSchema: { $ref: `#/$defs/${z.globalRegistry.get(data)?.id}` },
        }),
      }),
    ) as unknown as [z.ZodObject, z.ZodObject],
  )
  .describe('Each event of the stream; `data` is JSON.')
  .meta({ id: 'WatchEvent' });
