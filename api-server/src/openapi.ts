import { ERRORS, type ErrorCode } from '@meshkit/shards/errors';
import { weakEtag } from '@meshkit/shards/etag';
import { PROBLEM_MEDIA_TYPE } from '@meshkit/shards/problem';
import { SCOPE_ROLES } from '@meshkit/shards/scope';
import { z } from 'zod';
import { problemSchema, watchDataSchemas } from './answer-schemas.ts';
import { exampleProblem } from './examples.ts';
import type { Answer, Operation } from './operation.ts';
import { DOWNGRADE_REASONS } from './protocol.ts';
import { JSON_TYPE, STREAM_TYPE } from './rest.ts';

type Json = Record<string, unknown>;

/** What any operation may answer instead, whatever it does. */
const EVERYWHERE: readonly ErrorCode[] = [
  'invalidArgument',
  'unauthenticated',
  'scopeMissing',
  'identityRefused',
  'methodNotAllowed',
  'notAcceptable',
  'requestTooLarge',
  'uriTooLong',
  'headersTooLarge',
  'rateLimited',
  'internal',
  'unavailable',
  'draining',
];

const HEADERS: Json = {
  ETag: { description: 'RFC 9110, section 8.8.3.', schema: { type: 'string' } },
  'Cache-Control': { schema: { type: 'string', enum: ['private, no-cache', 'no-store'] } },
  Vary: { schema: { type: 'string' } },
  'Mesh-Protocol': { description: 'The protocol of this request.', schema: { type: 'string' } },
  'Mesh-Version-Vector': {
    description: 'How new the answer is: `lineage="…", position="…"` (RFC 9651).',
    schema: { type: 'string' },
  },
  'Mesh-Cache': {
    description: '`stale`: kube-apiserver is out of reach, so this may be of the past.',
    schema: { type: 'string', const: 'stale' },
  },
  Link: { description: 'rel="next", rel="monitor" (RFC 8288).', schema: { type: 'string' } },
  'Retry-After': { description: 'Seconds.', schema: { type: 'integer', minimum: 1 } },
  'WWW-Authenticate': { description: 'RFC 6750.', schema: { type: 'string' } },
  Allow: { description: 'RFC 9110, section 10.2.1.', schema: { type: 'string' } },
};

/** The OpenAPI 3.1 document of the surface: of the operations' own schemas, and of the error registry. */
export function openApiDocument(operations: readonly Operation[]): Json {
  const schemas: Json = {};
  const paths: Record<string, Json> = {};
  for (const operation of operations) {
    const path = operation.url.replaceAll(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [operation.method.toLowerCase()]: operationObject(operation, schemas) };
  }
  refer(problemSchema, schemas);
  return {
    openapi: '3.1.0',
    info: {
      title: 'MeshKit Shards',
      version: 'v1',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description:
        'Who owns which shard. Unknown parameters are refused. Everything a caller may do is a verb of Kubernetes RBAC; see docs/api.md.',
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }],
    tags: [{ name: 'shards' }, { name: 'document' }],
    paths: { ...paths, '/openapi.json': documentPath() },
    components: {
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description: 'A Kubernetes token for the audience `meshkit-shards` (TokenRequest).',
        },
      },
      schemas,
      headers: HEADERS,
      examples: Object.fromEntries(
        codesOfRegistry().map((code) => [code, { summary: ERRORS[code].title, value: exampleProblem(code) }]),
      ),
    },
    'x-meshkit-errors': Object.fromEntries(
      codesOfRegistry().map((code) => {
        const { http, grpc, exit, retry } = ERRORS[code];
        return [code, { http, grpc, exit, retry }];
      }),
    ),
  };
}

/** The document as it is served; built when somebody asks for the first time. */
export function openApiAnswer(operations: readonly Operation[]): () => Answer {
  let text: string | undefined;
  return () => {
    text ??= JSON.stringify(openApiDocument(operations));
    const body = text;
    return { etag: weakEtag(body), encode: () => Buffer.from(body), count: operations.length };
  };
}

function codesOfRegistry(): ErrorCode[] {
  return Object.keys(ERRORS) as ErrorCode[];
}

function operationObject(operation: Operation, schemas: Json): Json {
  const { document, scope } = operation;
  const { operationId, summary, description, schema, example, errors } = document;
  const streams = 'stream' in operation;
  const content = streams ? STREAM_TYPE : JSON_TYPE;
  // A stream has an example for each of its events.
  const examples = streams ? (example as Json) : { example };
  if (streams) for (const data of Object.values(watchDataSchemas)) refer(data, schemas);
  const headers = ['Cache-Control', 'Vary', 'Mesh-Protocol'];
  if (scope !== undefined) headers.push('Mesh-Cache');
  const kept = !streams && operation.method === 'GET' && !document.momentary;
  if (kept) headers.push('ETag');
  const needed =
    scope === undefined
      ? 'Needs a token, and no scope.'
      : `Needs mesh.${scope} (ClusterRole \`${SCOPE_ROLES[scope]}\`) on the namespace, or on all.`;
  const refusals = EVERYWHERE.filter((code) => scope !== undefined || code !== 'scopeMissing');
  if (document.versioned) headers.push('Mesh-Version-Vector');
  if (operation.op === 'list') headers.push('Link');
  return {
    operationId,
    tags: ['shards'],
    summary,
    description: `${description}\n\n${needed}`,
    ...(scope === undefined ? {} : { 'x-meshkit-scope': `mesh.${scope}` }),
    parameters: [
      ...parametersOf(operation.params, 'path'),
      ...parametersOf(operation.query, 'query'),
      ...headerParameters(streams, kept),
    ],
    ...(operation.body ? { requestBody: requestBody(operation.body, schemas) } : {}),
    responses: {
      200: {
        description: summary,
        headers: referHeaders(headers),
        content: { [content]: { schema: refer(schema, schemas), examples: valued(examples) } },
      },
      ...(kept
        ? {
            304: {
              description: 'You have it already.',
              headers: referHeaders(headers.filter((name) => name !== 'Link')),
            },
          }
        : {}),
      ...problems([...refusals, ...errors]),
    },
  };
}

function requestBody({ schema, example }: NonNullable<Operation['body']>, schemas: Json): Json {
  const content = { schema: refer(schema, schemas, 'input'), examples: valued({ example }) };
  return { required: true, content: { [JSON_TYPE]: content } };
}

function valued(examples: Json): Json {
  return Object.fromEntries(Object.entries(examples).map(([name, value]) => [name, { value }]));
}

/** By status: OpenAPI knows no codes, so the codes of one status are its examples. */
function problems(codes: readonly ErrorCode[]): Json {
  const responses: Json = {};
  for (const [status, sharing] of Object.entries(Object.groupBy(codes, (code) => ERRORS[code].http))) {
    const known = sharing ?? [];
    const headers = ['Vary', 'Mesh-Protocol'];
    if (known.some((code) => ERRORS[code].retry)) headers.push('Retry-After');
    if (status === '401' || status === '403') headers.push('WWW-Authenticate');
    if (status === '405') headers.push('Allow');
    responses[status] = {
      description: known.map((code) => `\`${code}\`: ${ERRORS[code].title}`).join('; '),
      headers: referHeaders(headers),
      content: {
        [PROBLEM_MEDIA_TYPE]: {
          schema: { $ref: '#/components/schemas/Problem' },
          examples: Object.fromEntries(
            known.map((code) => [code, { $ref: `#/components/examples/${code}` }]),
          ),
        },
      },
    };
  }
  return responses;
}

function referHeaders(names: readonly string[]): Json {
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}

function documentPath(): Json {
  return {
    get: {
      operationId: 'getOpenApi',
      tags: ['document'],
      summary: 'This document',
      description: 'Open to everybody: it says what can be asked, not what is there.',
      security: [],
      responses: {
        200: {
          description: 'OpenAPI 3.1',
          headers: referHeaders(['ETag', 'Cache-Control', 'Vary', 'Mesh-Protocol']),
          content: {
            [JSON_TYPE]: {
              schema: { type: 'object' },
              examples: { example: { value: { openapi: '3.1.0' } } },
            },
          },
        },
        304: { description: 'You have it already.', headers: referHeaders(['ETag']) },
        ...problems(EVERYWHERE.filter((code) => ![401, 403, 429, 503].includes(ERRORS[code].http))),
      },
    },
  };
}

function parametersOf(schema: z.ZodType, place: 'path' | 'query'): Json[] {
  const shape = (schema as Partial<z.ZodObject>).shape ?? {};
  return Object.entries(shape).map(([name, field]) => {
    const { description, ...rest } = jsonSchemaOf(field as z.ZodType) as Json;
    const required = place === 'path';
    const list = rest.type === 'array' ? { style: 'form', explode: true } : {};
    return { name, in: place, required, description, ...list, schema: rest };
  });
}

function headerParameters(streams: boolean, kept: boolean): Json[] {
  const optional = (name: string, description: string, schema: Json = { type: 'string' }): Json => ({
    name,
    in: 'header',
    required: false,
    description,
    schema,
  });
  const requested = optional(
    'Mesh-Requested-Protocol',
    'Which protocol the client tried before this one, and why it was not had.',
    { type: 'string', pattern: `^h[23]( *; *reason=(${DOWNGRADE_REASONS.join('|')}))?$` },
  );
  return streams
    ? [optional('Last-Event-ID', 'The `id` of the last event; beats `resumeToken`.'), requested]
    : kept
      ? [optional('If-None-Match', 'The `ETag` of an earlier answer: 304 if it still holds.'), requested]
      : [requested];
}

/** A reference to a named schema, which it adds, together with those that it names itself. */
function refer(schema: z.ZodType, schemas: Json, io: 'input' | 'output' = 'output'): Json {
  const { $defs = {}, ...own } = jsonSchemaOf(schema, io) as Json & { $defs?: Json };
  const id = z.globalRegistry.get(schema)?.id;
  const found: Json = { ...$defs };
  if (id !== undefined && own.$ref === undefined) found[id] = own;
  for (const [name, definition] of Object.entries(found)) schemas[name] = relocated(definition);
  return id === undefined ? (relocated(own) as Json) : { $ref: `#/components/schemas/${id}` };
}

/** `#/$defs/X` -> `#/components/schemas/X`; ids are the names, and need not be repeated inside. */
function relocated(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(relocated);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== 'id' || typeof (value as Json).id !== 'string')
      .map(([key, member]) => [
        key,
        key === '$ref' ? String(member).replace('#/$defs/', '#/components/schemas/') : relocated(member),
      ]),
  );
}

/** `meta({override})` stands for what cannot be derived: a schema that also converts. */
function jsonSchemaOf(schema: z.ZodType, io: 'input' | 'output' = 'input'): Json {
  const { $schema: _dialect, ...json } = z.toJSONSchema(schema, {
    target: 'draft-2020-12',
    io,
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      const own = jsonSchema as Json;
      const replacement = own.override as Json | undefined;
      if (replacement) {
        const { description } = own;
        for (const key of Object.keys(own)) delete own[key];
        Object.assign(own, replacement, description === undefined ? {} : { description });
      }
      // zod bounds every integer by what a double can hold, which says nothing to a reader.
      if (own.maximum === Number.MAX_SAFE_INTEGER) delete own.maximum;
      if (own.minimum === Number.MIN_SAFE_INTEGER) delete own.minimum;
    },
  });
  return json;
}
