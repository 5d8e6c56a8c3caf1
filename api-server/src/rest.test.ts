import { describe, expect, it } from 'vitest';
import { LINEAGE, setUp } from '../test/rest-surface.ts';

describe('list', () => {
  it('gives views, the version vector and a cursor that leads through all pages, without one at the end', async () => {
    const { get } = setUp();
    const found: string[] = [];
    let cursor = '';
    do {
      const { status, body } = await get(`/meshkit/shards?namespace=payments&pageSize=2${cursor}`);
      expect(status).toBe(200);
      expect(body.versionVector).toEqual({
        lineage: LINEAGE,
        position: '41',
        namespaces: { payments: '40' },
      });
      expect(body.consistency).toBe('snapshot');
      expect(body.resumeToken).toBe('resume-41');
      found.push(...body.items.map(({ shardId }: { shardId: string }) => shardId));
      cursor = body.nextCursor === undefined ? '' : `&cursor=${body.nextCursor}`;
    } while (cursor !== '');
    expect(found).toEqual(['0000', '0001', '0002', '0003', '0004']);
  });

  it('says how new it is and how it travelled, and may not be kept by caches', async () => {
    const { headers } = await setUp().get('/meshkit/shards');
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'cache-control': 'private, no-cache',
      vary: 'Accept, Accept-Encoding, Authorization',
      'mesh-version-vector': 'lineage="l-1", position="41"',
      etag: expect.stringMatching(/^W\/"/),
      'mesh-protocol': 'http/1.1',
      server: expect.stringMatching(/^meshkit-shards\/\d+\.\d+\.\d+$/),
    });
  });

  it.each([
    ['status=draining', ['0004']],
    ['status=Draining,Lost', ['0004']],
    ['status=draining&status=lost', ['0004']],
    ['owner=node-2', []],
    ['search=3', ['0003']],
    ['shardSet=other', []],
  ])('filters by %s', async (query, ids) => {
    const { body } = await setUp().get(`/meshkit/shards?${query}`);
    expect(body.items.map(({ shardId }: { shardId: string }) => shardId)).toEqual(ids);
  });

  it('clamps a page size that is too large', async () => {
    expect((await setUp().get('/meshkit/shards?pageSize=100000')).status).toBe(200);
  });
});

describe('what is wrong with a request', () => {
  it.each([
    ['/meshkit/shards?pageSize=0', 'invalidArgument', '/query/pageSize'],
    ['/meshkit/shards?pageSize=-1', 'invalidArgument', '/query/pageSize'],
    ['/meshkit/shards?pageSize=ten', 'invalidArgument', '/query/pageSize'],
    ['/meshkit/shards?pageSize=1.5', 'invalidArgument', '/query/pageSize'],
    ['/meshkit/shards?pageSize=', 'invalidArgument', '/query/pageSize'],
    ['/meshkit/shards?pageSize=1&pageSize=2', 'invalidArgument', '/query/pageSize'],
    ['/meshkit/shards?namespace=', 'invalidArgument', '/query/namespace'],
    ['/meshkit/shards?namespace=UPPER', 'invalidArgument', '/query/namespace'],
    ['/meshkit/shards?namespace=a&namespace=b', 'invalidArgument', '/query/namespace'],
    ['/meshkit/shards?namespace=a%00', 'invalidArgument', '/query/namespace'],
    ['/meshkit/shards?status=Broken', 'invalidArgument', '/query/status'],
    ['/meshkit/shards?owner=', 'invalidArgument', '/query/owner'],
    ['/meshkit/shards?search=a&search=b', 'invalidArgument', '/query/search'],
    [`/meshkit/shards?search=${'x'.repeat(300)}`, 'invalidArgument', '/query/search'],
    [`/meshkit/shards?owner=${'a,'.repeat(1_001)}a`, 'invalidArgument', '/query/owner'],
    [`/meshkit/shards?owner=a${'&owner=a'.repeat(100)}`, 'invalidArgument', '/query/owner'],
    ['/meshkit/shards?nmespace=a', 'invalidArgument', '/query/nmespace'],
    ['/meshkit/shards?__proto__=a', 'invalidArgument', '/query/__proto__'],
    ['/meshkit/shards?cursor=nonsense', 'tokenInvalid', '/query/cursor'],
    ['/meshkit/shards?cursor=', 'invalidArgument', '/query/cursor'],
    ['/meshkit/shards/UPPER/orders.0000', 'invalidArgument', '/path/namespace'],
    ['/meshkit/shards/payments/a%20b', 'invalidArgument', '/path/name'],
    [`/meshkit/shards/payments/${'x'.repeat(300)}`, 'invalidArgument', '/path/name'],
    ['/meshkit/shards/payments/orders.0000?verbose=1', 'invalidArgument', '/query/verbose'],
    ['/meshkit/shards/payments/%ff', 'invalidArgument', '/path'],
    ['/meshkit/shards/payments/orders.9999', 'notFound', '/path/name'],
    ['/meshkit/nodes?owner=a', 'invalidArgument', '/query/owner'],
    ['/meshkit/shards/', 'notFound', '/path'],
    ['/meshkit', 'notFound', '/path'],
    ['/', 'notFound', '/path'],
    ['/livez', 'notFound', '/path'],
  ])('%.60s is %s at %s', async (url, code, pointer) => {
    const { status, headers, body } = await setUp().get(url);
    expect(headers['content-type']).toBe('application/problem+json');
    expect({ code: body.code, pointer: body.errors[0].pointer }).toEqual({ code, pointer });
    expect(body).toMatchObject({ status, type: `urn:meshkit:error:${code}`, title: expect.any(String) });
    expect(status).toBe(code === 'notFound' ? 404 : 400);
  });

  it('refuses a cursor of other filters', async () => {
    const { get } = setUp();
    const { body } = await get('/meshkit/shards?namespace=payments&pageSize=2');
    const other = await get(`/meshkit/shards?namespace=payments&owner=node-1&cursor=${body.nextCursor}`);
    expect(other).toMatchObject({ status: 400, body: { code: 'filterMismatch' } });
  });

  it('names every fault of a query at once', async () => {
    const { body } = await setUp().get('/meshkit/shards?pageSize=0&namespace=UPPER&what=1&why=2');
    expect(body.errors.map(({ pointer }: { pointer: string }) => pointer).sort()).toEqual([
      '/query/namespace',
      '/query/pageSize',
      '/query/what',
      '/query/why',
    ]);
  });

  it.each(['POST', 'PUT', 'DELETE', 'PATCH'] as const)('%s is not a method of a list', async (method) => {
    const response = await setUp().app.inject({
      method,
      url: '/meshkit/shards?x=1',
      payload: '{broken',
      headers: { 'content-type': 'application/json' },
    });
    expect(response.statusCode).toBe(405);
    expect(response.headers.allow).toBe('GET, HEAD, OPTIONS');
    expect(response.json()).toMatchObject({ code: 'methodNotAllowed' });
  });

  it('answers HEAD as GET, without the body', async () => {
    const response = await setUp().app.inject({
      method: 'HEAD',
      url: '/meshkit/shards',
      headers: { authorization: 'Bearer admin' },
    });
    expect(response.statusCode).toBe(200);
    expect(response.body).toBe('');
  });

  it('does not send JSON to who refuses it', async () => {
    const { status, body } = await setUp().get('/meshkit/shards', {
      authorization: 'Bearer admin',
      accept: 'text/html',
    });
    expect({ status, code: body.code, pointer: body.errors[0].pointer }).toEqual({
      status: 406,
      code: 'notAcceptable',
      pointer: '/header/accept',
    });
  });

  it('refuses a URL that is too long', async () => {
    expect(await setUp().get(`/meshkit/shards?search=${'x'.repeat(9_000)}`)).toMatchObject({ status: 414 });
  });
});

describe('access', () => {
  it.each([
    ['nobody', {}, 401, 'unauthenticated', 'Bearer realm="meshkit-shards"'],
    ['a forged token', { authorization: 'Bearer forged' }, 401, 'unauthenticated', /error="invalid_token"/],
    [
      'jane',
      { authorization: 'Bearer jane' },
      403,
      'scopeMissing',
      /error="insufficient_scope", scope="mesh.read"/,
    ],
    ['a review that fails', { authorization: 'Bearer down' }, 503, 'unavailable', undefined],
  ])('%s asks for all namespaces', async (_who, headers, status, code, challenge) => {
    const reply = await setUp().get('/meshkit/shards', headers as Record<string, string>);
    expect(reply).toMatchObject({ status, body: { code } });
    if (challenge instanceof RegExp) expect(reply.headers['www-authenticate']).toMatch(challenge);
    else expect(reply.headers['www-authenticate']).toBe(challenge);
    expect(reply.headers['cache-control']).toBe('no-store');
    expect(reply.headers['retry-after']).toBe(status === 503 ? '1' : undefined);
  });

  it('lets a reader of one namespace list and get there', async () => {
    const { get } = setUp();
    const jane = { authorization: 'Bearer jane' };
    expect((await get('/meshkit/shards?namespace=payments', jane)).status).toBe(200);
    expect((await get('/meshkit/shards/payments/orders.0000', jane)).status).toBe(200);
    expect((await get('/meshkit/nodes?namespace=payments', jane)).status).toBe(200);
  });

  it('does not tell a stranger whether a shard exists', async () => {
    const { get } = setUp();
    const joe = { authorization: 'Bearer joe' };
    const [there, missing] = await Promise.all([
      get('/meshkit/shards/payments/orders.0000', joe),
      get('/meshkit/shards/payments/orders.9999', joe),
    ]);
    expect(there.status).toBe(403);
    expect(missing.status).toBe(403);
  });

  it('logs and counts every request once, with who, what and how it was decided', async () => {
    const { get, lines, registry } = setUp();
    await get('/meshkit/shards?namespace=payments', { authorization: 'Bearer jane' });
    await get('/meshkit/shards', { authorization: 'Bearer jane' });
    await get('/nothing');
    expect(lines).toEqual([
      {
        op: 'list',
        scope: 'read',
        decision: 'allow',
        user: 'jane',
        namespace: 'payments',
        count: 5,
        transport: 'rest',
        protocol: 'http/1.1',
        status: 200,
        durationMs: 0,
      },
      {
        op: 'list',
        scope: 'read',
        decision: 'deny',
        user: 'jane',
        code: 'scopeMissing',
        transport: 'rest',
        protocol: 'http/1.1',
        status: 403,
        durationMs: 0,
      },
      {
        op: 'unknown',
        decision: 'none',
        code: 'notFound',
        transport: 'rest',
        protocol: 'http/1.1',
        status: 404,
        durationMs: 0,
      },
    ]);
    const text = await registry.metrics();
    expect(text).toContain('meshkit_access_total{op="list",scope="read",decision="deny",transport="rest"} 1');
    expect(text).toContain(
      'meshkit_access_total{op="list",scope="read",decision="allow",transport="rest"} 1',
    );
  });
});

describe('the access log of what was refused', () => {
  const LIST = '/meshkit/shards?namespace=payments';
  const SHARD = '/meshkit/shards/payments/orders.0000';
  const admin = { authorization: 'Bearer admin' };
  const node = { authorization: 'Bearer system:node:a' };

  it.each<[string, Record<string, string>, object]>([
    [LIST, node, { code: 'identityRefused', decision: 'deny', user: 'system:node:a', namespace: 'payments' }],
    [LIST, {}, { code: 'unauthenticated', namespace: 'payments' }],
    [
      LIST,
      { ...admin, accept: 'text/html' },
      { code: 'notAcceptable', user: 'admin', namespace: 'payments' },
    ],
    [`${LIST}&pageSize=0`, admin, { code: 'invalidArgument', user: 'admin', namespace: 'payments' }],
    [SHARD, {}, { code: 'unauthenticated', namespace: 'payments', name: 'orders.0000' }],
    ['/meshkit/shards/payments/a%20b', admin, { code: 'invalidArgument', namespace: 'payments' }],
  ])('says what %s was about, with %j', async (url, headers, line) => {
    const { get, lines } = setUp();
    await get(url, headers);
    expect(lines).toMatchObject([line]);
  });

  it('says it of a body too, and of the one request too many', async () => {
    const { get, post, lines } = setUp({ requestsPerSecond: 0.1 });
    await post('/meshkit/shards/simulate', { namespace: 'payments', changes: 'none' });
    await get(LIST);
    expect(lines).toMatchObject([
      { op: 'simulate', code: 'invalidArgument', namespace: 'payments' },
      { op: 'list', code: 'rateLimited', namespace: 'payments', user: 'admin' },
    ]);
  });

  it.each(['?namespace=UPPER', '?namespace=a&namespace=b', ''])(
    'says nothing that cannot be: %s',
    async (query) => {
      const { get, lines } = setUp();
      await get(`/meshkit/shards${query}`, {});
      expect(lines[0]?.namespace).toBeUndefined();
    },
  );
});

describe('the server itself', () => {
  it('answers 503 until the first list is complete, but only to those who may know', async () => {
    const { get } = setUp({ health: { cold: 'waiting for the first list of ShardAssignments' } });
    expect(await get('/meshkit/shards')).toMatchObject({
      status: 503,
      body: { code: 'unavailable', reason: 'cacheCold' },
    });
    expect((await get('/meshkit/shards', {})).status).toBe(401);
  });

  it('marks what it serves while the cluster is out of reach', async () => {
    const { get } = setUp({ health: { stale: 'lost the watch' } });
    const { status, headers } = await get('/meshkit/shards');
    expect({ status, cache: headers['mesh-cache'] }).toEqual({ status: 200, cache: 'stale' });
  });

  it('keeps its own mistakes to itself', async () => {
    const { get } = setUp({
      repository: {
        get: async () => {
          throw new TypeError('secret');
        },
      },
    });
    const { status, body } = await get('/meshkit/shards/payments/orders.0000');
    expect({ status, code: body.code }).toEqual({ status: 500, code: 'internal' });
    expect(JSON.stringify(body)).not.toContain('secret');
  });
});

describe('what one may do', () => {
  const asked = async (user: string, query = '?namespace=payments') => {
    const surface = setUp({ health: { cold: 'waiting for the first list' } });
    const { status, headers, body } = await surface.get(`/meshkit/access${query}`, {
      authorization: `Bearer ${user}`,
    });
    return { status, headers, body, lines: surface.lines };
  };

  it('is said scope by scope, with the way to what is missing, also while the cache is cold', async () => {
    const { status, headers, body } = await asked('reader');
    const grant = (role: string) =>
      expect.stringContaining(`--clusterrole=meshkit-shards-${role} --user=reader`);
    expect({ status, body }).toEqual({
      status: 200,
      body: {
        user: 'reader',
        groups: [],
        namespace: 'payments',
        scopes: [
          { scope: 'mesh.read', allowed: true },
          { scope: 'mesh.observe', allowed: false, check: expect.any(String), grant: grant('observer') },
          { scope: 'mesh.operate', allowed: false, check: expect.any(String), grant: grant('operator') },
        ],
      },
    });
    expect(headers['cache-control']).toBe('no-store');
    expect(headers).not.toHaveProperty('etag');
  });

  it('is said to whoever is known, and to nobody else', async () => {
    expect((await asked('nobody', '')).body).toMatchObject({
      scopes: [{ allowed: false }, { allowed: false }, { allowed: false }],
    });
    expect((await asked('forged')).status).toBe(401);
    expect(await asked('down')).toMatchObject({ status: 503, body: { code: 'unavailable' } });
    expect((await asked('admin', '?namespace=')).status).toBe(400);
  });

  it('leaves a line in the access log, without a scope', async () => {
    const { lines } = await asked('nobody', '');
    expect(lines).toMatchObject([{ op: 'access', decision: 'allow', user: 'nobody', status: 200 }]);
    expect(lines[0]?.scope).toBeUndefined();
  });
});

describe('how the server is', () => {
  it('is said to who may read, as of now', async () => {
    const { get } = setUp();
    const jane = { authorization: 'Bearer jane' };
    const { status, headers, body } = await get('/meshkit/status?namespace=payments', jane);
    expect({ status, body }).toMatchObject({ status: 200, body: { api: 'v1', cache: { state: 'fresh' } } });
    expect(headers['cache-control']).toBe('no-store');
    expect((await get('/meshkit/status', jane)).body.code).toBe('scopeMissing');
  });

  it('cannot be said while the cache is cold', async () => {
    const { get } = setUp({ health: { cold: 'waiting for the first list' } });
    expect(await get('/meshkit/status')).toMatchObject({ status: 503, body: { reason: 'cacheCold' } });
  });
});
