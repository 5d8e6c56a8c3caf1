import { execFile } from 'node:child_process';
import { LEASES, MESH_NODES, SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import type { LogItem } from '@meshkit/shards/diff';
import type { JournalStatus } from '@meshkit/shards/repository';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { AdminApi } from '../control-plane/admin-api.ts';
import { grantOf, ResumeWorld, until, Watcher } from './resume-world.ts';

const NAMESPACE = 'default';
/** Longer than the leader's Lease lasts: nobody may lead any more, until there is room to say so again. */
const FULL_MS = 12_000;

let world: ResumeWorld;
let etcd: AdminApi;

beforeAll(async () => {
  world = await ResumeWorld.start();
  etcd = new AdminApi(world.plane.etcd!);
}, 90_000);

afterEach(() => alarm('DEACTIVATE'));

afterAll(async () => {
  await etcd?.close();
  await world?.stop();
});

/** What etcd does by itself when its disk, or its quota, is full: it refuses everything that would put something in. */
async function alarm(action: 'ACTIVATE' | 'DEACTIVATE'): Promise<void> {
  const { status, body } = await etcd.call('POST', '/v3/maintenance/alarm', {
    action,
    memberID: '0',
    alarm: 'NOSPACE',
  });
  if (status !== 200) throw new Error(`etcd: ${status} ${body}`);
}

function kubectl(words: string): Promise<{ code: number; stderr: string }> {
  const { plane, product } = world;
  const env = { PATH: process.env.PATH, HOME: plane.folder, KUBECONFIG: product.files.kubeconfig };
  return new Promise((resolve) => {
    execFile(plane.kubectl!, words.split(' '), { env, timeout: 20_000 }, (error, _, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stderr });
    });
  });
}

function owned(shards: Awaited<ReturnType<ResumeWorld['shards']>>): string[] {
  return shards.map(grantOf);
}

/**
 * No change of ownership can be written then, so there is none that the journal could miss. But etcd lets go what frees space:
 * a shard that is deleted is gone, and the journal, which has to write to say so, falls behind until there is room again. The nodes
 * have no Leases here.
 */
it('lives through an etcd that is full, and goes on as if nothing had been', async () => {
  const [client, grpc] = [await world.client('sse'), await world.client('grpc')];
  const [watcher, away] = [new Watcher(client), new Watcher(grpc)];
  const journal = async (): Promise<JournalStatus> => (await client.status(NAMESPACE)).journal;
  for (const one of [watcher, away]) one.start();
  await world.moves(3);
  for (const one of [watcher, away]) await one.knows(world.grants.slice(-6));
  await away.stop();
  await until(async () => ((await journal()).behindMs === undefined ? true : undefined), 'a journal');
  const known = world.grants.length;
  const before = await world.shards();
  const { floor, head } = await journal();

  await alarm('ACTIVATE');
  const since = performance.now();
  for (const words of [
    `patch meshnode node-1 -n ${NAMESPACE} --type merge -p {"spec":{"scheduling":"Drain"}}`,
    `annotate shardassignment orders.0001 -n ${NAMESPACE} a=b`,
  ]) {
    const refused = await kubectl(words);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('database space exceeded');
  }
  const name = { namespace: NAMESPACE, name: 'node-1' };
  await expect(
    world.product.kube.patch(MESH_NODES, name, { spec: { scheduling: 'Drain' } }),
  ).rejects.toMatchObject({
    code: 'internal',
    message: expect.stringMatching(/^cannot patch meshnodes.*: etcdserver: mvcc: database space exceeded/),
  });
  expect((await kubectl(`delete shardassignment orders.0005 -n ${NAMESPACE}`)).code).toBe(0);
  await until(() => watcher.events.some(({ type }) => type === 'DELETED') || undefined, 'the deletion');
  await until(async () => ((await journal()).state === 'behind' ? true : undefined), 'a late journal');
  // Everything that can be read goes on being served, to old and to new watchers.
  const late = new Watcher(grpc);
  late.start();
  await late.knows(owned(before).slice(0, 5));
  await late.stop();
  const listed = await Array.fromAsync(client.list({ namespace: NAMESPACE }));
  expect(listed.map(({ name, owner, epoch }) => `${name} ${owner} ${epoch}`)).toEqual(
    owned(before).slice(0, 5),
  );
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, since + FULL_MS - performance.now())));
  await until(async () => {
    return (
      /^leader_election_master_status\{.*\} 0$/m.test(await world.product.operatorMetrics()) || undefined
    );
  }, 'an operator that no longer leads');
  expect(owned(await world.shards())).toEqual(owned(before).slice(0, 5));
  expect((await journal()).floor).toEqual(floor);
  expect(world.product.crashed()).toEqual([]);
  await alarm('DEACTIVATE');

  // What was deleted is back where it was, under a new epoch, and what is asked for now is done.
  const again = await until(async () => {
    const shard = (await world.shards()).find(({ metadata }) => metadata.name === 'orders.0005');
    return shard?.status?.owner === undefined ? undefined : shard;
  }, 'orders.0005 with an owner');
  expect(again.status!.epoch).toBeGreaterThan(before[5]!.status!.epoch);
  world.grants.push(grantOf(again));
  await world.product.kube.patch(MESH_NODES, name, { spec: { scheduling: 'Drain' } });
  const drained = await until(async () => {
    const shards = await world.shards();
    return shards.every(({ status }) => status?.owner && status.owner !== 'node-1') ? shards : undefined;
  }, 'node-1 without shards');
  const moved = owned(drained).filter((grant) => !world.grants.includes(grant));
  expect(moved.length).toBeGreaterThan(0);
  world.grants.push(...moved);
  const grants = world.grants.slice(known);

  await watcher.knows(grants);
  await until(async () => ((await journal()).behindMs === undefined ? true : undefined), 'all written down');
  const now = await journal();
  expect(now.floor).toEqual(floor);
  expect(Number(now.head?.position)).toBeGreaterThan(Number(head?.position));
  // From here on the journal has to know it: this API server was not there.
  await world.product.apiServer.kill();
  await world.product.startApiServer();
  away.start('fail');
  await away.knows(grants);
  for (const one of [watcher, away]) {
    await one.stop();
    expect(one).toMatchObject({ error: undefined, resets: [], repeats: 0 });
    expect(one.grants.slice(-grants.length).toSorted()).toEqual(grants.toSorted());
    const gone = one.events.filter(({ type }) => type === 'DELETED');
    expect(gone).toMatchObject([{ previous: { name: 'orders.0005', epoch: before[5]!.status!.epoch } }]);
  }
  const { items } = await client.history(NAMESPACE, 'orders.0005');
  const epochs = items.flatMap(({ after }) => after?.epoch ?? []);
  expect(epochs).toContain(again.status!.epoch);
  expect(items.map(({ type }) => type)).toContain('DELETED');
  const log = await client.diff({ namespace: NAMESPACE }, { mode: 'log', from: head!.position });
  const granted = (log.items as LogItem[])
    .filter(({ before, after }) => after?.owner !== undefined && after.epoch !== before?.epoch)
    .map(({ after }) => `${after!.name} ${after!.owner} ${after!.epoch}`);
  expect(granted.toSorted()).toEqual(grants.toSorted());
  expect(await world.product.readiness()).toEqual({ operator: 200, apiServer: 200 });
  expect(world.product.crashed()).toEqual([]);
}, 120_000);

const WORKERS = ['node-1', 'node-2', 'node-3', 'node-4', 'node-5'];

it('takes no node for dead because its Lease could not be written', async () => {
  const { product } = world;
  const namespace = 'payments';
  await product.apply('samples/01-quickstart/00-namespace.yaml');
  await product.apply('samples/01-quickstart/10-nodes.yaml');
  const workers = await product.startNodes(namespace, WORKERS, { leaseSeconds: 8 });
  await product.nodesReady(namespace, WORKERS);
  await product.apply('samples/01-quickstart/20-shardset.yaml');
  const grants = async (): Promise<string[]> =>
    (await product.kube.listAll(SHARD_ASSIGNMENTS, { namespace })).items
      .filter(({ status }) => status?.phase === 'Active')
      .map(grantOf);
  const before = await until(async () => {
    const all = await grants();
    return all.length === 64 ? all : undefined;
  }, '64 shards with owners');

  await alarm('ACTIVATE');
  // Longer than any of their Leases lasts, but not so long that the operator has stopped leading.
  await new Promise((resolve) => setTimeout(resolve, 8_300));
  const renewed = new Date().toISOString();
  workers.pause();
  await alarm('DEACTIVATE');
  // The operator gets to write before any node does.
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  workers.resume();
  await until(async () => {
    const { items } = await product.kube.listAll(LEASES, { namespace });
    return items.filter(({ spec }) => (spec?.renewTime ?? '') > renewed).length === 5 || undefined;
  }, 'all Leases renewed');
  await until(async () => {
    return /^leader_election_master_status\{.*\} 1$/m.test(await product.operatorMetrics()) || undefined;
  }, 'an operator that leads');
  // Whoever was taken for dead would have lost its shards by now.
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(await grants()).toEqual(before);
}, 120_000);
