import { ExplainRequest, ExplainResponse } from '@meshkit/proto/v1/explain';
import { SimulateRequest, SimulateResponse } from '@meshkit/proto/v1/simulate';
import { ShardError } from '@meshkit/shards/errors';
import { DEFAULT_ITEMS } from '@meshkit/shards/simulate';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { setUp } from '../test/rest-surface.ts';
import { explainRequest, explanationBytes } from './grpc-explain.ts';
import { simulateRequest, simulationBytes } from './grpc-simulate.ts';
import { EXAMPLE_EXPLANATION, EXAMPLE_SIMULATION } from './simulate-examples.ts';

const PATH = '/meshkit/shards/simulate';
const drain = { namespace: 'payments', changes: [{ type: 'drain', node: 'node-1' }] };
const golden = (name: string) => `__golden__/${name}.json`;
const SET = {
  apiVersion: 'meshkit.omnirelay.io/v1alpha1',
  kind: 'ShardSet',
  metadata: { name: 'orders', namespace: 'payments' },
};

describe('simulate', () => {
  it('answers what the golden file says, and nothing that a cache may keep', async () => {
    const { status, headers, body } = await setUp().post(PATH, drain);
    expect(status).toBe(200);
    expect(headers).toMatchObject({ 'cache-control': 'no-store', 'content-type': 'application/json' });
    expect(headers.etag).toBeUndefined();
    await expect(`${JSON.stringify({ request: drain, body }, null, 2)}\n`).toMatchFileSnapshot(
      golden('simulate'),
    );
  });

  it('takes manifests as kubectl prints them: metadata and status that say nothing new are passed over', async () => {
    const metadata = { ...SET.metadata, uid: 'u', managedFields: [{ manager: 'x' }], generation: 3 };
    const manifest = { ...SET, metadata, spec: { shards: { count: 7 } }, status: { owned: 5 } };
    const { status, body } = await setUp().post(PATH, { manifests: [manifest] });
    expect({ status, change: body.sets[0].change, shards: body.totals.shards }).toEqual({
      status: 200,
      change: 'changed',
      shards: 7,
    });
  });

  it.each<[string, unknown, string, string]>([
    ['nothing', '', 'invalidArgument', '/body'],
    ['no JSON', '{', 'invalidArgument', '/body'],
    ['a list', '[]', 'invalidArgument', '/body'],
    ['null', 'null', 'invalidArgument', '/body'],
    ['an unknown member', { chnages: [] }, 'invalidArgument', '/body/chnages'],
    ['__proto__', '{"__proto__": {}}', 'invalidArgument', '/body/__proto__'],
    ['a namespace that is none', { namespace: 'UP' }, 'invalidArgument', '/body/namespace'],
    ['a set without namespace', { shardSet: 'orders' }, 'invalidArgument', '/body/shardSet'],
    ['a set that there is not', { namespace: 'payments', shardSet: 'x' }, 'notFound', '/body/shardSet'],
    ['an unknown change', { changes: [{ type: 'x' }] }, 'invalidArgument', '/body/changes/0/type'],
    ['a change without node', { changes: [{ type: 'drain' }] }, 'invalidArgument', '/body/changes/0/node'],
    [
      'a misspelt member of a change',
      { changes: [{ type: 'drain', node: 'a', nmae: 1 }] },
      'invalidArgument',
      '/body/changes/0/nmae',
    ],
    [
      'a node that there is not',
      { changes: [{ type: 'drain', node: 'z' }] },
      'notFound',
      '/body/changes/0/node',
    ],
    [
      'a weight of 0',
      { changes: [{ type: 'weight', node: 'node-1', weight: 0 }] },
      'invalidArgument',
      '/body/changes/0/weight',
    ],
    [
      'a bound below 1',
      { changes: [{ type: 'policy', loadBound: '0.9' }] },
      'invalidArgument',
      '/body/changes/0/loadBound',
    ],
    [
      'a bound as a number',
      { changes: [{ type: 'policy', loadBound: 1.05 }] },
      'invalidArgument',
      '/body/changes/0/loadBound',
    ],
    [
      'too many changes',
      { changes: Array(1_001).fill(drain.changes[0]) },
      'invalidArgument',
      '/body/changes',
    ],
    ['too many items', { maxItems: 10_001 }, 'invalidArgument', '/body/maxItems'],
    [
      'a manifest of another kind',
      { manifests: [{ apiVersion: 'v1', kind: 'Pod' }] },
      'invalidArgument',
      '/body/manifests/0/kind',
    ],
    [
      'a manifest that breaks the schema',
      { manifests: [{ ...SET, spec: { shards: { count: 0 } } }] },
      'invalidArgument',
      '/body/manifests/0/spec/shards/count',
    ],
    [
      'a misspelt field',
      { manifests: [{ ...SET, spec: { shards: { count: 1 }, stratgy: 'x' } }] },
      'invalidArgument',
      '/body/manifests/0/spec/stratgy',
    ],
    [
      'a manifest of another namespace',
      { namespace: 'shop', manifests: [{ ...SET, spec: { shards: { count: 1 } } }] },
      'invalidArgument',
      '/body/manifests/0/metadata/namespace',
    ],
  ])('%s is refused, with its place', async (_name, body, code, pointer) => {
    const answer = await setUp().post(PATH, body);
    expect(answer.status).toBe(code === 'notFound' ? 404 : 400);
    expect({ code: answer.body.code, pointer: answer.body.errors[0].pointer }).toEqual({ code, pointer });
  });

  it('any body at all is answered, and never by 500', async () => {
    const { post } = setUp();
    const manifests = fc.record(
      {
        apiVersion: fc.constantFrom(SET.apiVersion, 'v1'),
        kind: fc.constantFrom('ShardSet', 'MeshNode', 'ShardAssignment'),
        metadata: fc.jsonValue(),
        spec: fc.jsonValue(),
      },
      { requiredKeys: [] },
    );
    const bodies = fc.oneof(
      fc.jsonValue(),
      fc.record({ manifests: fc.array(manifests, { maxLength: 3 }) }),
      fc.record({
        changes: fc.array(
          fc.record({ type: fc.constantFrom('drain', 'add', 'policy'), node: fc.jsonValue() }),
          { maxLength: 2 },
        ),
      }),
    );
    await fc.assert(
      fc.asyncProperty(bodies, async (body) => {
        const { status } = await post(PATH, JSON.stringify(body));
        expect([200, 400, 404]).toContain(status);
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    ['text/plain', 415, 'unsupportedMediaType'],
    ['', 415, 'unsupportedMediaType'],
    ['application/json; charset=utf-8', 200, undefined],
  ])('content type %j', async (type, status, code) => {
    const headers = { authorization: 'Bearer admin', 'content-type': type };
    const answer = await setUp().post(PATH, drain, headers);
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status, code });
  });

  it('a body that is too large is refused, whether it says so before or not', async () => {
    const { post, app } = setUp();
    const large = JSON.stringify({ namespace: 'x'.repeat(1 << 20) });
    expect(await post(PATH, large)).toMatchObject({ status: 413, body: { code: 'requestTooLarge' } });
    const { Readable } = await import('node:stream');
    const headers = { authorization: 'Bearer admin', 'content-type': 'application/json' };
    const payload = Readable.from([large]);
    const unsaid = await app.inject({ method: 'POST', url: PATH, headers, payload });
    expect([unsaid.statusCode, unsaid.json().code]).toEqual([413, 'requestTooLarge']);
  });

  it('is for those who may observe the namespace', async () => {
    const { post } = setUp();
    const jane = { authorization: 'Bearer jane' };
    expect((await post(PATH, drain, jane)).status).toBe(200);
    for (const body of [{}, { namespace: 'shop' }]) {
      expect(await post(PATH, body, jane)).toMatchObject({
        status: 403,
        body: { code: 'scopeMissing', scope: 'mesh.observe' },
      });
    }
    expect((await post(PATH, drain, {})).status).toBe(401);
  });

  it('other methods are told which there are', async () => {
    const { status, headers } = await setUp().get(PATH);
    expect([status, headers.allow]).toEqual([405, 'POST, OPTIONS']);
  });
});

describe('explain', () => {
  const EXPLAIN = '/meshkit/shards/payments/orders.0001/explain';

  it('answers what the golden file says', async () => {
    const { body } = await setUp().get(EXPLAIN);
    await expect(`${JSON.stringify(body, null, 2)}\n`).toMatchFileSnapshot(golden('explain'));
  });

  it('has a tag of its content, which holds while the content does', async () => {
    const { get, history, records } = setUp();
    const { etag } = (await get(EXPLAIN)).headers;
    history.put('60', records);
    const again = await get(EXPLAIN, { authorization: 'Bearer admin', 'if-none-match': String(etag) });
    expect(again.status).toBe(304);
  });

  it('shows transitions only to those who may observe, and says so to the others', async () => {
    const { get } = setUp();
    const reader = (await get(EXPLAIN, { authorization: 'Bearer reader' })).body;
    expect(reader.transitions).toBeUndefined();
    expect(reader.withheld).toEqual([
      {
        member: 'transitions',
        scope: 'mesh.observe',
        check: 'kubectl auth can-i observe shardassignments.meshkit.omnirelay.io -n payments',
        grant: expect.stringContaining('--clusterrole=meshkit-shards-observer --user=reader -n payments'),
      },
    ]);
    const observer = (await get(EXPLAIN, { authorization: 'Bearer jane' })).body;
    expect({ transitions: observer.transitions, withheld: observer.withheld }).toEqual({
      transitions: [],
      withheld: undefined,
    });
  });

  it.each([
    ['/meshkit/shards/payments/orders.9999/explain', 404, '/path/name'],
    [`${EXPLAIN}?maxItems=0`, 400, '/query/maxItems'],
    [`${EXPLAIN}?what=1`, 400, '/query/what'],
    [`${EXPLAIN}?minVersion=99`, 503, undefined],
  ])('%s is refused', async (url, status, pointer) => {
    const answer = await setUp().get(url);
    expect(answer.status).toBe(status);
    if (pointer) expect(answer.body.errors[0].pointer).toBe(pointer);
  });
});

describe('by gRPC', () => {
  const read = (request: Partial<SimulateRequest>) =>
    simulateRequest(SimulateRequest.encode(SimulateRequest.fromPartial(request)).finish());

  it('is asked what REST is asked', () => {
    const node = 'node-1';
    const request = read({
      namespace: 'payments',
      changes: [
        { change: { $case: 'drain', value: { node } } },
        { change: { $case: 'add', value: { node: 'new', zone: 'z', labels: { app: 'x' } } } },
        { change: { $case: 'weight', value: { node, weight: 3 } } },
        { change: { $case: 'strategy', value: { strategy: 'Static' } } },
        { change: { $case: 'policy', value: { loadBound: '1.2', drainTimeout: '5s' } } },
      ],
      manifestsJson: [JSON.stringify({ ...SET, spec: { shards: { count: 2 } } })],
    });
    expect(request).toEqual({
      namespace: 'payments',
      changes: [
        { type: 'drain', node },
        { type: 'add', node: 'new', zone: 'z', labels: { app: 'x' } },
        { type: 'weight', node, weight: 3 },
        { type: 'strategy', strategy: 'Static' },
        { type: 'policy', loadBound: '1.2', handoff: { drainTimeout: '5s' } },
      ],
      manifests: [{ ...SET, spec: { shards: { count: 2 } } }],
      maxItems: DEFAULT_ITEMS,
    });
    expect(
      explainRequest(
        ExplainRequest.encode(ExplainRequest.fromPartial({ namespace: 'a', name: 'b.0' })).finish(),
      ),
    ).toEqual({
      namespace: 'a',
      name: 'b.0',
      maxItems: 1_000,
    });
  });

  it.each<[Partial<SimulateRequest>, string]>([
    [{ changes: [{}] }, '/body/changes/0/type'],
    [{ changes: [{ change: { $case: 'drain', value: { node: '' } } }] }, '/body/changes/0/node'],
    [{ manifestsJson: ['{'] }, '/body/manifests/0'],
    [{ maxItems: -1 }, '/body/maxItems'],
    [{ namespace: '' }, '/body/namespace'],
  ])('%j is refused', (request, pointer) => {
    let error: unknown;
    try {
      read(request);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(ShardError);
    expect((error as ShardError).details.errors).toMatchObject([{ pointer }]);
  });

  it('takes any bytes, and refuses them at worst', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        for (const reads of [simulateRequest, explainRequest]) {
          try {
            reads(bytes);
          } catch (error) {
            expect(error).toMatchObject({ code: 'invalidArgument' });
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('answers what REST answers', () => {
    const message = SimulateResponse.decode(simulationBytes(EXAMPLE_SIMULATION));
    expect(message.planHash).toBe(EXAMPLE_SIMULATION.planHash);
    expect(message.sets[0]!.moves.map(({ shard, to }) => [shard, to])).toEqual(
      EXAMPLE_SIMULATION.sets[0]!.moves.map(({ shard, to }) => [shard, to]),
    );
    const explanation = ExplainResponse.decode(explanationBytes(EXAMPLE_EXPLANATION));
    expect(explanation.nodes.map(({ node, verdict }) => [node, verdict])).toEqual(
      EXAMPLE_EXPLANATION.nodes.map(({ node, verdict }) => [node, verdict]),
    );
  });
});
