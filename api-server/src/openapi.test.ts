import { readFileSync } from 'node:fs';
import { ERRORS, type ErrorCode } from '@meshkit/shards/errors';
import { describe, expect, it } from 'vitest';
import { setUp } from '../test/rest-surface.ts';
import {
  accessSchema,
  diffSchema,
  historySchema,
  listSchema,
  nodesSchema,
  problemSchema,
  shardSchema,
  statusSchema,
  watchDataSchemas,
  watchEventSchema,
} from './answer-schemas.ts';
import { EXAMPLE_EVENTS, exampleProblem } from './examples.ts';
import { explanationSchema } from './explain-schemas.ts';
import { simulationSchema } from './simulate-schemas.ts';

// biome-ignore lint/suspicious/noExplicitAny: a test looks into a document of every shape.
type Document = any;

const { get, post, operations } = setUp();
const document: Document = (await get('/openapi.json', {})).body;

const described = Object.entries<Document>(document.paths).flatMap(([path, methods]) =>
  Object.entries<Document>(methods).map(([method, operation]) => ({ path, method, operation })),
);

describe('the document', () => {
  it('has every operation of the surface', () => {
    const paths = operations.map(({ url }) => url.replaceAll(/:(\w+)/g, '{$1}'));
    expect(described.map(({ path }) => path).sort()).toEqual([...paths, '/openapi.json'].sort());
    const ids = described.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('has every code of the registry, with how each surface reports it', () => {
    expect(Object.keys(document['x-meshkit-errors'])).toEqual(Object.keys(ERRORS));
    expect(Object.keys(document.components.examples)).toEqual(Object.keys(ERRORS));
    expect(document.components.schemas.ErrorCode.enum).toEqual(Object.keys(ERRORS));
  });

  it.each(described)('has an example of every answer of $method $path', ({ operation }) => {
    for (const [status, response] of Object.entries<Document>(operation.responses)) {
      if (status === '304') continue;
      const [content] = Object.values<Document>(response.content);
      expect(Object.keys(content.examples).length).toBeGreaterThan(0);
    }
  });

  it('refers to nothing that is not in it', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map(
      ([, path]) => path!,
    );
    const missing = references.filter(
      (path) => path.split('/').reduce((at: Document, part) => at?.[part], document) === undefined,
    );
    expect(missing).toEqual([]);
    expect(references.length).toBeGreaterThan(20);
  });
});

describe('the examples', () => {
  it.each(
    operations
      .filter((operation) => !('stream' in operation))
      .map(({ op, body, document }) => {
        return { op, body, ...document };
      }),
  )('of $op are what the schemas allow', ({ operationId, schema, body }) => {
    const { operation } = described.find(({ operation }) => operation.operationId === operationId)!;
    const { value } = operation.responses[200].content['application/json'].examples.example;
    expect(schema.safeParse(value).error).toBeUndefined();
    const asked = operation.requestBody?.content['application/json'].examples.example;
    expect(asked === undefined).toBe(body === undefined);
    expect(body?.schema.safeParse(asked.value).error).toBeUndefined();
  });

  it.each(Object.entries(EXAMPLE_EVENTS))('of a watch: %s', (event, example) => {
    expect(watchEventSchema.safeParse(example).error).toBeUndefined();
    const data = watchDataSchemas[event as keyof typeof watchDataSchemas];
    expect(data.safeParse(JSON.parse(example.data)).error).toBeUndefined();
  });

  it.each(Object.keys(ERRORS) as ErrorCode[])('of %s is a problem', (code) => {
    expect(problemSchema.parse(exampleProblem(code))).toMatchObject({ code, status: ERRORS[code].http });
  });
});

it('docs/metrics.md names every operation, as `op` does, and no other', () => {
  const text = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  const [sentence = ''] = /^`op` is [\s\S]*?\. /m.exec(text) ?? [];
  const [, ...named] = [...sentence.matchAll(/`(\w+)`/g)].map(([, name]) => name);
  const others = ['openapi', 'options', 'health', 'healthWatch', 'reflection', 'unknown'];
  expect(named.sort()).toEqual([...operations.map(({ op }) => op), ...others].sort());
});

describe('the answers', () => {
  it.each([
    ['/meshkit/shards?pageSize=2', listSchema],
    ['/meshkit/shards', listSchema],
    ['/meshkit/shards/payments/orders.0004', shardSchema],
    ['/meshkit/nodes', nodesSchema],
    ['/meshkit/shards/payments/orders.0004/explain', explanationSchema],
    ['/meshkit/status', statusSchema],
    ['/meshkit/access', accessSchema],
    ['/meshkit/shards/payments/orders.0004/history', historySchema],
    ['/meshkit/shards/diff?from=10m', diffSchema],
    ['/meshkit/shards?pageSize=0', problemSchema],
    ['/meshkit/shards/payments/orders.9999', problemSchema],
  ])('of %s are what the document says', async (url, schema) => {
    expect(schema.safeParse((await get(url)).body).error).toBeUndefined();
  });
});

it('what a watch is told is what the document says', () => {
  const stream = readFileSync(new URL('__golden__/watch-refused.txt', import.meta.url), 'utf8');
  const events = [...stream.matchAll(/^event: (\S+)\ndata: (.*)$/gm)];
  expect(new Set(events.map(([, event]) => event))).toEqual(new Set(Object.keys(watchDataSchemas)));
  for (const [, event, data] of events) {
    const schema = watchDataSchemas[event as keyof typeof watchDataSchemas];
    expect({ event, error: schema.safeParse(JSON.parse(data!)).error }).toEqual({ event, error: undefined });
  }
});

it('a simulation is asked and answered as the document says', async () => {
  const { operation } = described.find(({ operation: { operationId } }) => operationId === 'simulateShards')!;
  const { value } = operation.requestBody.content['application/json'].examples.example;
  const changes = [{ type: 'drain', node: 'node-1' }];
  const { status, body } = await post('/meshkit/shards/simulate', { ...value, changes });
  expect({ status, error: simulationSchema.safeParse(body).error }).toEqual({
    status: 200,
    error: undefined,
  });
});
