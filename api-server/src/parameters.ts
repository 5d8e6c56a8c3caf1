import { PHASES } from '@meshkit/shards/filter';
import { z } from 'zod';

/** Query and path parameters by their shape; what the filters mean is `parseShardFilter`'s business. */

const MAX_PAGE_SIZE = 1_000;
const DEFAULT_PAGE_SIZE = 100;

const once = z.string('give it once');
const several = z.union([z.string(), z.array(z.string())]);

const namespace = z
  .string('give it once')
  .regex(
    /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/,
    'not the name of a namespace: lower-case letters, digits and "-", at most 63 characters',
  );

const pageSize = z
  .preprocess(
    (value) => (typeof value === 'string' && /^\d{1,9}$/.test(value) ? Number(value) : value),
    z.int('a whole number from 1').min(1, 'a whole number from 1'),
  )
  .transform((size) => Math.min(size, MAX_PAGE_SIZE))
  .default(DEFAULT_PAGE_SIZE);

export const listQuery = z.strictObject({
  namespace: namespace.optional().describe('Only this namespace; absent: all that exist.'),
  shardSet: once.optional().describe('Only shards of the ShardSet of this name.'),
  owner: several.optional().describe('Only shards that one of these nodes owns; repeat it or use commas.'),
  status: several
    .optional()
    .describe(`Only shards in one of these phases: ${PHASES.join(', ')}; case is ignored.`),
  zone: several.optional().describe('Only shards whose locality asks for one of these zones.'),
  search: once.optional().describe('Only shards whose id contains this text, literally.'),
  pageSize: pageSize.describe(
    `At most this many shards; more than ${MAX_PAGE_SIZE} counts as ${MAX_PAGE_SIZE}.`,
  ),
  cursor: once.optional().describe('`nextCursor` of the page before, with the same filters.'),
});

export const nodesQuery = z.strictObject({
  namespace: namespace.optional().describe('Only nodes of this namespace; absent: all that exist.'),
});

export const noQuery = z.strictObject({});
export const noParams = z.object({});

export const shardParams = z.object({
  namespace,
  name: z
    .string()
    .max(253, 'at most 253 characters')
    .regex(
      /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/,
      'not the name of a shard: SHARDSET.SHARDID, such as orders.0042',
    ),
});
