import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { ServerHttp2Stream } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ShardClient, type ShardClientOptions } from '@meshkit/client/shard-client';
import { machineClock } from '@meshkit/client/wait';
import type { WatchOptions } from '@meshkit/client/watch';
import { ShardError } from '@meshkit/shards/errors';
import { problemOf } from '@meshkit/shards/problem';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CA, ForgetfulNetwork, type Request, reply, ScriptedServer } from './server.ts';

const view = (name: string, version: number, fields = {}) => ({
  namespace: 'payments',
  name: `orders.${name}`,
  uid: `uid-${name}`,
  shardSet: 'orders',
  shardId: name,
  phase: 'Active',
  state: 'Active',
  owner: `node-${version}`,
  ownerEndpoint: `https://node-${version}:1`,
  epoch: version,
  version,
  generation: 1,
  observedGeneration: 1,
  capacity: 1,
  ...fields,
});

/** One stream as a test writes it. */
class Script {
  readonly #stream: ServerHttp2Stream;

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
    stream.respond({ ':status': 200, 'content-type': 'text/event-stream' });
  }

  say(event: string, data: object, id?: string): this {
    this.#stream.write(`event: ${event}\n${id ? `id: ${id}\n` : ''}data: ${JSON.stringify(data)}\n\n`);
    return this;
  }

  list(position: number, ...shards: object[]): this {
    const at = { position: `${position}` };
    this.say('snapshot-begin', { ...at, lineage: 'l' }, `s${position}`);
    for (const current of shards) this.say('shard', { ...at, type: 'ADDED', current }, `s${position}`);
    return this.say('snapshot-end', at, `t${position}`);
  }

  change(position: number, type: string, current?: object, previous?: object): this {
    return this.say('shard', { type, position: `${position}`, current, previous }, `t${position}`);
  }

  raw(text: string): this {
    this.#stream.write(text);
    return this;
  }

  end(): void {
    this.#stream.end();
  }

  /** Once what was written is out. */
  cut(): void {
    setTimeout(() => this.#stream.session?.destroy(), 20);
  }
}

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

  /** One script for each stream in turn; the last one stays for all that follow. */
  function play(...scripts: ((script: Script, request: Request) => void)[]): void {
    server.answer = (request) => {
      const script = scripts.length > 1 ? scripts.shift() : scripts[0];
      script?.(new Script(request.stream), request);
    };
  }

  /** Type, id and version of the first `count` events; BOOKMARK, SYNCED and RESET by their type alone. */
  async function watched(count: number, options: WatchOptions = {}, from = client): Promise<string[]> {
    const events: string[] = [];
    const onDisconnect = (error: ShardError) => void lost.push(error.code);
    for await (const event of from.watch(
      { shardSet: 'orders' },
      { signal: stop.signal, onDisconnect, ...options },
    )) {
      const shard = 'previous' in event ? (event.current ?? event.previous) : undefined;
      events.push(shard ? `${event.type} ${shard.shardId}@${shard.version}` : event.type);
      if (events.length === count) break;
    }
    return events;
  }

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
      }, 50);
    });
    expect(await watched(2, { silenceMs: 200 })).toEqual(['SYNCED', 'ADDED a@1']);
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
    expect(await watched(4)).toEqual(['ADDED a@1', 'SYNCED', 'MODIFIED a@2', 'SYNCED']);
    await expect(watched(1, { resumeToken: 'mine' })).rejects.toMatchObject({ code: 'tokenInvalid' });
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

  it('shares one connection with requests and other watches', async () => {
    server.answer = ({ stream, path }) => {
      if (path.endsWith('/watch')) new Script(stream).list(10);
      else reply(stream, { items: [] });
    };
    await Promise.all([watched(1), watched(1), client.nodes()]);
    expect(server.connections).toBe(1);
  });

  describe('token', () => {
    let folder: string;
    let file: string;

    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'meshkit-token-'));
      file = join(folder, 'token');
    });

    afterEach(() => rm(folder, { recursive: true }));

    /** Only `exp` and `iat` count. */
    const jwt = (lifeSeconds: number, name: string) => {
      const iat = Date.now() / 1_000;
      const payload = Buffer.from(JSON.stringify({ iat, exp: iat + lifeSeconds, name })).toString(
        'base64url',
      );
      return `h.${payload}.s`;
    };

    it('is replaced before it expires, and the stream resumed with the new one', async () => {
      const [first, second] = [jwt(1, 'first'), jwt(3_600, 'second')];
      await writeFile(file, first);
      const following = open({ token: { file } });
      play(
        (script) => script.list(10),
        (script) => script.change(11, 'ADDED', view('a', 1)),
      );
      setTimeout(() => writeFile(file, second), 300);
      expect(await watched(2, {}, following)).toEqual(['SYNCED', 'ADDED a@1']);
      expect(server.requests.map(({ authorization }) => authorization)).toEqual([
        `Bearer ${first}`,
        `Bearer ${second}`,
      ]);
      expect(tokensSent()).toEqual([undefined, 't10']);
      expect(lost).toEqual([]);
      await following.close();
    });

    it('is read again at once when the server has had enough of it, but not without end', async () => {
      const refusal = problemOf(new ShardError('unauthenticated', 'expired'));
      await writeFile(file, 'old');
      const following = open({ token: { file } });
      server.answer = ({ stream, authorization }) => {
        if (authorization === 'Bearer new') new Script(stream).change(11, 'ADDED', view('a', 1));
        else {
          const script = new Script(stream).list(10);
          void writeFile(file, 'new').then(() => script.say('shard-error', refusal, 't10'));
        }
      };
      expect(await watched(2, {}, following)).toEqual(['SYNCED', 'ADDED a@1']);
      server.answer = ({ stream }) => reply(stream, refusal, 401);
      await expect(watched(1, {}, following)).rejects.toMatchObject({ code: 'unauthenticated' });
      let given = 0;
      const endless = open({ token: () => `t${++given}` });
      await expect(watched(1, {}, endless)).rejects.toMatchObject({ code: 'unauthenticated' });
      await Promise.all([following.close(), endless.close()]);
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
