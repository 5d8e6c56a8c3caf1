import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import { ERRORS, ShardError } from '@meshkit/shards/errors';
import { invalid } from '@meshkit/shards/problem';
import type { VersionVector } from '@meshkit/shards/repository';
import fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { acceptsJson } from './accept.ts';
import type { AccessRecord, AccessRecorder, Decision } from './access-record.ts';
import type { Authorizer } from './access-review.ts';
import type { CacheHealth } from './kubernetes-repository.ts';
import type { Operation } from './operation.ts';
import { problemReply, shardErrorOf, validatorCompiler } from './problem-reply.ts';
import type { Authenticator, Identity } from './token-review.ts';

declare module 'fastify' {
  interface FastifyRequest {
    access: AccessRecord;
    identity?: Identity;
    arrivedAt: number;
  }
}

export interface RestOptions {
  operations: readonly Operation[];
  authenticator: Pick<Authenticator, 'authenticate'>;
  authorizer: Pick<Authorizer, 'require'>;
  cacheHealth: () => CacheHealth;
  recorder: AccessRecorder;
  clock: Clock;
  log: Log;
}

const MAX_URL_LENGTH = 8_192;
const MAX_HEADER_BYTES = 16_384;
/** Kubernetes names have at most 253 characters; the rest is room for percent-encoding. */
const MAX_PARAMETER_LENGTH = 1_024;

/**
 * The REST surface, apart from any listener: give requests to `routing` once `ready()` has resolved. Every operation
 * passes the same gates in the same order: who is it (401), is it well-formed (400), may they (403), can we serve (503).
 */
export function createRest(options: RestOptions): FastifyInstance {
  const { operations, recorder, clock, log } = options;
  const app = fastify({
    logger: false,
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
    request.access.code = shardError.code;
    request.access.decision = decisionOf(request.access.decision, shardError);
    const { status, headers, body } = problemReply(shardError);
    common(request, reply).code(status).headers(headers).send(Buffer.from(body));
  }

  // A request body means nothing to any operation so far; reading it would only cost memory.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  app.setValidatorCompiler(validatorCompiler);
  app.setErrorHandler((error, request, reply) => fail(error, request, reply));
  app.addHook('onRequest', async (request) => {
    request.arrivedAt = clock.monotonic();
    request.access = { op: 'unknown', decision: 'none' };
    checkSize(request);
    // Before Fastify looks at the body, which it does differently for methods that it does not know.
    if (request.is404) throw noSuchRoute(operations, request);
  });
  app.addHook('onResponse', async (request, reply) => {
    const durationMs = request.arrivedAt === undefined ? 0 : clock.monotonic() - request.arrivedAt;
    const access = request.access ?? { op: 'unknown', decision: 'none' };
    recorder.record(access, { status: reply.statusCode, protocol: protocolOf(request), durationMs });
  });
  for (const operation of operations) register(app, operation, options);
  return app;
}

function checkSize({ url, raw, headers }: FastifyRequest): void {
  if (url.length > MAX_URL_LENGTH) {
    throw new ShardError('uriTooLong', `the URL has more than ${MAX_URL_LENGTH} characters`);
  }
  const bytes = raw.rawHeaders.reduce((sum, text) => sum + text.length, 0);
  if (bytes > MAX_HEADER_BYTES) {
    throw new ShardError('headersTooLarge', `the headers have more than ${MAX_HEADER_BYTES} bytes`);
  }
  if (raw.httpVersionMajor < 2 && headers.host === undefined) {
    throw invalid([{ pointer: '/header/host', detail: 'is missing' }]);
  }
}

function register(app: FastifyInstance, operation: Operation, options: RestOptions): void {
  const { op, scope, method, url } = operation;
  app.route({
    method,
    url,
    schema: { params: operation.params, querystring: operation.query },
    onRequest: async (request) => {
      request.access = { op, scope, decision: 'none' };
      request.identity = await options.authenticator.authenticate(request.headers.authorization);
      request.access.user = request.identity.user;
      if (!acceptsJson(request.headers.accept)) {
        throw new ShardError('notAcceptable', 'the Accept header excludes application/json', {
          errors: [{ pointer: '/header/accept', detail: 'must allow application/json' }],
        });
      }
    },
    handler: async (request, reply) => {
      const { params, query } = request;
      const target = operation.target(params, query);
      Object.assign(request.access, target);
      // Authentication has always run: Fastify calls no handler after a hook that threw.
      await options.authorizer.require(request.identity!, scope, target);
      request.access.decision = 'allow';
      const health = options.cacheHealth();
      if (health.cold) throw new ShardError('unavailable', health.cold, { reason: 'cacheCold' });
      const { body, count, versionVector } = await operation.answer(params, query);
      request.access.count = count;
      common(request, reply).type('application/json').header('cache-control', 'private, no-cache');
      if (versionVector) reply.header('mesh-version-vector', vectorHeader(versionVector));
      // An answer from memory while the cluster is out of reach is true, but perhaps of the past.
      if (health.stale) reply.header('mesh-cache', 'stale');
      return reply.send(body);
    },
  });
}

function common(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply.headers({
    'mesh-protocol': protocolOf(request),
    vary: 'Accept, Authorization',
    'x-content-type-options': 'nosniff',
  });
}

/** By the connection itself; nothing that a client claims counts. */
function protocolOf({ raw }: FastifyRequest): string {
  return raw.httpVersionMajor >= 2 ? `h${raw.httpVersionMajor}` : `http/${raw.httpVersion}`;
}

/** A structured header (RFC 9651); positions are strings, because they outgrow its integers. */
function vectorHeader({ lineage, position }: VersionVector): string {
  const members = [`position="${position}"`];
  if (lineage !== undefined) members.unshift(`lineage="${lineage}"`);
  return members.join(', ');
}

function decisionOf(before: Decision, { code }: ShardError): Decision {
  if (before === 'allow') return before;
  const http = ERRORS[code].http;
  if (http === 401) return 'unauthenticated';
  if (http === 403) return 'deny';
  return http === 503 || http === 429 ? 'unavailable' : 'none';
}

function noSuchRoute(operations: readonly Operation[], { method, url }: FastifyRequest): ShardError {
  const path = url.split('?', 1)[0] ?? '';
  const allow = operations
    .filter((operation) => matchesTemplate(operation.url, path))
    .flatMap((operation) => (operation.method === 'GET' ? ['GET', 'HEAD'] : [operation.method]));
  if (allow.length > 0) {
    return new ShardError('methodNotAllowed', `${method} is not possible here; ${allow.join(' and ')} are`, {
      allow,
    });
  }
  return new ShardError('notFound', `there is nothing at ${path.slice(0, 200)}`, {
    errors: [{ pointer: '/path', detail: 'no such route' }],
  });
}

function matchesTemplate(template: string, path: string): boolean {
  const [wanted, given] = [template.split('/'), path.split('/')];
  return (
    wanted.length === given.length &&
    wanted.every((part, at) => (part.startsWith(':') ? given[at] !== '' : part === given[at]))
  );
}
