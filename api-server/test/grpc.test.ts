import { status } from '@grpc/grpc-js';
import { MESH_NODES } from '@meshkit/crds/resource';
import { API_SERVER_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import type { Shard } from '@meshkit/proto/v1/shard';
import { ERRORS, type ErrorCode } from '@meshkit/shards/errors';
import type { ShardExplanation } from '@meshkit/shards/explain';
import type { Fault } from '@meshkit/shards/problem';
import { API_VERSION } from '@meshkit/shards/records';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { serverStatus } from '../src/status-operation.ts';
import { type Reply, Wire } from './exchange.ts';
import { GrpcWire, type Outcome } from './grpc-wire.ts';
import { AUDIENCE, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

describe('gRPC answers what REST answers', () => {
  const cast = new Cast();
  let running: RunningServer;
  let rest: Wire;
  let grpc: GrpcWire;
  const tokens: Record<string, string | undefined> = { anonymous: undefined, garbage: 'garbage' };

  beforeAll(async () => {
    await cast.open();
    const times = { startedAt: '2026-11-23T00:00:00.250Z', deadline: '2026-11-23T00:00:30.000Z' };
    await Promise.all([
      cast.account('no-role'),
      cast.account('reader', 'meshkit-shards-reader'),
      cast.shard('0000', { owner: 'node-1', ownerEndpoint: 'https://node-1:8443', previousOwner: 'node-3' }),
      cast.shard('0001', { owner: 'node-2', phase: 'Draining', move: { to: 'node-1', ...times } }),
      cast.shard('0002', { owner: 'node-2', phase: 'Draining', move: times, version: 7 }),
      cast.shard('0003', { owner: 'node-3', phase: 'Lost', observedGeneration: 1 }),
      cast.shard('0004', { owner: undefined, phase: 'Paused' }),
      cast.shard('0005', { owner: undefined, phase: 'Disabled' }),
      cast.shard('0006', {
        phase: 'Pending',
        owner: undefined,
        conditions: [
          {
            type: 'Ready',
            status: 'False',
            reason: 'NoEligibleNode',
            message: 'no node in zone a',
            lastTransitionTime: '2026-11-23T00:00:00Z',
          },
        ],
      }),
      ...Array.from({ length: 12 }, (_, at) => cast.shard(`x${at}`, { owner: `node-${(at % 3) + 1}` })),
      ...(['Active', 'Cordoned', 'Drain'] as const).map((scheduling, at) =>
        cast.admin.create(MESH_NODES, {
          apiVersion: API_VERSION,
          kind: 'MeshNode',
          metadata: { namespace: cast.namespace, name: `node-${at + 1}` },
          spec: { scheduling, weight: at + 1, zone: 'a', endpoint: `https://node-${at + 1}:8443` },
        }),
      ),
    ]);
    for (const name of ['no-role', 'reader']) {
      tokens[name] = await cast.token(cast.namespace, name, AUDIENCE);
    }
    running = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
    await eventually(() => running.server.notReady() === undefined || undefined, 'ready');
    rest = new Wire(running.url);
    grpc = new GrpcWire(running.grpcAddress);
  });

  afterAll(async () => {
    rest?.close();
    grpc?.close();
    await running?.server.stop();
    await cast.close();
  });

  type Status = Awaited<ReturnType<typeof serverStatus>>;

  /** What a caller asks for, before it is put into words of one surface. */
  interface Query {
    op: 'list' | 'get' | 'nodes' | 'status' | 'access' | 'explain';
    who: string;
    namespace?: string;
    name: string;
    shardSet?: string;
    owners: string[];
    phases: string[];
    zones: string[];
    search?: string;
    pageSize?: number;
    cursor?: string;
    minVersion?: string;
    maxItems?: number;
  }

  const mostly = <T>(usual: T, ...others: T[]) =>
    fc.oneof(
      { weight: 12, arbitrary: fc.constant(usual) },
      { weight: 2, arbitrary: fc.constantFrom(...others) },
    );

  const queries: fc.Arbitrary<Query> = fc.record({
    op: fc.oneof(
      { weight: 4, arbitrary: fc.constant<Query['op']>('list') },
      { weight: 2, arbitrary: fc.constant<Query['op']>('get') },
      { weight: 4, arbitrary: fc.constantFrom<Query['op'][]>('explain', 'nodes', 'status', 'access') },
    ),
    who: mostly('reader', 'no-role', 'anonymous', 'garbage'),
    namespace: mostly<string | undefined>(
      cast.namespace,
      undefined,
      'default',
      '',
      'Not A Name',
      'a'.repeat(64),
    ),
    name: mostly(
      'orders.0001',
      'orders.0006',
      'orders.none',
      'orders.none',
      'x',
      '-',
      'ORDERS.0001',
      'a'.repeat(254),
    ),
    shardSet: mostly<string | undefined>(undefined, 'orders', 'others', '', 'Or ders'),
    owners: mostly<string[]>(
      [],
      ['node-1'],
      ['node-1', 'node-2'],
      ['node-9'],
      [''],
      ['a b'],
      ['node-1,node-2'],
    ),
    phases: mostly<string[]>(
      [],
      ['Active'],
      ['Draining', 'Lost'],
      ['Pending', 'Paused', 'Disabled'],
      ['UNRECOGNIZED'],
    ),
    zones: mostly<string[]>([], ['eu-1'], [''], Array(101).fill('z')),
    search: mostly<string | undefined>(undefined, '000', 'x1', 'x', '', '%2e*', 'é✓😀', 's'.repeat(254)),
    pageSize: mostly<number | undefined>(undefined, 1, 3, 7, 1_000, 2_147_483_647, -1),
    cursor: mostly<string | undefined>(undefined, undefined, 'garbage', 'AQ', 'a'.repeat(3_000)),
    minVersion: mostly<string | undefined>(undefined, undefined, '1', 'one', '01'),
    maxItems: mostly<number | undefined>(undefined, -1, 1, 2_147_483_647),
  });

  function overRest(query: Query): Promise<Reply> {
    const { op, who, namespace, name, owners, phases, zones, pageSize } = query;
    const sent = new URLSearchParams();
    const put = (key: string, values: readonly (string | undefined)[]) => {
      for (const value of values) if (value !== undefined) sent.append(key, value);
    };
    const ofShard = op === 'get' || op === 'explain';
    if (!ofShard) put('namespace', [namespace]);
    if (ofShard || op === 'list') put('minVersion', [query.minVersion]);
    if (op === 'explain') put('maxItems', [query.maxItems?.toString()]);
    if (op === 'list') {
      put('shardSet', [query.shardSet]);
      put('owner', owners);
      put('status', phases);
      // A parameter is repeated 100 times at most; gRPC has a list of its own.
      put('zone', zones.length > 100 ? [zones.join(',')] : zones);
      put('search', [query.search]);
      put('pageSize', [pageSize?.toString()]);
      put('cursor', [query.cursor]);
    }
    const shard = `/${encodeURIComponent(namespace ?? '-')}/${encodeURIComponent(name)}`;
    const paths = { get: `shards${shard}`, explain: `shards${shard}/explain`, list: 'shards' };
    const path = op in paths ? paths[op as keyof typeof paths] : op;
    return rest.get(`/meshkit/${path}?${sent}`, tokens[who]);
  }

  function overGrpc(query: Query): Promise<Outcome<unknown>> {
    const { op, who, namespace, name, shardSet, owners, zones, search, pageSize = 0 } = query;
    const { cursor: pageToken = '', minVersion = '', maxItems = 0 } = query;
    const ofShard = { namespace: namespace ?? '-', name, minVersion };
    if (op === 'get') return grpc.get(ofShard, tokens[who]);
    if (op === 'explain') return grpc.explain({ ...ofShard, maxItems }, tokens[who]);
    if (op !== 'list') return grpc[op]({ namespace }, tokens[who]);
    const phases = query.phases.map((phase) =>
      phase === 'UNRECOGNIZED' ? phase : `PHASE_${phase.toUpperCase()}`,
    ) as Shard['phase'][];
    const filter = { namespace, shardSet, owners, phases, zones, search };
    return grpc.list({ filter, pageSize, pageToken, minVersion }, tokens[who]);
  }

  it('to the same 200 queries, with the same errors at the same places', { timeout: 60_000 }, async () => {
    const seen = new Map<string, number>();
    // A namespace without a shard route in REST is no query of both.
    const sample = fc.sample(
      queries.filter(({ op, namespace }) => (op !== 'get' && op !== 'explain') || namespace !== ''),
      { numRuns: 200, seed: 20_261_123 },
    );
    for (const query of sample) {
      const [reply, outcome] = await Promise.all([overRest(query), overGrpc(query)]);
      expect({ query, ...grpcView(query.op, outcome) }).toEqual({ query, ...restView(query.op, reply) });
      const kind = 'failure' in outcome ? (outcome.failure.reason ?? 'none') : query.op;
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
    }
    // The sample is worth something only when it meets every kind of answer.
    expect([...seen.keys()].sort()).toEqual(
      [
        'access',
        'explain',
        'get',
        'invalidArgument',
        'list',
        'nodes',
        'notFound',
        'scopeMissing',
        'status',
        'tokenInvalid',
        'unauthenticated',
      ].sort(),
    );
  });

  it('page by page, with cursors of either', async () => {
    const { namespace } = cast;
    const names: string[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < 20; page += 1) {
      const query = { ...EMPTY, namespace, pageSize: 4, cursor };
      const [reply, outcome] = await Promise.all([overRest(query), overGrpc(query)]);
      expect(grpcView('list', outcome)).toEqual(restView('list', reply));
      names.push(...reply.body.items.map(({ name }: ShardView) => name));
      const answer = (outcome as { ok: { nextPageToken: string } }).ok;
      cursor = (page % 2 === 0 ? answer.nextPageToken : reply.body.nextCursor) || undefined;
      if (cursor === undefined) break;
    }
    expect(names).toHaveLength(19);
    const first = await overRest({ ...EMPTY, namespace, pageSize: 4 });
    const mismatch = { ...EMPTY, namespace, cursor: first.body.nextCursor, owners: ['node-1'] };
    const [reply, outcome] = await Promise.all([overRest(mismatch), overGrpc(mismatch)]);
    expect(grpcView('list', outcome)).toEqual(restView('list', reply));
    expect(reply.body.code).toBe('filterMismatch');
  });

  const EMPTY: Query = { op: 'list', who: 'reader', name: '', owners: [], phases: [], zones: [] };

  interface View {
    code?: string;
    faults?: unknown[];
    items?: unknown;
    more?: boolean;
    consistency?: string;
    resumable?: boolean;
  }

  function restView(op: Query['op'], { status: http, body }: Reply): View {
    if (http !== 200) {
      expect(http).toBe(ERRORS[body.code as ErrorCode].http);
      const faults = ((body.errors ?? []) as Fault[]).map(({ pointer, detail }) => ({
        field: fieldOf(op, pointer),
        detail,
      }));
      return { code: body.code, faults: faults.slice(0, 10) };
    }
    if (op === 'get') return { items: [plainShard(body)] };
    if (op === 'explain') return { items: plainExplanation(body) };
    if (op === 'nodes') {
      const items = (body.items as NodeView[]).map((node) => ({
        ...node,
        scheduling: `NODE_SCHEDULING_${node.scheduling.toUpperCase()}`,
      }));
      return { items };
    }
    if (op === 'access') return { items: body };
    if (op === 'status') return { items: plainStatus(body) };
    const { consistency, resumeToken, nextCursor } = body;
    const items = (body.items as ShardView[]).map(plainShard);
    return { items, more: nextCursor !== undefined, consistency, resumable: resumeToken !== undefined };
  }

  const PLAIN: Record<string, string> = {
    '/path/namespace': 'namespace',
    '/path/name': 'name',
    '/query/namespace': 'namespace',
    '/query/pageSize': 'page_size',
    '/query/cursor': 'page_token',
    '/query/minVersion': 'min_version',
    '/query/maxItems': 'max_items',
  };
  const FILTER: Record<string, string> = {
    '/query/namespace': 'filter.namespace',
    '/query/shardSet': 'filter.shard_set',
    '/query/owner': 'filter.owners',
    '/query/status': 'filter.phases',
    '/query/zone': 'filter.zones',
    '/query/search': 'filter.search',
  };

  /** The field of the request's message that a parameter is. */
  function fieldOf(op: Query['op'], pointer: string): string | undefined {
    return (op === 'list' ? FILTER[pointer] : undefined) ?? PLAIN[pointer];
  }

  /** What both surfaces write alike; the rest is compared where explanations are tested. */
  function plainExplanation({
    name,
    owner,
    capacity,
    summary,
    overCap,
    nodesTotal,
  }: ShardExplanation): unknown {
    return { name, owner, capacity, summary, overCap, nodesTotal };
  }

  /** What does not change from one question to the next, in the words of the protobuf message. */
  function plainStatus({ api, version, lineage, cache, journal }: Status): unknown {
    const word = (state: string) => `STATE_${state.replace('STATE_', '').toUpperCase()}`;
    return { api, version, lineage, cache: word(cache.state), journal: word(journal.state) };
  }

  /** The view in the words of the protobuf message. */
  function plainShard({ phase, state, conditions = [], ...rest }: ShardView): unknown {
    return {
      ...rest,
      phase: `PHASE_${phase.toUpperCase()}`,
      state: `SHARD_STATE_${state.toUpperCase()}`,
      conditions: conditions.map((condition) => ({
        ...condition,
        status: `CONDITION_STATUS_${condition.status.toUpperCase()}`,
      })),
    };
  }

  function grpcView(op: Query['op'], outcome: Outcome<unknown>): View {
    if ('failure' in outcome) {
      const { reason = '', violations, domain, ...failure } = outcome.failure;
      expect(domain, failure.message).toBe('meshkit.omnirelay.io');
      expect(failure.status).toBe(status[ERRORS[reason as ErrorCode].grpc]);
      const faults = violations.map(({ field, description: detail }) => ({ field, detail }));
      return { code: reason, faults };
    }
    // biome-ignore lint/suspicious/noExplicitAny: each operation has an answer of its own.
    const answer = plain(outcome.ok) as any;
    if (op === 'get') return { items: [answer.shard] };
    if (op === 'explain') return { items: plainExplanation(answer) };
    if (op === 'nodes') return { items: answer.nodes };
    if (op === 'access') return { items: answer };
    if (op === 'status') return { items: plainStatus(answer) };
    const { shards, nextPageToken, consistency, resumeToken } = answer;
    return {
      items: shards,
      more: nextPageToken !== '',
      consistency: consistency.replace('CONSISTENCY_', '').toLowerCase(),
      resumable: resumeToken !== '',
    };
  }

  /** As JSON would have it: times as text, numbers as numbers. */
  function plain(value: unknown): unknown {
    return JSON.parse(
      JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? Number(inner) : inner)),
    );
  }
});
