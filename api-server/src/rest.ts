import { promisify } from 'node:util';
import { gzip as gzipCallback } from 'node:zlib';
import { fastifySSE } from '@fastify/sse';
import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { noneMatch } from '@meshkit/shards/etag';
import { DNS_LABEL } from '@meshkit/shards/filter';
import { invalid } from '@meshkit/shards/problem';
import type { AsOf } from '@meshkit/shards/repository';
import type { Scope, Target } from '@meshkit/shards/scope';
import type { Span } from '@opentelemetry/api';
import fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import manifest from '../package.json' with { type: 'json' };
import { type AccessRecord, type AccessRecorder, noteFailure } from './access-record.ts';
import { type Authorizer, refusalOf } from './access-review.ts';
import type { CacheHealth } from './kubernetes-repository.ts';
import { accepts, acceptsGzip } from './negotiation.ts';
import type { Answer, Operation, StreamExchange, StreamingOperation, Transport } from './operation.ts';
import { shardParams } from './parameters.ts';
import { problemReply, shardErrorOf, validatorCompiler } from './problem-reply.ts';
import { carrierOf, protocolOf, transportOf } from './protocol.ts';
import type { RateLimits } from './rate-limits.ts';
import { MAX_BODY_BYTES, MAX_PARAMETER_LENGTH, refuseRepeats, refuseTooMuch } from './request-size.ts';
import { allowedMethods, noSuchRoute } from './routes.ts';
import type { Authenticator, Identity } from './token-review.ts';
import { cutUnread, type Patience } from './unread.ts';

declare module 'fastify' {
  interface FastifyRequest {
    access: AccessRecord;
    identity?: Identity;
    transport?: Transport;
    arrivedAt: number;
    span?: Span;
  }
}

/** RFC 9110, section 10.2.4. */
const SERVER = `meshkit-shards/${manifest.version}`;

export interface RestOptions {
  operations: readonly Operation[];
  /** Served at `/openapi.json` to everybody: it says what can be asked, not what is there. */
  openApi: () => Answer;
  authenticator: Pick<Authenticator, 'authenticate'>;
  authorizer: Pick<Authorizer, 'require'>;
  limits: Pick<RateLimits, 'request'>;
  cacheHealth: () => CacheHealth;
  recorder: AccessRecorder;
  clock: Clock;
  log: Log;
  /** Absent: as documented. */
  patience?: Patience;
}

export const JSON_TYPE = 'application/json';
export const STREAM_TYPE = 'text/event-stream';
/** Below this, compressing costs more time than it saves. */
const GZIP_FROM_BYTES = 16_384;
const gzip = promisify(gzipCallback);

/**
 * The REST surface, apart from any listener: give requests to `routing` once `ready()` has resolved. Every operation
 * passes the same gates in the same order: who is it (401), how much already (429), is it well-formed (406, 400), may
 * they (403), can we serve (503).
 */
export function createRest(options: RestOptions): FastifyInstance {
  const { operations, recorder, clock, log } = options;
  const app = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    routerOptions: { maxParamLength: MAX_PARAMETER_LENGTH },
    frameworkErrors: (error, request, reply) => fail(error, request, reply),
  }).withTypeProvider<ZodTypeProvider>();

  function fail(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    // Methods that Fastify has never heard of pass by every hook.
    const noRoute = (error as FastifyError).code === 'FST_ERR_NOT_FOUND';
    const shardError = noRoute
      ? noSuchRoute(operations, request)
      : shardErrorOf(error, (cause) => log.error({ err: cause, url: request.url }, 'request failed'));
    // Errors in the framework come before the hooks that set these.
    request.access ??= { op: 'unknown', decision: 'none' };
    noteFailure(request.access, shardError);
    Object.assign(request.access, targetOf(request));
    const { status, headers, body } = problemReply(shardError);
    common(request, reply).code(status).headers(headers).send(Buffer.from(body));
  }

  // What is not JSON means nothing to any operation; reading it would only cost memory.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  app.addContentTypeParser(JSON_TYPE, { parseAs: 'string' }, async (_request: FastifyRequest, text: string) =>
    parseJson(text),
  );
  app.setValidatorCompiler(validatorCompiler);
  app.setErrorHandler((error, request, reply) => fail(error, request, reply));
  app.addHook('onRequest', async (request, reply) => {
    request.arrivedAt = clock.monotonic();
    request.access = { op: 'unknown', decision: 'none' };
    request.span = recorder.begin(request.headers);
    refuseTooMuch(request);
    // Before Fastify looks at the body, which it does differently for methods that it does not know.
    if (!request.is404) return;
    const allow = request.method === 'OPTIONS' ? allowedMethods(operations, request.url) : [];
    if (allow.length === 0) throw noSuchRoute(operations, request);
    request.access.op = 'options';
    return common(request, reply).code(204).header('allow', allow.join(', ')).send();
  });
  app.addHook('onSend', async (_request, { raw }, payload) => {
    if (Buffer.isBuffer(payload)) cutUnread(carrierOf(raw), payload.length, options.patience);
  });
  app.addHook('onResponse', async (request, reply) => {
    const durationMs = request.arrivedAt === undefined ? 0 : clock.monotonic() - request.arrivedAt;
    const access = request.access ?? { op: 'unknown', decision: 'none' };
    const outcome = { status: reply.statusCode, protocol: protocolOf(request.raw), durationMs };
    recorder.record(access, outcome, request.span);
  });
  app.get('/openapi.json', async (request, reply) => {
    request.access.op = 'openapi';
    requireAccept(request, JSON_TYPE);
    return send(request, reply, options.openApi());
  });
  // Routes of streams have to be there after the plugin; heartbeats are the hub's, one timer for all streams.
  app.register(fastifySSE, { heartbeatInterval: 0 });
  app.after(() => {
    for (const operation of operations) register(app, operation, options);
  });
  return app;
}

function register(app: FastifyInstance, operation: Operation, options: RestOptions): void {
  const { op, scope, method, url } = operation;
  const streams = 'stream' in operation;
  app.route({
    method,
    url,
    // A HEAD of a stream would have no end.
    exposeHeadRoute: !streams,
    bodyLimit: operation.body?.maxBytes ?? MAX_BODY_BYTES,
    ...(streams && { sse: { kind: 'only', heartbeat: false } as const }),
    schema: {
      params: operation.params,
      querystring: operation.query,
      ...(operation.body && { body: operation.body.schema }),
    },
    onRequest: async (request) => {
      request.access = { op, scope, decision: 'none' };
      if (streams) request.access.transport = 'sse';
      request.identity = await options.authenticator.authenticate(request.headers.authorization);
      request.access.user = request.identity.user;
      options.limits.request(request.identity);
      requireAccept(request, streams ? STREAM_TYPE : JSON_TYPE);
      refuseRepeats(request);
      if (operation.body) requireJson(request);
      request.transport = transportOf(request.raw);
      options.recorder.downgraded(request.transport);
    },
    handler: async (request, reply) => {
      const { params, query } = request;
      const target = operation.target(params, query, request.body);
      Object.assign(request.access, target);
      // Authentication has always run: Fastify calls no handler after a hook that threw.
      const identity = request.identity!;
      if (scope !== undefined) await options.authorizer.require(identity, scope, target);
      request.access.decision = 'allow';
      const health = scope === undefined ? {} : options.cacheHealth();
      if (health.cold) throw new ShardError('unavailable', health.cold, { reason: 'cacheCold' });
      // An answer from memory while the cluster is out of reach is true, but perhaps of the past.
      if (health.stale) reply.header('mesh-cache', 'stale');
      if (streams)
        return operation.stream(params, query, exchangeOf(operation, request, reply, target, options));
      const gone = new AbortController();
      // An error of the registry: what gives up because of it is no failure of ours.
      reply.raw.once('close', () => {
        if (!reply.raw.writableFinished) gone.abort(new ShardError('timeout', 'the caller has gone'));
      });
      const refusal = (other: Scope) => refusalOf(options.authorizer, identity, other, target);
      const asked = { body: request.body, identity, refusal };
      return send(request, reply, await operation.answer(params, query, gone.signal, asked));
    },
  });
}

/** Access of a stream is reviewed again and again by whoever runs it, with the credentials that it came with. */
function exchangeOf(
  { scope }: StreamingOperation,
  request: FastifyRequest,
  reply: FastifyReply,
  target: Target,
  { authenticator, authorizer }: RestOptions,
): StreamExchange {
  const identity = request.identity!;
  const { authorization } = request.headers;
  const check = async () =>
    authorizer.require(await authenticator.authenticate(authorization), scope, target);
  const caller = { key: identity.user, check };
  return { request, reply: common(request, reply), identity, caller, transport: request.transport! };
}

/** What a request is about that may be refused before its operation is asked; what cannot exist is left out. */
function targetOf({ params, query, body }: FastifyRequest): Target {
  const shard = shardParams.safeParse(params);
  if (shard.success) return shard.data;
  const named = [params, query, body].map((part) => (part as { namespace?: unknown } | null)?.namespace);
  const namespace = named.find((name) => typeof name === 'string' && DNS_LABEL.test(name));
  return namespace === undefined ? {} : { namespace: namespace as string };
}

function requireJson({ headers }: FastifyRequest): void {
  const type = headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
  if (type === JSON_TYPE) return;
  throw new ShardError('unsupportedMediaType', `send the body as ${JSON_TYPE}`, {
    errors: [{ pointer: '/header/content-type', detail: `must be ${JSON_TYPE}` }],
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const detail = text.trim() === '' ? 'is empty' : `is not JSON: ${(error as Error).message}`;
    throw invalid([{ pointer: '/body', detail }]);
  }
}

function requireAccept(request: FastifyRequest, mediaType: string): void {
  if (accepts(request.headers.accept, mediaType)) return;
  throw new ShardError('notAcceptable', `the Accept header excludes ${mediaType}`, {
    errors: [{ pointer: '/header/accept', detail: `must allow ${mediaType}` }],
  });
}

async function send(request: FastifyRequest, reply: FastifyReply, answer: Answer): Promise<FastifyReply> {
  const { etag, count, asOf, links } = answer;
  request.access.count = count;
  const cacheControl = etag === undefined ? 'no-store' : 'private, no-cache';
  common(request, reply).headers({ ...(etag === undefined ? {} : { etag }), 'cache-control': cacheControl });
  if (asOf) reply.header('mesh-version-vector', vectorHeader(asOf));
  const kept = etag !== undefined && !noneMatch(request.headers['if-none-match'], etag);
  if (kept) return reply.code(304).send();
  if (links) reply.header('link', linkHeader(links()));
  reply.type(JSON_TYPE);
  const body = answer.encode();
  if (body.length < GZIP_FROM_BYTES || !acceptsGzip(request.headers['accept-encoding'])) {
    return reply.send(body);
  }
  reply.header('content-encoding', 'gzip');
  return reply.send(await gzip(body, { level: 1 }));
}

function common(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply.headers({
    'mesh-protocol': protocolOf(request.raw),
    server: SERVER,
    vary: 'Accept, Accept-Encoding, Authorization',
    'x-content-type-options': 'nosniff',
  });
}

/** A structured header (RFC 9651); positions are strings, because they outgrow its integers. */
function vectorHeader({ lineage, position }: AsOf): string {
  const members = [`position="${position}"`];
  if (lineage !== undefined) members.unshift(`lineage="${lineage}"`);
  return members.join(', ');
}

function linkHeader(links: Readonly<Record<string, string>>): string {
  return Object.entries(links)
    .map(([relation, path]) => `<${path}>; rel="${relation}"`)
    .join(', ');
}
