import { setTimeout as sleep } from 'node:timers/promises';
import { MESH_NODES, NAMESPACES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { ShardError } from '@meshkit/shards/errors';
import { API_VERSION, assignmentName, type MeshNode, type ShardSet } from '@meshkit/shards/records';
import { SeededRandom } from '../bench/seeded-random.ts';
import {
  type HistoryHeader,
  Recorder,
  type RunHistory,
  type ShardState,
  type WatcherInfo,
} from './history.ts';
import { patiently } from './oracle.ts';
import { FIRST_SHARDS, NODES, type RunPlan, type Step } from './schedule.ts';
import type { Stage } from './stage.ts';
import { TcpProxy } from './tcp-proxy.ts';
import { differences, passes } from './truth.ts';
import { Watcher } from './watchers.ts';

const SET = 'orders';
const LEASE_SECONDS = 3;
const DRAIN_MS = 60;
const OWNED_WITHIN_MS = 60_000;
const QUIET_WITHIN_MS = 60_000;
const QUIET_FOR_MS = 300;
const POLL_MS = 20;
/** The node whose way to kube-apiserver can be cut, and the one whose process is suspended. */
const PARTITIONED = 'node-3';
const SUSPENDED = 'node-4';

/** Who watches in every run. */
export const WATCHERS: readonly WatcherInfo[] = [
  watcher('sse', 'client', 'sse'),
  watcher('grpc', 'client', 'grpc'),
  watcher('sse-owner', 'client', 'sse', { owners: ['node-2'] }),
  watcher('grpc-active', 'client', 'grpc', { phases: ['Active'] }),
  watcher('sse-slow', 'client', 'sse', { search: '1' }),
  watcher('grpc-coalescing', 'client', 'grpc', { allowCoalescing: true }),
  watcher('sse-restarts', 'client', 'sse', { restarts: true }),
  watcher('wire-sse', 'wire', 'sse'),
  watcher('wire-grpc-owners', 'wire', 'grpc', { owners: ['node-1', 'node-3'] }),
];
const SLOW: Readonly<Record<string, number>> = { 'sse-slow': 25, 'grpc-coalescing': 40 };

function watcher(
  id: string,
  kind: WatcherInfo['kind'],
  transport: WatcherInfo['transport'],
  more: Partial<WatcherInfo> = {},
): WatcherInfo {
  return { id, kind, transport, allowCoalescing: false, restarts: false, ...more };
}

/** One namespace with its set, nodes and watchers, from the first write until all is quiet again. */
export class Run {
  readonly plan: RunPlan;
  readonly namespace: string;
  readonly recorder: Recorder;
  readonly #stage: Stage;
  readonly #patienceMs: number;
  readonly #random: SeededRandom;
  readonly #jitter: SeededRandom;
  readonly #watchers: Watcher[] = [];
  readonly #truth = new Map<string, ShardState>();
  readonly #later: Promise<unknown>[] = [];
  #changedAt = 0;
  #count = FIRST_SHARDS;
  #nodeLink: TcpProxy | undefined;
  #deleted: Promise<void> | undefined;

  /** `patienceMs`: how long watchers may need at the end until they know everything. */
  constructor(
    stage: Stage,
    plan: RunPlan,
    header: Pick<HistoryHeader, 'mayReset' | 'mayRelist' | 'mayReconstruct'>,
    patienceMs: number,
  ) {
    this.plan = plan;
    this.#patienceMs = patienceMs;
    this.namespace = `run-${plan.run}`;
    this.#stage = stage;
    this.#random = new SeededRandom(plan.seed);
    this.#jitter = new SeededRandom(plan.seed + 1);
    this.recorder = new Recorder({
      kind: 'run',
      run: plan.run,
      seed: plan.seed,
      faultClass: plan.faultClass,
      controlPlane: stage.plane.kind,
      namespace: this.namespace,
      watchers: [...WATCHERS],
      ...header,
    });
  }

  /** Nodes, the set and the watchers; resolves once every shard is owned. */
  async prepare(): Promise<void> {
    const { namespace, plan } = this;
    this.#stage.listen(plan.run, namespace, {
      truth: (position, key, state) => {
        this.#changedAt = performance.now();
        if (state) this.#truth.set(key, state);
        else this.#truth.delete(key);
        this.recorder.add({ kind: 'truth', position, key, state });
      },
      restored: (position) => {
        this.#truth.clear();
        this.recorder.add({ kind: 'restored', position });
      },
      fleet: ({ type, node, key, epoch }) => {
        if (type === 'grant') this.recorder.add({ kind: 'grant', node, key, epoch });
        else this.#write(node, key, epoch);
      },
    });
    await this.#createNamespace();
    // Some are there before the first shard, the others come in the middle of its being placed.
    const [early, late] = [
      WATCHERS.filter((_, at) => at % 2 === 0),
      WATCHERS.filter((_, at) => at % 2 === 1),
    ];
    await this.#startWatchers(early);
    await this.#createObjects();
    await this.#startNodes();
    await this.#startWatchers(late);
    await this.#until('every shard is owned', () => this.#isSettled(), OWNED_WITHIN_MS);
  }

  /** The steps, at their times. */
  async act(): Promise<void> {
    const began = performance.now();
    for (const { atMs, step } of this.plan.steps) {
      await sleep(Math.max(0, began + atMs - performance.now()));
      this.recorder.add({ kind: 'step', what: JSON.stringify(step) });
      await this.#do(step);
    }
    await Promise.all(this.#later);
    await this.#deleted;
  }

  /** Waits until nothing moves, with everything written that is going to be. */
  async rest(): Promise<void> {
    await this.#calmDown();
    await this.#until('every shard is at rest', () => this.#isSettled() && this.#isQuiet(), QUIET_WITHIN_MS);
  }

  /** Nodes and shards come to rest; everything that is still to be told is waited for, as long as is reasonable. */
  async settle(): Promise<void> {
    await this.rest();
    await this.#stage.oracle.settled();
    const deadline = performance.now() + this.#patienceMs;
    for (;;) {
      const allAgree = this.#isQuiet() && this.#watchers.every((one) => this.#agrees(one));
      // What comes too often comes right after; and a node that lost its Lease on a busy machine moves shards once more.
      const changedAt = this.#changedAt;
      await sleep(allAgree ? QUIET_FOR_MS : POLL_MS);
      if (performance.now() > deadline) break;
      if (allAgree && this.#changedAt === changedAt && this.#watchers.every((one) => this.#agrees(one)))
        break;
    }
    this.recorder.add({ kind: 'quiet', position: this.#stage.oracle.position });
    // Other runs of the wave may need longer, and on a busy machine even nodes at rest lose a Lease meanwhile.
    this.recorder.close();
  }

  /** Everybody may work, and everything may be placed. */
  async #calmDown(): Promise<void> {
    const { kube } = this.#stage.product;
    const { namespace } = this;
    this.#nodeLink?.refuse(false);
    await Promise.all(
      NODES.map((name) =>
        this.#attempt(() => kube.patch(MESH_NODES, { namespace, name }, { spec: { scheduling: 'Active' } })),
      ),
    );
    await this.#attempt(() =>
      kube.patch(SHARD_SETS, { namespace, name: SET }, { spec: { shards: { count: this.#count } } }),
    );
    for (const key of this.#truth.keys()) {
      const name = key.slice(key.indexOf('/') + 1);
      await this.#attempt(() =>
        kube.patch(SHARD_ASSIGNMENTS, { namespace, name }, { spec: { state: null } }),
      );
    }
  }

  /** Ends everything; resolves with what was recorded. */
  async end(): Promise<RunHistory> {
    this.recorder.close();
    await Promise.all(this.#watchers.map((one) => one.stop()));
    for (const fleet of this.#stage.fleets) fleet.send({ type: 'stop', run: this.plan.run });
    this.#stage.forget(this.plan.run, this.namespace);
    await this.#nodeLink?.close();
    await this.#attempt(() => this.#stage.product.kube.delete(NAMESPACES, { name: this.namespace }));
    return this.recorder.history;
  }

  /** Which shards' owners are not settled, for a person. */
  describe(): string {
    return [...this.#truth]
      .filter(([, { phase, owner }]) => phase !== 'Active' || owner === undefined)
      .map(([key, { phase, owner }]) => `${key} ${phase} ${owner ?? '-'}`)
      .join(', ');
  }

  readonly #highest = new Map<string, number>();

  /** The storage stand-in: remembers the highest epoch of each shard, and refuses lower ones. */
  #write(node: string, key: string, epoch: number): void {
    const accepted = epoch >= (this.#highest.get(key) ?? 0);
    if (accepted) this.#highest.set(key, epoch);
    this.recorder.add({ kind: 'write', node, key, epoch, accepted });
  }

  async #do(step: Step): Promise<void> {
    const { namespace } = this;
    const { kube } = this.#stage.product;
    const node = 'node' in step ? { namespace, name: NODES[step.node]! } : undefined;
    const shard = 'shard' in step ? { namespace, name: this.#shardName(step.shard) } : undefined;
    const patchNode = (spec: object) => this.#attempt(() => kube.patch(MESH_NODES, node!, { spec }));
    const patchShard = (spec: object) => this.#attempt(() => kube.patch(SHARD_ASSIGNMENTS, shard!, { spec }));
    const patchSet = (spec: object) =>
      this.#attempt(() => kube.patch(SHARD_SETS, { namespace, name: SET }, { spec }));
    switch (step.do) {
      case 'pin':
        return patchShard({ owner: { pinned: node!.name } });
      case 'unpin':
        return patchShard({ owner: null });
      case 'note':
        return patchShard({ reason: `because of ${this.#random.below(1_000)}`, changeTicket: 'CHG-1' });
      case 'pause':
        return patchShard({ state: 'Paused' });
      case 'unpause':
        return patchShard({ state: 'Active' });
      case 'recreate':
        return this.#attempt(() => kube.delete(SHARD_ASSIGNMENTS, shard!));
      case 'drain':
        // One node at a time, so that there is always somewhere to go.
        for (const name of NODES)
          await this.#attempt(() =>
            kube.patch(
              MESH_NODES,
              { namespace, name },
              {
                spec: { scheduling: name === node!.name ? 'Drain' : 'Active' },
              },
            ),
          );
        return;
      case 'undrain':
        return patchNode({ scheduling: 'Active' });
      case 'weight':
        return patchNode({ weight: 1 + this.#random.below(3) });
      case 'endpoint':
        return patchNode({ endpoint: `https://${node!.name}-${this.#random.below(1_000)}.example.svc:8443` });
      case 'resize':
        this.#count = step.count;
        return patchSet({ shards: { count: step.count } });
      case 'handoff':
        return patchSet({ handoff: { mode: step.mode } });
      case 'recreateSet':
        await this.#attempt(() => kube.delete(SHARD_SETS, { namespace, name: SET }));
        return this.#createSet();
      case 'deleteNamespace':
        this.#deleted ??= this.#recreateNamespace();
        return;
      case 'partition':
        this.#later.push(this.#partition(step.forMs));
        return;
      case 'halfOpen':
      case 'hold':
        this.#later.push(this.#watchers[step.watcher]![step.do](step.forMs));
        return;
      case 'cut':
        return this.#watchers[step.watcher]!.cut();
      case 'switch':
        return this.#watchers[step.watcher]!.switch();
      case 'restartWatcher':
        return this.#watchers[step.watcher]!.restart();
    }
  }

  #shardName(index: number): string {
    return assignmentName(SET, String(index % Math.max(1, this.#count)).padStart(4, '0'));
  }

  async #partition(forMs: number): Promise<void> {
    this.#nodeLink?.refuse(true);
    this.#nodeLink?.reset();
    await sleep(forMs);
    this.#nodeLink?.refuse(false);
  }

  async #recreateNamespace(): Promise<void> {
    const { kube } = this.#stage.product;
    await this.#attempt(() => kube.delete(NAMESPACES, { name: this.namespace }));
    await this.#until('the namespace is gone', () => this.#truth.size === 0, OWNED_WITHIN_MS);
    await this.#createNamespace();
    await this.#createObjects();
  }

  /** Patient with a server that restarts; whoever else was faster has won, and what is not there need not be changed. */
  async #attempt(write: () => Promise<unknown>): Promise<void> {
    try {
      await patiently(write);
    } catch (error) {
      const expected =
        error instanceof ShardError && ['notFound', 'conflict', 'scopeMissing'].includes(error.code);
      if (!expected) throw error;
    }
  }

  /** The namespace of this name may still be on its way out. */
  async #createNamespace(): Promise<void> {
    const { kube } = this.#stage.product;
    const body = { apiVersion: 'v1', kind: 'Namespace' as const, metadata: { name: this.namespace } };
    const deadline = performance.now() + OWNED_WITHIN_MS;
    for (;;) {
      try {
        await patiently(() => kube.create(NAMESPACES, body));
        return;
      } catch (error) {
        if (!(error instanceof ShardError && error.code === 'conflict') || performance.now() > deadline)
          throw error;
        await sleep(100);
      }
    }
  }

  async #createObjects(): Promise<void> {
    const { kube } = this.#stage.product;
    const { namespace } = this;
    for (const name of NODES) {
      const node: MeshNode = {
        apiVersion: API_VERSION,
        kind: 'MeshNode',
        metadata: { name, namespace },
        spec: { weight: 1, endpoint: `https://${name}.example.svc:8443` },
      };
      await patiently(() => kube.create(MESH_NODES, node));
    }
    await this.#createSet();
  }

  async #createSet(): Promise<void> {
    const { kube } = this.#stage.product;
    const set: ShardSet = {
      apiVersion: API_VERSION,
      kind: 'ShardSet',
      metadata: { name: SET, namespace: this.namespace },
      spec: {
        shards: { count: this.#count },
        churn: { maxConcurrentMoves: 4 },
        handoff: { mode: 'Graceful', drainTimeout: '2s' },
      },
    };
    await this.#attempt(() => kube.create(SHARD_SETS, set));
  }

  async #startNodes(): Promise<void> {
    const { fleets, plane } = this.#stage;
    this.#nodeLink = await TcpProxy.start(Number(new URL(plane.url).port));
    const direct = await this.#stage.nodeIdentity();
    const through = await this.#stage.nodeIdentity(this.#nodeLink.url);
    const order = {
      type: 'start' as const,
      run: this.plan.run,
      namespace: this.namespace,
      leaseSeconds: LEASE_SECONDS,
      drainMs: DRAIN_MS,
    };
    const nodes = NODES.map((node) => ({ node, kubeconfig: node === PARTITIONED ? through : direct }));
    fleets[0].send({ ...order, nodes: nodes.filter(({ node }) => node !== SUSPENDED) });
    fleets[1].send({ ...order, nodes: nodes.filter(({ node }) => node === SUSPENDED) });
  }

  async #startWatchers(infos: readonly WatcherInfo[]): Promise<void> {
    const { places, ca, token } = this.#stage;
    const { namespace, recorder } = this;
    for (const info of infos) {
      const slowMs = SLOW[info.id] ?? 0;
      // Short waits between attempts: many resumes fit into a run.
      const random = () => 0.1 * this.#jitter.next();
      this.#watchers.push(
        await Watcher.start({
          info,
          namespace,
          places,
          ca,
          token,
          slowMs,
          random,
          recorder,
          first: this.#random.below(2),
        }),
      );
    }
  }

  #agrees(one: Watcher): boolean {
    const expected = new Map([...this.#truth].filter(([key, state]) => passes(one.info, key, state)));
    return differences(one.fold.shards, expected).length === 0;
  }

  #isSettled(): boolean {
    const states = [...this.#truth.values()];
    return states.length === this.#count && states.every(({ phase, owner }) => phase === 'Active' && owner);
  }

  #isQuiet(): boolean {
    return performance.now() - this.#changedAt > QUIET_FOR_MS;
  }

  async #until(what: string, done: () => boolean, withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (!done()) {
      if (performance.now() > deadline)
        throw new Error(
          `${this.namespace}: not within ${withinMs / 1_000} s: ${what}; ${this.#truth.size} shards of ${this.#count}, not at rest: ${this.describe()}`,
        );
      this.#stage.options.signal.throwIfAborted();
      await sleep(POLL_MS);
    }
  }
}
