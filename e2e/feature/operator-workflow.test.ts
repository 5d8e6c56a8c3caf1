import { execFile, spawn } from 'node:child_process';
import { readFileSync, symlinkSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ShardClient } from '@meshkit/client/shard-client';
import { MESH_NODES, SERVICE_ACCOUNTS, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import type { LogItem, NetItem } from '@meshkit/shards/diff';
import type { ShardExplanation } from '@meshkit/shards/explain';
import { API_VERSION, type MeshNode, RELEASED_ANNOTATION, type Scheduling } from '@meshkit/shards/records';
import type { DiffPage, HistoryPage, JournalStatus } from '@meshkit/shards/repository';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import type { SimulatedSet, Simulation } from '@meshkit/shards/simulate';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { type Child, projectRoot } from '../start/child.ts';
import { Product } from '../start/product.ts';

/** An evening on call, with nothing but the CLI, each command a process of its own. */

const NAMESPACE = 'payments';
const NODES = ['node-1', 'node-2', 'node-3', 'node-4', 'node-5'];
const SHARDS = 64;

// A plane of its own: nodes, operator and API server die here.
let plane: ControlPlane;
let product: Product;
let workers: Child;
let mortal: Child;
let client: ShardClient;
let grpc: ShardClient;
let path: string;

beforeAll(async () => {
  const { kind, kubectl } = inject('controlPlane');
  plane = await startControlPlane({ kind, env: process.env });
  const signal = AbortSignal.timeout(600_000);
  product = await Product.start({ controlPlane: plane, say: () => undefined, signal });
  for (const file of ['00-namespace', '10-nodes', '20-shardset']) {
    await product.apply(`samples/01-quickstart/${file}.yaml`);
  }
  const leaseSeconds = 4;
  mortal = await product.startNodes(NAMESPACE, ['node-5'], { leaseSeconds });
  workers = await product.startNodes(NAMESPACE, NODES.slice(0, 4), { leaseSeconds });
  await product.nodesReady(NAMESPACE, NODES);
  const login = { ca: readFileSync(product.files.ca, 'utf8'), token: { file: product.files.token } };
  client = new ShardClient({ server: product.apiUrl, ...login });
  grpc = new ShardClient({ server: `https://${product.grpcAddress}`, transport: 'grpc', ...login });
  // kubectl where there is one; elsewhere the plugin answers to the same words.
  const folder = plane.folder;
  symlinkSync(join(projectRoot, 'kubectl-plugin/bin/kubectl-mesh'), join(folder, 'kubectl-mesh'));
  path = [folder, ...(kubectl ? [join(kubectl, '..')] : []), process.env.PATH].join(delimiter);
  await settled();
}, 120_000);

afterAll(async () => {
  await client?.close();
  await grpc?.close();
  await product?.stop();
  await plane?.stop();
});

interface List {
  items: ShardView[];
  resumeToken: string;
}

interface Nodes {
  items: NodeView[];
}

interface Status {
  ok: boolean;
  shards: { total: number; owned: number; draining: number; active: number };
  nodes: { ready: number };
  server?: { journal: JournalStatus };
}

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** `kubectl mesh shards …`, by kubectl itself where there is one; as administrator, or as who the kubeconfig says. */
function mesh(words: string, kubeconfig = product.files.kubeconfig): Promise<Ended> {
  const { kubectl } = inject('controlPlane');
  const line = `${kubectl ? 'kubectl mesh' : 'kubectl-mesh'} shards ${words}`;
  return new Promise((resolve) => {
    execFile('sh', ['-c', line], options(kubeconfig), (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

function options(kubeconfig = product.files.kubeconfig) {
  const env = { PATH: path, KUBECONFIG: kubeconfig, HOME: plane.folder };
  return { env, cwd: projectRoot, timeout: 60_000, maxBuffer: 16 << 20 };
}

async function json<T>(words: string): Promise<T> {
  const { stdout, stderr, code } = await mesh(`${words} -o json`);
  if (stdout === '') throw new Error(`${words}: ${code} ${stderr}`);
  return JSON.parse(stdout);
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within 60 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

/** Nothing in flight, every node alive, and whatever happened is written down. */
async function settled(): Promise<void> {
  await until('every shard is Active', async () => {
    const { items } = await product.kube.listAll(SHARD_ASSIGNMENTS, { namespace: NAMESPACE });
    return items.filter(({ status }) => status?.phase === 'Active').length === SHARDS;
  });
  await until('all is well', async () => {
    const { ok, server } = await json<Status>(`status -n ${NAMESPACE}`);
    return ok && server?.journal.behindMs === undefined;
  });
}

function schedule(node: string, scheduling: Scheduling) {
  return product.kube.patch(MESH_NODES, { namespace: NAMESPACE, name: node }, { spec: { scheduling } });
}

function gauge(metrics: string, name: string): number {
  const found = metrics
    .split('\n')
    .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return found.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** Lines of the API server's access log of one operation; the newest may be a moment late. */
function accesses(op: string): { user: string; count: number; status: number }[] {
  const lines = readFileSync(product.apiServer.logFile, 'utf8').split('\n');
  return lines
    .filter((line) => line.includes('"msg":"access"'))
    .map((line) => JSON.parse(line))
    .filter((access) => access.op === op);
}

test('says that all is well, and counts what everybody counts', async () => {
  const status = await mesh(`status -n ${NAMESPACE}`);
  expect(status).toMatchObject({ code: 0, stderr: '' });
  expect(status.stdout).toMatch(/^STATUS +ok, namespace payments\nSHARDS +64: 64 owned\nNODES +5: 5 ready\n/);
  expect(status.stdout).toMatch(/OPERATOR +\S+ leads/);
  expect(status.stdout).toMatch(/JOURNAL +everything up to \d+ is written down/);

  const before = { metrics: await product.metrics(), log: accesses('list').length };
  const { items } = await json<List>(`list -n ${NAMESPACE} --mode api`);
  const nodes = await json<Nodes>(`nodes -n ${NAMESPACE} --mode api`);
  const [metrics, operator] = [await product.metrics(), await product.operatorMetrics()];

  // The gauges of both processes.
  expect(items).toHaveLength(gauge(metrics, 'meshkit_cache_shards'));
  expect(items).toHaveLength(gauge(operator, 'meshkit_operator_shards'));
  expect(nodes.items).toHaveLength(gauge(metrics, 'meshkit_cache_nodes'));
  expect(nodes.items).toHaveLength(gauge(operator, 'meshkit_operator_nodes'));
  const owned = nodes.items.reduce((sum, { shards }) => sum + shards, 0);
  expect(owned).toBe(SHARDS);

  // The API's own answer, and what it wrote down about ours.
  expect(items).toEqual(await Array.fromAsync(client.list({ namespace: NAMESPACE })));
  expect(nodes.items).toEqual(await client.nodes(NAMESPACE));
  const allowed = /^meshkit_access_total\{.*op="list".*decision="allow".*\} (\d+)$/m;
  const count = (text: string) => Number(allowed.exec(text)?.[1] ?? 0);
  expect(count(metrics) - count(before.metrics)).toBe(1);
  await expect
    .poll(() => accesses('list')[before.log])
    .toMatchObject({ status: 200, count: SHARDS, namespace: NAMESPACE });

  // And Kubernetes itself.
  expect((await json<List>(`list -n ${NAMESPACE} --mode direct`)).items).toEqual(items);
});

test('an evening: look, simulate, do it, and see that it became what was foretold', async () => {
  const listed = await json<List>(`list -n ${NAMESPACE} --show-token`);
  const { resumeToken } = listed;
  const foretold = await json<Simulation>(`simulate -n ${NAMESPACE} --drain node-2`);
  const direct = await json<Simulation>(`simulate -n ${NAMESPACE} --drain node-2 --mode direct`);
  expect(direct.planHash).toBe(foretold.planHash);
  const { moves } = foretold.sets[0] as SimulatedSet;
  expect(moves).toHaveLength(listed.items.filter(({ owner }) => owner === 'node-2').length);
  expect(foretold.totals.moves).toBe(foretold.totals.lowerBound);
  expect((await mesh(`simulate -n ${NAMESPACE} --drain node-2 --max-moves 3`)).code).toBe(1);
  expect(
    (await mesh(`simulate -n ${NAMESPACE} --drain node-2 --max-churn 50% --max-unplaceable 0`)).code,
  ).toBe(0);
  // Nothing happened by all that.
  expect((await json<DiffPage>(`diff -n ${NAMESPACE} --from ${resumeToken}`)).items).toEqual([]);

  // Somebody watches, while it is done.
  const watching = spawn(
    'kubectl-mesh',
    ['shards', 'watch', '-n', NAMESPACE, '-o', 'json', '--resume-token', resumeToken],
    { ...options(), stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let seen = '';
  watching.stdout.on('data', (chunk) => {
    seen += chunk;
  });
  await schedule('node-2', 'Drain');
  await expect
    .poll(async () => (await json<Nodes>(`nodes -n ${NAMESPACE}`)).items[1], { timeout: 60_000 })
    .toMatchObject({ name: 'node-2', scheduling: 'Drain', shards: 0 });
  await settled();

  // Every shard went where it was foretold, and nothing else moved.
  const became = (await json<List>(`list -n ${NAMESPACE}`)).items;
  const target = new Map(moves.map(({ shard, to }) => [shard, to]));
  const owners = new Map(listed.items.map(({ shardId, owner }) => [shardId, target.get(shardId) ?? owner]));
  expect(new Map(became.map(({ shardId, owner }) => [shardId, owner]))).toEqual(owners);

  const diff = await json<DiffPage>(`diff -n ${NAMESPACE} --from ${resumeToken}`);
  expect(diff.summary).toMatchObject({
    shards: SHARDS,
    moved: moves.length,
    added: 0,
    removed: 0,
    statusChanged: 0,
  });
  const moved = (diff.items as NetItem[]).map(({ before, after }) => {
    return { shard: before?.shardId, from: before?.owner, to: after?.owner };
  });
  expect(new Set(moved.map((move: object) => JSON.stringify(move)))).toEqual(
    new Set(moves.map(({ shard, from, to }) => JSON.stringify({ shard, from, to }))),
  );
  expect((await mesh(`diff -n ${NAMESPACE} --from ${resumeToken} --exit-code`)).code).toBe(1);

  // Each change twice: to drain, and to grant. The watcher heard what the journal has.
  const log = await json<DiffPage>(`diff -n ${NAMESPACE} --from ${resumeToken} --log`);
  expect(log.items).toHaveLength(2 * moves.length);
  const told = () =>
    seen
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  await expect.poll(() => told().length).toBe(log.items.length);
  expect(told().map(({ position }) => position)).toEqual(
    (log.items as LogItem[]).map(({ position }) => position),
  );
  const ended = new Promise((resolve) => watching.once('exit', resolve));
  watching.kill('SIGINT');
  expect(await ended).toBe(130);

  const one = `orders.${moves[0]!.shard}`;
  const history = await json<HistoryPage>(`history ${one} -n ${NAMESPACE}`);
  expect(history.items[0]).toMatchObject({ previousOwner: 'node-2', after: { owner: moves[0]!.to } });
  expect(history.items[1]).toMatchObject({ reason: 'node-2 is set to Drain', after: { phase: 'Draining' } });
  // The access log has each answer with as many as the CLI printed.
  for (const [op, count] of Object.entries({
    simulate: moves.length,
    diff: log.items.length,
    history: history.items.length,
  })) {
    await expect.poll(() => accesses(op).at(-1)).toMatchObject({ op, status: 200, count });
  }
  const explained = await mesh(`explain ${one} -n ${NAMESPACE}`);
  expect(explained.stdout).toMatch(/node-2 +draining/);
  expect(explained.stdout).toContain(`BELONGS   there`);
  const { nodes } = await json<ShardExplanation>(`explain ${one} -n ${NAMESPACE}`);
  expect(nodes.find(({ node }) => node === 'node-2')).toMatchObject({
    verdict: 'draining',
    knob: 'spec.scheduling: Active on MeshNode node-2',
  });

  // The manifests do not name spec.scheduling, so applying them does not end the drain.
  const applied = await json<Simulation>(`simulate -f samples/01-quickstart -n ${NAMESPACE}`);
  expect(applied.totals).toMatchObject({ moves: 0 });

  // Somebody was in a hurry, and Git would have it otherwise.
  const hurry = (maxConcurrentMoves: number) =>
    product.kube.patch(
      SHARD_SETS,
      { namespace: NAMESPACE, name: 'orders' },
      { spec: { churn: { maxConcurrentMoves } } },
    );
  await hurry(20);
  const drift = await mesh(`diff -f samples/01-quickstart -n ${NAMESPACE} --exit-code`);
  expect(drift.code).toBe(1);
  expect(drift.stdout).toMatch(/ShardSet payments\/orders +spec\.churn\.maxConcurrentMoves +20 +5 /);
  await hurry(5);
  await schedule('node-2', 'Active');
  await settled();
}, 180_000);

test('writes nothing, whatever it is asked: by the audit log', async () => {
  const since = Date.now();
  const here = `-n ${NAMESPACE}`;
  for (const words of [
    `status ${here}`,
    `simulate --drain node-1 --add node-9 --weight node-3=4 --policy freeze=All ${here}`,
    `simulate --remove node-1 --mode direct ${here}`,
    `simulate -f samples/01-quickstart ${here}`,
    `diff -f samples/01-quickstart ${here}`,
    `diff --from 2s ${here}`,
    `explain orders.0001 ${here}`,
    `auth whoami ${here}`,
    'version',
  ]) {
    expect(await mesh(words)).toMatchObject({ code: 0 });
  }
  // The CLI speaks REST; gRPC is asked the same.
  const drain = { namespace: NAMESPACE, changes: [{ type: 'drain', node: 'node-1' }] } as const;
  const foretold = await client.simulate(drain);
  expect(foretold.totals.moves).toBeGreaterThan(0);
  expect((await grpc.simulate(drain)).planHash).toBe(foretold.planHash);
  const { nodes } = await grpc.explain(NAMESPACE, 'orders.0001');
  expect(nodes.map(({ node }) => node).toSorted()).toEqual(NODES);
  const WRITES = ['create', 'update', 'patch', 'delete', 'deletecollection'];
  // The operator and the workers go on with their own.
  const ours = (await plane.audit(since)).filter(({ user }) => !/meshkit-operator|orders-worker/.test(user));
  const written = ours.filter(({ verb, resource, dryRun }) => {
    return WRITES.includes(verb) && !resource.endsWith('reviews') && !dryRun;
  });
  expect(written).toEqual([]);
  // Six manifests, by two commands; the entries of the audit say `dryRun=All`.
  const tried = ours.filter(({ dryRun, code }) => dryRun && code < 300);
  expect(tried).toHaveLength(12);
  for (const { verb, group } of tried)
    expect({ verb, group }).toEqual({ verb: 'patch', group: expect.stringMatching(/^$|meshkit/) });
}, 60_000);

test.each(readCommands())('docs/oncall.md: %s', async (question, command) => {
  const words = command
    .replace(/^kubectl mesh shards /, '')
    // The quickstart of a test is younger than ten minutes.
    .replace('--from 10m', '--from 3s');
  const isRefused = question === REFUSED;
  const { code, stdout, stderr } = await mesh(words, isRefused ? await stranger() : undefined);
  const [expected, ...lines] = ANSWERS[question] ?? [];
  expect(code).toBe(expected);
  expect(stderr.replace('No shards match.\n', '')).toMatch(isRefused ? GRANT : /^$/);
  for (const line of lines) expect(stdout).toMatch(line as RegExp);
});

/** Asked by somebody whom nobody ever gave a right. */
const REFUSED = 'Why am I refused?';
const GRANT =
  /^ +grant it: +kubectl create rolebinding \S+ --clusterrole=meshkit-shards-observer --serviceaccount=payments:stranger -n payments\n$/;

async function stranger(): Promise<string> {
  const metadata = { namespace: NAMESPACE, name: 'stranger' };
  await product.kube.create(SERVICE_ACCOUNTS, { apiVersion: 'v1', kind: 'ServiceAccount', metadata });
  return product.identity(metadata.name, { namespace: NAMESPACE });
}

/** What each question of the page is answered with, while all is well. */
const ANSWERS: Record<string, [code: number, ...RegExp[]]> = {
  'Is something wrong now?': [0, /^STATUS +ok, all namespaces/, /SHARDS +64: 64 owned/],
  'Who owns this shard?': [0, /^NAME +OWNER +PHASE/, /orders\.0007 +node-\d +Active/],
  'Why is it there, and why not elsewhere?': [0, /WHY +stays on node-\d/, /node-1 +(owner|notNeeded)/],
  'What happened to it, by whom and why?': [0, /placed on node-\d/],
  'What is moving now?': [0],
  'What has this node?': [0, /orders\.\d{4} +node-1 +Active/],
  'What has changed in the last ten minutes?': [0, /^\d+ of 64 shards moved/],
  'May I take this node out?': [0, /^payments\/orders: \d+ moves of 64 shards/, /nothing was written/],
  'Did somebody change something by hand?': [0, /6 objects: 0 added, 0 changed/],
  [REFUSED]: [1, /^no\n$/],
};

/** The questions of the page with their commands. */
function readCommands(): [question: string, command: string][] {
  const page = readFileSync(join(projectRoot, 'docs/oncall.md'), 'utf8');
  const found = page.matchAll(/^## \d+\. (.*)\n\n```sh\n(.*)\n```$/gm);
  return [...found].map(([, question = '', command = '']) => [question, command]);
}

test('says since when history is kept to who asks for more', async () => {
  const { code, stdout, stderr } = await mesh(`diff --from 1h -n ${NAMESPACE}`);
  expect({ code, stdout }).toEqual({ code: 7, stdout: '' });
  expect(stderr).toMatch(/^error: the history that is kept begins at position \d+ \(20\S+Z\)/);
});

test('has one command for each of ten questions', () => {
  expect(readCommands().map(([question]) => question)).toEqual(Object.keys(ANSWERS));
  expect(readCommands()).toHaveLength(10);
});

test('tells what is moving while it moves, as many as everybody counts', async () => {
  const { kube } = product;
  const change = (spec: object) => kube.patch(SHARD_SETS, { namespace: NAMESPACE, name: 'orders' }, { spec });
  const key = { namespace: NAMESPACE, name: 'orders.0007' };
  const slow = { namespace: NAMESPACE, name: 'node-6', labels: { app: 'orders-worker' } };
  await change({ freeze: 'Rebalance', handoff: { drainTimeout: '5m' } });
  // A node without an agent: nobody releases what it has.
  await kube.create<MeshNode>(MESH_NODES, {
    apiVersion: API_VERSION,
    kind: 'MeshNode',
    metadata: slow,
    spec: { liveness: 'Always' },
  });
  await kube.patch(SHARD_ASSIGNMENTS, key, { spec: { owner: { pinned: slow.name } } });
  const owner = async () => (await kube.get(SHARD_ASSIGNMENTS, key)).status?.owner;
  await expect.poll(owner, { timeout: 30_000 }).toBe(slow.name);
  await kube.patch(SHARD_ASSIGNMENTS, key, { spec: { owner: null } });
  await schedule(slow.name, 'Drain');

  const [, command = ''] = readCommands().find(([question]) => question === 'What is moving now?') ?? [];
  const words = command.replace(/^kubectl mesh shards /, '');
  await expect
    .poll(async () => (await json<List>(words)).items, { timeout: 30_000 })
    .toMatchObject([{ name: key.name, phase: 'Draining', owner: slow.name }]);
  expect((await mesh(words)).stdout).toMatch(
    /^NAMESPACE +NAME .*\npayments +orders\.0007 +node-6 +Draining /,
  );
  const status = await json<Status>(`status -n ${NAMESPACE}`);
  expect(status.shards).toMatchObject({ total: SHARDS, owned: SHARDS, draining: 1, active: SHARDS - 1 });
  const phases = async () => {
    const lines = (await product.operatorMetrics()).matchAll(
      /^meshkit_operator_shards\{.*phase="(\w+)".*\} (\d+)$/gm,
    );
    return Object.fromEntries([...lines].map(([, phase, count]) => [phase, Number(count)]));
  };
  await expect.poll(phases).toMatchObject({ Draining: status.shards.draining, Active: status.shards.active });
  const draining = await Array.fromAsync(client.list({ namespace: NAMESPACE, phases: ['Draining'] }));
  expect(draining).toHaveLength(status.shards.draining);

  const { epoch } = draining[0]!;
  const annotations = { [RELEASED_ANNOTATION]: `${slow.name}/${epoch}` };
  await kube.patch(SHARD_ASSIGNMENTS, key, { metadata: { annotations } });
  await expect.poll(owner, { timeout: 30_000 }).not.toBe(slow.name);
  await kube.delete(MESH_NODES, slow);
  await change({ freeze: null, handoff: { drainTimeout: '30s' } });
  await settled();
}, 120_000);

test('tells what is wrong when a node dies, with the command to run next', async () => {
  await mortal.kill();
  await until(
    'the node counts as dead',
    async () => (await json<Status>(`status -n ${NAMESPACE}`)).nodes.ready === 4,
  );
  const status = await mesh(`status -n ${NAMESPACE}`);
  expect(status.code).toBe(1);
  expect(status.stdout).toContain('node is not ready: node-5');
  const [, next = ''] = /next: kubectl (?:mesh shards )?(.*)/.exec(status.stdout) ?? [];
  expect(next).toContain('node-5');
  // Its shards have been taken from it, all the same.
  await expect
    .poll(async () => (await client.nodes(NAMESPACE)).find(({ name }) => name === 'node-5')?.shards, {
      timeout: 30_000,
    })
    .toBe(0);
  expect((await mesh(`list -n ${NAMESPACE} --owner node-5 -o name`)).stdout).toBe('');
  mortal = await product.startNodes(NAMESPACE, ['node-5'], { leaseSeconds: 4 });
  await settled();
}, 120_000);

test('watches on over a restart of the API server without a word', async () => {
  const words = ['shards', 'watch', '-n', NAMESPACE, '--limit', '1', '-o', 'name', '--mode', 'api'];
  const watching = execFile('kubectl-mesh', words, options());
  const output = { stdout: '', stderr: '' };
  watching.stdout?.on('data', (chunk) => (output.stdout += chunk));
  watching.stderr?.on('data', (chunk) => (output.stderr += chunk));
  const ended = new Promise((resolve) => watching.once('exit', resolve));
  const streams = async () => gauge(await product.metrics(), 'meshkit_watch_streams');
  await expect.poll(streams, { timeout: 20_000 }).toBe(1);
  await product.apiServer.kill();
  await product.startApiServer();
  await expect.poll(streams, { timeout: 30_000 }).toBe(1);
  const key = { namespace: NAMESPACE, name: 'orders.0000' };
  await product.kube.patch(SHARD_ASSIGNMENTS, key, { spec: { reason: 'a test' } });
  expect(await ended).toBe(0);
  expect(output).toEqual({ stdout: 'shardassignment.meshkit.omnirelay.io/orders.0000\n', stderr: '' });
}, 60_000);

test('says so when operator or API server are gone, and goes on without them', async () => {
  await product.operator.stop();
  const idle = await mesh(`status -n ${NAMESPACE}`);
  expect(idle.code).toBe(1);
  expect(idle.stdout).toContain('no operator works');
  // What happens now is written down by nobody.
  const key = { namespace: NAMESPACE, name: 'orders.0001' };
  await product.kube.patch(SHARD_ASSIGNMENTS, key, { spec: { reason: 'nobody writes it down' } });
  await until('the journal lags behind', async () =>
    (await mesh(`status -n ${NAMESPACE}`)).stdout.includes('BAD   the journal lags behind'),
  );
  expect(gauge(await product.metrics(), 'meshkit_journal_behind_seconds')).toBeGreaterThan(5);
  await product.startOperator();
  await expect.poll(async () => (await mesh(`status -n ${NAMESPACE}`)).code, { timeout: 60_000 }).toBe(0);

  await product.apiServer.stop();
  const blind = await mesh(`status -n ${NAMESPACE}`);
  expect(blind.code).toBe(1);
  expect(blind.stdout).toContain('the MeshKit API server does not serve');
  expect(blind.stdout).toContain('64 owned');
  expect((await mesh(`list -n ${NAMESPACE} --mode api`)).code).toBe(6);
  expect(await mesh(`list -n ${NAMESPACE} -o name | wc -l`)).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^\s*64\n$/),
  });
  await product.startApiServer();
  expect(workers.running).toBe(true);
}, 120_000);
