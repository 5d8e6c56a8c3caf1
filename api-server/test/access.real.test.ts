import { sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http2';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '@meshkit/crds/clock';
import { API_SERVER_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import { ERRORS, type ErrorCode } from '@meshkit/shards/errors';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { Wire } from './exchange.ts';
import { GrpcWire, type Outcome } from './grpc-wire.ts';
import { AUDIENCE, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

/** A way to kube-apiserver that can be cut. */
class Cable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #cut = false;

  constructor(to: URL) {
    this.#server = createServer((near) => {
      if (this.#cut) {
        near.destroy();
        return;
      }
      const far = connect(Number(to.port), to.hostname);
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(socket);
        socket.on('error', () => other.destroy());
        socket.on('close', () => this.#sockets.delete(socket));
        socket.pipe(other);
      }
    });
  }

  async open(): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.listen(0, '127.0.0.1', resolve);
    await promise;
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}

/** The same token, signed by kube-apiserver's own key, as it is with so many seconds of its life left. */
function aged(token: string, secondsLeft: number): string {
  const [header, payload = ''] = token.split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
  const now = Math.floor(Date.now() / 1_000);
  const old = { ...claims, iat: now - 3_600, nbf: now - 3_600, exp: now + secondsLeft };
  const signed = `${header}.${Buffer.from(JSON.stringify(old)).toString('base64url')}`;
  const key = readFileSync(join(inject('controlPlane').folder, 'service-account.key'));
  const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}

/** A stream of server-sent events that stays open until it is left, or ended. */
interface Open {
  status: number;
  ended: Promise<string>;
  leave: () => void;
}

function openStream(wire: Wire, path: string, token?: string): Promise<Open> {
  const { promise, resolve, reject } = Promise.withResolvers<Open>();
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const stream = wire.session.request({ ':path': path, accept: 'text/event-stream', ...authorization });
  let text = '';
  const ended = new Promise<string>((done) => stream.on('close', () => done(text)));
  stream.setEncoding('utf8');
  stream.on('data', (chunk) => {
    text += chunk;
  });
  stream.on('error', reject);
  stream.on('response', (headers: IncomingHttpHeaders) =>
    resolve({ status: Number(headers[':status']), ended, leave: () => stream.close() }),
  );
  return promise;
}

/** Everything that can be asked, each in the caller's own namespace, in another one, and in all. */
const OPERATIONS = [
  'list own',
  'list other',
  'list all',
  'get own',
  'get other',
  'nodes own',
  'nodes other',
  'nodes all',
  'watch own',
  'watch other',
  'watch all',
  'status own',
  'status other',
  'status all',
  'access own',
  'access other',
  'access all',
  'explain own',
  'explain other',
  'history own',
  'history other',
  'diff own',
  'diff other',
  'diff all',
  'simulate own',
  'simulate other',
  'simulate all',
] as const;
type Row = Record<(typeof OPERATIONS)[number], number>;

const each = (status: number): Row => Object.fromEntries(OPERATIONS.map((name) => [name, status])) as Row;
/** What one may do is said to everybody who is known. */
const KNOWN = { 'access own': 200, 'access other': 200, 'access all': 200 };
/** 403 but where something is said. */
const but = (exceptions: Partial<Row>): Row => ({ ...each(403), ...KNOWN, ...exceptions });
const OWN_READS = {
  'list own': 200,
  'get own': 200,
  'nodes own': 200,
  'status own': 200,
  'explain own': 200,
};
/** There is no such shard there. */
const OTHER_READS = {
  'list other': 200,
  'get other': 404,
  'nodes other': 200,
  'status other': 200,
  'explain other': 404,
};
const ALL_READS = { ...OWN_READS, ...OTHER_READS, 'list all': 200, 'nodes all': 200, 'status all': 200 };
const OWN_OBSERVES = { 'watch own': 200, 'history own': 200, 'diff own': 200, 'simulate own': 200 };

const TRUTH: Record<string, Row> = {
  anonymous: each(401),
  garbage: each(401),
  'expired token': each(401),
  'wrong audience': each(401),
  'cluster audience': each(401),
  'no role': but({}),
  read: but(OWN_READS),
  observe: but({ ...OWN_READS, ...OWN_OBSERVES }),
  operate: but({ ...OWN_READS, ...OWN_OBSERVES }),
  'read in another namespace': but(OTHER_READS),
  'read in all namespaces': but(ALL_READS),
  'observe in all namespaces': { ...each(200), 'get other': 404, 'explain other': 404 },
};

/**
 * Diff and history need a journal, which an operator writes; here there may be one or none, and it may know the shards or
 * not. Whoever is told so much was let in.
 */
const LET_IN = ['noJournal', 'journalBehind', 'tokenExpired', 'notFound'];

describe('the truth table of access', () => {
  const cast = new Cast();
  const other = new Cast();
  const tokens: Record<string, string | undefined> = { anonymous: undefined, garbage: 'garbage' };
  /** Monotonic time runs ahead of the machine's by so much. */
  let ahead = 0;
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + ahead };
  const HOUR = 3_600_000;
  let cable: Cable;
  let running: RunningServer;
  let wire: Wire;
  let grpc: GrpcWire;

  beforeAll(async () => {
    await Promise.all([cast.open(), other.open()]);
    cable = new Cable(new URL(cast.kubeUrl));
    const [by] = await Promise.all([
      cable.open(),
      cast.shard('0000'),
      cast.account('no-role'),
      cast.account('read', 'meshkit-shards-reader'),
      cast.account('observe', 'meshkit-shards-observer'),
      cast.account('operate', 'meshkit-shards-operator'),
      cast.account('read-all', 'meshkit-shards-reader', 'everywhere'),
      cast.account('observe-all', 'meshkit-shards-observer', 'everywhere'),
      cast.account('revoked', 'meshkit-shards-observer'),
      cast.account('dismissed', 'meshkit-shards-observer'),
      other.account('neighbour', 'meshkit-shards-reader'),
    ]);
    const token = (name: string, audience = AUDIENCE) => cast.token(cast.namespace, name, audience);
    tokens['no role'] = await token('no-role');
    tokens['read in all namespaces'] = await token('read-all');
    tokens['observe in all namespaces'] = await token('observe-all');
    tokens['wrong audience'] = await token('operate', 'something-else');
    tokens['cluster audience'] = await cast.token(cast.namespace, 'operate');
    tokens['read in another namespace'] = await other.token(other.namespace, 'neighbour', AUDIENCE);
    for (const name of ['read', 'observe', 'operate', 'revoked', 'dismissed'])
      tokens[name] = await token(name);
    tokens['expired token'] = aged(tokens.operate ?? '', -60);
    tokens['old token'] = aged(tokens.operate ?? '', 600);
    running = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT, by), { clock });
    await eventually(() => running.server.notReady() === undefined || undefined, 'ready');
    wire = new Wire(running.url);
    grpc = new GrpcWire(running.grpcAddress);
  });

  afterAll(async () => {
    wire?.close();
    grpc?.close();
    await running?.server.stop();
    cable?.close();
    await Promise.all([cast.close(), other.close()]);
  });

  async function byRest(who: string): Promise<Row> {
    const get = async (path: string) => (await wire.get(path, tokens[who])).status;
    const watch = async (path: string) => {
      const stream = await openStream(wire, path, tokens[who]);
      stream.leave();
      return stream.status;
    };
    const letIn = async (path: string) => {
      const { status, body } = await wire.get(path, tokens[who]);
      return LET_IN.includes(body.reason ?? body.code) ? 200 : status;
    };
    const simulate = async (namespace?: string) => {
      const token = tokens[who];
      const headers = {
        ':method': 'POST',
        ':path': '/meshkit/shards/simulate',
        'content-type': 'application/json',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      };
      return (await wire.send(headers, JSON.stringify({ namespace }))).status;
    };
    const [own, elsewhere] = [`?namespace=${cast.namespace}`, `?namespace=${other.namespace}`];
    const [ownShard, otherShard] = [cast, other].map(
      ({ namespace }) => `/meshkit/shards/${namespace}/orders.0000`,
    );
    return inTurn({
      'list own': () => get(`/meshkit/shards${own}`),
      'list other': () => get(`/meshkit/shards${elsewhere}`),
      'list all': () => get('/meshkit/shards'),
      'get own': () => get(`${ownShard}`),
      'get other': () => get(`${otherShard}`),
      'nodes own': () => get(`/meshkit/nodes${own}`),
      'nodes other': () => get(`/meshkit/nodes${elsewhere}`),
      'nodes all': () => get('/meshkit/nodes'),
      'watch own': () => watch(`/meshkit/shards/watch${own}`),
      'watch other': () => watch(`/meshkit/shards/watch${elsewhere}`),
      'watch all': () => watch('/meshkit/shards/watch'),
      'status own': () => get(`/meshkit/status${own}`),
      'status other': () => get(`/meshkit/status${elsewhere}`),
      'status all': () => get('/meshkit/status'),
      'access own': () => get(`/meshkit/access${own}`),
      'access other': () => get(`/meshkit/access${elsewhere}`),
      'access all': () => get('/meshkit/access'),
      'explain own': () => get(`${ownShard}/explain`),
      'explain other': () => get(`${otherShard}/explain`),
      'history own': () => letIn(`${ownShard}/history`),
      'history other': () => letIn(`${otherShard}/history`),
      'diff own': () => letIn(`/meshkit/shards/diff${own}&from=1s`),
      'diff other': () => letIn(`/meshkit/shards/diff${elsewhere}&from=1s`),
      'diff all': () => letIn('/meshkit/shards/diff?from=1s'),
      'simulate own': () => simulate(cast.namespace),
      'simulate other': () => simulate(other.namespace),
      'simulate all': () => simulate(),
    });
  }

  /** As HTTP statuses, by the code that gRPC names. */
  async function byGrpc(who: string): Promise<Row> {
    const token = tokens[who];
    const status = async (call: Promise<Outcome<unknown>>) => {
      const outcome = await call;
      return 'ok' in outcome ? 200 : ERRORS[outcome.failure.reason as ErrorCode].http;
    };
    const letIn = async (call: Promise<Outcome<unknown>>) => {
      const outcome = await call;
      if ('ok' in outcome) return 200;
      const { reason = '', metadata } = outcome.failure;
      return LET_IN.includes(metadata.reason ?? reason) ? 200 : ERRORS[reason as ErrorCode].http;
    };
    const watch = async (filter: { namespace?: string }) => {
      const stream = grpc.watch({ filter }, token);
      const began = await stream.next().then(
        () => true,
        () => false,
      );
      stream.cancel();
      const failure = await stream.ended;
      return began ? 200 : ERRORS[failure?.reason as ErrorCode].http;
    };
    const { namespace } = cast;
    const elsewhere = other.namespace;
    const name = 'orders.0000';
    return inTurn({
      'list own': () => status(grpc.list({ filter: { namespace } }, token)),
      'list other': () => status(grpc.list({ filter: { namespace: elsewhere } }, token)),
      'list all': () => status(grpc.list({}, token)),
      'get own': () => status(grpc.get({ namespace, name }, token)),
      'get other': () => status(grpc.get({ namespace: elsewhere, name }, token)),
      'nodes own': () => status(grpc.nodes({ namespace }, token)),
      'nodes other': () => status(grpc.nodes({ namespace: elsewhere }, token)),
      'nodes all': () => status(grpc.nodes({}, token)),
      'watch own': () => watch({ namespace }),
      'watch other': () => watch({ namespace: elsewhere }),
      'watch all': () => watch({}),
      'status own': () => status(grpc.status({ namespace }, token)),
      'status other': () => status(grpc.status({ namespace: elsewhere }, token)),
      'status all': () => status(grpc.status({}, token)),
      'access own': () => status(grpc.access({ namespace }, token)),
      'access other': () => status(grpc.access({ namespace: elsewhere }, token)),
      'access all': () => status(grpc.access({}, token)),
      'explain own': () => status(grpc.explain({ namespace, name }, token)),
      'explain other': () => status(grpc.explain({ namespace: elsewhere, name }, token)),
      'history own': () => letIn(grpc.history({ namespace, name }, token)),
      'history other': () => letIn(grpc.history({ namespace: elsewhere, name }, token)),
      'diff own': () => letIn(grpc.diff({ filter: { namespace }, from: '1s' }, token)),
      'diff other': () => letIn(grpc.diff({ filter: { namespace: elsewhere }, from: '1s' }, token)),
      'diff all': () => letIn(grpc.diff({ from: '1s' }, token)),
      'simulate own': () => status(grpc.simulate({ namespace }, token)),
      'simulate other': () => status(grpc.simulate({ namespace: elsewhere }, token)),
      'simulate all': () => status(grpc.simulate({}, token)),
    });
  }

  async function inTurn(asked: Record<keyof Row, () => Promise<number>>): Promise<Row> {
    const row: Partial<Row> = {};
    for (const name of OPERATIONS) row[name] = await asked[name]();
    return row as Row;
  }

  const ownWatch = (who: string) =>
    openStream(wire, `/meshkit/shards/watch?namespace=${cast.namespace}`, tokens[who]);
  const statusOf = async (who: string) =>
    (await wire.get(`/meshkit/shards?namespace=${cast.namespace}`, tokens[who])).status;

  /** The last event of a stream that the server ended. */
  function lastEvent(text: string): { event?: string; data: { code?: string; status?: number } } {
    const [, event, data] = /event: (\S+)\ndata: (.*)\n\n$/.exec(text) ?? [];
    return { event, data: JSON.parse(data ?? '{}') };
  }

  it.each(Object.entries(TRUTH))('%s', async (who, expected) => {
    expect(await byRest(who)).toEqual(expected);
    expect(await byGrpc(who)).toEqual(expected);
  });

  it('a token is refused for nothing but its age', async () => {
    expect(await Promise.all(['old token', 'expired token'].map(statusOf))).toEqual([200, 401]);
  });

  it.each([
    ['revoked', 'the right', () => cast.unbind('revoked'), 403, 'scopeMissing'],
    [
      'dismissed',
      'the account, so that its tokens expire',
      () => cast.dismiss('dismissed'),
      401,
      'unauthenticated',
    ],
  ] as const)('%s mid-stream: taken away is %s', async (who, _what, takeAway, status, code) => {
    expect(await byRest(who)).toEqual(TRUTH.observe);
    const stream = await ownWatch(who);
    const call = grpc.watch({ filter: { namespace: cast.namespace } }, tokens[who]);
    await call.until('snapshotEnd');
    await takeAway();
    // Kubernetes has caches of its own, of some seconds.
    await eventually(async () => {
      ahead += 11_000;
      return (await statusOf(who)) === status || undefined;
    }, 'the refusal');
    ahead += 61_000;
    expect(lastEvent(await stream.ended)).toMatchObject({ event: 'shard-error', data: { code, status } });
    expect((await call.ended)?.reason).toBe(code);
    const refused = status === 403 ? but({}) : each(status);
    expect(await byRest(who)).toEqual(refused);
    expect(await byGrpc(who)).toEqual(refused);
  });

  it('review backend down: nobody is let in, and streams end when nobody could say for long', async () => {
    ahead += HOUR;
    const stream = await ownWatch('observe');
    expect({ stream: stream.status, list: await statusOf('observe') }).toEqual({ stream: 200, list: 200 });
    cable.cut();
    // What was answered within the last 10 s still holds.
    expect(await statusOf('observe')).toBe(200);
    ahead += 11_000;
    for (const who of ['observe', 'observe in all namespaces', 'no role', 'garbage']) {
      expect({ who, row: await byRest(who) }).toEqual({ who, row: each(503) });
    }
    expect(await byGrpc('observe')).toEqual(each(503));
    expect(await byRest('anonymous')).toEqual(each(401));
    ahead += 61_000;
    await systemClock.sleep(3_000);
    ahead += HOUR;
    expect(lastEvent(await stream.ended)).toMatchObject({
      event: 'shard-error',
      data: { code: 'unavailable' },
    });
  });
});
