import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { systemClock } from '@meshkit/crds/clock';
import { Informer } from '@meshkit/crds/informer';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString, loadKube } from '@meshkit/crds/kube-config';
import { statusOf } from '@meshkit/crds/kube-error';
import { silentLog } from '@meshkit/crds/log';
import { LEASES, MESH_NODES, NAMESPACES } from '@meshkit/crds/resource';
import { API_VERSION, type MeshNode } from '@meshkit/shards/records';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { parse, stringify } from 'yaml';

const namespace = `informer-${randomBytes(4).toString('hex')}`;
const plane = inject('controlPlane');
const opened: { close(): Promise<void> }[] = [];
let admin: KubeClient;

beforeAll(async () => {
  admin = loadKube({ kubeconfig: plane.adminKubeconfig });
  await admin.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
});

afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});

afterAll(async () => {
  await admin.delete(NAMESPACES, { name: namespace });
  await admin.close();
});

function node(name: string, spec: MeshNode['spec'] = {}): MeshNode {
  return { apiVersion: API_VERSION, kind: 'MeshNode', metadata: { name, namespace }, spec };
}

function weigh(name: string, weight: number): Promise<MeshNode> {
  return admin.patch(MESH_NODES, { namespace, name }, { spec: { weight } });
}

/** Forwards to the API server, and cuts, or silences, what passes through it. */
async function tunnel() {
  const target = new URL(plane.url);
  const pairs = new Set<[Socket, Socket]>();
  let paused = false;
  const server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname);
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const [from, to] of [pair, [far, near] as const]) {
      from.on('data', (bytes) => paused || to.write(bytes));
      from.on('error', end).on('close', end);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const config = parse(readFileSync(plane.adminKubeconfig, 'utf8'));
  config.clusters[0].cluster.server = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = kubeFromString(stringify(config));
  const cut = () => {
    for (const [near] of pairs) near.resetAndDestroy();
  };
  opened.push({
    close: async () => {
      await client.close();
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  });
  return {
    client,
    cut,
    /** Connections stay open, but nothing passes any more; new ones work again after `cut`. */
    silence: (on: boolean) => {
      paused = on;
    },
  };
}

async function start(client: KubeClient, idleTimeoutMs?: number) {
  const informer = new Informer<MeshNode>({
    client,
    resource: MESH_NODES,
    namespace,
    indexes: { zone: ({ spec }) => [spec.zone ?? ''] },
    clock: systemClock,
    random: Math.random,
    log: silentLog,
    idleTimeoutMs,
  });
  const told: string[] = [];
  informer.onChange(({ type, object }) =>
    told.push(`${type} ${object.metadata.name} ${object.spec.weight ?? ''}`),
  );
  const stop = new AbortController();
  const done = informer.run(stop.signal);
  opened.push({
    close: async () => {
      stop.abort();
      await done;
    },
  });
  await informer.synced(AbortSignal.timeout(10_000));
  await expect.poll(() => informer.state.connected, { timeout: 10_000 }).toBe(true);
  return { informer, told };
}

const soon = { timeout: 10_000 };

describe('an informer', () => {
  test('follows creations, changes and deletions in order, with indexes', async () => {
    await admin.create(MESH_NODES, node('before', { zone: 'z1' }));
    const { informer, told } = await start(admin);
    expect(informer.byIndex('zone', 'z1')).toHaveLength(1);
    await admin.create(MESH_NODES, node('during', { zone: 'z1', weight: 1 }));
    await weigh('during', 2);
    await admin.patch(MESH_NODES, { namespace, name: 'during' }, { spec: { zone: 'z2', weight: 3 } });
    await admin.delete(MESH_NODES, { namespace, name: 'before' });
    await expect
      .poll(() => told, soon)
      .toEqual([
        'ADDED before ',
        'ADDED during 1',
        'MODIFIED during 2',
        'MODIFIED during 3',
        'DELETED before ',
      ]);
    expect(informer.byIndex('zone', 'z1')).toEqual([]);
    expect(informer.byIndex('zone', 'z2')).toEqual([informer.get(`${namespace}/during`)]);
    const { items } = await admin.listAll(MESH_NODES, { namespace });
    expect(informer.list()).toEqual(items);
    await admin.delete(MESH_NODES, { namespace, name: 'during' });
  });

  test('loses and repeats nothing when its connections are cut again and again', async () => {
    const { client, cut } = await tunnel();
    const { told } = await start(client);
    const expected = ['ADDED cut 1'];
    await admin.create(MESH_NODES, node('cut', { weight: 1 }));
    for (let weight = 2; weight <= 40; weight += 1) {
      await weigh('cut', weight);
      expected.push(`MODIFIED cut ${weight}`);
      if (weight % 5 === 0) cut();
    }
    await admin.delete(MESH_NODES, { namespace, name: 'cut' });
    expected.push('DELETED cut 40');
    await expect.poll(() => told, { timeout: 20_000 }).toEqual(expected);
  });

  test('notices a connection that is open but dead', async () => {
    const { client, cut, silence } = await tunnel();
    const { informer, told } = await start(client, 500);
    silence(true);
    await admin.create(MESH_NODES, node('silent', { weight: 1 }));
    await expect.poll(() => informer.state.connected, soon).toBe(false);
    expect(informer.state.lastError).toContain('silent for 0.5 s');
    silence(false);
    cut();
    await expect.poll(() => told, soon).toEqual(['ADDED silent 1']);
    await admin.delete(MESH_NODES, { namespace, name: 'silent' });
  });

  test('shows an own write at once, and does not fall behind it', async () => {
    const { informer, told } = await start(admin);
    const created = await admin.create(MESH_NODES, node('own', { weight: 1 }));
    informer.observe(created);
    expect(informer.get(`${namespace}/own`)).toEqual(created);
    for (let weight = 2; weight <= 20; weight += 1) {
      informer.observe(await weigh('own', weight));
      expect(informer.get(`${namespace}/own`)?.spec.weight).toBe(weight);
    }
    const last = informer.get(`${namespace}/own`) as MeshNode;
    await admin.delete(MESH_NODES, { namespace, name: 'own' }, { uid: last.metadata.uid as string });
    informer.observeDeleted(last);
    expect(informer.get(`${namespace}/own`)).toBeUndefined();
    await admin.create(MESH_NODES, node('own', { weight: 100 }));
    await expect.poll(() => informer.get(`${namespace}/own`)?.spec.weight, soon).toBe(100);
    expect(told.slice(-2)).toEqual(['DELETED own 20', 'ADDED own 100']);
    expect(told).toHaveLength(22);
    await admin.delete(MESH_NODES, { namespace, name: 'own' });
  });
});

describe('the API server, as the reflector relies on it', () => {
  test('a watch from a version long gone fails with 410', async () => {
    const signal = AbortSignal.timeout(10_000);
    const watch = admin.watch(MESH_NODES, { namespace, resourceVersion: '1', timeoutSeconds: 5, signal });
    const error = await Array.fromAsync(watch).catch((thrown: unknown) => thrown);
    expect(statusOf(error)).toBe(410);
  });

  test('a watch from a version in the future tells nothing: it is silent (1.37), or refused with 504', async () => {
    const { resourceVersion } = await admin.list(MESH_NODES, { namespace });
    const future = `${BigInt(resourceVersion) + 1_000_000n}`;
    const signal = AbortSignal.timeout(15_000);
    const watch = admin.watch(MESH_NODES, { namespace, resourceVersion: future, timeoutSeconds: 1, signal });
    const outcome = await Array.fromAsync(watch).catch((error: unknown) => statusOf(error));
    expect([[], 504]).toContainEqual(outcome);
  });

  test('a watch ends by itself after its time, without an error', async () => {
    const { resourceVersion } = await admin.list(MESH_NODES, { namespace });
    const signal = AbortSignal.timeout(15_000);
    const watch = admin.watch(MESH_NODES, { namespace, resourceVersion, timeoutSeconds: 1, signal });
    for (const event of await Array.fromAsync(watch)) expect(event.type).toBe('BOOKMARK');
  });

  test('the pages of a list are cut from one snapshot', async () => {
    const names = Array.from({ length: 7 }, (_, i) => `page-${i}`);
    for (const name of names) await admin.create(MESH_NODES, node(name, { weight: 1 }));
    const first = await admin.list(MESH_NODES, { namespace, limit: 3 });
    await weigh('page-6', 2);
    await admin.delete(MESH_NODES, { namespace, name: 'page-5' });
    await admin.create(MESH_NODES, node('page-9'));
    const second = await admin.list(MESH_NODES, { namespace, limit: 3, continue: first.continue });
    const third = await admin.list(MESH_NODES, { namespace, limit: 3, continue: second.continue });
    const all = [first, second, third].flatMap(({ items }) => items);
    expect(all.map(({ metadata }) => metadata.name)).toEqual(names);
    expect(all[6]?.spec.weight).toBe(1);
    expect(third.continue).toBeUndefined();
    expect(new Set([first, second, third].map(({ resourceVersion }) => resourceVersion)).size).toBe(1);
  });

  test('a stale write, and a deletion of another object, are conflicts', async () => {
    const created = await admin.create(MESH_NODES, node('conflict', { weight: 1 }));
    await weigh('conflict', 2);
    const update = { ...created, spec: { weight: 3 } };
    await expect(admin.update(MESH_NODES, update)).rejects.toMatchObject({ code: 'conflict' });
    await expect(admin.updateStatus(MESH_NODES, update)).rejects.toMatchObject({ code: 'conflict' });
    await expect(admin.create(MESH_NODES, node('conflict'))).rejects.toMatchObject({
      code: 'conflict',
      details: { reason: 'AlreadyExists' },
    });
    await expect(
      admin.delete(MESH_NODES, { namespace, name: 'conflict' }, { uid: 'another' }),
    ).rejects.toMatchObject({ code: 'conflict' });
    await admin.delete(MESH_NODES, { namespace, name: 'conflict' });
    await expect(admin.get(MESH_NODES, { namespace, name: 'conflict' })).rejects.toMatchObject({
      code: 'notFound',
    });
  });

  test('a refused field comes with the words of Kubernetes', async () => {
    const wrong = node('wrong', { weight: -1 });
    await expect(admin.create(MESH_NODES, wrong)).rejects.toMatchObject({
      code: 'invalidArgument',
      message: expect.stringMatching(/cannot create meshnodes\S* wrong in namespace .*spec\.weight/),
    });
  });

  test('items of a built-in list carry their kind', async () => {
    await admin.create(LEASES, {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'lease', namespace },
      spec: { holderIdentity: 'me' },
    });
    const { items } = await admin.list(LEASES, { namespace });
    expect(items).toMatchObject([{ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' }]);
  });
});
