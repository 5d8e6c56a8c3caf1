import { once } from 'node:events';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect as connectHttp2, constants } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { systemClock } from '@meshkit/crds/clock';
import { silentLog } from '@meshkit/crds/log';
import fastify, { type FastifyInstance } from 'fastify';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Listener, listenTls } from '../src/listener.ts';
import { followCertificate, readCertificate } from '../src/tls-files.ts';
import { Wire } from './exchange.ts';
import { setUp, shard } from './rest-surface.ts';
import { CA, eventually, TLS } from './running-server.ts';

describe('listener', () => {
  let app: FastifyInstance;
  let listener: Listener;
  let release: () => void;

  beforeEach(async () => {
    const held = Promise.withResolvers<void>();
    release = held.resolve;
    app = fastify();
    app.get('/', async (request) => ({ version: request.raw.httpVersion }));
    app.get('/slow', async () => {
      await held.promise;
      return { done: true };
    });
    listener = await listenTls(app, { host: '127.0.0.1', port: 0 }, await readCertificate(TLS), systemClock);
  });

  afterEach(async () => {
    release();
    await listener.close(0);
  });

  /** What comes back for these bytes over HTTP/1.1. */
  async function raw(bytes: string): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const socket = connectTls({
      host: '127.0.0.1',
      port: Number(new URL(listener.url).port),
      ca: CA,
      ALPNProtocols: ['http/1.1'],
    });
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('close', () => resolve(text));
    socket.on('error', reject);
    socket.write(bytes);
    return promise;
  }

  it('speaks HTTP/2, and HTTP/1.1 to those who cannot', async () => {
    const wire = new Wire(listener.url);
    expect((await wire.get('/')).body).toEqual({ version: '2.0' });
    wire.close();
    expect(await raw('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')).toContain(
      '{"version":"1.1"}',
    );
  });

  it.each([
    ['nonsense\r\n\r\n', 400, 'invalidArgument'],
    [`GET / HTTP/1.1\r\nHost: a\r\nX: ${'a'.repeat(70_000)}\r\n\r\n`, 431, 'headersTooLarge'],
  ])('answers what is not a request with a problem: %.20s', async (bytes, status, code) => {
    const [head = '', body = ''] = (await raw(bytes)).split('\r\n\r\n');
    expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(head).toContain('content-type: application/problem+json');
    expect(JSON.parse(body)).toMatchObject({ status, code });
  });

  it('takes large headers over HTTP/2, for the surface to refuse with an answer', async () => {
    const wire = new Wire(listener.url);
    expect((await wire.get('/', undefined, { x: 'a'.repeat(40_000) })).status).toBe(200);
    wire.close();
  });

  it('lets requests under way finish, refuses new ones, and ends idle connections at once', async () => {
    const wire = new Wire(listener.url);
    const slow = wire.get('/slow');
    await wire.get('/');
    const goaway = new Promise((resolve) => wire.session.once('goaway', resolve));
    const closed = listener.close(10_000);
    await goaway;
    await expect(wire.get('/')).rejects.toThrow();
    const refused = new Promise<string>((resolve) => {
      connectTcp({ host: '127.0.0.1', port: Number(new URL(listener.url).port) }).on('error', (error) =>
        resolve(error.message),
      );
    });
    expect(await refused).toContain('ECONNREFUSED');
    release();
    expect(await slow).toMatchObject({ status: 200, body: { done: true } });
    await closed;
  });

  it('cuts off what does not finish in time', async () => {
    const wire = new Wire(listener.url);
    const slow = wire.get('/slow').then(
      ({ status }) => (Number.isNaN(status) ? 'cut' : 'answered'),
      () => 'cut',
    );
    await wire.get('/');
    await listener.close(50);
    expect(await slow).toBe('cut');
  });
});

describe('who does not read', () => {
  const address = { host: '127.0.0.1', port: 0 };
  const patience = { ms: 200, bytesPerMs: Number.POSITIVE_INFINITY };
  /** 10 MB, so that no buffer of the system takes it. */
  const large = Array.from({ length: 1_000 }, (_, at) => {
    const one = shard(String(at).padStart(4, '0'));
    return { ...one, spec: { ...one.spec, reason: 'r'.repeat(10_000) } };
  });

  it('is cut off from its answer over HTTP/2, and no other is', async () => {
    const { app, lines } = setUp({ patience });
    const listener = await listenTls(app, address, await readCertificate(TLS), systemClock);
    // Room for nothing: what the server writes stays with the server.
    const session = connectHttp2(listener.url, { ca: CA, settings: { initialWindowSize: 0 } });
    const stream = session.request({ ':path': '/meshkit/shards', authorization: 'Bearer admin' });
    stream.on('error', () => undefined);
    const wire = new Wire(listener.url);
    expect((await wire.get('/meshkit/shards', 'admin')).body.items).toHaveLength(5);
    expect(lines).toHaveLength(1);
    await once(stream, 'close');
    expect(stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
    await eventually(() => lines.length === 2 || undefined, 'its line in the log');
    // The others of the connection go on.
    expect(session.closed).toBe(false);
    session.destroy();
    wire.close();
    await listener.close(0);
  });

  it('is cut off over HTTP/1.1', async () => {
    const { app, history } = setUp({ patience });
    history.put('50', large);
    const { promise: closed, resolve } = Promise.withResolvers<boolean>();
    app.addHook('onRequest', async (_request, { raw }) => {
      raw.once('close', () => resolve(raw.writableFinished));
    });
    const listener = await listenTls(app, address, await readCertificate(TLS), systemClock);
    const socket = connectTls({ host: '127.0.0.1', port: Number(new URL(listener.url).port), ca: CA });
    socket.on('error', () => undefined);
    socket.pause();
    const path = '/meshkit/shards?pageSize=1000';
    socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer admin\r\n\r\n`);
    expect(await closed).toBe(false);
    socket.destroy();
    await listener.close(0);
  });

  it('is disconnected when nothing at all comes from it', async () => {
    const held = Promise.withResolvers<void>();
    const app = fastify();
    app.get('/slow', () => held.promise);
    const idle = { ms: 100, graceMs: 100 };
    const listener = await listenTls(app, address, await readCertificate(TLS), systemClock, idle);
    const wire = new Wire(listener.url);
    const slow = wire.get('/slow').catch(() => undefined);
    // Nothing but its end can tell.
    await once(wire.session, 'close');
    await slow;
    held.resolve();
    await listener.close(0);
  });
});

it('a caller who leaves while it waits for its turn is no failure of the server', async () => {
  const held = Promise.withResolvers<void>();
  const { app: surface, repository, failures, lines } = setUp();
  const { meshState } = repository;
  let asked = 0;
  repository.meshState = async (namespace) => {
    asked += 1;
    await held.promise;
    return meshState(namespace);
  };
  const address = { host: '127.0.0.1', port: 0 };
  const listener = await listenTls(surface, address, await readCertificate(TLS), systemClock);
  const wire = new Wire(listener.url);
  const headers = {
    ':method': 'POST',
    ':path': '/meshkit/shards/simulate',
    'content-type': 'application/json',
    authorization: 'Bearer admin',
  };
  const first = wire.send(headers, '{"namespace":"payments"}');
  await eventually(() => asked === 1 || undefined, 'the first is under way');
  const second = wire.session.request(headers);
  second.end('{"namespace":"payments"}');
  second.on('error', () => undefined);
  // Requests of a connection are taken up in their order.
  await wire.get('/meshkit/shards', 'admin');
  second.close();
  await wire.get('/meshkit/shards', 'admin');
  held.resolve();
  expect((await first).status).toBe(200);
  await eventually(() => lines.filter(({ op }) => op === 'simulate').length === 2 || undefined, 'both lines');
  expect(lines.filter(({ code }) => code === 'internal')).toEqual([]);
  expect(failures).toEqual([]);
  wire.close();
  await listener.close(0);
});

it.each(['2.0', '1.1'])(
  'a watcher who leaves before it is let in leaves no watch behind, HTTP/%s',
  async (version) => {
    const held = Promise.withResolvers<void>();
    const left = Promise.withResolvers<void>();
    const arrived = Promise.withResolvers<void>();
    let open = 0;
    let closed = 0;
    const { app } = setUp({
      repository: {
        watch: async () => {
          open += 1;
          const close = () => {
            closed += 1;
          };
          return { messages: 0, close };
        },
      },
    });
    app.addHook('preHandler', async (_request, { raw }) => {
      raw.once('close', () => left.resolve());
      arrived.resolve();
      await held.promise;
    });
    const address = { host: '127.0.0.1', port: 0 };
    const listener = await listenTls(app, address, await readCertificate(TLS), systemClock);
    const path = '/meshkit/shards/watch';
    const wire = new Wire(listener.url);
    const socket = connectTls({ host: '127.0.0.1', port: Number(new URL(listener.url).port), ca: CA });
    if (version === '1.1')
      socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer admin\r\n\r\n`);
    else wire.session.request({ ':path': path, authorization: 'Bearer admin' }).on('error', () => undefined);
    await arrived.promise;
    wire.close();
    socket.destroy();
    await left.promise;
    held.resolve();
    await eventually(() => open === 1 || undefined, 'the watch was asked for');
    await eventually(() => closed === 1 || undefined, 'and given up');
    await listener.close(0);
  },
);

describe('certificate files', () => {
  it.each([
    [{ cert: '/does/not/exist.crt', key: TLS.key }, '--tls-cert /does/not/exist.crt: there is no such file'],
    [{ cert: TLS.cert, key: '/does/not/exist.key' }, '--tls-key /does/not/exist.key: there is no such file'],
    [{ cert: TLS.key, key: TLS.key }, /--tls-cert .* and --tls-key .* cannot be used: /],
  ])('says in one line what is wrong: %j', async (files, message) => {
    const refusal = readCertificate(files);
    await expect(refusal).rejects.toThrow(message);
    await expect(refusal).rejects.toMatchObject({ code: 'invalidArgument' });
  });

  it('are followed as they are renewed, and kept while they are half-written', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'meshkit-tls-'));
    const files = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') };
    await Promise.all([copyFile(TLS.cert, files.cert), copyFile(TLS.key, files.key)]);
    const stop = new AbortController();
    const renewed: string[] = [];
    const warnings: string[] = [];
    // Each wait is one round: unchanged, half-written, renewed.
    const rounds = [
      async () => undefined,
      () => writeFile(files.cert, 'half'),
      () => writeFile(files.cert, `${CA}\n`),
    ];
    const clock = {
      ...systemClock,
      async sleep() {
        const round = rounds.shift();
        if (!round) stop.abort();
        stop.signal.throwIfAborted();
        await round?.();
      },
    };
    const log = { ...silentLog, warn: (_: object, message: string) => void warnings.push(message) };
    try {
      const current = await readCertificate(files);
      const take = ({ cert }: { cert: Buffer }) => renewed.push(cert.toString());
      await followCertificate(files, current, take, { clock, log, signal: stop.signal });
      expect(renewed).toEqual([`${CA}\n`]);
      expect(warnings).toEqual(['certificate not reloaded']);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
