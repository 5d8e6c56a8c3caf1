import { readFile } from 'node:fs/promises';
import { type ClientHttp2Session, connect } from 'node:http2';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { ERRORS, ShardError } from '@meshkit/shards/errors';
import { API_VERSION, assignmentName, compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardView } from '@meshkit/shards/shard-view';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Product, SYSTEM_NAMESPACE } from '../start/product.ts';

const NAMESPACE = 'default';
const SHARDS = ['0000', '0001', '0002', '0003', '0004', '0005', '0006', '0007'];
const FILTERS = ['', '&owner=node-1', '&owner=node-1,node-2&search=000', '&search=7'];

// A plane of its own: it is restarted.
let plane: ControlPlane;
let product: Product;
let operator: KubeClient;
let session: ClientHttp2Session;
let token: string;
const now = new Map<string, ShardAssignment>();

beforeAll(async () => {
  plane = await startControlPlane({ kind: inject('controlPlane').kind, env: process.env });
  const signal = AbortSignal.timeout(600_000);
  product = await Product.start({ controlPlane: plane, say: () => undefined, signal, operator: false });
  operator = kubeFromString(await plane.serviceAccountKubeconfig(SYSTEM_NAMESPACE, 'meshkit-operator'));
  token = (await readFile(product.files.token, 'utf8')).trim();
  session = connect(product.apiUrl, { ca: await readFile(product.files.ca, 'utf8') });
  for (const id of SHARDS) await write(id);
}, 90_000);

afterAll(async () => {
  session?.destroy();
  await operator?.close();
  await product?.stop();
  await plane?.stop();
});

/** A kube-apiserver that has just started knows custom resources a little later. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const isPassing = error instanceof ShardError && ERRORS[error.code].retry;
      if (!isPassing || performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Creates the shard, or gives it to the next node, as an operator would. */
async function write(shardId: string): Promise<void> {
  const metadata = { namespace: NAMESPACE, name: assignmentName('orders', shardId) };
  const known =
    now.get(metadata.name) ??
    (await patiently(() =>
      product.kube.create<ShardAssignment>(SHARD_ASSIGNMENTS, {
        apiVersion: API_VERSION,
        kind: 'ShardAssignment',
        metadata,
        spec: { shardSet: 'orders', shardId },
      }),
    ));
  const version = (known.status?.version ?? 0) + 1;
  const status = { phase: 'Active' as const, owner: `node-${1 + (version % 3)}`, epoch: version, version };
  now.set(metadata.name, await operator.updateStatus(SHARD_ASSIGNMENTS, { ...known, status }));
}

async function remove(shardId: string): Promise<void> {
  const name = assignmentName('orders', shardId);
  await product.kube.delete(SHARD_ASSIGNMENTS, { namespace: NAMESPACE, name });
  now.delete(name);
}

/** One stream as it is on the wire, checked against everything that it said before. */
class Stream {
  readonly query: string;
  readonly known = new Map<string, ShardView>();
  readonly problems: string[] = [];
  readonly events: string[] = [];
  ended = false;
  #position = '0';
  #rest = '';

  constructor(query: string) {
    this.query = query;
    const path = `/meshkit/shards/watch?namespace=${NAMESPACE}${query}`;
    const call = session.request({ ':path': path, authorization: `Bearer ${token}` });
    call.setEncoding('utf8');
    call.on('data', (text: string) => this.#take(text));
    call.on('error', (error) => this.problems.push(error.message));
    call.on('close', () => {
      this.ended = true;
    });
  }

  /** What it should know. */
  expected(): string[] {
    const filter = new URLSearchParams(this.query);
    const owners = filter.get('owner')?.split(',');
    return [...now.values()]
      .filter(({ status }) => !owners || owners.includes(status?.owner ?? ''))
      .filter(({ spec }) => spec.shardId.includes(filter.get('search') ?? ''))
      .map(({ metadata, status }) => `${metadata.name}@${status?.version}`)
      .sort();
  }

  actual(): string[] {
    return [...this.known.values()].map(({ name, version }) => `${name}@${version}`).sort();
  }

  #take(text: string): void {
    const blocks = (this.#rest + text).split('\n\n');
    this.#rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const event = /^event: (.+)$/m.exec(block)?.[1];
      const data = /^data: (.+)$/m.exec(block)?.[1];
      if (event !== undefined && data !== undefined) this.#hear(event, JSON.parse(data));
    }
  }

  #hear(event: string, data: { position?: string; current?: ShardView; previous?: ShardView; type: string }) {
    this.events.push(event);
    const { position = this.#position, current, previous } = data;
    if (compareVersions(position, this.#position) < 0) {
      this.problems.push(`back from ${this.#position} to ${position}`);
    }
    this.#position = position;
    if (event !== 'shard') return;
    const { name } = (current ?? previous) as ShardView;
    const known = this.known.get(name);
    // Were anything missing or said twice, this would not be what the stream said last.
    const before = data.type === 'ADDED' ? undefined : previous;
    if (known?.version !== before?.version || known?.uid !== before?.uid) {
      this.problems.push(`${data.type} ${name}: had version ${known?.version}, told of ${before?.version}`);
    }
    if (data.type === 'DELETED') this.known.delete(name);
    else this.known.set(name, current as ShardView);
  }
}

async function caughtUp(streams: readonly Stream[]): Promise<void> {
  for (const stream of streams) {
    await expect.poll(() => stream.actual(), { timeout: 30_000 }).toEqual(stream.expected());
  }
}

test('open streams go on over a restart of kube-apiserver, without a gap and without a repetition', async () => {
  const streams = FILTERS.map((filter) => new Stream(filter));
  await caughtUp(streams);
  for (let round = 0; round < 3; round += 1) {
    for (const id of SHARDS) await write(id);
    // The API server may not have heard of the last ones; what it then hears first is a list.
    await plane.restart({ downMs: 500 });
    await remove('0007');
    for (const id of SHARDS) await write(id);
    await caughtUp(streams);
    if (round === 1) await plane.compactEtcd();
  }
  for (const { problems, ended, events } of streams) {
    expect(problems).toEqual([]);
    expect(ended).toBe(false);
    // One snapshot at the beginning, and never again.
    expect(events.filter((event) => event === 'snapshot-begin' || event === 'reset')).toEqual([
      'snapshot-begin',
    ]);
  }
}, 120_000);
