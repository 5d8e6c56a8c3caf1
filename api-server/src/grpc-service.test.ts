import { EventEmitter } from 'node:events';
import { Metadata, type StatusObject } from '@grpc/grpc-js';
import { systemClock } from '@meshkit/crds/clock';
import { silentLog } from '@meshkit/crds/log';
import { GetAccessResponse } from '@meshkit/proto/v1/access';
import { GetRequest, ListRequest, ListResponse } from '@meshkit/proto/v1/shard_service';
import { GetStatusRequest, GetStatusResponse } from '@meshkit/proto/v1/status';
import { ShardError } from '@meshkit/shards/errors';
import { API_VERSION, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardRepository } from '@meshkit/shards/repository';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { AccessRecorder } from './access-record.ts';
import { EXAMPLE_DIFF, EXAMPLE_HISTORY, EXAMPLE_STATUS } from './examples.ts';
import { RequestBytes } from './grpc-call.ts';
import { shardService } from './grpc-service.ts';
import type { CacheHealth } from './kubernetes-repository.ts';

const MIB = 1 << 20;

describe('the gRPC service', () => {
  const health: CacheHealth = {};
  const lines: Record<string, unknown>[] = [];
  const log = {
    ...silentLog,
    info: (fields: Record<string, unknown>) => void lines.push(fields),
    warn: (fields: Record<string, unknown>) => void lines.push(fields),
  };
  let shards: ShardAssignment[] = [];
  let waiting: AbortSignal | undefined;
  const repository: ShardRepository = {
    list: async (_filter, { limit, after = '' }) => {
      const rest = shards.filter(({ metadata }) => metadata.name > after);
      const items = rest.slice(0, limit);
      const next = rest.length > limit ? items.at(-1)?.metadata.name : undefined;
      const versionVector = { lineage: 'l', position: '9', namespaces: {} };
      return { items, next, versionVector, resumeToken: () => 'r', consistency: 'snapshot' };
    },
    asOf: () => ({ lineage: 'l', position: '9' }),
    get: () => Promise.reject(new TypeError('a mistake of ours')),
    diff: async () => EXAMPLE_DIFF,
    history: async () => EXAMPLE_HISTORY,
    status: async () => EXAMPLE_STATUS,
    nodes: async () => [],
    meshState: async () => ({ sets: [], shards: [], nodes: [], basis: { position: '41' } }),
    waitFor: (_position, signal) => {
      waiting = signal;
      const { promise, resolve } = Promise.withResolvers<boolean>();
      signal.addEventListener('abort', () => resolve(false));
      return promise;
    },
    watch: () => Promise.reject(new TypeError('not here')),
  };
  const { implementation, definition } = shardService({
    repository,
    authenticator: {
      authenticate: async (authorization) => {
        const user = authorization?.replace('Bearer ', '') ?? 'jane';
        if (user.startsWith('system:')) throw new ShardError('identityRefused', 'no component', { user });
        return { user, groups: [], key: 'k' };
      },
    },
    authorizer: { require: async () => undefined },
    limits: { request: () => undefined },
    cacheHealth: () => health,
    recorder: new AccessRecorder(log, new Registry()),
    clock: systemClock,
    log,
  });

  class Call extends EventEmitter {
    readonly metadata = new Metadata();
    readonly sent: Metadata[] = [];
    readonly request: RequestBytes;
    cancelled = false;
    deadline: number | Date = Number.POSITIVE_INFINITY;

    constructor(request: Uint8Array) {
      super();
      this.request = new RequestBytes(request);
    }

    getDeadline(): number | Date {
      return this.deadline;
    }

    sendMetadata(metadata: Metadata): void {
      this.sent.push(metadata);
    }
  }

  function run(
    method: 'list' | 'get' | 'getAccess' | 'getStatus',
    call: Call,
  ): Promise<Buffer | StatusObject> {
    const { promise, resolve } = Promise.withResolvers<Buffer | StatusObject>();
    const handler = implementation[method] as unknown as (
      call: Call,
      done: (error: StatusObject | null, bytes?: Buffer) => void,
    ) => void;
    handler(call, (error, bytes) => resolve(error ?? (bytes as Buffer)));
    return promise;
  }

  const list = (request: Partial<ListRequest>) =>
    new Call(ListRequest.encode(ListRequest.fromPartial(request)).finish());

  it('keeps pages below what clients take, and loses nothing by that', async () => {
    shards = Array.from({ length: 1_000 }, (_, at) => bigShard(String(at).padStart(4, '0')));
    const names: string[] = [];
    let pageToken = '';
    let pages = 0;
    do {
      const bytes = (await run('list', list({ pageSize: 1_000, pageToken }))) as Buffer;
      expect(bytes.length).toBeLessThan(3.2 * MIB);
      const page = ListResponse.decode(bytes);
      names.push(...page.shards.map(({ name }) => name));
      pageToken = page.nextPageToken;
      pages += 1;
    } while (pageToken !== '');
    expect(names).toEqual(shards.map(({ metadata }) => metadata.name));
    // 10 MB of shards.
    expect(pages).toBeLessThan(8);
  });

  it('gives up when the caller does', async () => {
    lines.length = 0;
    const call = list({ minVersion: '10' });
    void run('list', call);
    while (waiting === undefined) await new Promise((resolve) => setImmediate(resolve));
    call.cancelled = true;
    call.emit('cancelled');
    expect(waiting.aborted).toBe(true);
    expect(lines).toMatchObject([{ op: 'list', transport: 'grpc', status: 'CANCELLED', decision: 'allow' }]);
  });

  it('says in its log whom it turned away for who they are', async () => {
    lines.length = 0;
    const call = list({});
    call.metadata.set('authorization', 'Bearer system:node:a');
    expect(await run('list', call)).toMatchObject({ code: 7 });
    expect(lines).toMatchObject([{ code: 'identityRefused', decision: 'deny', user: 'system:node:a' }]);
  });

  it('says what is old, and serves nothing before it knows anything', async () => {
    health.stale = 'lost the watch';
    const stale = list({});
    await run('list', stale);
    expect(stale.sent[0]?.getMap()).toEqual({ 'mesh-cache': 'stale' });
    health.stale = undefined;
    health.cold = 'waiting for the first list';
    expect(await run('list', list({}))).toMatchObject({ code: 14, details: 'waiting for the first list' });
    health.cold = undefined;
  });

  it('says what the caller may do before it knows anything, and how it is only after', async () => {
    health.cold = 'waiting for the first list';
    lines.length = 0;
    const request = () => new Call(GetStatusRequest.encode({ namespace: 'payments' }).finish());
    const access = GetAccessResponse.decode((await run('getAccess', request())) as Buffer);
    expect(access).toMatchObject({ user: 'jane', namespace: 'payments' });
    expect(access.scopes.map(({ scope, allowed }) => [scope, allowed])).toEqual([
      ['mesh.read', true],
      ['mesh.observe', true],
      ['mesh.operate', true],
    ]);
    expect(await run('getStatus', request())).toMatchObject({ code: 14 });
    health.cold = undefined;
    const status = GetStatusResponse.decode((await run('getStatus', request())) as Buffer);
    expect(status).toMatchObject({
      api: 'v1',
      position: EXAMPLE_STATUS.position,
      cache: { state: 'STATE_FRESH' },
      journal: { state: 'STATE_BEHIND', behindMs: 42_000n, head: { position: '911000' } },
    });
    expect(lines).toMatchObject([
      { op: 'access', decision: 'allow', namespace: 'payments', status: 'OK' },
      { op: 'status', scope: 'read', status: 'UNAVAILABLE' },
      { op: 'status', scope: 'read', status: 'OK' },
    ]);
    expect(lines[0]?.scope).toBeUndefined();
  });

  it('lets go of what it was sent once it has read it', async () => {
    const { filter } = ListRequest.fromPartial({ filter: { namespace: 'payments' } });
    const call = list({ filter });
    await run('list', call);
    expect(call.request.take()).toHaveLength(0);
  });

  it('keeps a mistake of ours to itself', async () => {
    const request = { namespace: 'payments', name: 'orders.0001', minVersion: '' };
    const answer = await run('get', new Call(GetRequest.encode(request).finish()));
    expect(answer).toMatchObject({
      code: 13,
      details: 'the server failed on this request; its log says more',
    });
  });

  it('serves what the contract declares, and nothing else', () => {
    expect(Object.keys(implementation).sort()).toEqual(Object.keys(definition).sort());
  });
});

function bigShard(id: string): ShardAssignment {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace: 'payments', name: `orders.${id}`, uid: id, resourceVersion: '1' },
    spec: { shardSet: 'orders', shardId: id, reason: 'r'.repeat(10_000) },
  };
}
