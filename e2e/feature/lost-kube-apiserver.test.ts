import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { installManifests } from '@meshkit/crds/install';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { API_VERSION } from '@meshkit/shards/records';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Child, freePort } from '../start/child.ts';

const NAMESPACE = 'default';
const NODES = ['a', 'b', 'c'];
const SHARDS = 12;
/** Of the nodes and of the leader: shorter than the outage. */
const LEASE_SECONDS = 3;
const OUTAGE_MS = 5_000;

let plane: ControlPlane;
let kube: KubeClient;
let folder: string;
let operator: Child;
let nodes: Child;
let readyz: string;

beforeAll(async () => {
  plane = await startControlPlane({ kind: inject('controlPlane').kind, env: process.env });
  folder = await mkdtemp(join(tmpdir(), 'outage-'));
  const admin = await plane.kubeconfig();
  kube = kubeFromString(admin);
  await installManifests(kube, { signal: AbortSignal.timeout(60_000) });
  const file = async (name: string, yaml: string) => {
    await writeFile(join(folder, name), yaml, { mode: 0o600 });
    return join(folder, name);
  };
  const port = await freePort();
  readyz = `http://127.0.0.1:${port}/readyz`;
  const identity = await plane.serviceAccountKubeconfig('meshkit-system', 'meshkit-operator');
  operator = Child.start({
    name: 'operator',
    script: 'operator/src/main.ts',
    folder,
    args: [
      '--kubeconfig',
      await file('operator.kubeconfig', identity),
      '--listen',
      `127.0.0.1:${port}`,
      '--lease-duration',
      `${LEASE_SECONDS}s`,
    ],
  });
  nodes = Child.start({
    name: 'nodes',
    script: 'samples/01-quickstart/demo-node.ts',
    folder,
    args: [
      '--kubeconfig',
      await file('admin.kubeconfig', admin),
      '--namespace',
      NAMESPACE,
      '--lease-seconds',
      `${LEASE_SECONDS}`,
      // The drain that begins just before the outage is answered within it.
      '--drain-ms',
      '1500',
      ...NODES.flatMap((name) => ['--node', name]),
    ],
  });
  const base = { apiVersion: API_VERSION };
  for (const name of NODES) {
    await kube.create(MESH_NODES, {
      ...base,
      kind: 'MeshNode',
      metadata: { name, namespace: NAMESPACE },
      spec: {},
    });
  }
  const metadata = { name: 'orders', namespace: NAMESPACE };
  const spec = { shards: { count: SHARDS }, handoff: { drainTimeout: '2m' } };
  await kube.create(SHARD_SETS, { ...base, kind: 'ShardSet', metadata, spec });
});

afterAll(async () => {
  await Promise.all([operator?.stop(), nodes?.stop()]);
  await kube?.close();
  await plane?.stop();
  if (folder) await rm(folder, { recursive: true });
});

async function shards() {
  const { items } = await kube.listAll(SHARD_ASSIGNMENTS, { namespace: NAMESPACE });
  return items.map(({ metadata, status }) => ({ name: metadata.name, ...status }));
}

async function until<T>(what: string, ask: () => Promise<T>, holds: (answer: T) => boolean): Promise<T> {
  const deadline = performance.now() + 40_000;
  for (;;) {
    const answer = await ask();
    if (holds(answer)) return answer;
    if (performance.now() > deadline)
      throw new Error(`not ${what}: ${JSON.stringify(answer)}\n${operator.tail(30)}`);
    await sleep(50);
  }
}

const allOwned = (all: Awaited<ReturnType<typeof shards>>) =>
  all.length === SHARDS && all.every(({ phase }) => phase === 'Active');

async function readiness(): Promise<string> {
  const answer = await fetch(readyz, { signal: AbortSignal.timeout(2_000) });
  return `${answer.status} ${await answer.text()}`;
}

test('a lost kube-apiserver: the operator says so and stays; back again, it goes on, and nobody was declared dead', async () => {
  const before = await until('owned', shards, allOwned);
  await kube.patch(MESH_NODES, { namespace: NAMESPACE, name: 'a' }, { spec: { scheduling: 'Drain' } });
  await until('draining', shards, (all) => all.some(({ phase }) => phase === 'Draining'));

  const back = plane.restart({ downMs: OUTAGE_MS });
  const reason = await until('not ready', readiness, (answer) => answer.startsWith('503'));
  expect(reason).toMatch(/not ready: the watch of \w+ is interrupted/);
  expect(operator.running).toBe(true);
  await back;

  await until('ready', readiness, (answer) => answer === '200 ok\n');
  const after = await until(
    'moved away from a',
    shards,
    (all) => allOwned(all) && all.every(({ owner }) => owner !== 'a'),
  );
  // Everybody was silent for longer than a lease, and still only what had to leave has left.
  await sleep(LEASE_SECONDS * 1000 + 500);
  for (const { name, owner, epoch } of await shards()) {
    const [was, is] = [before, after].map((all) => all.find((each) => each.name === name));
    expect({ owner, epoch }).toEqual({ owner: is?.owner, epoch: is?.epoch });
    if (was?.owner !== 'a')
      expect({ name, owner, epoch }).toEqual({ name, owner: was?.owner, epoch: was?.epoch });
    expect(is?.recentTransitions?.map(({ actor }) => actor.name)).not.toContain('NodeNotReady');
  }
  expect(operator.running).toBe(true);
}, 120_000);
