import type { VersionVector } from '@meshkit/shards/repository';
import type { Scope, Target } from '@meshkit/shards/scope';
import type { z } from 'zod';

/** What an operation answers: the JSON bytes, how many records they hold (for the log), and how new they are. */
interface Answer {
  body: Buffer;
  count: number;
  versionVector?: VersionVector;
}

/**
 * One operation of the REST surface. It says what it needs, and the surface sees to it before `answer` runs:
 * parameters that pass their schema, and a caller who has `scope` on `target`.
 */
export interface Operation<Params = unknown, Query = unknown> {
  /** Short name for logs and metrics. */
  op: string;
  method: 'GET';
  /** Fastify's form, `/meshkit/shards/:namespace/:name`. */
  url: string;
  scope: Scope;
  params: z.ZodType<Params>;
  query: z.ZodType<Query>;
  target(params: Params, query: Query): Target;
  answer(params: Params, query: Query): Promise<Answer>;
}
