import { status } from '@grpc/grpc-js';
import { MESH_NODES, SHARD_SETS } from '@meshkit/crds/resource';
import { API_SERVER_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import { API_VERSION } from '@meshkit/shards/records';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Wire } from './exchange.ts';
import { failureOf, GrpcWire, metadata } from './grpc-wire.ts';
import { AUDIENCE, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

/** Who may simulate and explain: real tokens by TokenRequest, real decisions by RBAC. */
describe('access to simulate and explain', () => {
  const cast = new Cast();
  let running: RunningServer;
  let rest: Wire;
  let grpc: GrpcWire;
  const tokens: Record<string, string | undefined> = { anonymous: undefined, garbage: 'garbage' };

  beforeAll(async () => {
    await cast.open();
    const { namespace } = cast;
    const actor = { kind: 'User', name: 'jane' } as const;
    const at = '2026-11-23T00:00:00Z';
    const hop = {
      version: 1,
      to: 'node-1',
      phase: 'Active',
      actor,
      reason: 'r',
      changeTicket: 'CHG-7',
      at,
    } as const;
    await Promise.all([
      cast.shard('0000', { recentTransitions: [hop] }),
      cast.shard('0001', { owner: 'node-2' }),
      cast.account('no-role'),
      cast.account('reader', 'meshkit-shards-reader'),
      cast.account('observer', 'meshkit-shards-observer'),
      cast.account('observer-everywhere', 'meshkit-shards-observer', 'everywhere'),
      cast.admin.create(SHARD_SETS, {
        apiVersion: API_VERSION,
        kind: 'ShardSet',
        metadata: { namespace, name: 'orders' },
        spec: { shards: { count: 2 } },
      }),
      ...['node-1', 'node-2'].map((name) =>
        cast.admin.create(MESH_NODES, {
          apiVersion: API_VERSION,
          kind: 'MeshNode',
          metadata: { namespace, name },
          spec: { liveness: 'Always' },
        }),
      ),
    ]);
    for (const name of ['no-role', 'reader', 'observer', 'observer-everywhere']) {
      tokens[name] = await cast.token(namespace, name, AUDIENCE);
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

  const simulate = (who: string, body: object) => {
    const token = tokens[who];
    const headers = {
      ':method': 'POST',
      ':path': '/meshkit/shards/simulate',
      'content-type': 'application/json',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    };
    return rest.send(headers, JSON.stringify(body));
  };

  const simulateByGrpc = (who: string, namespace: string | undefined) => {
    const { promise, resolve } = Promise.withResolvers<number>();
    const request = { namespace, changes: [], manifestsJson: [], maxItems: 0 };
    const options = { deadline: Date.now() + 10_000 };
    grpc.client.simulate(request, metadata(tokens[who]), options, (error) =>
      resolve(error ? failureOf(error).status : status.OK),
    );
    return promise;
  };

  // Simulate the own namespace, another one, all; explain a shard of the own namespace.
  it.each<[string, number, number, number, number]>([
    ['anonymous', 401, 401, 401, 401],
    ['garbage', 401, 401, 401, 401],
    ['no-role', 403, 403, 403, 403],
    ['reader', 403, 403, 403, 200],
    ['observer', 200, 403, 403, 200],
    ['observer-everywhere', 200, 200, 200, 200],
  ])('%s: simulate own namespace %i, another %i, all %i; explain %i', async (who, ...expected) => {
    const { namespace } = cast;
    const places = [namespace, 'default', undefined];
    const replies = await Promise.all([
      ...places.map((place) => simulate(who, { namespace: place })),
      rest.get(`/meshkit/shards/${namespace}/orders.0000/explain`, tokens[who]),
    ]);
    expect(replies.map(({ status }) => status)).toEqual(expected);
    const same = { 200: status.OK, 401: status.UNAUTHENTICATED, 403: status.PERMISSION_DENIED };
    const byGrpc = await Promise.all(places.map((place) => simulateByGrpc(who, place)));
    expect(byGrpc).toEqual(expected.slice(0, 3).map((http) => same[http as keyof typeof same]));
  });

  it('a reader who simulates is told which scope is missing and who grants it', async () => {
    const { body } = await simulate('reader', { namespace: cast.namespace });
    expect(body).toMatchObject({
      code: 'scopeMissing',
      scope: 'mesh.observe',
      namespace: cast.namespace,
      grant: expect.stringContaining('--clusterrole=meshkit-shards-observer'),
    });
  });

  it('transitions are for those who observe', async () => {
    const path = `/meshkit/shards/${cast.namespace}/orders.0000/explain`;
    const [reader, observer] = await Promise.all(
      ['reader', 'observer'].map(async (who) => (await rest.get(path, tokens[who])).body),
    );
    expect(reader.transitions).toBeUndefined();
    expect(reader.withheld).toMatchObject([{ member: 'transitions', scope: 'mesh.observe' }]);
    expect(observer.transitions).toMatchObject([{ actor: { name: 'jane' }, changeTicket: 'CHG-7' }]);
    expect(observer.withheld).toBeUndefined();
  });

  it('leaves one line in the access log, like everything', async () => {
    await simulate('observer', { namespace: cast.namespace });
    const line = await eventually(
      () => running.lines.findLast(({ op, decision }) => op === 'simulate' && decision === 'allow'),
      'the line',
    );
    expect(line).toMatchObject({ scope: 'observe', namespace: cast.namespace, status: 200 });
  });
});
