import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShardClient } from '@meshkit/client/shard-client';
import { MESH_NODES, NAMESPACES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { API_VERSION, type ShardSet } from '@meshkit/shards/records';
import type { SimulatedMove, SimulationRequest } from '@meshkit/shards/simulate';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Product } from '../start/product.ts';

const NAMESPACE = 'payments';
const API_SERVER = 'system:serviceaccount:meshkit-system:meshkit-api-server';
const NODES = ['node-1', 'node-2', 'node-3', 'node-4'];
const REVIEWS = /^(tokenreviews|subjectaccessreviews)$/;
const SET: ShardSet = {
  apiVersion: API_VERSION,
  kind: 'ShardSet',
  metadata: { name: 'orders', namespace: NAMESPACE },
  spec: { shards: { count: 24 }, handoff: { mode: 'Immediate' }, churn: { maxConcurrentMoves: 100 } },
};

/** As JSON carries it. */
const plain = (value: object): object => JSON.parse(JSON.stringify(value));

/** What is simulated is what the operator does; and simulating writes nothing. */
describe('a simulation', () => {
  const stop = new AbortController();
  let plane: ControlPlane;
  let product: Product;
  let rest: ShardClient;
  let grpc: ShardClient;

  beforeAll(async () => {
    plane = await startControlPlane({
      kind: inject('controlPlane').kind,
      env: process.env,
      log: () => undefined,
    });
    product = await Product.start({ controlPlane: plane, say: () => undefined, signal: stop.signal });
    const ca = await readFile(product.files.ca, 'utf8');
    const token = { file: product.files.token };
    rest = new ShardClient({ server: product.apiUrl, token, ca });
    grpc = new ShardClient({ server: product.grpcAddress, transport: 'grpc', token, ca });
    const metadata = { name: NAMESPACE };
    await product.kube.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata });
    await Promise.all(NODES.map((name) => node(name)));
    await product.nodesReady(NAMESPACE, NODES);
    await product.kube.create(SHARD_SETS, SET);
    await settled(24);
  }, 120_000);

  afterAll(async () => {
    stop.abort();
    await rest?.close();
    await grpc?.close();
    await product?.stop();
    await plane?.stop();
  });

  const node = (name: string) =>
    product.kube.create(MESH_NODES, {
      apiVersion: API_VERSION,
      kind: 'MeshNode',
      metadata: { name, namespace: NAMESPACE },
      spec: { liveness: 'Always', zone: `z${Number(name.at(-1)) % 2}` },
    });

  const owners = async () => {
    const { items } = await product.kube.listAll(SHARD_ASSIGNMENTS, { namespace: NAMESPACE });
    return new Map(items.map(({ spec, status }) => [spec.shardId, status?.owner]));
  };

  /** Until every shard is Active, and the API server has seen it and has nothing to do. */
  async function settled(count: number): Promise<void> {
    const deadline = performance.now() + 30_000;
    for (;;) {
      const { items } = await product.kube.listAll(SHARD_ASSIGNMENTS, { namespace: NAMESPACE });
      const active = items.filter(({ status }) => status?.phase === 'Active').length;
      const { totals } = await rest.simulate({ namespace: NAMESPACE });
      if (active === count && totals.moves + totals.retired === 0 && totals.shards === count) return;
      if (performance.now() > deadline) throw new Error(`${active} of ${count} settled`);
      await sleep(50);
    }
  }

  /** What REST and gRPC, which agree, foresee for the set. */
  async function foreseen(request: SimulationRequest) {
    const [one, other] = await Promise.all([rest.simulate(request), grpc.simulate(request)]);
    // A set's status may be written between the two: another position, and the same plan.
    expect(plain({ ...other, basis: {} })).toEqual(plain({ ...one, basis: {} }));
    return one;
  }

  /** Does it, and holds the operator to what was foreseen. */
  async function holdsTrue(moves: readonly SimulatedMove[], count: number, doIt: () => Promise<unknown>) {
    const expected = await owners();
    for (const { shard, to } of moves) expected.set(shard, to);
    await doIt();
    const deadline = performance.now() + 30_000;
    for (;;) {
      const now = await owners();
      if (JSON.stringify([...now].sort()) === JSON.stringify([...expected].sort())) break;
      if (performance.now() > deadline) expect(now).toEqual(expected);
      await sleep(50);
    }
    await settled(count);
    expect(await owners()).toEqual(expected);
  }

  const respec = async (name: string, spec: object) => {
    const known = await product.kube.get(MESH_NODES, { namespace: NAMESPACE, name });
    await product.kube.update(MESH_NODES, { ...known, spec: { ...known.spec, ...spec } });
  };

  it('of nothing foresees nothing', async () => {
    expect((await foreseen({ namespace: NAMESPACE })).totals).toMatchObject({
      sets: 1,
      moves: 0,
      shards: 24,
    });
  });

  it('of a drain foresees what the operator then does', async () => {
    const request = { namespace: NAMESPACE, changes: [{ type: 'drain', node: 'node-2' }] } as const;
    const { sets, totals } = await foreseen(request);
    expect(totals).toMatchObject({ moves: 6, lowerBound: 6 });
    await holdsTrue(sets[0]!.moves, 24, () => respec('node-2', { scheduling: 'Drain' }));
  });

  it('of a new node foresees what the operator then does', async () => {
    const { sets, totals } = await foreseen({ changes: [{ type: 'add', node: 'node-5', zone: 'z1' }] });
    expect(totals.moves).toBe(totals.lowerBound);
    await holdsTrue(sets[0]!.moves, 24, () => node('node-5'));
  });

  it('of manifests foresees what the operator then does', async () => {
    const grown = { ...SET, spec: { ...SET.spec, shards: { count: 30 } } };
    const { sets, totals } = await foreseen({ namespace: NAMESPACE, manifests: [grown] });
    expect(totals).toMatchObject({ shards: 30, placements: 6 });
    await holdsTrue(sets[0]!.moves, 30, async () => {
      const known = await product.kube.get(SHARD_SETS, { namespace: NAMESPACE, name: 'orders' });
      await product.kube.update(SHARD_SETS, { ...known, spec: grown.spec });
    });
  });

  it('says the same of one shard, with who did what', async () => {
    const name = 'orders.0003';
    const [one, other] = await Promise.all([rest.explain(NAMESPACE, name), grpc.explain(NAMESPACE, name)]);
    const precise = (text: string) => JSON.parse(text.replaceAll('.000Z', 'Z'));
    expect(precise(JSON.stringify({ ...other, basis: {} }))).toEqual(
      precise(JSON.stringify({ ...one, basis: {} })),
    );
    expect(one).toMatchObject({ course: 'stays', target: one.owner, nodesTotal: 5 });
    expect(one.nodes.find(({ node }) => node === 'node-2')).toMatchObject({
      verdict: 'draining',
      knob: 'spec.scheduling: Active on MeshNode node-2',
    });
    expect(one.transitions?.at(-1)).toMatchObject({ actor: { kind: 'Operator', name: 'Placed' } });
    await expect(rest.explain(NAMESPACE, 'orders.9999')).rejects.toMatchObject({ code: 'notFound' });
    await expect(grpc.explain(NAMESPACE, 'orders.9999')).rejects.toMatchObject({ code: 'notFound' });
  });

  it('refuses what is not there, in the same words by both', async () => {
    const request: SimulationRequest = { namespace: NAMESPACE, changes: [{ type: 'drain', node: 'node-9' }] };
    const message =
      'there is no MeshNode node-9 in namespace payments; there are node-1, node-2, node-3, node-4, node-5';
    await expect(rest.simulate(request)).rejects.toMatchObject({ code: 'notFound', message });
    await expect(grpc.simulate(request)).rejects.toMatchObject({
      code: 'notFound',
      message,
      details: { errors: [{ pointer: 'changes[0].node' }] },
    });
  });

  it('writes nothing: the audit log has no write of the API server but reviews', async () => {
    // The operator still has the last word on the tests before: the status of the set, which is coalesced.
    await sleep(2_000);
    const since = Date.now();
    const before = await owners();
    const requests: SimulationRequest[] = [
      {},
      { namespace: NAMESPACE, changes: [{ type: 'remove', node: 'node-1' }] },
      { namespace: NAMESPACE, changes: [{ type: 'policy', loadBound: '1.5' }], manifests: [SET] },
      { changes: [{ type: 'drain', node: 'nowhere' }] },
    ];
    for (const request of requests) {
      await Promise.allSettled([rest.simulate(request), grpc.simulate(request)]);
      await Promise.all([rest.explain(NAMESPACE, 'orders.0001'), grpc.explain(NAMESPACE, 'orders.0002')]);
    }
    // Reviews are remembered for 10 s; a token that nobody knows is asked about at once, and proves that the log is read.
    const stranger = new ShardClient({
      server: product.apiUrl,
      token: 'stranger',
      ca: await readFile(product.files.ca, 'utf8'),
    });
    await expect(stranger.simulate({})).rejects.toMatchObject({ code: 'unauthenticated' });
    await stranger.close();
    // The log is written a moment after the answer.
    await sleep(1_000);
    const ours = (await plane.audit(since)).filter(({ user }) => user === API_SERVER);
    const writes = ours.filter(({ verb }) => !['get', 'list', 'watch'].includes(verb));
    expect(writes.map(({ resource }) => resource)).toContain('tokenreviews');
    expect(writes.filter(({ verb, resource }) => !(verb === 'create' && REVIEWS.test(resource)))).toEqual([]);
    // Nor anybody else in the API server's stead: nothing of ours changed at all.
    const changes = (await plane.audit(since)).filter(
      ({ verb, group }) => group === 'meshkit.omnirelay.io' && !['get', 'list', 'watch'].includes(verb),
    );
    expect(changes).toEqual([]);
    expect(await owners()).toEqual(before);
  });
});
