import { readFile } from 'node:fs/promises';
import { type ClientHttp2Session, connect } from 'node:http2';
import { ShardClient } from '@meshkit/client/shard-client';
import { SHARD_JOURNAL_HEADS, SHARD_JOURNAL_SEGMENTS } from '@meshkit/crds/journal-objects';
import { KubernetesJournal } from '@meshkit/crds/journal-reader';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import {
  API_VERSION,
  compareVersions,
  type MeshNode,
  type ShardAssignment,
  type ShardSet,
} from '@meshkit/shards/records';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Product } from '../start/product.ts';
import { type Benchmark, distribution, machine, median, type Row, round } from './report.ts';
import { SeededRandom } from './seeded-random.ts';

const NAMESPACE = 'default';
const RING = 1_000;
const NODES = 20;
const PARALLEL_WRITES = 32;
const FULL = { shards: 1_000, changes: 10_000, rounds: 5 };
const QUICK = { shards: 200, changes: 2_000, rounds: 2 };
/** Readers at once; all in this process, so more would measure it. */
const HERD = 20;
const LIMIT_MS = 60_000;

/** What a watcher has caught up with: the newest generation and version of each shard. */
type Goal = Map<string, string>;

interface Caught {
  ms: number;
  events: number;
  resets: number;
  /** Of an HTTP status, or an error in the stream; 0: none. */
  error: number;
}

/**
 * A watcher that was away while far more changed than the API server remembers: how long until it has everything, beside
 * kube-apiserver's own watch from the same resourceVersion; and what the journal that makes it possible costs in etcd.
 */
export const benchmarkResume: Benchmark = async ({ progress, quick, seed }) => {
  const { shards, changes, rounds } = quick ? QUICK : FULL;
  const signal = AbortSignal.timeout(900_000);
  const plane = await startControlPlane({ kind: 'real', env: process.env, log: progress, signal });
  let product: Product | undefined;
  try {
    const apiServerFlags = ['--requests-per-second', '0', '--ring-size', String(RING)];
    product = await Product.start({ controlPlane: plane, say: progress, signal, apiServerFlags });
    const world = new World(plane, product, seed);
    await world.begin(shards);
    progress(`${shards} shards are there`);
    const from = await world.place();
    const before = await world.cost();
    const began = performance.now();
    await world.change(changes);
    const writingMs = performance.now() - began;
    await world.written();
    const lagMs = performance.now() - began - writingMs;
    const after = await world.cost();
    const made = after.entries - before.entries;
    progress(`${made} changes in ${Math.round(writingMs)} ms, written down ${Math.round(lagMs)} ms later`);
    const goal = await world.goal();
    const cases: Record<string, Caught[]> = { cold: [], warm: [], grpc: [], kube: [] };
    for (let at = 0; at < rounds; at += 1) {
      // A server that has just started has neither the changes in its ring nor a decoded segment.
      await product.apiServer.kill();
      await product.startApiServer();
      cases.cold!.push(await world.catchUp(from.token, goal));
      cases.warm!.push(await world.catchUp(from.token, goal));
      cases.grpc!.push(await world.catchUpByGrpc(from.token, goal));
      cases.kube!.push(await world.catchUpAtKube(from.resourceVersion, goal));
      const [cold, warm, grpc, kube] = Object.values(cases).map((all) => all.at(-1)!);
      progress(
        `round ${at + 1}: cold ${cold!.ms} ms, warm ${warm!.ms} ms, gRPC ${grpc!.ms} ms, kube-apiserver ${kube!.error || `${kube!.ms} ms`}`,
      );
    }
    const herd = await world.herd(from.token, goal, HERD);
    const away = `${made} changes away, ring ${RING}`;
    const row = (subject: string, name: string, all: readonly Caught[]): Row => ({
      subject,
      case: `${away}: ${name}`,
      unit: 'ms until everything is there',
      ...timesOf(all),
      events: median(all.map(({ events }) => events)),
      resets: all.reduce((sum, { resets }) => sum + resets, 0),
      refused: all.filter(({ error }) => error !== 0).length,
      error: all.find(({ error }) => error !== 0)?.error ?? 0,
    });
    const rows = [
      row('meshkit', 'a server that has just started, SSE', cases.cold!),
      row('meshkit', 'again, SSE', cases.warm!),
      row('meshkit-grpc', 'again, gRPC', cases.grpc!),
      row('meshkit', `${herd.length} at once, SSE`, herd),
      row('kube-apiserver', 'its own watch from the same resourceVersion', cases.kube!),
    ];
    const ours = [...cases.cold!, ...cases.warm!, ...cases.grpc!, ...herd];
    const figures = {
      catchUpMs: round(median(cases.cold!.map(({ ms }) => ms))),
      catchUpMsWarm: round(median(cases.warm!.map(({ ms }) => ms))),
      catchUpMsGrpc: round(median(cases.grpc!.map(({ ms }) => ms))),
      changes: made,
      resets: ours.reduce((sum, { resets }) => sum + resets, 0),
      failed: ours.filter(({ error }) => error !== 0).length,
      kubeRefused: cases.kube!.filter(({ error }) => error !== 0).length,
      etcdBytesPerChange: round((after.stored - before.stored) / made),
      etcdBytesHeldPerChange: round(after.stored / after.entries),
      etcdBytesWrittenPerChange: round((after.bytes - before.bytes) / made),
      etcdWritesPer1000Changes: round(((after.writes - before.writes) * 1_000) / made),
      changesPerSecond: round((made * 1_000) / (writingMs + lagMs)),
      lagMs: round(lagMs),
    };
    const ok =
      figures.catchUpMs <= 2_000 &&
      figures.resets === 0 &&
      figures.failed === 0 &&
      figures.etcdBytesPerChange <= 200;
    return { bench: 'resume', ok, machine: machine(), figures, rows };
  } finally {
    await product?.stop();
    await plane.stop();
  }
};

class World {
  readonly #plane: ControlPlane;
  readonly #product: Product;
  readonly #journal: KubernetesJournal;
  readonly #sessions: ClientHttp2Session[] = [];
  readonly #random: SeededRandom;
  #edits = 0;

  constructor(plane: ControlPlane, product: Product, seed: number) {
    this.#random = new SeededRandom(seed);
    this.#plane = plane;
    this.#product = product;
    this.#journal = new KubernetesJournal({ client: product.kube });
  }

  async begin(shards: number): Promise<void> {
    const { kube } = this.#product;
    for (let at = 0; at < NODES; at += 1) {
      await kube.create<MeshNode>(MESH_NODES, {
        apiVersion: API_VERSION,
        kind: 'MeshNode',
        metadata: { namespace: NAMESPACE, name: `node-${at}` },
        spec: {
          liveness: 'Always',
          endpoint: `https://worker-${at}.workers.bench.svc:8443`,
          zone: `zone-${at % 3}`,
        },
      });
    }
    await kube.create<ShardSet>(SHARD_SETS, {
      apiVersion: API_VERSION,
      kind: 'ShardSet',
      metadata: { namespace: NAMESPACE, name: 'bench' },
      spec: { shards: { count: shards }, handoff: { mode: 'Immediate' } },
    });
    await until(
      async () => (await this.#shards()).filter(({ status }) => status?.owner).length === shards,
      'owners',
    );
    await this.written();
  }

  /** Where a watcher is that knows everything now. */
  async place(): Promise<{ token: string; resourceVersion: string }> {
    const client = await this.#client('sse');
    const resourceVersion = await this.#newest();
    for await (const { resumeToken } of client.pages(
      { namespace: NAMESPACE },
      { minVersion: resourceVersion },
    )) {
      await client.close();
      return { token: resumeToken ?? '', resourceVersion };
    }
    throw new Error('a list without a page');
  }

  /** Moves and edits by many at once; the operator takes up each, which is another change. */
  async change(count: number): Promise<void> {
    const names = (await this.#shards()).map(({ metadata }) => metadata.name);
    const target = (await this.#entries()) + count;
    // Edits of a shard that follow each other at once are taken up together: then it takes more of them.
    for (let missing = count; missing > 0; missing = target - (await this.#entries())) {
      let left = Math.ceil(missing / 2);
      await Promise.all(
        Array.from({ length: PARALLEL_WRITES }, async () => {
          while (left-- > 0) await this.#edit(names[this.#edits++ % names.length] as string);
        }),
      );
      await until(async () => (await this.#shards()).every(isTakenUp), 'all edits to be taken up');
      await this.written();
    }
  }

  async #edit(name: string): Promise<void> {
    const { kube } = this.#product;
    const spec = {
      owner: { pinned: `node-${this.#random.below(NODES)}` },
      changeTicket: `CHG-${this.#random.below(100_000)}`,
      reason: `asked for by ${this.#random.below(2 ** 32).toString(36)} after ${this.#random.below(2 ** 32).toString(36)}`,
    };
    await kube.patch(SHARD_ASSIGNMENTS, { namespace: NAMESPACE, name }, { spec });
  }

  /** Until the journal has what there is. */
  async written(): Promise<void> {
    await until(async () => {
      const newest = await this.#newest();
      const head = await this.#journal.head(AbortSignal.timeout(10_000));
      return head !== undefined && compareVersions(head.mark.position, newest) >= 0;
    }, 'the journal to be written');
  }

  /** resourceVersion of the shard that changed last. */
  async #newest(): Promise<string> {
    const versions = (await this.#shards()).map(({ metadata }) => metadata.resourceVersion ?? '');
    return versions.sort(compareVersions).at(-1) ?? '';
  }

  async goal(): Promise<Goal> {
    const shards = await this.#shards();
    return new Map(
      shards.map(({ metadata, status }) => [metadata.name, `${metadata.generation} ${status?.version}`]),
    );
  }

  /** Of the journal, so far: objects as etcd stores them (JSON), what was sent, and how often. */
  async cost() {
    const { kube } = this.#product;
    const { items: segments } = await kube.listAll(SHARD_JOURNAL_SEGMENTS, {});
    const { items: heads } = await kube.listAll(SHARD_JOURNAL_HEADS, {});
    const stored = [...segments, ...heads].reduce((sum, object) => sum + JSON.stringify(object).length, 0);
    const metrics = await this.#product.operatorMetrics();
    return {
      stored,
      entries: sumOf(metrics, 'meshkit_journal_entries_total'),
      writes: sumOf(metrics, 'meshkit_journal_writes_total'),
      bytes: sumOf(metrics, 'meshkit_journal_written_bytes_total'),
    };
  }

  async catchUp(token: string, goal: Goal): Promise<Caught> {
    const session = await this.#session();
    const headers = { authorization: `Bearer ${await this.#token()}`, accept: 'text/event-stream' };
    const path = `/meshkit/shards/watch?namespace=${NAMESPACE}&resumeToken=${token}`;
    const left = new Map(goal);
    let resets = 0;
    return this.#stream(session, { ':path': path, ...headers }, '\n\n', left, (block) => {
      if (block.includes('event: reset')) resets += 1;
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data === undefined || !block.includes('event: shard')) return { resets };
      const { current } = JSON.parse(data);
      if (current && left.get(current.name) === `${current.generation} ${current.version}`)
        left.delete(current.name);
      return { resets, counts: true };
    });
  }

  async catchUpByGrpc(token: string, goal: Goal): Promise<Caught> {
    const client = await this.#client('grpc');
    const stop = AbortSignal.timeout(LIMIT_MS);
    const left = new Map(goal);
    // Loads gRPC and connects, as the others have by then.
    await client.nodes(NAMESPACE);
    const began = performance.now();
    let [events, resets] = [0, 0];
    try {
      for await (const event of client.watch(
        { namespace: NAMESPACE },
        { resumeToken: token, signal: stop },
      )) {
        if (event.type === 'RESET') resets += 1;
        if (!('previous' in event) || !event.current) continue;
        events += 1;
        const { name, generation, version } = event.current;
        if (left.get(name) === `${generation} ${version}`) left.delete(name);
        if (left.size === 0) break;
      }
    } finally {
      await client.close();
    }
    return { ms: Math.round(performance.now() - began), events, resets, error: left.size === 0 ? 0 : 504 };
  }

  /** kube-apiserver's own: all changes since, or an error that says that they are gone. */
  async catchUpAtKube(resourceVersion: string, goal: Goal): Promise<Caught> {
    const session = await this.#session(this.#plane.url);
    const query = new URLSearchParams({ watch: '1', resourceVersion, allowWatchBookmarks: 'true' });
    const path = `/apis/${API_VERSION}/namespaces/${NAMESPACE}/shardassignments?${query}`;
    const left = new Map(goal);
    const headers = { ':path': path, authorization: `Bearer ${await this.#token()}` };
    return this.#stream(session, headers, '\n', left, (line) => {
      const { type, object } = JSON.parse(line);
      if (type === 'ERROR') return { resets: 0, error: Number(object.code) };
      const { metadata, status } = object;
      if (left.get(metadata.name) === `${metadata.generation} ${status?.version}`) left.delete(metadata.name);
      return { resets: 0, counts: type !== 'BOOKMARK' };
    });
  }

  /** So many with the same token at once. */
  async herd(token: string, goal: Goal, count: number): Promise<Caught[]> {
    return Promise.all(Array.from({ length: count }, () => this.catchUp(token, goal)));
  }

  async #stream(
    session: ClientHttp2Session,
    headers: Record<string, string>,
    separator: string,
    left: ReadonlyMap<string, unknown>,
    take: (block: string) => { resets: number; counts?: boolean; error?: number },
  ): Promise<Caught> {
    const began = performance.now();
    const call = session.request(headers);
    call.setEncoding('utf8');
    const timer = setTimeout(() => call.close(), LIMIT_MS);
    let [events, resets, error] = [0, 0, 0];
    let rest = '';
    call.on('response', (answer) => {
      const status = Number(answer[':status']);
      if (status !== 200) error = status;
    });
    try {
      for await (const text of call) {
        const blocks = (rest + text).split(separator);
        rest = blocks.pop() ?? '';
        for (const block of blocks) {
          if (block === '' || error !== 0) continue;
          const found = take(block);
          resets = found.resets;
          error = found.error ?? 0;
          if (found.counts) events += 1;
        }
        if (left.size === 0 || error !== 0) break;
      }
    } finally {
      clearTimeout(timer);
      call.close();
      session.close();
    }
    if (left.size > 0 && error === 0) error = 504;
    return { ms: Math.round(performance.now() - began), events, resets, error };
  }

  async #session(url = this.#product.apiUrl): Promise<ClientHttp2Session> {
    const session = connect(url, {
      ca: await readFile(this.#product.files.ca, 'utf8'),
      settings: { initialWindowSize: 4 << 20 },
    });
    session.on('error', () => undefined);
    session.on('connect', () => session.setLocalWindowSize(16 << 20));
    this.#sessions.push(session);
    return session;
  }

  async #token(): Promise<string> {
    return (await readFile(this.#product.files.token, 'utf8')).trim();
  }

  async #client(transport: 'sse' | 'grpc'): Promise<ShardClient> {
    const { apiUrl, grpcAddress, files } = this.#product;
    const server = transport === 'grpc' ? `https://${grpcAddress}` : apiUrl;
    return new ShardClient({
      server,
      transport,
      ca: await readFile(files.ca, 'utf8'),
      token: { file: files.token },
    });
  }

  async #shards(): Promise<ShardAssignment[]> {
    return (await this.#product.kube.listAll(SHARD_ASSIGNMENTS, { namespace: NAMESPACE })).items;
  }

  async #entries(): Promise<number> {
    return sumOf(await this.#product.operatorMetrics(), 'meshkit_journal_entries_total');
  }
}

/** Zeros when none got there. */
function timesOf(all: readonly Caught[]) {
  const times = all.filter(({ error }) => error === 0).map(({ ms }) => ms);
  return { ...distribution(times.length > 0 ? times : [0]), n: times.length };
}

function isTakenUp({ metadata, status }: ShardAssignment): boolean {
  return status?.observedGeneration === metadata.generation;
}

function sumOf(metrics: string, name: string): number {
  const lines = metrics
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

async function until(check: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 180_000;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`not within 180 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
