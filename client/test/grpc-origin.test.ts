import { readFileSync } from 'node:fs';
import { createServer, type Server as TcpServer } from 'node:net';
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
} from '@grpc/grpc-js';
import { ErrorInfo, RetryInfo } from '@meshkit/proto/rpc/error_details';
import { Status } from '@meshkit/proto/rpc/status';
import { Node } from '@meshkit/proto/v1/node';
import { Shard } from '@meshkit/proto/v1/shard';
import {
  type ListRequest,
  ListResponse,
  type ShardServiceServer,
  ShardServiceService,
} from '@meshkit/proto/v1/shard_service';
import {
  CacheStatus_State as CacheState,
  type GetStatusResponse,
  JournalStatus_State as JournalState,
} from '@meshkit/proto/v1/status';
import { type DeepPartial, type WatchRequest, WatchResponse } from '@meshkit/proto/v1/watch';
import { ShardError } from '@meshkit/shards/errors';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { GrpcOrigin } from '../src/grpc-origin.ts';
import type { WatchMessage } from '../src/watch-message.ts';
import { CA } from './server.ts';

const KEY = readFileSync(new URL('../../api-server/test/fixtures/tls.key', import.meta.url));
const STATUS: GetStatusResponse = {
  api: 'v1',
  version: '0.1.0',
  lineage: '',
  position: '9',
  cache: { state: CacheState.STALE, detail: 'lost' },
  journal: {
    state: JournalState.BEHIND,
    head: { position: '7', at: undefined },
    floor: { position: '1', at: new Date('2026-11-23T12:00:00Z') },
    newest: '9',
    behindMs: 6_000n,
  },
};
const CALL = { bearer: 'secret', timeoutMs: 5_000 };

describe('the connection by gRPC', () => {
  let server: Server;
  let address: string;
  let origin: GrpcOrigin;
  let metadata: Metadata | undefined;
  let list: (call: ServerUnaryCall<ListRequest, ListResponse>) => ListResponse | Error = () => empty();
  let watch: (call: ServerWritableStream<WatchRequest, WatchResponse>) => void = () => undefined;

  beforeAll(async () => {
    // Some more than 100: Node counts a stream for a moment longer than its client does.
    server = new Server({ 'grpc.max_concurrent_streams': 110 });
    const implementation: ShardServiceServer = {
      list: (call, callback) => {
        metadata = call.metadata;
        const answer = list(call);
        if (answer instanceof Error) callback(answer);
        else callback(null, answer);
      },
      get: (call, callback) => callback(null, { shard: shard(call.request.name) }),
      listNodes: (_call, callback) => callback(null, { nodes: [node()] }),
      watch: (call) => watch(call),
      diff: (_call, callback) => callback(null),
      history: (_call, callback) => callback(null),
      simulate: (_call, callback) => callback(null),
      explain: (_call, callback) => callback(null),
      getStatus: ({ request }, callback) => callback(null, { ...STATUS, lineage: request.namespace ?? '' }),
      getAccess: ({ request }, callback) => {
        const scopes = [{ scope: 'mesh.read', allowed: false, check: 'c', grant: 'g' }];
        callback(null, { user: 'jane', groups: ['g'], namespace: request.namespace, scopes });
      },
    };
    server.addService(ShardServiceService, implementation);
    const creds = ServerCredentials.createSsl(null, [{ cert_chain: Buffer.from(CA), private_key: KEY }]);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    server.bindAsync('127.0.0.1:0', creds, (error, bound) => (error ? reject(error) : resolve(bound)));
    address = `127.0.0.1:${await promise}`;
    origin = new GrpcOrigin({ server: `https://${address}`, ca: CA, userAgent: 'test/1' });
  });

  afterEach(() => {
    list = () => empty();
    watch = () => undefined;
  });

  afterAll(() => {
    origin.close();
    server.forceShutdown();
  });

  it('lists, and says what was asked', async () => {
    let asked: ListRequest | undefined;
    list = ({ request }) => {
      asked = request;
      return { ...empty(), shards: [shard('orders.0001')], nextPageToken: 'n', resumeToken: 'r' };
    };
    const filter = { namespace: 'payments', owners: ['a', 'b'], phases: ['Active', 'draining'], search: '1' };
    const page = await origin.page(filter, { pageSize: 7, cursor: 'c', minVersion: '9' }, CALL);
    expect(asked).toMatchObject({
      filter: { ...filter, phases: ['PHASE_ACTIVE', 'PHASE_DRAINING'], zones: [] },
      pageSize: 7,
      pageToken: 'c',
      minVersion: '9',
    });
    expect(metadata?.get('authorization')).toEqual(['Bearer secret']);
    expect(String(metadata?.get('user-agent'))).toMatch(/^test\/1 grpc-node/);
    expect(page).toEqual({
      items: [VIEW],
      nextCursor: 'n',
      resumeToken: 'r',
      consistency: 'snapshot',
      versionVector: { lineage: 'l', position: '12', namespaces: { payments: '11' } },
    });
  });

  it('gets a shard, and nodes', async () => {
    expect(await origin.get({ namespace: 'payments', name: 'orders.0001' }, CALL)).toEqual(VIEW);
    expect(await origin.nodes('payments', CALL)).toEqual([
      { namespace: 'payments', name: 'n', weight: 2, ready: true, scheduling: 'Cordoned', shards: 3 },
    ]);
  });

  it('says how the server is, and what one may do there, as REST does', async () => {
    expect(await origin.status('payments', CALL)).toEqual({
      api: 'v1',
      version: '0.1.0',
      lineage: 'payments',
      position: '9',
      cache: { state: 'stale', detail: 'lost' },
      journal: {
        state: 'behind',
        head: { position: '7' },
        floor: { position: '1', at: '2026-11-23T12:00:00.000Z' },
        newest: '9',
        behindMs: 6_000,
      },
    });
    expect(await origin.access(undefined, CALL)).toEqual({
      user: 'jane',
      groups: ['g'],
      scopes: [{ scope: 'mesh.read', allowed: false, check: 'c', grant: 'g' }],
    });
  });

  it("throws the server's own error, with what its details say", async () => {
    list = () => {
      const info = ErrorInfo.fromPartial({
        reason: 'draining',
        domain: 'meshkit.omnirelay.io',
        metadata: { resumeToken: 'r' },
      });
      const retry = RetryInfo.fromPartial({ retryDelay: { seconds: 2n, nanos: 500_000_000 } });
      return failure(status.UNAVAILABLE, 'stopping', [
        { typeUrl: 'type.googleapis.com/google.rpc.ErrorInfo', value: encoded(ErrorInfo, info) },
        { typeUrl: 'type.googleapis.com/google.rpc.RetryInfo', value: encoded(RetryInfo, retry) },
      ]);
    };
    const error = await origin.page({}, { pageSize: 1 }, CALL).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ShardError);
    expect(error).toMatchObject({
      code: 'draining',
      message: 'stopping',
      details: { status: 'UNAVAILABLE', retryAfterMs: 2_500, resumeToken: 'r' },
    });
  });

  it.each([
    [status.UNAVAILABLE, 'unavailable'],
    [status.UNAUTHENTICATED, 'unauthenticated'],
    [status.PERMISSION_DENIED, 'scopeMissing'],
    [status.RESOURCE_EXHAUSTED, 'rateLimited'],
    [status.UNKNOWN, 'internal'],
  ])('takes status %i of somebody else as %s', async (code, expected) => {
    list = () => failure(code, 'a proxy says no');
    const error = await origin.page({}, { pageSize: 1 }, CALL).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: expected, message: `${address}: a proxy says no` });
  });

  it('gives up in time, and when told to', async () => {
    const hanging = new GrpcOrigin({ server: address, ca: CA });
    watch = () => undefined;
    const aborted = new AbortController();
    const messages = hanging.watch({ filter: {}, signal: aborted.signal });
    const next = messages.next();
    aborted.abort(new Error('enough'));
    await expect(next).rejects.toThrow('enough');
    const silent: TcpServer = createServer(() => undefined).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const { port } = silent.address() as { port: number };
    const deaf = new GrpcOrigin({ server: `127.0.0.1:${port}`, ca: CA });
    await expect(deaf.nodes(undefined, { timeoutMs: 200 })).rejects.toMatchObject({ code: 'timeout' });
    const signal = AbortSignal.abort(new Error('never mind'));
    await expect(deaf.nodes(undefined, { timeoutMs: 200, signal })).rejects.toThrow('never mind');
    deaf.close();
    hanging.close();
    silent.close();
  });

  it('reads a stream message by message, and throws why it ended', async () => {
    watch = (call) => {
      const { filter, resumeToken, from, onExpired, allowCoalescing } = call.request;
      expect({ filter: filter?.namespace, resumeToken, from, onExpired, allowCoalescing }).toEqual({
        filter: 'payments',
        resumeToken: 't0',
        from: 'WATCH_FROM_UNSPECIFIED',
        onExpired: 'ON_EXPIRED_FAIL',
        allowCoalescing: true,
      });
      const transport = { negotiated: 'h2', requested: 'h3', downgraded: true, reason: 'timeout' };
      const say = (message: DeepPartial<WatchResponse>) =>
        call.write(WatchResponse.fromPartial({ resumeToken: 't', ...message }));
      say({ message: { $case: 'reset', value: { reason: 'RESET_REASON_EXPIRED' } } });
      const reason = 'RESET_REASON_EXPIRED';
      say({ position: '5', message: { $case: 'snapshotBegin', value: { lineage: 'l', reason } }, transport });
      const event = { type: 'TYPE_ADDED', current: shard('orders.0001') } as const;
      say({ position: '5', message: { $case: 'shard', value: event } });
      say({ position: '5', message: { $case: 'snapshotEnd', value: {} } });
      // Of a newer server.
      say({ position: '6' });
      const left = {
        type: 'TYPE_DELETED',
        cause: 'CAUSE_FILTER',
        current: shard('orders.0001'),
        previous: shard('orders.0001'),
        coalesced: 3,
        history: { actor: { kind: 'KIND_USER', name: 'jane' }, reason: 'why', previousOwner: 'n' },
      } as const;
      say({ position: '7', message: { $case: 'shard', value: left } });
      say({ position: '8', message: { $case: 'bookmark', value: {} } });
      const reconnectAfter = { seconds: 1n, nanos: 250_000_000 };
      say({ message: { $case: 'goaway', value: { reconnectAfter } } });
      call.emit('error', failure(status.RESOURCE_EXHAUSTED, 'too slow'));
    };
    const heard: WatchMessage[] = [];
    const stream = origin.watch({
      filter: { namespace: 'payments' },
      resumeToken: 't0',
      onExpired: 'fail',
      allowCoalescing: true,
      signal: new AbortController().signal,
    });
    const reading = (async () => {
      for await (const message of stream) heard.push(message);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'rateLimited' });
    const token = 't';
    expect(heard).toEqual([
      { type: 'reset', reason: 'expired', token },
      {
        type: 'snapshot-begin',
        position: '5',
        lineage: 'l',
        reason: 'expired',
        token,
        transport: { negotiated: 'h2', requested: 'h3', downgraded: true, reason: 'timeout' },
      },
      { type: 'shard', event: 'ADDED', position: '5', current: VIEW, token },
      { type: 'snapshot-end', position: '5', token },
      {
        type: 'shard',
        event: 'DELETED',
        cause: 'filter',
        position: '7',
        current: VIEW,
        previous: VIEW,
        coalesced: 3,
        history: { actor: { kind: 'User', name: 'jane' }, reason: 'why', previousOwner: 'n' },
        token,
      },
      { type: 'bookmark', position: '8', token },
      { type: 'goaway', reconnectAfterMs: 1_250, token },
    ]);
  });

  it('throws when the server ends the stream, and lets go of one that nobody reads on', async () => {
    watch = (call) => call.end();
    const ended = origin.watch({ filter: {}, signal: new AbortController().signal });
    await expect(ended.next()).rejects.toMatchObject({ code: 'unavailable' });
    const { promise: left, resolve } = Promise.withResolvers<void>();
    watch = (call) => {
      call.on('cancelled', () => resolve());
      call.write(WatchResponse.fromPartial({ message: { $case: 'bookmark', value: {} } }));
    };
    for await (const message of origin.watch({ filter: {}, signal: new AbortController().signal })) {
      expect(message.type).toBe('bookmark');
      break;
    }
    await left;
  });

  it('opens a further connection for more streams than many servers take on one', async () => {
    const peers = new Set<string>();
    watch = (call) => {
      peers.add(call.getPeer());
      call.write(WatchResponse.fromPartial({ message: { $case: 'bookmark', value: {} } }));
    };
    const busy = new GrpcOrigin({ server: address, ca: CA });
    const stop = new AbortController();
    const streams = Array.from({ length: 120 }, () => busy.watch({ filter: {}, signal: stop.signal }));
    for (const { value } of await Promise.all(streams.map((stream) => stream.next())))
      expect(value).toMatchObject({ type: 'bookmark' });
    expect(peers.size).toBe(2);
    expect(await busy.nodes(undefined, CALL)).toHaveLength(1);
    await streams[0]?.return();
    // There is room again on the first.
    await busy.watch({ filter: {}, signal: stop.signal }).next();
    expect(peers.size).toBe(2);
    stop.abort();
    busy.close();
    await expect(busy.nodes(undefined, CALL)).rejects.toThrow('the client is closed');
  });

  it('trusts nobody but the authority that it was given, and only the name that it asked for', async () => {
    const strangers = new GrpcOrigin({ server: address });
    await expect(strangers.nodes(undefined, CALL)).rejects.toMatchObject({ code: 'unavailable' });
    strangers.close();
    // The certificate is for 127.0.0.1 alone.
    const misnamed = new GrpcOrigin({ server: address.replace('127.0.0.1', 'localhost'), ca: CA });
    await expect(misnamed.nodes(undefined, CALL)).rejects.toMatchObject({ code: 'unavailable' });
    misnamed.close();
    const reckless = new GrpcOrigin({ server: address, insecureSkipTlsVerify: true });
    expect(await reckless.nodes(undefined, CALL)).toHaveLength(1);
    reckless.close();
    for (const wrong of ['http://127.0.0.1:1', 'https://127.0.0.1:1/path', '']) {
      expect(() => new GrpcOrigin({ server: wrong })).toThrow(ShardError);
    }
  });
});

const VIEW = {
  namespace: 'payments',
  name: 'orders.0001',
  uid: 'u',
  shardSet: 'orders',
  shardId: '0001',
  phase: 'Draining',
  state: 'Active',
  owner: 'node-1',
  epoch: 1_795_000_000,
  version: 4,
  generation: 2,
  observedGeneration: 1,
  capacity: 3,
  locality: { zone: 'z' },
  move: { to: 'node-2', startedAt: '2026-11-23T12:00:00.250Z', deadline: '2026-11-23T12:00:30.000Z' },
  since: '2026-11-23T12:00:00.250Z',
  conditions: [{ type: 'Ready', status: 'Unknown', reason: 'R', message: 'm' }],
};

function shard(name: string): Shard {
  const startedAt = new Date('2026-11-23T12:00:00.250Z');
  return Shard.fromPartial({
    namespace: 'payments',
    name,
    uid: 'u',
    shardSet: 'orders',
    shardId: '0001',
    phase: 'PHASE_DRAINING',
    state: 'SHARD_STATE_ACTIVE',
    owner: 'node-1',
    epoch: 1_795_000_000n,
    version: 4n,
    generation: 2n,
    observedGeneration: 1n,
    capacity: 3,
    locality: { zone: 'z' },
    move: { to: 'node-2', startedAt, deadline: new Date('2026-11-23T12:00:30Z') },
    since: startedAt,
    conditions: [{ type: 'Ready', status: 'CONDITION_STATUS_UNKNOWN', reason: 'R', message: 'm' }],
  });
}

function node(): Node {
  return Node.fromPartial({
    namespace: 'payments',
    name: 'n',
    weight: 2,
    ready: true,
    scheduling: 'NODE_SCHEDULING_CORDONED',
    shards: 3,
  });
}

function empty(): ListResponse {
  const versionVector = { lineage: 'l', position: '12', namespaces: { payments: '11' } };
  return ListResponse.fromPartial({ versionVector, consistency: 'CONSISTENCY_SNAPSHOT' });
}

function encoded<T>(type: { encode(message: T): { finish(): Uint8Array } }, message: T): Buffer {
  return Buffer.from(type.encode(message).finish());
}

function failure(code: number, message: string, details: Status['details'] = []): Error {
  const metadata = new Metadata();
  if (details.length > 0)
    metadata.set('grpc-status-details-bin', encoded(Status, { code, message, details }));
  return Object.assign(new Error(message), { code, details: message, metadata });
}
