import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, constants } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import { Client, credentials, type Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { systemClock } from '@meshkit/crds/clock';
import { silentLog } from '@meshkit/crds/log';
import { API_SERVER_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import { type HealthCheckResponse, HealthClient } from '@meshkit/proto/health';
import { FILES } from '@meshkit/proto/image';
import { ServerReflectionRequest, ServerReflectionResponse } from '@meshkit/proto/reflection';
import { ListRequest, ShardServiceService } from '@meshkit/proto/v1/shard_service';
import type { ShardRepository } from '@meshkit/shards/repository';
import type { WatchSink } from '@meshkit/shards/watch';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AccessRecorder } from '../src/access-record.ts';
import { listenGrpc } from '../src/grpc-listener.ts';
import { shardService } from '../src/grpc-service.ts';
import { type Failure, failureOf, GrpcWire, metadata, trusting } from './grpc-wire.ts';
import { setUp } from './rest-surface.ts';
import { AUDIENCE, CA, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

const SERVICE = 'meshkit.shards.v1.ShardService';
const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url));

describe('the gRPC port', () => {
  const cast = new Cast();
  let running: RunningServer;
  let token: string;
  let raw: Client;
  let health: HealthClient;

  beforeAll(async () => {
    await cast.open();
    await Promise.all([cast.shard('0000'), cast.account('reader', 'meshkit-shards-reader')]);
    token = await cast.token(cast.namespace, 'reader', AUDIENCE);
    running = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
    const { creds, options } = trusting();
    raw = new Client(running.grpcAddress, creds, options);
    health = new HealthClient(running.grpcAddress, creds, options);
    await eventually(() => running.server.notReady() === undefined || undefined, 'ready');
  });

  afterAll(async () => {
    raw?.close();
    health?.close();
    await running?.server.stop();
    await cast.close();
  });

  /** Bytes in, bytes out. */
  function send(method: string, bytes: Buffer, sent: Metadata): Promise<Buffer | Failure> {
    const { promise, resolve } = Promise.withResolvers<Buffer | Failure>();
    const asItIs = (value: Buffer) => value;
    raw.makeUnaryRequest(method, asItIs, asItIs, bytes, sent, (error, answer) =>
      resolve(error ? failureOf(error) : (answer as Buffer)),
    );
    return promise;
  }

  async function reflect(
    version: string,
    ...requests: ServerReflectionRequest['messageRequest'][]
  ): Promise<ServerReflectionResponse['messageResponse'][]> {
    const stream = raw.makeBidiStreamRequest(
      `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
      (request: ServerReflectionRequest) => Buffer.from(ServerReflectionRequest.encode(request).finish()),
      (bytes: Buffer) => ServerReflectionResponse.decode(bytes),
    );
    for (const messageRequest of requests) stream.write({ host: '', messageRequest });
    stream.end();
    const answers: ServerReflectionResponse['messageResponse'][] = [];
    for await (const { messageResponse } of stream) answers.push(messageResponse);
    return answers;
  }

  function check(service: string): Promise<HealthCheckResponse | Failure> {
    const { promise, resolve } = Promise.withResolvers<HealthCheckResponse | Failure>();
    health.check({ service }, (error, answer) => resolve(error ? failureOf(error) : answer));
    return promise;
  }

  it('answers bytes that are no request', async () => {
    const failure = await send(`/${SERVICE}/List`, Buffer.from('ff07ff', 'hex'), metadata(token));
    expect(failure).toMatchObject({ status: status.INVALID_ARGUMENT, reason: 'invalidArgument' });
  });

  it('answers a request that is too large', async () => {
    const search = 's'.repeat(300_000);
    const bytes = Buffer.from(ListRequest.encode(ListRequest.fromPartial({ filter: { search } })).finish());
    const failure = await send(`/${SERVICE}/List`, bytes, metadata(token));
    expect(failure).toMatchObject({ status: status.RESOURCE_EXHAUSTED, reason: 'requestTooLarge' });
    const huge = await send(`/${SERVICE}/List`, Buffer.alloc(2 << 20), metadata(token));
    expect(huge).toMatchObject({ status: status.RESOURCE_EXHAUSTED });
  });

  it('answers a claim about the protocol that is none', async () => {
    const odd = metadata(token);
    odd.set('mesh-requested-protocol', 'carrier pigeon');
    expect(await send(`/${SERVICE}/List`, Buffer.alloc(0), odd)).toMatchObject({
      status: status.INVALID_ARGUMENT,
      violations: [{ field: '/header/mesh-requested-protocol' }],
    });
  });

  it('does not know other methods', async () => {
    expect(await send(`/${SERVICE}/Fly`, Buffer.alloc(0), metadata(token))).toMatchObject({
      status: status.UNIMPLEMENTED,
    });
  });

  it('says that it serves, to whoever asks', async () => {
    for (const service of ['', SERVICE]) expect(await check(service)).toEqual({ status: 'SERVING' });
    expect(await check('no.such.Service')).toMatchObject({ status: status.NOT_FOUND });
  });

  it.each(['v1', 'v1alpha'])('describes itself (%s)', async (version) => {
    const [services, symbol, method, file, none] = await reflect(
      version,
      { $case: 'listServices', value: '*' },
      { $case: 'fileContainingSymbol', value: SERVICE },
      { $case: 'fileContainingSymbol', value: `${SERVICE}.Watch` },
      { $case: 'fileByFilename', value: 'meshkit/shards/v1/node.proto' },
      { $case: 'fileContainingSymbol', value: 'no.such.Thing' },
    );
    expect(services).toEqual({
      $case: 'listServicesResponse',
      value: {
        service: ['grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection', SERVICE].map((name) => ({
          name,
        })),
      },
    });
    const descriptor = (name: string) => FILES.find((known) => known.name === name)?.descriptor;
    const parts = ['access', 'diff', 'explain', 'history', 'node', 'shard', 'simulate', 'status', 'watch'];
    const own = ['shard_service', ...parts];
    const needed = own.map((name) => `meshkit/shards/v1/${name}.proto`);
    // And two of Google's.
    for (const found of [symbol, method]) {
      if (found?.$case !== 'fileDescriptorResponse') throw new Error(`${found?.$case}`);
      expect(found.value.fileDescriptorProto).toHaveLength(needed.length + 2);
      expect(found.value.fileDescriptorProto).toEqual(expect.arrayContaining(needed.map(descriptor)));
    }
    expect(file).toMatchObject({
      value: { fileDescriptorProto: [descriptor('meshkit/shards/v1/node.proto')] },
    });
    expect(none).toMatchObject({ $case: 'errorResponse', value: { errorCode: status.NOT_FOUND } });
  });

  it('records who asks for its health or its description, as any call', async () => {
    running.lines.length = 0;
    await check(SERVICE);
    await check('no.such.Service');
    await reflect('v1', { $case: 'listServices', value: '*' });
    await reflect('v1alpha', { $case: 'listServices', value: '*' });
    const watching = health.watch({ service: '' });
    watching.on('error', () => undefined);
    await once(watching, 'data');
    watching.cancel();
    await eventually(() => running.lines.length === 5 || undefined, 'five lines');
    const call = { decision: 'none', transport: 'grpc', protocol: 'h2', durationMs: expect.any(Number) };
    expect(running.lines).toEqual([
      { ...call, op: 'health', status: 'OK' },
      { ...call, op: 'health', status: 'NOT_FOUND' },
      { ...call, op: 'reflection', status: 'OK' },
      { ...call, op: 'reflection', status: 'OK' },
      { ...call, op: 'healthWatch', status: 'CANCELLED' },
    ]);
    const metrics = await (await fetch(`${running.healthUrl}/metrics`)).text();
    expect(metrics).toContain(
      'meshkit_stream_duration_seconds_count{op="healthWatch",transport="grpc",status="CANCELLED"} 1',
    );
  });

  /** A call whose client has room for nothing: what the server writes stays with the server. `closed`: by which code. */
  function unread(address: string, method: string, request: Uint8Array, bearer = '') {
    const session = connect(`https://${address}`, { ca: CA, settings: { initialWindowSize: 0 } });
    const stream = session.request({
      ':method': 'POST',
      ':path': `/${SERVICE}/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
      authorization: `Bearer ${bearer}`,
    });
    const length = Buffer.alloc(5);
    length.writeUInt32BE(request.length, 1);
    stream.end(Buffer.concat([length, request]));
    const { promise: closed, resolve } = Promise.withResolvers<number>();
    stream.on('error', () => undefined);
    stream.on('close', () => resolve(stream.rstCode));
    return { session, stream, closed };
  }

  it('resets a stream whose reader has stopped reading, after its end', { timeout: 40_000 }, async () => {
    const observer = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
    await eventually(() => observer.server.notReady() === undefined || undefined, 'ready');
    await cast.account('stuck', 'meshkit-shards-observer');
    const request = ListRequest.encode(
      ListRequest.fromPartial({ filter: { namespace: cast.namespace } }),
    ).finish();
    const bearer = await cast.token(cast.namespace, 'stuck', AUDIENCE);
    const { session, closed } = unread(observer.grpcAddress, 'Watch', request, bearer);
    await eventually(async () => {
      const metrics = await (await fetch(`${observer.healthUrl}/metrics`)).text();
      return /grpc[^\n]* 1$/m.test(metrics) || undefined;
    }, 'the stream is open');
    // The goodbye cannot be delivered, and must not hold the server up for ever.
    const began = performance.now();
    await observer.server.stop();
    expect(performance.now() - began).toBeLessThan(7_500);
    expect(await closed).toBe(constants.NGHTTP2_CANCEL);
    session.destroy();
  });

  it('cuts off an answer that nobody reads, and in the end every call of an old connection', async () => {
    const { repository } = setUp();
    const patience = { ms: 200, bytesPerMs: Number.POSITIVE_INFINITY };
    const gates = {
      authenticator: { authenticate: async () => ({ user: 'jane', groups: [], key: 'k' }) },
      authorizer: { require: async () => undefined },
      limits: { request: () => undefined },
      cacheHealth: () => ({}),
      recorder: new AccessRecorder(silentLog, new Registry()),
      clock: systemClock,
      log: silentLog,
    };
    const watching: WatchSink[] = [];
    const watch: ShardRepository['watch'] = async (_request, sink) => {
      watching.push(sink);
      sink.write(sink.encoding.encode({ type: 'bookmark', position: '41', token: 'AA' }));
      return { messages: 1, close: () => watching.pop() };
    };
    const listener = await listenGrpc({
      service: shardService({ ...gates, repository: { ...repository, watch }, patience }),
      address: { host: '127.0.0.1', port: 0 },
      certificate: { cert: fixture('tls.crt'), key: fixture('tls.key') },
      notReady: () => undefined,
      recorder: gates.recorder,
      clock: systemClock,
      age: { ms: 1_500, graceMs: 300 },
    });
    const list = unread(listener.address, 'List', new Uint8Array());
    expect(await list.closed).toBe(constants.NGHTTP2_CANCEL);
    expect(list.session.closed).toBe(false);
    list.session.destroy();
    const wire = new GrpcWire(listener.address);
    const stream = wire.watch({});
    expect(await stream.next()).toMatchObject({ resumeToken: 'AA', message: { $case: 'bookmark' } });
    expect(watching).toHaveLength(1);
    expect((await stream.ended)?.status).toBe(status.UNAVAILABLE);
    await eventually(() => watching.length === 0 || undefined, 'the watch is forgotten');
    wire.close();
    await listener.close(0);
  });

  it('tells health watchers when it stops, and lets them go', async () => {
    const leaving = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
    const { creds, options } = trusting();
    const client = new HealthClient(leaving.grpcAddress, creds, options);
    const heard: string[] = [];
    const stream = client.watch({ service: SERVICE });
    const { promise: ended, resolve } = Promise.withResolvers<ServiceError | undefined>();
    stream.on('data', ({ status: serving }: HealthCheckResponse) => heard.push(serving));
    stream.on('error', (error: ServiceError) => resolve(error));
    stream.on('end', () => resolve(undefined));
    await eventually(() => heard.at(-1) === 'SERVING' || undefined, 'serving');
    const began = performance.now();
    await leaving.server.stop();
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(await ended).toBeUndefined();
    expect(heard.slice(-2)).toEqual(['SERVING', 'NOT_SERVING']);
    client.close();
  });

  it('shows a renewed certificate to those who connect from then on', async () => {
    const listener = await listenGrpc({
      service: { definition: ShardServiceService, implementation: {} },
      address: { host: '127.0.0.1', port: 0 },
      certificate: { cert: fixture('tls.crt'), key: fixture('tls.key') },
      notReady: () => undefined,
      recorder: new AccessRecorder(silentLog, new Registry()),
      clock: systemClock,
    });
    const shown = async () => {
      const [host, port] = listener.address.split(':');
      const socket = connectTls({
        host,
        port: Number(port),
        ALPNProtocols: ['h2'],
        rejectUnauthorized: false,
      });
      await once(socket, 'secureConnect');
      const { subject } = socket.getPeerCertificate();
      socket.destroy();
      return subject.CN;
    };
    expect(await shown()).not.toBe('renewed');
    listener.renew({ cert: fixture('renewed.crt'), key: fixture('renewed.key') });
    expect(await shown()).toBe('renewed');
    await listener.close(1_000);
    await expect(shown()).rejects.toThrow('ECONNREFUSED');
  });

  it('wants TLS', async () => {
    const plain = new Client(running.grpcAddress, credentials.createInsecure());
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    const asItIs = (value: Buffer) => value;
    plain.makeUnaryRequest(`/${SERVICE}/List`, asItIs, asItIs, Buffer.alloc(0), (error) =>
      resolve(error?.code),
    );
    expect(await promise).toBe(status.UNAVAILABLE);
    plain.close();
  });
});
