import { readFile } from 'node:fs/promises';
import { ShardClient } from '@meshkit/client/shard-client';
import type { ShardChange, WatchEvent } from '@meshkit/client/shard-tracker';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { ERRORS, ShardError } from '@meshkit/shards/errors';
import { API_VERSION, type MeshNode, type ShardAssignment, type ShardSet } from '@meshkit/shards/records';
import { inject } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Product } from '../start/product.ts';

const NAMESPACE = 'default';
const NODES = ['node-1', 'node-2', 'node-3'];

/** The product with an operator, three nodes and a set of six shards; the API server remembers next to nothing by itself. */
export class ResumeWorld {
  readonly plane: ControlPlane;
  readonly product: Product;
  /** Every grant that there was, in the order of each shard: `name node epoch`. */
  readonly grants: string[] = [];
  readonly #clients: ShardClient[] = [];
  #edits = 0;

  private constructor(plane: ControlPlane, product: Product) {
    this.plane = plane;
    this.product = product;
  }

  static async start(ringSize = 5): Promise<ResumeWorld> {
    const plane = await startControlPlane({ kind: inject('controlPlane').kind, env: process.env });
    const product = await Product.start({
      controlPlane: plane,
      say: () => undefined,
      signal: AbortSignal.timeout(600_000),
      apiServerFlags: ['--ring-size', String(ringSize)],
    });
    const world = new ResumeWorld(plane, product);
    for (const name of NODES) {
      await product.kube.create<MeshNode>(MESH_NODES, {
        apiVersion: API_VERSION,
        kind: 'MeshNode',
        metadata: { namespace: NAMESPACE, name },
        spec: { liveness: 'Always' },
      });
    }
    await product.kube.create<ShardSet>(SHARD_SETS, {
      apiVersion: API_VERSION,
      kind: 'ShardSet',
      metadata: { namespace: NAMESPACE, name: 'orders' },
      spec: {
        shards: { count: 6 },
        handoff: { mode: 'Immediate' },
        churn: { maxConcurrentMoves: 50 },
        freeze: 'Rebalance',
      },
    });
    const shards = await until(async () => {
      const all = await world.shards();
      return all.length === 6 && all.every(({ status }) => status?.owner !== undefined) ? all : undefined;
    }, 'six shards with owners');
    for (const shard of shards) world.grants.push(grantOf(shard));
    return world;
  }

  async shards(): Promise<ShardAssignment[]> {
    const { kube } = this.product;
    return patient(async () => (await kube.listAll(SHARD_ASSIGNMENTS, { namespace: NAMESPACE })).items);
  }

  /** Moves a shard to its next node; resolves when it is there. */
  async move(id: number): Promise<void> {
    const name = `orders.000${id}`;
    const before = await this.#get(name);
    const pinned = NODES[(NODES.indexOf(before.status?.owner ?? '') + 1) % NODES.length] as string;
    await this.#patch(name, { owner: { pinned }, changeTicket: `CHG-${++this.#edits}` });
    const moved = await until(async () => {
      const shard = await this.#get(name);
      return shard.status?.owner === pinned ? shard : undefined;
    }, `${name} on ${pinned}`);
    this.grants.push(grantOf(moved));
  }

  async moves(count: number): Promise<void> {
    for (let at = 0; at < count; at += 1) await this.move(at % 6);
  }

  /** An edit that moves nothing. */
  async edit(id: number): Promise<void> {
    await this.#patch(`orders.000${id}`, { changeTicket: `CHG-${++this.#edits}` });
  }

  async client(transport: 'sse' | 'grpc'): Promise<ShardClient> {
    const { product } = this;
    const client = new ShardClient({
      server: transport === 'grpc' ? `https://${product.grpcAddress}` : product.apiUrl,
      transport,
      ca: await readFile(product.files.ca, 'utf8'),
      token: { file: product.files.token },
    });
    this.#clients.push(client);
    return client;
  }

  /** What the API server counts. */
  async resumed(): Promise<Record<string, number>> {
    const text = await this.product.metrics();
    const lines = text.matchAll(/^meshkit_resume_total\{result="(\w+)"\} (\d+)$/gm);
    return Object.fromEntries([...lines].map(([, result, count]) => [result, Number(count)]));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
    await this.product.stop();
    await this.plane.stop();
  }

  async #get(name: string): Promise<ShardAssignment> {
    const { kube } = this.product;
    return patient(() => kube.get(SHARD_ASSIGNMENTS, { namespace: NAMESPACE, name }));
  }

  async #patch(name: string, spec: object): Promise<void> {
    const { kube } = this.product;
    await patient(() => kube.patch(SHARD_ASSIGNMENTS, { namespace: NAMESPACE, name }, { spec }));
  }
}

/** A kube-apiserver that has just started refuses for a while. */
async function patient<T>(call: () => Promise<T>): Promise<T> {
  return until(async () => {
    try {
      return await call();
    } catch (error) {
      if (error instanceof ShardError && ERRORS[error.code].retry) return undefined;
      throw error;
    }
  }, 'kube-apiserver to serve');
}

export function grantOf({ metadata, status }: ShardAssignment): string {
  return `${metadata.name} ${status?.owner} ${status?.epoch}`;
}

/** A program that watches, remembers where it is, ends, and begins again knowing nothing but the token. */
export class Watcher {
  readonly grants: string[] = [];
  /** Grants that it was told a second time, because it was inside a stretch that had to be reconstructed. */
  repeats = 0;
  readonly resets: string[] = [];
  readonly events: WatchEvent[] = [];
  token: string | undefined;
  error: unknown;
  readonly #client: ShardClient;
  #stop: AbortController | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(client: ShardClient, token?: string) {
    this.#client = client;
    this.token = token;
  }

  start(onExpired?: 'fail'): void {
    const stop = new AbortController();
    this.#stop = stop;
    this.#running = this.#run(stop.signal, onExpired).catch((error: unknown) => {
      this.error = error;
    });
  }

  async stop(): Promise<void> {
    this.#stop?.abort();
    await this.#running;
  }

  /** Until it was told as much as this, and is not inside a listing, whose tokens only begin that again. */
  async knows(grants: readonly string[]): Promise<void> {
    const isThere = () =>
      grants.every((grant) => this.grants.includes(grant)) &&
      this.events.some(({ type }) => type === 'SYNCED' || type === 'BOOKMARK');
    await until(() => isThere() || this.error !== undefined || undefined, 'all grants');
  }

  async #run(signal: AbortSignal, onExpired?: 'fail'): Promise<void> {
    const events = this.#client.watch(
      { namespace: NAMESPACE },
      { signal, resumeToken: this.token, onExpired },
    );
    for await (const event of events) {
      this.events.push(event);
      this.token = event.token;
      if (event.type === 'RESET') this.resets.push(event.reason);
      if ('previous' in event) this.#take(event);
    }
  }

  #take({ type, current, previous }: ShardChange): void {
    if (type === 'DELETED' || !current || current.owner === undefined) return;
    const grant = `${current.name} ${current.owner} ${current.epoch}`;
    if (previous?.epoch === current.epoch) return;
    if (this.grants.includes(grant)) this.repeats += 1;
    else this.grants.push(grant);
  }
}

/** Polls for 30 s at most. */
export async function until<T>(
  check: () => Promise<T | undefined> | T | undefined,
  what: string,
): Promise<T> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const found = await check();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`not within 30 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
