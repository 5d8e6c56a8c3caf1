import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ShardClient, type ShardClientOptions } from '@meshkit/client/shard-client';
import { machineClock } from '@meshkit/client/wait';
import { ShardError } from '@meshkit/shards/errors';
import { problemOf } from '@meshkit/shards/problem';
import { scopeMissing } from '@meshkit/shards/scope';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CA, ForgetfulNetwork, reply, ScriptedServer } from './server.ts';

const versionVector = { position: '1', namespaces: {} };

describe('ShardClient', () => {
  let server: ScriptedServer;
  let client: ShardClient;
  let now: number;

  const clock = { ...machineClock, monotonic: () => now };
  const open = (options: Partial<ShardClientOptions> = {}) =>
    new ShardClient({ server: server.url, ca: CA, token: 't', clock, ...options });

  beforeEach(async () => {
    now = 0;
    server = await ScriptedServer.start();
    client = open();
  });

  afterEach(async () => {
    await client.close();
    await server.stop();
  });

  /** Serves the numbers below `total` as names, page by page. */
  function serveNames(total: number): void {
    server.answer = ({ stream, query }) => {
      const from = Number(query.get('cursor') ?? 0);
      const to = Math.min(from + Number(query.get('pageSize')), total);
      const items = Array.from({ length: to - from }, (_, at) => ({ name: `${from + at}` }));
      reply(stream, { items, versionVector, ...(to < total ? { nextCursor: `${to}` } : {}) });
    };
  }

  it('lists through all pages over one connection', async () => {
    serveNames(7);
    const names: string[] = [];
    for await (const { name } of client.list({ namespace: 'payments' }, { pageSize: 3 })) names.push(name);
    expect(names).toEqual(['0', '1', '2', '3', '4', '5', '6']);
    expect(server.requests.map(({ query }) => query.get('namespace'))).toEqual([
      'payments',
      'payments',
      'payments',
    ]);
    expect(server.connections).toBe(1);
  });

  it('asks how the server is, and what one may do there', async () => {
    server.answer = ({ stream, path }) => reply(stream, { path });
    expect(await client.status('a b')).toEqual({ path: '/meshkit/status' });
    expect(await client.access()).toEqual({ path: '/meshkit/access' });
    expect(server.requests.map(({ query }) => query.get('namespace'))).toEqual(['a b', null]);
  });

  it('asks for no more than it was told to give', async () => {
    serveNames(100);
    const names: string[] = [];
    for await (const { name } of client.list({}, { pageSize: 4, limit: 6 })) names.push(name);
    expect(names).toHaveLength(6);
    expect(server.requests.map(({ query }) => query.get('pageSize'))).toEqual(['4', '2']);
  });

  it('goes on at the newest state when the server no longer knows that of the first page', async () => {
    const gone = new ShardError('cursorExpired', 'gone', {
      resume: { cursor: 'new', consistency: 'keyset' },
    });
    server.answer = ({ stream, query }) => {
      const cursor = query.get('cursor');
      if (cursor === null) reply(stream, { items: [{ name: 'a' }], versionVector, nextCursor: 'old' });
      else if (cursor === 'old') reply(stream, problemOf(gone), 410);
      else reply(stream, { items: [{ name: 'b' }], versionVector, consistency: 'keyset' });
    };
    const pages = await Array.fromAsync(client.pages());
    expect(pages.map(({ items, consistency }) => [items[0]?.name, consistency])).toEqual([
      ['a', undefined],
      ['b', 'keyset'],
    ]);
  });

  it('stops asking when the consumer stops reading', async () => {
    serveNames(100);
    for await (const _ of client.list({}, { pageSize: 5 })) break;
    expect(server.requests).toHaveLength(1);
  });

  it('says every condition of a filter', async () => {
    for await (const _ of client.list({
      shardSet: 's',
      owners: ['a', 'b'],
      phases: ['Lost'],
      zones: ['z'],
      search: '%&',
    })) {
      throw new Error('there is nothing');
    }
    expect(server.requests[0]?.query.toString()).toBe(
      'shardSet=s&owner=a&owner=b&status=Lost&zone=z&search=%25%26&pageSize=1000',
    );
  });

  it('says more owners than a parameter may be repeated by commas', async () => {
    const owners = Array.from({ length: 250 }, (_, at) => `node-${at}`);
    for await (const _ of client.list({ owners })) throw new Error('there is nothing');
    const said = server.requests[0]?.query.getAll('owner') ?? [];
    expect([said.length, said.flatMap((value) => value.split(','))]).toEqual([84, owners]);
  });

  it('gives the server’s refusal as its error, with the remedy', async () => {
    const refusal = problemOf(scopeMissing('jane', 'read', { namespace: 'payments' }));
    server.answer = ({ stream }) => reply(stream, refusal, 403);
    const failure = client.get('payments', 'orders.0000');
    await expect(failure).rejects.toMatchObject({
      code: 'scopeMissing',
      details: { grant: refusal.grant, user: 'jane' },
    });
    await expect(failure).rejects.toThrow(refusal.detail);
  });

  it.each([
    [502, '<html>bad gateway</html>', 'unavailable'],
    [404, '', 'notFound'],
    [418, 'teapot', 'invalidArgument'],
    [200, '<html>welcome</html>', 'internal'],
  ])('makes an error of an answer that is not ours: %i', async (status, text, code) => {
    server.answer = ({ stream }) => {
      stream.respond({ ':status': status });
      stream.end(text);
    };
    const failure = client.nodes();
    await expect(failure).rejects.toMatchObject({ code });
    await expect(failure).rejects.toThrow('is it a MeshKit API server?');
  });

  it('survives a restart of the server between two requests, silently', async () => {
    await client.nodes();
    const { port } = server;
    await server.stop();
    server = await ScriptedServer.start(port);
    expect(await client.nodes()).toEqual([]);
  });

  it('moves on when a draining server says goodbye, and loses no request', async () => {
    await client.nodes();
    for (const session of server.sessions) session.close();
    expect(await Promise.all([client.nodes(), client.nodes(), client.nodes()])).toEqual([[], [], []]);
    expect(server.connections).toBe(2);
  });

  it('repeats a request that died with an old connection, once', async () => {
    await client.nodes();
    let dropped = 0;
    server.answer = ({ stream }) => {
      dropped += 1;
      if (dropped === 1) stream.session?.destroy();
      else reply(stream, { items: [] });
    };
    expect(await client.nodes()).toEqual([]);
    server.answer = ({ stream }) => {
      dropped += 1;
      stream.session?.destroy();
    };
    await expect(client.nodes()).rejects.toMatchObject({ code: 'unavailable' });
    expect(dropped).toBe(4);
  });

  it('notices a peer that went away without a word, before it uses the connection again', async () => {
    const network = await ForgetfulNetwork.inFrontOf(server.port);
    const far = open({ server: network.url });
    try {
      await far.nodes();
      network.forget();
      now += 60_000;
      expect(await far.nodes()).toEqual([]);
      expect(server.connections).toBe(2);
    } finally {
      await far.close();
      network.close();
    }
  });

  it('gives up a connection that gives no answers, however often it is asked', async () => {
    const network = await ForgetfulNetwork.inFrontOf(server.port);
    const far = open({ server: network.url });
    const ask = (timeoutMs: number) => far.nodes(undefined, { timeoutMs }).catch(({ code }) => code);
    try {
      await far.nodes();
      network.forget();
      for (let at = 0; at < 3; at++) {
        now += 4_000;
        expect(await ask(50)).toBe('timeout');
      }
      await expect.poll(() => ask(1_000)).toEqual([]);
    } finally {
      await far.close();
      network.close();
    }
  });

  it('says that an answer was cut short, and does not take half of it', async () => {
    server.answer = ({ stream }) => {
      stream.respond({ ':status': 200, 'content-type': 'application/json' });
      stream.write('{"items":[');
      setTimeout(() => stream.session?.destroy(), 20);
    };
    await expect(client.nodes()).rejects.toThrow('cut short');
  });

  it('ends by its deadline, and leaves the connection to others', async () => {
    server.answer = ({ stream, path }) => {
      if (path === '/meshkit/nodes') reply(stream, { items: [] });
    };
    const slow = client.get('payments', 'a', { timeoutMs: 50 });
    await expect(slow).rejects.toMatchObject({ code: 'timeout' });
    expect(await client.nodes()).toEqual([]);
    expect(server.connections).toBe(1);
  });

  it('ends by the signal with the signal’s reason, in the middle of a list too', async () => {
    server.answer = ({ stream, query }) => {
      if (!query.has('cursor')) reply(stream, { items: [{ name: 'a' }], versionVector, nextCursor: 'c' });
    };
    const stop = new AbortController();
    const reason = new Error('enough');
    const read = async () => {
      for await (const _ of client.list({}, { signal: stop.signal }))
        setTimeout(() => stop.abort(reason), 10);
    };
    await expect(read()).rejects.toBe(reason);
    await expect(client.nodes(undefined, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it.each([
    ['https://127.0.0.1:1', 'ECONNREFUSED', 'is the API server running'],
    ['https://no-such-host.invalid', /ENOTFOUND|EAI_AGAIN/, 'cannot reach'],
  ])('says what is wrong with the way to %s', async (url, reason, hint) => {
    const other = open({ server: url });
    const failure = other.nodes();
    await expect(failure).rejects.toMatchObject({
      code: 'unavailable',
      details: { reason: expect.stringMatching(reason) },
    });
    await expect(failure).rejects.toThrow(hint);
    await other.close();
  });

  it('trusts nobody whose certificate is not signed by the given authority', async () => {
    const other = open({ ca: undefined });
    await expect(other.nodes()).rejects.toThrow('--certificate-authority FILE');
    expect(server.requests).toEqual([]);
    await other.close();
  });

  it('sends tokens over TLS only', () => {
    expect(() => open({ server: 'http://127.0.0.1:80' })).toThrow('write https://HOST:PORT');
  });

  describe('token', () => {
    let folder: string;

    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'meshkit-token-'));
      server.answer = ({ stream, authorization }) =>
        authorization === 'Bearer expired'
          ? reply(stream, { code: 'unauthenticated', detail: 'expired' }, 401)
          : reply(stream, { items: [] });
    });

    afterEach(() => rm(folder, { recursive: true }));

    it('is read again from its file: every minute, and at once when it is refused', async () => {
      const file = join(folder, 'token');
      const following = open({ token: { file } });
      await writeFile(file, 'first\n');
      await following.nodes();
      await writeFile(file, 'expired\n');
      await following.nodes();
      now += 60_000;
      await expect(following.nodes()).rejects.toMatchObject({ code: 'unauthenticated' });
      await writeFile(file, 'second\n');
      await following.nodes();
      expect(server.requests.map(({ authorization }) => authorization)).toEqual([
        'Bearer first',
        'Bearer first',
        'Bearer expired',
        'Bearer second',
      ]);
      await following.close();
    });

    it('comes from a function for every request', async () => {
      const given = ['expired', 'fresh', 'later'];
      const asking = open({ token: async () => given.shift() ?? '' });
      await asking.nodes();
      await asking.nodes();
      expect(server.requests.map(({ authorization }) => authorization)).toEqual([
        'Bearer expired',
        'Bearer fresh',
        'Bearer later',
      ]);
      await expect(asking.nodes()).rejects.toMatchObject({ code: 'unauthenticated' });
      await asking.close();
    });

    it('that cannot be read is an error of its own', async () => {
      const missing = open({ token: { file: join(folder, 'nope') } });
      await expect(missing.nodes()).rejects.toThrow('cannot read the token file');
      await missing.close();
      const failing = open({ token: () => Promise.reject(new Error('the vault is sealed')) });
      await expect(failing.nodes()).rejects.toMatchObject({
        code: 'unauthenticated',
        message: 'the source of the token failed: the vault is sealed',
      });
      await failing.close();
    });

    it('is waited for no longer than for an answer', async () => {
      const hanging = open({ token: () => new Promise(() => undefined) });
      const late = hanging.nodes(undefined, { timeoutMs: 20 });
      await expect(late).rejects.toMatchObject({ code: 'timeout' });
      const stop = new AbortController();
      const reason = new Error('enough');
      setTimeout(() => stop.abort(reason), 10);
      await expect(hanging.nodes(undefined, { signal: stop.signal })).rejects.toBe(reason);
      await hanging.close();
    });
  });
});
