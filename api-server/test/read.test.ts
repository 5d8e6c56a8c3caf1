import { kubeFromString } from '@meshkit/crds/kube-config';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { API_SERVER_SERVICE_ACCOUNT, OPERATOR_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import { API_VERSION, compareVersions } from '@meshkit/shards/records';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Wire } from './exchange.ts';
import { AUDIENCE, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

describe('what is served', () => {
  const cast = new Cast();
  let running: RunningServer;
  let wire: Wire;
  let token: string;

  const list = async (query = '') =>
    (await wire.get(`/meshkit/shards?namespace=${cast.namespace}${query}`, token)).body;
  const ids = async (query = ''): Promise<string[]> =>
    (await list(query)).items.map(({ shardId }: { shardId: string }) => shardId);

  beforeAll(async () => {
    await cast.open();
    await cast.account('reader', 'meshkit-shards-reader');
    token = await cast.token(cast.namespace, 'reader', AUDIENCE);
    await Promise.all([
      cast.shard('0000', { owner: 'node-1' }),
      cast.shard('0001', {
        owner: 'node-2',
        phase: 'Draining',
        move: { to: 'node-1', startedAt: '2026-11-23T00:00:00Z', deadline: '2026-11-23T00:00:30Z' },
      }),
      cast.shard('0002', { owner: 'node-2', phase: 'Lost' }),
      cast.shard('0003', { owner: 'node-1' }),
    ]);
    running = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
    await eventually(() => running.server.notReady() === undefined || undefined, 'ready');
    wire = new Wire(running.url);
  });

  afterAll(async () => {
    wire?.close();
    await running?.server.stop();
    await cast.close();
  });

  it.each([
    ['', ['0000', '0001', '0002', '0003']],
    ['&owner=node-2', ['0001', '0002']],
    ['&owner=node-1,node-2&status=active', ['0000', '0003']],
    ['&status=Draining&status=lost', ['0001', '0002']],
    ['&search=3', ['0003']],
    ['&shardSet=orders&zone=nowhere', []],
  ])('filter %s', async (query, expected) => {
    expect(await ids(query)).toEqual(expected);
  });

  it('pages through all of them', async () => {
    const first = await list('&pageSize=3');
    const second = await list(`&pageSize=3&cursor=${first.nextCursor}`);
    expect(first.items).toHaveLength(3);
    expect(second.items).toHaveLength(1);
    expect(second).not.toHaveProperty('nextCursor');
  });

  it('follows what happens in the cluster, and its position only grows', async () => {
    const before = (await list()).versionVector.position;
    const created = await cast.shard('0100', { owner: 'node-9', epoch: 1_795_000_001 });
    const view = await eventually(async () => (await list('&owner=node-9')).items[0], 'the new shard');
    expect(view).toMatchObject({
      name: 'orders.0100',
      uid: created.metadata.uid,
      epoch: 1_795_000_001,
      phase: 'Active',
    });
    const { position, namespaces } = (await list()).versionVector;
    expect(compareVersions(position, before)).toBeGreaterThan(0);
    expect(compareVersions(namespaces[cast.namespace], created.metadata.resourceVersion ?? '')).toBe(0);

    await cast.admin.delete(SHARD_ASSIGNMENTS, { namespace: cast.namespace, name: 'orders.0100' });
    await eventually(async () => !(await ids()).includes('0100') || undefined, 'its end');
    expect(compareVersions((await list()).versionVector.position, position)).toBeGreaterThan(0);
  });

  it('shows intent that the operator has not taken up', async () => {
    const key = { namespace: cast.namespace, name: 'orders.0003' };
    await cast.admin.patch(SHARD_ASSIGNMENTS, key, {
      spec: { owner: { pinned: 'node-7' }, changeTicket: 'CHG-7' },
    });
    const view = await eventually(async () => {
      const { body } = await wire.get(`/meshkit/shards/${cast.namespace}/orders.0003`, token);
      return body.pinned === 'node-7' ? body : undefined;
    }, 'the pin');
    expect(view).toMatchObject({ owner: 'node-1', changeTicket: 'CHG-7' });
    expect(view.generation).toBeGreaterThan(view.observedGeneration);
  });

  it('lists the nodes with the shards that they own, across a shared pool too', async () => {
    const { namespace } = cast;
    const status = {
      conditions: [
        {
          type: 'Ready',
          status: 'True' as const,
          reason: 'LeaseRenewed',
          message: 'ready',
          lastTransitionTime: '2026-11-23T00:00:00Z',
        },
      ],
    };
    const node = await cast.admin.create(MESH_NODES, {
      apiVersion: API_VERSION,
      kind: 'MeshNode',
      metadata: { namespace, name: 'node-2' },
      spec: { weight: 3, zone: 'a', endpoint: 'https://node-2:8443', scheduling: 'Cordoned' },
    });
    const operator = await cast.process(OPERATOR_SERVICE_ACCOUNT);
    await operator.updateStatus(MESH_NODES, { ...node, status });
    const view = await eventually(async () => {
      const { body } = await wire.get(`/meshkit/nodes?namespace=${namespace}`, token);
      return body.items[0]?.ready ? body.items[0] : undefined;
    }, 'the node');
    expect(view).toEqual({
      namespace,
      name: 'node-2',
      endpoint: 'https://node-2:8443',
      zone: 'a',
      weight: 3,
      ready: true,
      scheduling: 'Cordoned',
      shards: 2,
    });

    // A set whose nodes are elsewhere: its node-2 is another node.
    await cast.admin.create(SHARD_SETS, {
      apiVersion: API_VERSION,
      kind: 'ShardSet',
      metadata: { namespace, name: 'orders' },
      spec: { shards: { count: 4 }, nodes: { namespace: 'elsewhere' } },
    });
    await eventually(async () => {
      const { body } = await wire.get(`/meshkit/nodes?namespace=${namespace}`, token);
      return body.items[0]?.shards === 0 || undefined;
    }, 'the recount');
  });

  it('serves probes and metrics in plain HTTP', async () => {
    const ask = async (path: string) => {
      const response = await fetch(`${running.healthUrl}${path}`);
      return { status: response.status, text: await response.text() };
    };
    expect(await ask('/livez')).toEqual({ status: 200, text: 'ok\n' });
    expect(await ask('/readyz')).toEqual({ status: 200, text: 'ok\n' });
    expect((await ask('/metrics')).text).toMatch(
      /meshkit_access_total\{op="list",scope="read",decision="allow",transport="rest"\} \d+/,
    );
    expect((await ask('/nothing')).status).toBe(404);
  });
});

describe('without kube-apiserver', () => {
  it('stays up, says why it is not ready, and lets nobody in', async () => {
    // Nobody listens on port 1.
    const client = kubeFromString(
      JSON.stringify({
        clusters: [{ name: 'c', cluster: { server: 'https://127.0.0.1:1' } }],
        contexts: [{ name: 'c', context: { cluster: 'c' } }],
        'current-context': 'c',
      }),
    );
    const { url, healthUrl, server } = await startServer(client);
    const wire = new Wire(url);
    try {
      const ready = await eventually(async () => {
        const response = await fetch(`${healthUrl}/readyz`);
        const text = await response.text();
        return text.includes('ECONNREFUSED') ? { status: response.status, text } : undefined;
      }, 'the reason');
      expect(ready.status).toBe(503);
      expect(ready.text).toContain('waiting for the first list of ShardAssignments');
      expect((await fetch(`${healthUrl}/livez`)).status).toBe(200);
      expect(await wire.get('/meshkit/shards', 'some-token')).toMatchObject({
        status: 503,
        headers: { 'retry-after': '1' },
        body: { code: 'unavailable', reason: 'reviewUnavailable' },
      });
      expect((await wire.get('/meshkit/shards')).status).toBe(401);
    } finally {
      wire.close();
      await server.stop();
      await client.close();
    }
  });
});
