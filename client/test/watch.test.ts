import { ShardClient, type ShardClientOptions } from '@meshkit/client/shard-client';
import { machineClock } from '@meshkit/client/wait';
import type { WatchOptions } from '@meshkit/client/watch';
import { ShardError } from '@meshkit/shards/errors';
import { problemOf } from '@meshkit/shards/problem';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CA, ForgetfulNetwork, type Request, reply, ScriptedServer } from './server.ts';
import { eventsOf, playOn, Script, type StreamScript, view } from './watch-script.ts';

describe('watch', () => {
  let server: ScriptedServer;
  let client: ShardClient;
  let stop: AbortController;
  let lost: string[];

  const open = (options: Partial<ShardClientOptions> = {}) =>
    new ShardClient({ server: server.url, ca: CA, token: 't', random: () => 0, ...options });

  beforeEach(async () => {
    server = await ScriptedServer.start();
    client = open();
    stop = new AbortController();
    lost = [];
  });

  afterEach(async () => {
    stop.abort();
    await client.close();
    await server.stop();
  });

  const play = (...scripts: StreamScript[]) => playOn(server, ...scripts);
  const watched = (count: number, options: WatchOptions = {}, from = client) => {
    const onDisconnect = (error: ShardError) => void lost.push(error.code);
    return eventsOf(from, count, { signal: stop.signal, onDisconnect, ...options });
  };

  const tokensSent = () => server.requests.map(({ headers }) => headers['last-event-id']);

  it('lists, then follows, and goes on after the last event when the connection breaks', async () => {
    play(
      (script) => script.list(10, view('a', 1)).change(11, 'MODIFIED', view('a', 2), view('a', 1)).cut(),
      (script) => script.change(12, 'MODIFIED', view('a', 3), view('a', 2)).end(),
      (script) => script.say('bookmark', { position: '13' }, 't13'),
    );
    expect(await watched(5)).toEqual(['ADDED a@1', 'SYNCED', 'MODIFIED a@2', 'MODIFIED a@3', 'BOOKMARK']);
    expect(tokensSent()).toEqual([undefined, 't11', 't12']);
    expect(server.requests[0]?.query.toString()).toBe('shardSet=orders');
    expect(lost).toEqual(['unavailable', 'unavailable']);
  });

  it('starts a listing that was cut short again, and drops what is not in it', async () => {
    play(
      (script) => script.list(10, view('a', 1), view('b', 1)).cut(),
      (script) =>
        script
          .say('reset', { reason: 'expired' }, 's20')
          .say('snapshot-begin', { position: '20', lineage: 'l' }, 's20')
          .say('shard', { type: 'ADDED', position: '20', current: view('b', 2) }, 's20')
          .cut(),
      (script) => script.list(21, view('b', 2)),
    );
    expect(await watched(7)).toEqual([
      'ADDED a@1',
      'ADDED b@1',
      'SYNCED',
      'RESET',
      'MODIFIED b@2',
      'DELETED a@1',
      'SYNCED',
    ]);
    expect(tokensSent()).toEqual([undefined, 't10', 's20']);
  });

  it('goes where a server that says goodbye sends it, on another connection', async () => {
    play(
      (script, { stream }) => {
        script.list(10).say('goaway', { reconnectAfterMs: 30 }, 't10');
        stream.session?.close();
      },
      (script) => script.change(11, 'ADDED', view('a', 1)),
    );
    expect(await watched(2)).toEqual(['SYNCED', 'ADDED a@1']);
    expect(server.connections).toBe(2);
    expect(tokensSent()).toEqual([undefined, 't10']);
    expect(lost).toEqual([]);
  });

  it('takes a server that fell silent for gone, and tries the connection before it uses it again', async () => {
    const network = await ForgetfulNetwork.inFrontOf(server.port);
    const far = open({ server: network.url });
    play(
      (script) => script.list(10),
      (script) => script.change(11, 'ADDED', view('a', 1)),
    );
    setTimeout(() => network.forget(), 50);
    expect(await watched(2, { silenceMs: 200 }, far)).toEqual(['SYNCED', 'ADDED a@1']);
    expect(server.connections).toBe(2);
    await far.close();
    network.close();
  });

  it('waits as long as it is told for a stream to begin', async () => {
    const answers = [() => undefined, ({ stream }: Request) => void new Script(stream).list(10)];
    server.answer = (request) => answers.shift()?.(request);
    expect(await watched(1, { timeoutMs: 100 })).toEqual(['SYNCED']);
    expect(lost).toEqual(['timeout']);
  });

  it('takes heartbeats for what they are', async () => {
    play((script) => {
      script.list(10);
      let beats = 0;
      const timer = setInterval(() => {
        beats += 1;
        if (beats < 8) script.raw(': still here\n\n');
        else script.change(11, 'ADDED', view('a', 1));
        if (beats === 8) clearInterval(timer);
      }, 150);
    });
    expect(await watched(2, { silenceMs: 1_000 })).toEqual(['SYNCED', 'ADDED a@1']);
    expect(server.requests).toHaveLength(1);
  });

  it('is patient with its own consumer', async () => {
    play((script) => script.list(10, view('a', 1)));
    const seen: string[] = [];
    for await (const event of client.watch({}, { signal: stop.signal, silenceMs: 100 })) {
      seen.push(event.type);
      await machineClock.sleep(250);
      if (event.type === 'SYNCED') break;
    }
    expect(seen).toEqual(['ADDED', 'SYNCED']);
    expect(server.requests).toHaveLength(1);
  });

  it('tries again what the server ends or refuses for now', async () => {
    const busy = problemOf(new ShardError('tooManyWatchers', 'too many'));
    const slow = problemOf(new ShardError('slowConsumer', 'too slow'));
    const answers = [
      ({ stream }: Request) => reply(stream, busy, busy.status),
      ({ stream }: Request) => void new Script(stream).list(10).say('shard-error', slow, 't10').end(),
      ({ stream }: Request) => void new Script(stream).change(11, 'ADDED', view('a', 1)),
    ];
    server.answer = (request) => answers.shift()?.(request);
    expect(await watched(2)).toEqual(['SYNCED', 'ADDED a@1']);
    expect(lost).toEqual(['tooManyWatchers', 'slowConsumer']);
  });

  it('waits longer after every failure, at random, and begins anew after a success', async () => {
    const waits: number[] = [];
    const refusing = open({ random: () => 0.001 });
    const answers = [503, 503, 503, 200, 503, 200];
    server.answer = ({ stream }) => {
      const status = answers.shift();
      if (status === 503) reply(stream, {}, 503);
      else if (answers.length > 0) new Script(stream).raw('retry: 3000\n\n').list(10).end();
      else new Script(stream).say('bookmark', { position: '11' }, 't11');
    };
    await watched(2, { onDisconnect: (_, ms) => waits.push(Math.round(ms)) }, refusing);
    expect(waits).toEqual([1, 2, 4, 3, 2]);
    await refusing.close();
  });

  it.each(['invalidArgument', 'filterMismatch', 'scopeMissing', 'notFound'] as const)(
    'throws what trying again cannot cure: %s',
    async (code) => {
      const refusal = problemOf(new ShardError(code, 'no'));
      server.answer = ({ stream }) => reply(stream, refusal, refusal.status);
      await expect(watched(1)).rejects.toMatchObject({ code });
      server.answer = ({ stream }) => void new Script(stream).say('shard-error', refusal);
      await expect(watched(1)).rejects.toMatchObject({ code });
      expect(server.requests).toHaveLength(2);
    },
  );

  it('asks for a listing when a server does not know the token of another one; not when it is the caller’s', async () => {
    const refusal = problemOf(new ShardError('tokenInvalid', 'of a version that this server does not know'));
    server.answer = ({ stream, headers }) => {
      if (headers['last-event-id']) reply(stream, refusal, 400);
      else if (server.requests.length === 1) new Script(stream).list(10, view('a', 1)).end();
      else new Script(stream).list(20, view('a', 2));
    };
    expect(await watched(5)).toEqual(['ADDED a@1', 'SYNCED', 'RESET', 'MODIFIED a@2', 'SYNCED']);
    await expect(watched(1, { resumeToken: 'mine' })).rejects.toMatchObject({ code: 'tokenInvalid' });
  });

  it('lists also for a watch from now on, when its own token is refused: what it missed must not stay untold', async () => {
    const refusal = problemOf(new ShardError('tokenInvalid', 'of a version that this server does not know'));
    server.answer = ({ stream, headers }) => {
      if (headers['last-event-id']) reply(stream, refusal, 400);
      else if (server.requests.length === 1)
        new Script(stream).say('bookmark', { position: '10' }, 't10').end();
      // The connection breaks before the listing begins.
      else if (server.requests.length === 3) reply(stream, {}, 503);
      else new Script(stream).list(20, view('a', 2));
    };
    const from = 'now';
    expect(await watched(4, { from })).toEqual(['BOOKMARK', 'RESET', 'ADDED a@2', 'SYNCED']);
    expect(server.requests.map(({ query }) => query.get('from'))).toEqual([
      'now',
      null,
      'beginning',
      'beginning',
    ]);
    server.requests.length = 0;
    const failing = watched(9, { from, onExpired: 'fail' });
    await expect(failing).rejects.toMatchObject({ code: 'tokenInvalid' });
  });

  it('ends with the signal, whatever it is doing', async () => {
    play((script) => script.list(10));
    setTimeout(() => stop.abort(), 100);
    expect(await watched(9)).toEqual(['SYNCED']);
    server.answer = ({ stream }) => reply(stream, {}, 503);
    const waiting = new AbortController();
    const far = open({ random: () => 0.99 });
    setTimeout(() => waiting.abort(), 100);
    expect(await watched(1, { signal: waiting.signal }, far)).toEqual([]);
    expect(await watched(1, { signal: AbortSignal.abort() })).toEqual([]);
    await far.close();
  });

  it('ends with its client', async () => {
    play((script) => script.list(10));
    const watching = watched(9);
    const cache = client.cache({ namespace: 'payments', shardSet: 'orders' });
    await cache.ready();
    server.answer = ({ stream }) => reply(stream, {}, 503);
    await client.close();
    expect(await watching).toEqual(['SYNCED']);
    await cache.ended();
    const { length } = server.requests;
    await expect(client.cache({ namespace: 'payments', shardSet: 'orders' }).ready()).rejects.toThrow(
      'the client is closed',
    );
    expect(server.requests).toHaveLength(length);
  });

  /** Watches hold, all else is answered. */
  function serveBoth(scripted: ScriptedServer): void {
    scripted.answer = ({ stream, path }) => {
      if (path.endsWith('/watch')) new Script(stream).list(10);
      else reply(stream, { items: [] });
    };
  }

  it('shares one connection with requests and other watches', async () => {
    serveBoth(server);
    await Promise.all([watched(1), watched(1), client.nodes()]);
    expect(server.connections).toBe(1);
  });

  describe('more watches than the server takes on one connection', () => {
    const many = async (maxConcurrentStreams: number, count: number) => {
      const small = await ScriptedServer.start(0, { maxConcurrentStreams });
      serveBoth(small);
      const busy = open({ server: small.url });
      const caches = Array.from({ length: count }, (_, at) =>
        busy.cache({ namespace: 'payments', shardSet: `s${at}` }),
      );
      await Promise.all(caches.map((cache) => cache.ready()));
      return { small, busy, caches };
    };

    it('open further ones, which end with the client', async () => {
      const { small, busy, caches } = await many(3, 10);
      expect(await busy.nodes()).toEqual([]);
      expect(small.connections).toBe(4);
      await caches[0]?.close();
      // There is room again on the first.
      await busy.cache({ namespace: 'payments', shardSet: 'last' }).ready();
      expect(small.connections).toBe(4);
      await busy.close();
      await expect.poll(() => small.sessions.size).toBe(0);
      await small.stop();
    });

    it('have a bound, and are told of it', async () => {
      const { small, busy, caches } = await many(1, 80);
      await expect(busy.nodes()).rejects.toMatchObject({
        code: 'unavailable',
        message: expect.stringContaining('all 80 connections'),
      });
      await caches[0]?.close();
      await expect.poll(() => busy.nodes().catch(() => undefined)).toEqual([]);
      await busy.close();
      await small.stop();
    });
  });

  describe('cache', () => {
    const options = { namespace: 'payments', shardSet: 'orders' };

    it('knows every owner, and tells of changes after it has them', async () => {
      let live!: Script;
      play((script) => {
        live = script.list(10, view('0000', 1), view('0001', 1), view('0002', 1, { phase: 'Lost' }));
      });
      const cache = client.cache(options);
      await cache.ready();
      expect(server.requests[0]?.query.toString()).toBe('namespace=payments&shardSet=orders');
      expect(cache.ownerOf('0000')).toEqual({
        shardId: '0000',
        node: 'node-1',
        endpoint: 'https://node-1:1',
        epoch: 1,
      });
      expect([cache.ownerOf('0002'), cache.ownerOf('nope')]).toEqual([undefined, undefined]);
      expect([cache.size, cache.position]).toEqual([3, '10']);
      const change = new Promise((resolve) => {
        cache.onChange(({ type, current }) => resolve([type, current?.owner, cache.ownerOf('0001')?.node]));
      });
      live.change(11, 'MODIFIED', view('0001', 2), view('0001', 1));
      expect(await change).toEqual(['MODIFIED', 'node-2', 'node-2']);
      expect(cache.position).toBe('11');
      await cache.close();
    });

    it('sends each key to its shard by the published hash', async () => {
      play((script) => script.list(10, ...['0000', '0001', '0002', '0003', '0005'].map((id) => view(id, 1))));
      const cache = client.cache(options);
      await cache.ready();
      // The published vectors are those of shards/src/key.test.ts; here it is the number of shards that matters.
      const ids = new Set(Array.from({ length: 200 }, (_, at) => cache.ownerFor(`customer-${at}`)?.shardId));
      expect([...ids].sort()).toEqual(['0000', '0001', '0002', '0003']);
      await cache.close();
      play((script) => script.list(10, view('eu', 1)));
      const named = client.cache(options);
      await named.ready();
      expect(() => named.ownerFor('customer-1')).toThrow('keys belong to sets with a count');
      await named.close();
    });

    it('keeps its answers through an outage, and says how old they are', async () => {
      let now = 0;
      const clock = { ...machineClock, monotonic: () => now };
      const timed = open({ clock });
      play((script) => script.list(10, view('0000', 1)));
      const cache = timed.cache(options);
      expect(cache.stalenessMs).toBe(Number.POSITIVE_INFINITY);
      await cache.ready();
      server.answer = ({ stream }) => reply(stream, {}, 503);
      for (const session of server.sessions) session.destroy();
      now = 20_000;
      expect(cache.ownerOf('0000')?.node).toBe('node-1');
      expect(cache.stalenessMs).toBe(20_000);
      await cache.close();
      await timed.close();
    });

    it('says that it cannot be kept up to date, and gives no more answers then', async () => {
      const refusal = problemOf(new ShardError('scopeMissing', 'not you'));
      server.answer = ({ stream }) => reply(stream, refusal, 403);
      const cache = client.cache(options);
      await expect(cache.ready()).rejects.toMatchObject({ code: 'scopeMissing' });
      expect(() => cache.ownerOf('0000')).toThrow('not you');
      await expect(cache.ended()).rejects.toMatchObject({ code: 'scopeMissing' });
    });

    it('stops waiting with the caller’s signal', async () => {
      server.answer = ({ stream }) => reply(stream, {}, 503);
      const cache = client.cache(options);
      const reason = new Error('enough');
      await expect(cache.ready(AbortSignal.abort(reason))).rejects.toBe(reason);
      const ready = cache.ready();
      await cache.close();
      await expect(ready).rejects.toThrow('the cache is closed');
    });
  });
});
