import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { LEASES, MESH_NODES, NAMESPACES } from '@meshkit/crds/resource';
import { ShardError } from '@meshkit/shards/errors';
import type { MeshNode } from '@meshkit/shards/records';
import { afterEach, describe, expect, test } from 'vitest';
import { FakeApi, json, type Received, status } from './fake-api.ts';

const opened: { close(): Promise<void> }[] = [];

afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});

async function serve(
  handler: (request: Received, answer: ServerResponse) => unknown,
  options: { tls?: boolean; user?: object } = {},
): Promise<{ api: FakeApi; client: KubeClient }> {
  const api = await FakeApi.start(handler, options);
  const client = api.client(options.user);
  opened.push(api, client);
  return { api, client };
}

function node(name: string, version = '7'): MeshNode {
  return {
    apiVersion: 'meshkit.omnirelay.io/v1alpha1',
    kind: 'MeshNode',
    metadata: { name, namespace: 'payments', resourceVersion: version },
    spec: { weight: 2 },
  };
}

async function failure(work: Promise<unknown>): Promise<ShardError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ShardError);
  return error as ShardError;
}

describe('connections', () => {
  test('300 calls one after the other take one TLS handshake', async () => {
    const { api, client } = await serve((_, answer) => json(answer, 200, node('a')), { tls: true });
    for (let i = 0; i < 300; i += 1) await client.get(MESH_NODES, { name: 'a' });
    expect(api.received).toHaveLength(300);
    expect(api.handshakes).toBe(1);
  });

  test('300 calls at once share a bounded number of connections', async () => {
    const { api, client } = await serve((_, answer) => json(answer, 200, node('a')), { tls: true });
    await Promise.all(Array.from({ length: 300 }, () => client.get(MESH_NODES, { name: 'a' })));
    expect(api.received).toHaveLength(300);
    expect(api.handshakes).toBeLessThanOrEqual(16);
  });

  test('open watches do not take the connections of calls', async () => {
    const { client } = await serve(({ query }, answer) => {
      if (query.has('watch')) answer.writeHead(200).flushHeaders();
      else json(answer, 200, node('a'));
    });
    const stop = new AbortController();
    const opening = Array.from({ length: 40 }, () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      const watch = client.watch(MESH_NODES, {
        resourceVersion: '1',
        timeoutSeconds: 60,
        signal: stop.signal,
        onOpen: resolve,
      });
      return { promise, end: Array.fromAsync(watch) };
    });
    await Promise.all(opening.map(({ promise }) => promise));
    await expect(client.get(MESH_NODES, { name: 'a' })).resolves.toEqual(node('a'));
    stop.abort('stop');
    const ends = await Promise.allSettled(opening.map(({ end }) => end));
    expect(ends).toEqual(Array(40).fill({ status: 'rejected', reason: 'stop' }));
  });

  test('a connection that the server closed meanwhile is noticed, and the read repeated', async () => {
    let cut = false;
    const { api, client } = await serve((_, answer) => {
      if (!cut) return json(answer, 200, node('a'));
      cut = false;
      answer.socket?.destroy();
    });
    await client.get(MESH_NODES, { name: 'a' });
    cut = true;
    await expect(client.get(MESH_NODES, { name: 'a' })).resolves.toEqual(node('a'));
    expect(api.received).toHaveLength(3);
  });

  test('a write is not repeated behind the back of the caller', async () => {
    let cut = false;
    const { api, client } = await serve((_, answer) => {
      if (!cut) return json(answer, 200, node('a'));
      answer.socket?.destroy();
    });
    await client.get(MESH_NODES, { name: 'a' });
    cut = true;
    const error = await failure(client.update(MESH_NODES, node('a')));
    expect(error.code).toBe('unavailable');
    expect(api.received.filter(({ method }) => method === 'PUT')).toHaveLength(1);
  });

  test('close ends open watches, and later calls say so', async () => {
    const { client } = await serve((_, answer) => answer.writeHead(200).flushHeaders());
    const { promise: open, resolve: onOpen } = Promise.withResolvers<void>();
    const { signal } = new AbortController();
    const watch = Array.fromAsync(
      client.watch(MESH_NODES, { resourceVersion: '1', timeoutSeconds: 60, signal, onOpen }),
    );
    watch.catch(() => undefined);
    await open;
    await client.close();
    expect((await failure(watch)).code).toBe('unavailable');
    expect((await failure(client.get(MESH_NODES, { name: 'a' }))).message).toContain('is closed');
  });
});

describe('requests', () => {
  test('go to the paths of the Kubernetes API', async () => {
    const { api, client } = await serve(({ path }, answer) =>
      json(
        answer,
        200,
        path.endsWith('meshnodes') ? { items: [], metadata: { resourceVersion: '9' } } : node('a'),
      ),
    );
    await client.get(NAMESPACES, { name: 'payments' });
    await client.get(MESH_NODES, { name: 'a' });
    await client.get(MESH_NODES, { namespace: 'fleet', name: 'a' });
    await client.list(MESH_NODES);
    await client.list(MESH_NODES, {
      namespace: 'fleet',
      labelSelector: 'a=b',
      fieldSelector: 'x.y=z',
      limit: 5,
    });
    await client.create(MESH_NODES, node('a'), { dryRun: true });
    await client.update(MESH_NODES, node('a'));
    await client.updateStatus(MESH_NODES, node('a'));
    await client.patch(MESH_NODES, { name: 'a' }, { spec: {} });
    await client.delete(MESH_NODES, { name: 'a' }, { uid: 'u', resourceVersion: '7' });
    const root = '/apis/meshkit.omnirelay.io/v1alpha1';
    expect(
      api.received.map(({ method, path, query }) => `${method} ${path}${query.size ? `?${query}` : ''}`),
    ).toEqual([
      'GET /api/v1/namespaces/payments',
      `GET ${root}/namespaces/payments/meshnodes/a`,
      `GET ${root}/namespaces/fleet/meshnodes/a`,
      `GET ${root}/meshnodes`,
      `GET ${root}/namespaces/fleet/meshnodes?labelSelector=a%3Db&fieldSelector=x.y%3Dz&limit=5`,
      `POST ${root}/namespaces/payments/meshnodes?dryRun=All`,
      `PUT ${root}/namespaces/payments/meshnodes/a`,
      `PUT ${root}/namespaces/payments/meshnodes/a/status`,
      `PATCH ${root}/namespaces/payments/meshnodes/a`,
      `DELETE ${root}/namespaces/payments/meshnodes/a`,
    ]);
    expect(JSON.parse(api.received[6]?.body ?? '')).toEqual(node('a'));
    expect(api.received[8]?.headers['content-type']).toBe('application/merge-patch+json');
    expect(JSON.parse(api.received[9]?.body ?? '')).toMatchObject({
      kind: 'DeleteOptions',
      preconditions: { uid: 'u', resourceVersion: '7' },
    });
  });

  test('server-side apply says so', async () => {
    const { api, client } = await serve((_, answer) => json(answer, 200, node('a')));
    await client.patch(MESH_NODES, { name: 'a' }, node('a'), {
      type: 'apply',
      fieldManager: 'me',
      force: true,
    });
    const { method, query, headers } = api.received[0] as Received;
    expect([method, headers['content-type']]).toEqual(['PATCH', 'application/apply-patch+yaml']);
    expect(Object.fromEntries(query)).toEqual({ fieldManager: 'me', force: 'true' });
  });

  test('a list of a built-in resource has the kind that Kubernetes leaves out', async () => {
    const { client } = await serve((_, answer) =>
      json(answer, 200, { items: [{ metadata: { name: 'l' } }], metadata: { resourceVersion: '5' } }),
    );
    const { items } = await client.list(LEASES);
    expect(items).toEqual([{ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'l' } }]);
  });

  test('all pages of a list come from one snapshot: no version is asked for, the first one is kept', async () => {
    const { api, client } = await serve(({ query }, answer) => {
      const page = Number(query.get('continue') ?? 0);
      json(answer, 200, {
        items: [node(`n${page}`)],
        metadata: { resourceVersion: '42', ...(page < 3 ? { continue: `${page + 1}` } : {}) },
      });
    });
    const { items, resourceVersion } = await client.listAll(MESH_NODES, { namespace: 'fleet' });
    expect(items.map(({ metadata }) => metadata.name)).toEqual(['n0', 'n1', 'n2', 'n3']);
    expect(resourceVersion).toBe('42');
    expect(api.received.map(({ query }) => [query.get('limit'), query.has('resourceVersion')])).toEqual(
      Array(4).fill(['500', false]),
    );
  });

  test('raw calls send and give JSON, or text', async () => {
    const { api, client } = await serve(({ path }, answer) =>
      path === '/healthz' ? answer.end('ok') : json(answer, 201, { status: { allowed: true } }),
    );
    expect(await client.raw('GET', '/healthz')).toBe('ok');
    expect(await client.raw('POST', '/apis/x', { query: { pretty: false }, body: { spec: {} } })).toEqual({
      status: { allowed: true },
    });
    expect(api.received[1]).toMatchObject({ body: '{"spec":{}}' });
    expect(api.received[1]?.headers['content-type']).toBe('application/json');
  });
});

describe('failures', () => {
  test("keep Kubernetes' message, and say what failed and where", async () => {
    const { api, client } = await serve((_, answer) =>
      status(
        answer,
        403,
        'Forbidden',
        'meshnodes is forbidden: User "jane" cannot list resource "meshnodes"',
      ),
    );
    const error = await failure(client.list(MESH_NODES, { namespace: 'payments' }));
    expect(error.code).toBe('scopeMissing');
    expect(error.details).toMatchObject({ status: 403, reason: 'Forbidden' });
    expect(error.message).toBe(
      `cannot list meshnodes.meshkit.omnirelay.io in namespace payments at ${api.url}: meshnodes is forbidden: User "jane" cannot list resource "meshnodes" (403 Forbidden). Ask an administrator of the cluster for a role that allows it.`,
    );
  });

  test('a stale update is a conflict', async () => {
    const { client } = await serve((_, answer) =>
      status(answer, 409, 'Conflict', 'the object has been modified'),
    );
    expect((await failure(client.update(MESH_NODES, node('a')))).code).toBe('conflict');
  });

  test('a server that does not answer, or stops in the middle, is given up at the deadline', async () => {
    const { client } = await serve(({ path }, answer) => {
      if (path.endsWith('half'))
        answer.writeHead(200, { 'content-type': 'application/json' }).write('{"metadata"');
    });
    for (const name of ['none', 'half']) {
      const error = await failure(client.get(MESH_NODES, { name }, { timeoutMs: 100 }));
      expect(error.code).toBe('timeout');
      expect(error.message).toContain('no answer within 0.1 s');
    }
  });

  test("the caller's signal ends a call with its own reason", async () => {
    const { api, client } = await serve(() => undefined);
    const stop = new AbortController();
    const call = client.get(MESH_NODES, { name: 'a' }, { signal: stop.signal });
    await expect.poll(() => api.received.length).toBe(1);
    const reason = new Error('no longer wanted');
    stop.abort(reason);
    await expect(call).rejects.toBe(reason);
    await expect(client.get(MESH_NODES, { name: 'a' }, { signal: stop.signal })).rejects.toBe(reason);
    expect(api.received).toHaveLength(1);
  });

  test('a server that is not there, or not trusted, is told from the others', async () => {
    const { api, client } = await serve(() => undefined);
    await api.close();
    expect((await failure(client.get(MESH_NODES, { name: 'a' }))).message).toContain(
      'ECONNREFUSED 127.0.0.1',
    );
    const { api: tls } = await serve((_, answer) => json(answer, 200, node('a')), { tls: true });
    const { api: other } = await serve(() => undefined, { tls: true });
    const { kubeFromString } = await import('@meshkit/crds/kube-config');
    const authority = Buffer.from(other.certificate).toString('base64');
    const distrusting = kubeFromString(tls.kubeconfig({}, { 'certificate-authority-data': authority }));
    opened.push(distrusting);
    const error = await failure(distrusting.get(MESH_NODES, { name: 'a' }));
    expect(error.code).toBe('unavailable');
    expect(error.message).toContain('Is the certificate-authority in the kubeconfig the one of this server?');
    const trusting = kubeFromString(
      JSON.stringify({
        ...JSON.parse(tls.kubeconfig()),
        clusters: [{ name: 'c', cluster: { server: tls.url, 'insecure-skip-tls-verify': true } }],
      }),
    );
    opened.push(trusting);
    await expect(trusting.get(MESH_NODES, { name: 'a' })).resolves.toEqual(node('a'));
  });

  test('an answer that is no JSON is no object', async () => {
    const { client } = await serve((_, answer) => {
      answer.writeHead(200, { 'content-type': 'application/json' }).end('{"a":');
    });
    const error = await failure(client.get(MESH_NODES, { name: randomUUID() }));
    expect(error.code).toBe('internal');
    expect(error.message).toContain('the answer is not valid JSON');
  });
});
