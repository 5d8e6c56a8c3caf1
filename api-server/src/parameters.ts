import { DNS_LABEL, MAX_LENGTH, NAMES, PHASES } from '@meshkit/shards/filter';
import { z } from 'zod';
import { MAX_REPEATS } from './request-size.ts';

/**
 * Query and path parameters by their shape, as they are checked and as the OpenAPI document shows them (`meta` stands
 * where JSON Schema cannot be derived). What the filters mean is `parseShardFilter`'s business.
 */

const MAX_PAGE_SIZE = 1_000;
const DEFAULT_PAGE_SIZE = 100;

const ONCE = 'give it once';
const namespace = z
  .string(ONCE)
  .regex(DNS_LABEL, 'not the name of a namespace: lower-case letters, digits and "-", at most 63 characters');

/** One or several values: repeated, or separated by commas. */
function several(item: z.core.JSONSchema.BaseSchema) {
  return z
    .union([z.string(), z.array(z.string())])
    .meta({ override: { type: 'array', items: item, minItems: 1, maxItems: MAX_REPEATS } });
}

const names = several({ type: 'string', pattern: NAMES });
const statuses = several({ type: 'string', enum: [...PHASES] });

const pageSize = z
  .preprocess(
    (value) => (typeof value === 'string' && /^\d{1,300}$/.test(value) ? Number(value) : value),
    z.number('a whole number from 1').min(1, 'a whole number from 1'),
  )
  .transform((size) => Math.min(size, MAX_PAGE_SIZE))
  .default(DEFAULT_PAGE_SIZE)
  .meta({ override: { type: 'integer', minimum: 1, default: DEFAULT_PAGE_SIZE } });

const position = z.string(ONCE).regex(/^(0|[1-9]\d{0,39})$/, 'a position: decimal digits');
const token = (what: string) => z.string(ONCE).min(1, `it is empty; ${what}`).max(2_048, 'too long');

const minVersion = position
  .optional()
  .describe(
    'Answer from a state at least as new as this position, waiting up to 3 s for it; else 503. To read your own write, pass its resourceVersion.',
  );

/** Of list and watch alike. */
const conditions = {
  namespace: namespace.optional().describe('Only this namespace; absent: all that exist.'),
  shardSet: z
    .string(ONCE)
    .meta({ override: { type: 'string', pattern: DNS_LABEL.source } })
    .optional()
    .describe('Only shards of the ShardSet of this name.'),
  owner: names.optional().describe('Only shards that one of these nodes owns; repeat it or use commas.'),
  status: statuses.optional().describe('Only shards in one of these phases; case is ignored.'),
  zone: names.optional().describe('Only shards whose locality asks for one of these zones.'),
  search: z
    .string(ONCE)
    .meta({ override: { type: 'string', minLength: 1, maxLength: MAX_LENGTH } })
    .optional()
    .describe('Only shards whose id contains this text, literally.'),
};

export const listQuery = z.strictObject({
  ...conditions,
  pageSize: pageSize.describe(
    `At most this many shards; more than ${MAX_PAGE_SIZE} counts as ${MAX_PAGE_SIZE}.`,
  ),
  cursor: token('leave it out to start from the beginning')
    .optional()
    .describe('`nextCursor` of the page before, with the same filters.'),
  minVersion,
});

export const shardQuery = z.strictObject({ minVersion });

const inNamespace = (what: string) => z.strictObject({ namespace: namespace.optional().describe(what) });
export const nodesQuery = inNamespace('Only nodes of this namespace; absent: all that exist.');
export const accessQuery = inNamespace('What the caller may do in this namespace; absent: in all.');
export const statusQuery = inNamespace('A namespace that the caller may read; absent: all of them.');

export const watchQuery = z.strictObject({
  ...conditions,
  resumeToken: token('leave it out to start anew')
    .optional()
    .describe(
      'Of a list or an earlier watch with the same filters: go on after it. A `Last-Event-ID` header beats it.',
    ),
  from: z
    .enum(['beginning', 'now'], 'beginning or now')
    .optional()
    .describe(
      'Without a token: a snapshot first (beginning, the default), or only what changes from now on.',
    ),
  onExpired: z
    .enum(['snapshot', 'fail'], 'snapshot or fail')
    .optional()
    .describe('When the token cannot be continued: `reset` and a snapshot (the default), or 410.'),
  allowCoalescing: z
    .enum(['true', 'false'], 'true or false')
    .optional()
    .transform((text) => text === 'true')
    .describe('Let several changes of one shard become one when the client does not keep up.'),
});

export const explainQuery = z.strictObject({
  minVersion,
  maxItems: z
    .preprocess(
      (value) => (typeof value === 'string' && /^\d{1,300}$/.test(value) ? Number(value) : value),
      z.number('a whole number from 1').min(1, 'a whole number from 1'),
    )
    .transform((size) => Math.min(size, MAX_PAGE_SIZE))
    .default(MAX_PAGE_SIZE)
    .meta({ override: { type: 'integer', minimum: 1, default: MAX_PAGE_SIZE } })
    .describe('At most this many nodes; `nodesTotal` says how many there are.'),
});

export const noQuery = z.strictObject({});

const moment = (what: string) =>
  token('leave it out')
    .optional()
    .describe(
      `${what}: a resume token (of whatever filter), a position, a time (RFC 3339), or a duration before now such as 90s, 10m, 2h or 7d.`,
    );

const placeCursor = token('leave it out to start from the beginning').optional();

export const diffQuery = z.strictObject({
  ...conditions,
  from: moment('Changes after this; required unless there is a cursor'),
  to: moment('Changes up to and including this; absent: now'),
  mode: z
    .enum(['net', 'log'], 'net or log')
    .default('net')
    .describe('`net`: a row for each shard, with what it was and is. `log`: every change.'),
  pageSize: pageSize.describe(
    `At most this many items; more than ${MAX_PAGE_SIZE} counts as ${MAX_PAGE_SIZE}.`,
  ),
  cursor: placeCursor.describe(
    '`next` of the page before, with the same filters and mode; it has the range.',
  ),
});

export const historyQuery = z.strictObject({
  pageSize: pageSize.describe(
    `At most this many changes; more than ${MAX_PAGE_SIZE} counts as ${MAX_PAGE_SIZE}.`,
  ),
  cursor: placeCursor.describe('`next` of the page before.'),
  since: moment('Nothing at or before this'),
});

export const noParams = z.object({});

export const shardParams = z.object({
  namespace: namespace.describe('Namespace of the shard.'),
  name: z
    .string()
    .max(253, 'at most 253 characters')
    .regex(
      /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/,
      'not the name of a shard: SHARDSET.SHARDID, such as orders.0042',
    )
    .describe('SHARDSET.SHARDID, such as orders.0042.'),
});
