import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { isDeepStrictEqual, promisify } from 'node:util';
import type { ShardCache } from '@meshkit/client/shard-cache';
import { ShardClient } from '@meshkit/client/shard-client';
import type { ShardChange } from '@meshkit/client/shard-tracker';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { ShardError } from '@meshkit/shards/errors';
import { API_VERSION, assignmentName, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardView } from '@meshkit/shards/shard-view';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { projectRoot } from '../start/child.ts';
import { Product, SYSTEM_NAMESPACE } from '../start/product.ts';

const SET = 'orders';
const NODES = ['node-1', 'node-2', 'node-3'];

// A plane of its own: these tests restart everything.
let plane: ControlPlane;
let product: Product;
let operator: KubeClient;
let namespaces = 0;

beforeAll(async () => {
  const { kind } = inject('controlPlane');
  plane = await startControlPlane({ kind, env: process.env });
  const signal = AbortSignal.timeout(600_000);
  product = await Product.start({ controlPlane: plane, say: () => undefined, signal, operator: false });
  operator = kubeFromString(await plane.serviceAccountKubeconfig(SYSTEM_NAMESPACE, 'meshkit-operator'));
}, 90_000);

afterAll(async () => {
  await operator?.close();
  await product?.stop();
  await plane?.stop();
});

/** A kube-apiserver that was restarted answers 503 to writes of custom resources for some seconds. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof ShardError && error.code === 'unavailable') || tries === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** Shards that are written as an operator would write them, and what each has been through. */
class Shards {
  readonly namespace: string;
  readonly now = new Map<string, ShardAssignment>();
  /** `name@version` of every write of a status. */
  readonly hops: string[] = [];

  constructor(namespace: string) {
    this.namespace = namespace;
  }

  async create(shardId: string): Promise<void> {
    const { namespace } = this;
    const name = assignmentName(SET, shardId);
    const shard: ShardAssignment = {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: { namespace, name },
      spec: { shardSet: SET, shardId },
    };
    const created = await patiently(() => product.kube.create(SHARD_ASSIGNMENTS, shard));
    this.now.set(name, created);
    await this.move(name);
  }

  async move(name: string): Promise<void> {
    const shard = this.now.get(name)!;
    const version = (shard.status?.version ?? 0) + 1;
    const owner = NODES[version % NODES.length]!;
    const status = { ...shard.status, phase: 'Active' as const, owner, epoch: version, version };
    this.now.set(name, await operator.updateStatus(SHARD_ASSIGNMENTS, { ...shard, status }));
    this.hops.push(`${name}@${version}`);
  }

  async moveAll(times = 1): Promise<void> {
    for (let at = 0; at < times; at++) for (const name of this.now.keys()) await this.move(name);
  }

  async remove(name: string): Promise<void> {
    const { namespace } = this;
    await product.kube.delete(SHARD_ASSIGNMENTS, { namespace, name });
    this.now.delete(name);
  }

  versions(): Map<string, number> {
    return new Map([...this.now].map(([name, { status }]) => [name, status?.version ?? 0]));
  }
}

/** A program that follows all shards of a namespace, and checks each change against what it knows. */
class Follower {
  readonly problems: string[] = [];
  readonly hops: string[] = [];
  readonly known = new Map<string, ShardView>();
  readonly disconnects: string[] = [];
  resets = 0;
  readonly ended: Promise<void>;

  constructor(client: ShardClient, namespace: string, signal: AbortSignal) {
    this.ended = this.#follow(client, namespace, signal);
  }

  async #follow(client: ShardClient, namespace: string, signal: AbortSignal): Promise<void> {
    const onDisconnect = ({ message }: Error) => void this.disconnects.push(message);
    for await (const event of client.watch({ namespace }, { signal, onDisconnect })) {
      if ('previous' in event) this.#take(event);
      else if (event.type === 'RESET') this.resets += 1;
    }
  }

  #take({ type, current, previous }: ShardChange): void {
    const { name } = (current ?? previous) as ShardView;
    const known = this.known.get(name);
    if (!isDeepStrictEqual(known, previous)) this.problems.push(`${type} ${name}: not what it was before`);
    if ((type === 'ADDED') !== (known === undefined)) this.problems.push(`${type} ${name}: out of turn`);
    if (type === 'DELETED') this.known.delete(name);
    else if (current) this.known.set(name, current);
    if (current && current.version > 0) this.hops.push(`${name}@${current.version}`);
  }

  versions(): Map<string, number> {
    return new Map([...this.known].map(([name, { version }]) => [name, version]));
  }
}

describe.each(['sse', 'grpc'] as const)('a client by %s', (transport) => {
  let shards: Shards;
  let client: ShardClient;
  let follower: Follower;
  let cache: ShardCache;
  let stop: AbortController;

  beforeEach(async () => {
    namespaces += 1;
    const namespace = `client-${namespaces}`;
    const metadata = { name: namespace };
    await product.kube.raw('POST', '/api/v1/namespaces', {
      body: { apiVersion: 'v1', kind: 'Namespace', metadata },
    });
    shards = new Shards(namespace);
    for (const id of ['0000', '0001', '0002', '0003', '0004', '0005']) await shards.create(id);
    const server = transport === 'grpc' ? `https://${product.grpcAddress}` : product.apiUrl;
    const ca = await readFile(product.files.ca, 'utf8');
    client = new ShardClient({ server, transport, ca, token: { file: product.files.token } });
    stop = new AbortController();
    follower = new Follower(client, namespace, stop.signal);
    cache = client.cache({ namespace, shardSet: SET });
    await cache.ready();
    await caughtUp();
  });

  afterEach(async () => {
    stop.abort();
    await follower.ended;
    await cache.close();
    await client.close();
  });

  async function caughtUp(withinMs = 30_000): Promise<void> {
    const deadline = performance.now() + withinMs;
    const { signal } = stop;
    while (!isDeepStrictEqual(sorted(follower.versions()), sorted(shards.versions()))) {
      signal.throwIfAborted();
      if (performance.now() > deadline) {
        expect.fail(
          `not caught up: ${JSON.stringify([[...follower.versions()], [...shards.versions()], follower.disconnects])}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    expect(follower.problems).toEqual([]);
  }

  /** The cache is fed by a stream of its own. */
  async function cacheAgrees(): Promise<void> {
    await expect
      .poll(
        () =>
          cache
            .list()
            .map(({ name, version }) => [name, version])
            .sort(),
        { timeout: 10_000 },
      )
      .toEqual(sorted(shards.versions()));
    for (const { spec, status } of shards.now.values()) {
      expect(cache.ownerOf(spec.shardId)).toMatchObject({ node: status?.owner, epoch: status?.epoch });
    }
    const { shardId } = cache.ownerFor('customer-42')!;
    expect(shards.now.has(assignmentName(SET, shardId))).toBe(true);
  }

  test('lists as well: pages, one shard, nodes', async () => {
    const names = [...shards.now.keys()];
    const { namespace } = shards;
    const listed = await Array.fromAsync(client.list({ namespace }, { pageSize: 2 }));
    expect(listed.map(({ name }) => name)).toEqual(names);
    const { metadata } = shards.now.get(names[0]!)!;
    const own = await client.get(namespace, names[0]!, { minVersion: metadata.resourceVersion });
    expect(own).toEqual(listed[0]);
    expect(await client.nodes(namespace)).toEqual([]);
    await expect(client.get(namespace, 'orders.nope')).rejects.toMatchObject({ code: 'notFound' });
  });

  test('lets the sample router say where a key goes', async () => {
    const server = transport === 'grpc' ? `https://${product.grpcAddress}` : product.apiUrl;
    const { ca, token } = product.files;
    const flags = {
      server,
      transport,
      ca,
      'token-file': token,
      namespace: shards.namespace,
      'shard-set': SET,
    };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const router = ['samples/02-router/router.ts', ...args, '--once', 'customer-42'];
    const { stdout } = await promisify(execFile)(process.execPath, router, {
      cwd: projectRoot,
      timeout: 20_000,
    });
    const { shardId, node, epoch } = cache.ownerFor('customer-42')!;
    expect(stdout).toBe(`customer-42 -> shard ${shardId} -> ${node} - epoch ${epoch}\n`);
  });

  test.each(['killed', 'stopped'])(
    'knows everything again when the API server was %s and started again',
    async (how) => {
      await shards.moveAll();
      await caughtUp();
      if (how === 'killed') await product.apiServer.kill();
      else await product.apiServer.stop();
      await shards.moveAll(2);
      await shards.remove('orders.0002');
      await shards.create('0006');
      // The same name again, as somebody else.
      await shards.remove('orders.0003');
      await shards.create('0003');
      expect(cache.ownerOf('0000')).toBeDefined();
      await product.startApiServer();
      await shards.moveAll();
      await caughtUp();
      // What happened meanwhile is in no memory any more: everything was listed again, and the end of it is right.
      expect(follower.resets).toBeGreaterThan(0);
      await shards.create('0002');
      await caughtUp();
      await cacheAgrees();
    },
    90_000,
  );

  test('sees every change once over a restart of kube-apiserver', async () => {
    await shards.moveAll();
    await caughtUp();
    const [from, before] = [follower.hops.length, shards.hops.length];
    await shards.moveAll(2);
    // A restarted kube-apiserver has no history, so the API server lists: of several changes of one shard that it has not
    // heard of it would see the last one.
    await caughtUp();
    await plane.restart({ downMs: 1_000 });
    await shards.moveAll();
    await caughtUp();
    await shards.moveAll(2);
    await caughtUp();
    expect(follower.hops.slice(from)).toEqual(shards.hops.slice(before));
    expect([follower.resets, follower.disconnects]).toEqual([0, []]);
    await cacheAgrees();
  }, 90_000);
});

function sorted(versions: ReadonlyMap<string, number>): [string, number][] {
  return [...versions].sort(([a], [b]) => (a < b ? -1 : 1));
}
