import type { ErrorCode, ShardError } from '@meshkit/shards/errors';
import type { AsOf } from '@meshkit/shards/repository';
import type { Scope, Target } from '@meshkit/shards/scope';
import type { WatchCaller } from '@meshkit/shards/watch';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import type { Identity } from './token-review.ts';

/** What an operation answers: an entity tag, and the JSON bytes for those who do not have them yet. */
export interface Answer {
  /** RFC 9110, section 8.8.3, quotes included; absent: of an answer that is not to be kept. */
  etag?: string;
  /** Called at most once, and not at all when the caller has this answer already. */
  encode(): Buffer;
  /** Records in the answer, for the log. */
  count: number;
  /** How new it is; for those who have it already, up to when it still holds. */
  asOf?: AsOf;
  /** Relation -> path and query, for the Link header (RFC 8288); called when `encode` is. */
  links?(): Readonly<Record<string, string>>;
}

/** What every operation says of itself; the gates of the surface, its document and its log follow from it. */
interface Described<Params, Query> {
  /** Short name for logs and metrics. */
  op: string;
  method: 'GET' | 'POST';
  /** Fastify's form, `/meshkit/shards/:namespace/:name`. */
  url: string;
  /** Absent: whoever is known may ask; what is answered is of the caller alone, and needs no cache. */
  scope?: Scope;
  params: z.ZodType<Params>;
  query: z.ZodType<Query>;
  /** Of what is sent as JSON, with POST. */
  body?: { schema: z.ZodType; maxBytes: number; example: unknown };
  target(params: Params, query: Query, body?: unknown): Target;
  /** For the OpenAPI document. */
  document: OperationDocument;
}

interface OperationDocument {
  /** Unique among all operations: generated clients name their functions after it. */
  operationId: string;
  summary: string;
  description: string;
  /** Of a successful answer. */
  schema: z.ZodType;
  example: unknown;
  /** Besides those that every operation may give. */
  errors: readonly ErrorCode[];
  /** Says how new it is (`Mesh-Version-Vector`). */
  versioned?: true;
  /** Has no entity tag, and is not to be kept (`no-store`). */
  momentary?: true;
}

/**
 * One operation of the REST surface. It says what it needs, and the surface sees to it before `answer` runs:
 * parameters that pass their schema, and a caller who has `scope` on `target`.
 */
export interface AnsweringOperation<Params = unknown, Query = unknown> extends Described<Params, Query> {
  /** `signal` aborts when the caller has gone. */
  answer(params: Params, query: Query, signal: AbortSignal, asked: Asked): Promise<Answer>;
}

/** What else there is to know of a request. */
export interface Asked {
  /** As the operation's schema gives it. */
  body: unknown;
  identity: Identity;
  /** The refusal when the caller does not have this scope on the same target; rejects when nobody can say. */
  refusal(scope: Scope): Promise<ShardError | undefined>;
}

/** An operation whose answer does not end by itself: Server-Sent Events, behind the same gates. */
export interface StreamingOperation<Params = unknown, Query = unknown> extends Described<Params, Query> {
  scope: Scope;
  /**
   * Throws before its first byte, while a status can still say what is wrong; from then on (`reply.hijack()`) the
   * answer is its own. `reply` carries the common headers already. Resolves when the stream has ended.
   */
  stream(params: Params, query: Query, exchange: StreamExchange): Promise<void>;
}

export interface StreamExchange {
  request: FastifyRequest;
  reply: FastifyReply;
  identity: Identity;
  /** How the request travelled, for the envelope; `request.access.count` is the stream's to keep. */
  transport: Transport;
  /** For `ShardRepository.watch`: streams of one user are counted together, and `check` asks again what they may. */
  caller: WatchCaller;
}

/** `meshkit` knows whether a caller came down from a newer protocol only because the caller says so. */
export interface Transport {
  /** `h2`, `http/1.1`, `h3` */
  negotiated: string;
  requested: string;
  downgraded: boolean;
  /** Present when downgraded. */
  reason?: string;
}

export type Operation<Params = unknown, Query = unknown> =
  | AnsweringOperation<Params, Query>
  | StreamingOperation<Params, Query>;
