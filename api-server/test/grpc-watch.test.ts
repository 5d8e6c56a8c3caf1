import { status } from '@grpc/grpc-js';
import { systemClock } from '@meshkit/crds/clock';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { API_SERVER_SERVICE_ACCOUNT, OPERATOR_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import type { Shard } from '@meshkit/proto/v1/shard';
import type { WatchResponse } from '@meshkit/proto/v1/watch';
import type { ShardAssignment, ShardAssignmentStatus } from '@meshkit/shards/records';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Wire } from './exchange.ts';
import { GrpcWire, type Stream } from './grpc-wire.ts';
import { AUDIENCE, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

describe('a watch over gRPC', () => {
  const cast = new Cast();
  const open: Stream[] = [];
  const servers: RunningServer[] = [];
  let running: RunningServer;
  let grpc: GrpcWire;
  let token: string;
  let operator: KubeClient;
  /** Monotonic time runs ahead of the machine's by so much. */
  let ahead = 0;
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + ahead };

  const server = async (): Promise<RunningServer> => {
    const started = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT), { clock });
    servers.push(started);
    await eventually(() => started.server.notReady() === undefined || undefined, 'ready');
    return started;
  };
  const watch = (request: Parameters<GrpcWire['watch']>[0] = {}, from = grpc): Stream => {
    const filter = { namespace: cast.namespace, ...request.filter };
    const stream = from.watch({ ...request, filter }, token);
    open.push(stream);
    return stream;
  };
  /** One change of ownership. */
  const change = async (id: string, status: Partial<ShardAssignmentStatus>): Promise<ShardAssignment> => {
    const shard = await cast.admin.get(SHARD_ASSIGNMENTS, {
      namespace: cast.namespace,
      name: `orders.${id}`,
    });
    const before = shard.status as ShardAssignmentStatus;
    const epoch = status.owner === undefined ? before.epoch : before.epoch + 1;
    const next = { ...before, epoch, ...status, version: before.version + 1 };
    return operator.updateStatus(SHARD_ASSIGNMENTS, { ...shard, status: next });
  };

  beforeAll(async () => {
    await cast.open();
    await Promise.all([
      cast.account('observer', 'meshkit-shards-observer'),
      cast.account('reader', 'meshkit-shards-reader'),
      cast.account('leaver', 'meshkit-shards-observer'),
      cast.shard('0000', { owner: 'node-1' }),
      cast.shard('0001', { owner: 'node-2' }),
    ]);
    operator = await cast.process(OPERATOR_SERVICE_ACCOUNT);
    token = await cast.token(cast.namespace, 'observer', AUDIENCE);
    running = await server();
    grpc = new GrpcWire(running.grpcAddress);
  });

  afterEach(async () => {
    for (const stream of open.splice(0)) {
      stream.cancel();
      await stream.ended;
    }
  });

  afterAll(async () => {
    grpc?.close();
    await Promise.all(servers.map(({ server }) => server.stop()));
    await cast.close();
  });

  it('begins with a snapshot and goes on with what happens', async () => {
    const stream = watch();
    const [begin, ...rows] = await stream.until('snapshotEnd');
    const end = rows.pop();
    expect(begin).toMatchObject({
      message: { $case: 'snapshotBegin', value: { reason: 'RESET_REASON_UNSPECIFIED' } },
      transport: { negotiated: 'h2', requested: 'h2', downgraded: false },
    });
    expect(rows.map(said)).toEqual(['ADDED orders.0000', 'ADDED orders.0001']);
    expect(end?.position).toBe(begin?.position);
    const changed = await change('0000', { owner: 'node-3', previousOwner: 'node-1' });
    const message = await stream.next();
    expect(message).toMatchObject({
      position: changed.metadata.resourceVersion,
      resumeToken: expect.stringMatching(/^[\w-]+$/),
      message: {
        value: {
          type: 'TYPE_MODIFIED',
          current: { owner: 'node-3', phase: 'PHASE_ACTIVE', uid: changed.metadata.uid },
          previous: { owner: 'node-1' },
          history: { previousOwner: 'node-1' },
        },
      },
    });
  });

  it('resumes where it was, on whichever server and from whichever surface the token comes', async () => {
    const other = await server();
    const first = watch({ from: 'WATCH_FROM_NOW' });
    expect((await first.next()).message?.$case).toBe('bookmark');
    await change('0000', { owner: 'node-4' });
    const { resumeToken } = await first.next();
    first.cancel();
    await change('0000', { owner: 'node-5' });
    await change('0001', { owner: 'node-5' });
    const expected = ['bookmark', 'MODIFIED orders.0000 node-5', 'MODIFIED orders.0001 node-5'];
    const otherGrpc = new GrpcWire(other.grpcAddress);
    for (const wire of [grpc, otherGrpc]) {
      const resumed = watch({ resumeToken }, wire);
      const heard = [await resumed.next(), await resumed.next(), await resumed.next()];
      expect(heard.map(saidOwner)).toEqual(expected);
    }
    // A list, of either surface, says from where a watch, of either surface, sees everything after it.
    const list = await grpc.list({ filter: { namespace: cast.namespace } }, token);
    if (!('ok' in list)) throw new Error('no list');
    const rest = new Wire(running.url);
    const { body } = await rest.get(`/meshkit/shards?namespace=${cast.namespace}`, token);
    await change('0001', { owner: 'node-6' });
    for (const resumeToken of [list.ok.resumeToken, body.resumeToken]) {
      const afterList = watch({ resumeToken }, otherGrpc);
      const heard = [await afterList.next(), await afterList.next()];
      expect(heard.map(saidOwner)).toEqual(['bookmark', 'MODIFIED orders.0001 node-6']);
    }
    const events = rest.session.request({
      ':path': `/meshkit/shards/watch?namespace=${cast.namespace}`,
      authorization: `Bearer ${token}`,
      accept: 'text/event-stream',
      'last-event-id': list.ok.resumeToken,
    });
    let text = '';
    events.on('data', (chunk: Buffer) => {
      text += String(chunk);
    });
    await eventually(() => text.includes('node-6') || undefined, 'the change as a server-sent event');
    expect(text).not.toContain('snapshot-begin');
    rest.close();
    otherGrpc.close();
  });

  it('hears of shards that enter the filter, and of those that leave it', async () => {
    await change('0000', { owner: 'node-1' });
    const stream = watch({ filter: { owners: ['node-7'] } });
    expect((await stream.until('snapshotEnd')).map(said)).toEqual(['snapshotBegin', 'snapshotEnd']);
    await change('0000', { owner: 'node-7' });
    await change('0000', { owner: 'node-1' });
    const [entered, left] = [await stream.next(), await stream.next()];
    expect(said(entered)).toBe('ADDED orders.0000');
    expect(left.message).toMatchObject({
      value: {
        type: 'TYPE_DELETED',
        cause: 'CAUSE_FILTER',
        current: { owner: 'node-1' },
        previous: { owner: 'node-7' },
      },
    });
  });

  it.each([
    ['a token that is none of ours', { resumeToken: 'garbage' }, 'INVALID_ARGUMENT', 'tokenInvalid'],
    ['a filter that is none', { filter: { search: '' } }, 'INVALID_ARGUMENT', 'invalidArgument'],
    ['an unknown beginning', { from: 'UNRECOGNIZED' }, 'INVALID_ARGUMENT', 'invalidArgument'],
    ['a namespace of others', { filter: { namespace: 'default' } }, 'PERMISSION_DENIED', 'scopeMissing'],
  ] as const)('refuses %s', async (_what, request, code, reason) => {
    const failure = await watch(request as object).ended;
    expect(failure).toMatchObject({ status: status[code], reason });
  });

  it('refuses the token of another filter, and who may only read', async () => {
    const stream = watch();
    const { resumeToken } = (await stream.until('snapshotEnd')).at(-1) as WatchResponse;
    const mismatch = await watch({ resumeToken, filter: { search: '1' } }).ended;
    expect(mismatch).toMatchObject({ status: status.INVALID_ARGUMENT, reason: 'filterMismatch' });
    expect(mismatch?.violations).toEqual([
      { field: 'resume_token', description: expect.stringContaining('other filters') },
    ]);
    const reader = await cast.token(cast.namespace, 'reader', AUDIENCE);
    const refused = await grpc.watch({ filter: { namespace: cast.namespace } }, reader).ended;
    expect(refused).toMatchObject({ status: status.PERMISSION_DENIED, reason: 'scopeMissing' });
    expect(refused?.metadata.scope).toBe('mesh.observe');
    expect(refused?.metadata.grant).toContain('meshkit-shards-observer');
  });

  it('ends by its deadline, and forgets who cancels', async () => {
    running.lines.length = 0;
    const stream = grpc.watch({ filter: { namespace: cast.namespace } }, token, {
      deadline: Date.now() + 300,
    });
    await stream.until('snapshotEnd');
    expect(await stream.ended).toMatchObject({ status: status.DEADLINE_EXCEEDED });
    const cancelled = watch();
    await cancelled.until('snapshotEnd');
    cancelled.cancel();
    await eventually(() => running.lines.length === 2 || undefined, 'two lines in the access log');
    const line = {
      op: 'watch',
      transport: 'grpc',
      scope: 'observe',
      decision: 'allow',
      protocol: 'h2',
      count: 4,
    };
    running.lines.sort((a, b) => (String(a.status) < String(b.status) ? 1 : -1));
    expect(running.lines).toMatchObject([
      { ...line, status: 'DEADLINE_EXCEEDED', code: 'timeout', namespace: cast.namespace },
      { ...line, status: 'CANCELLED' },
    ]);
    await eventually(async () => {
      const metrics = await (await fetch(`${running.healthUrl}/metrics`)).text();
      return (
        /^meshkit_watch_streams\{[^}]*grpc[^}]*\} 0$/m.test(metrics) ||
        !/^meshkit_watch_streams\{[^}]*grpc/m.test(metrics) ||
        undefined
      );
    }, 'no stream is left');
  });

  it('ends a client that does not read, with a token that resumes', { timeout: 60_000 }, async () => {
    const slow = grpc.watch({ filter: { namespace: cast.namespace } }, token);
    const merging = grpc.watch({ filter: { namespace: cast.namespace }, allowCoalescing: true }, token);
    await Promise.all([slow.until('snapshotEnd'), merging.until('snapshotEnd')]);
    slow.raw.pause();
    merging.raw.pause();
    const reason = 'r'.repeat(200);
    const ticket = 't'.repeat(60);
    const rounds = 600;
    for (let round = 1; round <= rounds; round += 1) {
      await change('0000', { owner: `node-${round}`, previousOwner: `${reason}${ticket}`.slice(0, 60) });
      if (running.lines.some(({ code }) => code === 'slowConsumer') && round > 500) break;
    }
    const final = await change('0000', { owner: 'node-last' });
    await eventually(() => running.lines.some(({ code }) => code === 'slowConsumer') || undefined, 'ended');
    slow.raw.resume();
    const failure = await slow.ended;
    expect(failure).toMatchObject({
      status: status.RESOURCE_EXHAUSTED,
      reason: 'slowConsumer',
      retryAfter: 1,
    });
    // Nothing between the last message that arrived and the end is lost.
    const heard = slow.messages.flatMap((message) => currentOf(message)?.version ?? []);
    const resumed = watch({ resumeToken: failure?.metadata.resumeToken ?? '' });
    for (;;) {
      const version = currentOf(await resumed.next())?.version;
      if (version !== undefined) heard.push(version);
      if (version === BigInt(final.status?.version ?? 0)) break;
    }
    const changes = heard.slice(2);
    expect(changes).toEqual(changes.map((_, at) => (changes[0] ?? 0n) + BigInt(at)));
    // Who lets changes be merged goes on, hears fewer, and ends up knowing the same.
    merging.raw.resume();
    let merged: WatchResponse;
    let coalesced = 0;
    do {
      merged = await merging.next();
      if (merged.message?.$case === 'shard') coalesced += Math.max(0, merged.message.value.coalesced - 1);
    } while (currentOf(merged)?.owner !== 'node-last');
    expect(coalesced).toBeGreaterThan(0);
    merging.cancel();
  });

  it('ends when the right to observe is taken away', async () => {
    const leaver = await cast.token(cast.namespace, 'leaver', AUDIENCE);
    const stream = grpc.watch({ filter: { namespace: cast.namespace } }, leaver);
    await stream.until('snapshotEnd');
    await cast.unbind('leaver');
    ahead += 61_000;
    const failure = await stream.ended;
    expect(failure).toMatchObject({ status: status.PERMISSION_DENIED, reason: 'scopeMissing' });
    expect(failure?.metadata.resumeToken).toMatch(/^[\w-]+$/);
  });

  it('says goodbye when the server stops, and goes on elsewhere', async () => {
    const leaving = await server();
    const wire = new GrpcWire(leaving.grpcAddress);
    const stream = watch({}, wire);
    await stream.until('snapshotEnd');
    const began = performance.now();
    const [stopped, goodbye] = await Promise.all([leaving.server.stop(), stream.until('goaway')]);
    expect(stopped).toBeUndefined();
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(await stream.ended).toBeUndefined();
    wire.close();
    const { resumeToken } = goodbye.at(-1) as WatchResponse;
    await change('0001', { owner: 'node-9' });
    const resumed = watch({ resumeToken });
    expect([await resumed.next(), await resumed.next()].map(saidOwner)).toEqual([
      'bookmark',
      'MODIFIED orders.0001 node-9',
    ]);
  });

  it('answers a token that it cannot continue as it was asked to', async () => {
    const stream = watch();
    const before = await stream.until('snapshotEnd');
    const { resumeToken } = before.at(-1) as WatchResponse;
    const known = before.flatMap((message) => {
      const shard = currentOf(message);
      return shard ? [{ ...shard, namespace: cast.namespace }] : [];
    });
    const gone = {
      namespace: cast.namespace,
      name: 'orders.0099',
      uid: 'uid-99',
      generation: 1n,
      version: 4n,
    };
    // What happens before another server begins to follow, it cannot tell.
    await change('0001', { owner: 'node-8' });
    const later = new GrpcWire((await server()).grpcAddress);
    const refused = await watch({ resumeToken, onExpired: 'ON_EXPIRED_FAIL' }, later).ended;
    expect(refused).toMatchObject({ status: status.OUT_OF_RANGE, reason: 'tokenExpired' });
    expect(refused?.metadata).toMatchObject({
      floor: expect.stringMatching(/^\d+$/),
      head: expect.stringMatching(/^\d+$/),
    });
    const listed = await watch({ resumeToken }, later).until('snapshotEnd');
    expect(listed.slice(0, 2)).toMatchObject([
      {
        message: { $case: 'reset', value: { reason: 'RESET_REASON_EXPIRED' } },
        transport: { negotiated: 'h2' },
      },
      { message: { $case: 'snapshotBegin', value: { reason: 'RESET_REASON_EXPIRED', delta: false } } },
    ]);
    expect(listed.map(said)).toEqual(expect.arrayContaining(['ADDED orders.0000', 'ADDED orders.0001']));
    const onExpired = 'ON_EXPIRED_DIFF';
    const differing = await watch({ resumeToken, onExpired, known: [...known, gone] }, later).until(
      'snapshotEnd',
    );
    expect(differing[1]).toMatchObject({ message: { $case: 'snapshotBegin', value: { delta: true } } });
    expect(differing.map(saidOwner)).toEqual([
      'reset',
      'snapshotBegin',
      'DELETED orders.0099',
      'MODIFIED orders.0001 node-8',
      'snapshotEnd',
    ]);
    later.close();
  });
});

function currentOf({ message }: WatchResponse): Shard | undefined {
  return message?.$case === 'shard' ? message.value.current : undefined;
}

function said({ message }: WatchResponse): string {
  if (message?.$case !== 'shard') return message?.$case ?? 'nothing';
  const { type, current, previous } = message.value;
  return `${type.replace('TYPE_', '')} ${(current ?? previous)?.name}`;
}

function saidOwner(message: WatchResponse): string {
  const owner = currentOf(message)?.owner;
  return owner === undefined ? said(message) : `${said(message)} ${owner}`;
}
