import { gunzipSync } from 'node:zlib';
import { filterDigest } from '@meshkit/shards/cursor';
import { ShardError } from '@meshkit/shards/errors';
import { sealResumeToken } from '@meshkit/shards/resume-token';
import { describe, expect, it } from 'vitest';
import { type History, LINEAGE, setUp, shard } from '../test/rest-surface.ts';

const ADMIN = { authorization: 'Bearer admin' };

describe('entity tags', () => {
  it('answers 304 to who has the list already, with tag and version, and without a body', async () => {
    const { get, history, records } = setUp();
    const first = await get('/meshkit/shards?owner=node-1');
    const { etag } = first.headers as Record<string, string>;
    // Something else has happened: the position moves on, the content does not.
    history.put('99', [
      ...records,
      {
        ...shard('0100'),
        spec: { shardSet: 'other', shardId: '0100' },
        status: { phase: 'Active', owner: 'node-2', epoch: 1, version: 1 },
      },
    ]);
    const again = await get('/meshkit/shards?owner=node-1', { ...ADMIN, 'if-none-match': etag! });
    expect(again).toMatchObject({
      status: 304,
      body: undefined,
      headers: {
        etag,
        'mesh-version-vector': 'lineage="l-1", position="99"',
        'cache-control': 'private, no-cache',
      },
    });
    expect(again.headers).not.toHaveProperty('content-type');
  });

  it.each([
    ['another filter', '/meshkit/shards?owner=node-1&status=active'],
    ['another page size', '/meshkit/shards?owner=node-1&pageSize=3'],
    ['another list', '/meshkit/shards?search=1'],
  ])('differs for %s', async (_what, url) => {
    const { get } = setUp();
    const { etag } = (await get('/meshkit/shards?owner=node-1')).headers;
    expect((await get(url, { ...ADMIN, 'if-none-match': String(etag) })).status).toBe(200);
  });

  it('changes with the content', async () => {
    const { get, history, records } = setUp();
    const { etag } = (await get('/meshkit/shards')).headers;
    const [first, ...others] = records;
    history.put('50', [{ ...first!, status: { ...first!.status!, version: 3 } }, ...others]);
    expect((await get('/meshkit/shards', { ...ADMIN, 'if-none-match': String(etag) })).status).toBe(200);
  });

  it('are strong for one shard, and of the nodes and the document too', async () => {
    const { get } = setUp();
    for (const url of ['/meshkit/shards/payments/orders.0000', '/meshkit/nodes', '/openapi.json']) {
      const { etag } = (await get(url)).headers;
      expect(await get(url, { ...ADMIN, 'if-none-match': `"other", ${etag}` })).toMatchObject({
        status: 304,
      });
    }
    const { headers } = await get('/meshkit/shards/payments/orders.0000');
    expect(headers.etag).toMatch(/^"uid-0000\.40\.[0-9a-z]+\.json"$/);
  });

  it.each([
    '/meshkit/shards',
    '/meshkit/shards/payments/orders.0000',
    '/meshkit/shards/payments/orders.0000/explain',
    '/meshkit/nodes',
  ])('of %s come with how new the answer is, also when it is known', async (url) => {
    const { get, history, records } = setUp();
    const { etag, 'mesh-version-vector': version } = (await get(url)).headers;
    expect(version).toBe('lineage="l-1", position="41"');
    history.put('99', records);
    const again = await get(url, { ...ADMIN, 'if-none-match': String(etag) });
    expect(again.status).toBe(304);
    expect(again.headers['mesh-version-vector']).toBe('lineage="l-1", position="99"');
  });

  it('tell two histories apart in which a shard has the same versions', async () => {
    const { get, history, records } = setUp();
    const urls = ['/meshkit/shards', '/meshkit/shards/payments/orders.0000'];
    const before = await Promise.all(urls.map(async (url) => (await get(url)).headers.etag));
    // The cluster was restored: the same version was given out again, for another owner.
    const [first, ...others] = records.splice(0);
    records.push({ ...first!, status: { ...first!.status!, owner: 'node-2', epoch: 200 } }, ...others);
    history.put('41', records);
    for (const [at, url] of urls.entries()) {
      const { status } = await get(url, { ...ADMIN, 'if-none-match': String(before[at]) });
      expect({ url, status }).toEqual({ url, status: 200 });
    }
  });

  it('are not given away to who may not read', async () => {
    const { get } = setUp();
    const { etag } = (await get('/meshkit/shards')).headers;
    const headers = { authorization: 'Bearer jane', 'if-none-match': String(etag) };
    expect((await get('/meshkit/shards', headers)).status).toBe(403);
  });
});

describe('pages', () => {
  it('all show the state of one position, whatever happens meanwhile', async () => {
    const { get, history, records } = setUp();
    const first = (await get('/meshkit/shards?pageSize=2')).body;
    history.put('60', records.slice(0, 3));
    const second = (await get(`/meshkit/shards?pageSize=2&cursor=${first.nextCursor}`)).body;
    const third = (await get(`/meshkit/shards?pageSize=9&cursor=${second.nextCursor}`)).body;
    expect([first, second, third].flatMap(({ items }) => items)).toHaveLength(5);
    for (const { versionVector, consistency, resumeToken } of [first, second, third]) {
      expect({ position: versionVector.position, consistency, resumeToken }).toEqual({
        position: '41',
        consistency: 'snapshot',
        resumeToken: 'resume-41',
      });
    }
  });

  it('have no cursor after the last one, also on an exact fit', async () => {
    const { get } = setUp();
    expect((await get('/meshkit/shards?pageSize=5')).body).not.toHaveProperty('nextCursor');
    expect((await get('/meshkit/shards?pageSize=4')).body).toHaveProperty('nextCursor');
  });

  it.each([
    ['forgotten', (history: History) => Object.assign(history, { floor: '60' })],
    ['of another history', (history: History) => Object.assign(history, { lineage: 'l-2' })],
  ])('whose position is %s give 410 and a way to go on', async (_what, forget) => {
    const { get, history, records } = setUp();
    const first = (await get('/meshkit/shards?pageSize=2')).body;
    history.put('60', records);
    forget(history);
    const gone = await get(`/meshkit/shards?pageSize=2&cursor=${first.nextCursor}`);
    expect(gone).toMatchObject({
      status: 410,
      body: {
        code: 'cursorExpired',
        resume: { consistency: 'keyset' },
        errors: [{ pointer: '/query/cursor' }],
      },
    });
    history.put('61', records.slice(1));
    const on = (await get(`/meshkit/shards?pageSize=2&cursor=${gone.body.resume.cursor}`)).body;
    expect(on).toMatchObject({ consistency: 'keyset', versionVector: { position: '61' } });
    expect(on).not.toHaveProperty('resumeToken');
    history.put('62', []);
    const last = (await get(`/meshkit/shards?pageSize=2&cursor=${on.nextCursor}`)).body;
    expect(last).toMatchObject({ consistency: 'keyset', versionVector: { position: '61' } });
    expect([...first.items, ...on.items, ...last.items]).toHaveLength(5);
  });

  it('cut at a position that another replica has seen first come as soon as it is here', async () => {
    const ahead = setUp();
    ahead.history.put('77', ahead.records);
    const { nextCursor } = (await ahead.get('/meshkit/shards?pageSize=2')).body;
    const behind = setUp({
      repository: {
        waitFor: async (position) => {
          behind.history.put(position, behind.records);
          return true;
        },
      },
    });
    const { status, body } = await behind.get(`/meshkit/shards?pageSize=9&cursor=${nextCursor}`);
    expect({ status, position: body.versionVector.position, items: body.items.length }).toEqual({
      status: 200,
      position: '77',
      items: 3,
    });
  });

  it('link to the next one and to the watch that goes on from here', async () => {
    const { get } = setUp();
    const { headers, body } = await get(
      '/meshkit/shards?namespace=payments&status=active&status=lost&pageSize=2',
    );
    const links = Object.fromEntries(
      [...String(headers.link).matchAll(/<([^>]+)>; rel="(\w+)"/g)].map(([, url, relation]) => [
        relation,
        url!,
      ]),
    );
    expect((await get(links.next!)).body.items).toHaveLength(2);
    const monitor = new URL(links.monitor!, 'https://x');
    expect(monitor.pathname).toBe('/meshkit/shards/watch');
    expect(Object.fromEntries(monitor.searchParams)).toMatchObject({
      namespace: 'payments',
      resumeToken: body.resumeToken,
    });
    expect(monitor.searchParams.getAll('status')).toEqual(['active', 'lost']);
    expect(monitor.searchParams.has('pageSize')).toBe(false);
  });
});

describe('minVersion', () => {
  it.each(['/meshkit/shards', '/meshkit/shards/payments/orders.0000'])(
    '%s waits, and says when in vain',
    async (url) => {
      const { get } = setUp();
      expect((await get(`${url}?minVersion=41`)).status).toBe(200);
      expect(await get(`${url}?minVersion=918273645546372819`)).toMatchObject({
        status: 503,
        headers: { 'retry-after': '1' },
        body: { code: 'unavailable', reason: 'notReached', errors: [{ pointer: '/query/minVersion' }] },
      });
    },
  );
});

describe('representations', () => {
  it('are compressed when large and asked for, with the same tag', async () => {
    const { app, get } = setUp({ shards: 500 });
    const plain = await get('/meshkit/shards?pageSize=500');
    const response = await app.inject({
      url: '/meshkit/shards?pageSize=500',
      headers: { ...ADMIN, 'accept-encoding': 'gzip, br' },
    });
    expect(response.headers).toMatchObject({ 'content-encoding': 'gzip', etag: plain.headers.etag });
    expect(JSON.parse(gunzipSync(response.rawPayload).toString())).toEqual(plain.body);
    const small = await get('/meshkit/shards?pageSize=5', { ...ADMIN, 'accept-encoding': 'gzip' });
    expect(small.headers).not.toHaveProperty('content-encoding');
  });

  it('of the document are open to everybody', async () => {
    const { status, body } = await setUp().get('/openapi.json', {});
    expect({ status, openapi: body.openapi }).toEqual({ status: 200, openapi: '3.1.0' });
  });
});

describe('limits', () => {
  it('refuse a body that is too large, and look at no other', async () => {
    const { app } = setUp();
    const send = (payload: string) =>
      app.inject({ method: 'GET', url: '/meshkit/shards', headers: ADMIN, payload });
    expect((await send('{broken')).statusCode).toBe(200);
    const response = await send('x'.repeat(70_000));
    expect(response.json()).toMatchObject({
      status: 413,
      code: 'requestTooLarge',
      errors: [{ pointer: '/body' }],
    });
  });

  it('refuse headers that are too large, and name the largest', async () => {
    const { status, body } = await setUp().get('/meshkit/shards', { ...ADMIN, 'x-long': 'x'.repeat(20_000) });
    expect({ status, pointer: body.errors[0].pointer }).toEqual({ status: 431, pointer: '/header/x-long' });
  });

  it('bound how much one user may ask, and no other', async () => {
    const { get } = setUp({ requestsPerSecond: 0.2 });
    const jane = { authorization: 'Bearer jane' };
    const statuses = [];
    for (let i = 0; i < 3; i += 1)
      statuses.push((await get('/meshkit/shards?namespace=payments', jane)).status);
    expect(statuses).toEqual([200, 200, 429]);
    const { headers, body } = await get('/meshkit/shards?namespace=payments', jane);
    expect({ code: body.code, after: headers['retry-after'] }).toEqual({ code: 'rateLimited', after: '5' });
    expect((await get('/meshkit/shards')).status).toBe(200);
  });
});

describe('how a request travelled', () => {
  it.each([
    ['h3; reason=timeout', 'timeout'],
    ['h2;reason=refused', 'refused'],
    ['h3', 'unspecified'],
  ])('is told by the client: %s', async (header, reason) => {
    const { get, registry } = setUp();
    await get('/meshkit/shards', { ...ADMIN, 'mesh-requested-protocol': header });
    expect(await registry.metrics()).toContain(`meshkit_protocol_downgrades_total{reason="${reason}"} 1`);
  });

  it.each(['h4', 'h3; reason=because', 'h3, h2', ''])(
    'is refused when nobody can read it: "%s"',
    async (header) => {
      const { status, body } = await setUp().get('/meshkit/shards', {
        ...ADMIN,
        'mesh-requested-protocol': header,
      });
      expect({ status, pointer: body.errors[0].pointer }).toEqual({
        status: 400,
        pointer: '/header/mesh-requested-protocol',
      });
    },
  );
});

describe('OPTIONS', () => {
  it.each([
    ['/meshkit/shards', 204, 'GET, HEAD, OPTIONS'],
    ['/meshkit/shards/payments/orders.0000?x=1', 204, 'GET, HEAD, OPTIONS'],
    ['/openapi.json', 204, 'GET, HEAD, OPTIONS'],
    ['/meshkit/shards/watch', 204, 'GET, OPTIONS'],
    ['/nothing', 404, undefined],
  ])('%s: %i, %s', async (url, status, allow) => {
    const response = await setUp().app.inject({ method: 'OPTIONS', url });
    expect({ status: response.statusCode, allow: response.headers.allow }).toEqual({ status, allow });
  });
});

describe('a stream', () => {
  it.each([
    ['HEAD', {}, 405, 'methodNotAllowed'],
    ['GET', { accept: 'application/json' }, 406, 'notAcceptable'],
    ['GET', { authorization: 'Bearer jane' }, 403, 'scopeMissing'],
    ['GET', { authorization: 'Bearer forged' }, 401, 'unauthenticated'],
  ] as const)('%s with %j is refused with its status', async (method, headers, status, code) => {
    const { app, lines } = setUp();
    const response = await app.inject({
      method,
      url: '/meshkit/shards/watch',
      headers: { ...ADMIN, ...headers },
    });
    expect(response.statusCode).toBe(status);
    expect(lines).toEqual([expect.objectContaining({ code, status })]);
  });

  it.each([
    ['garbage', 'tokenInvalid'],
    [
      sealResumeToken(filterDigest({}), { lineage: LINEAGE, position: '41', anchor: 'a', snapshot: false }),
      'filterMismatch',
    ],
  ])('whose Last-Event-ID is wrong says that it is the header: %.10s', async (id, code) => {
    const url = '/meshkit/shards/watch?namespace=payments&resumeToken=other';
    const { status, body } = await setUp().get(url, { ...ADMIN, 'last-event-id': id });
    expect({ status, code: body.code }).toEqual({ status: 400, code });
    expect(body.detail).toMatch(/^last-event-id /);
    expect(body.errors).toMatchObject([{ pointer: '/header/last-event-id' }]);
  });

  it('is logged with the error that the server ended it with', async () => {
    const { app, lines } = setUp({ watchError: new ShardError('slowConsumer', 'you do not keep up') });
    const response = await app.inject({ url: '/meshkit/shards/watch', headers: ADMIN });
    expect(response.body).toContain('event: shard-error');
    expect(lines).toMatchObject([{ op: 'watch', decision: 'allow', status: 200, code: 'slowConsumer' }]);
  });

  it('is logged when it has ended, with what it told', async () => {
    const { app, lines } = setUp({ messages: [{ type: 'bookmark', position: '41', token: 'AA' }] });
    const response = await app.inject({ url: '/meshkit/shards/watch?namespace=payments', headers: ADMIN });
    expect(response.headers['content-type']).toBe('text/event-stream');
    expect(lines).toEqual([
      {
        op: 'watch',
        scope: 'observe',
        decision: 'allow',
        user: 'admin',
        namespace: 'payments',
        count: 1,
        transport: 'sse',
        protocol: 'http/1.1',
        status: 200,
        durationMs: 0,
      },
    ]);
  });
});
