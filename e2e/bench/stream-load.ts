import { setTimeout as sleep } from 'node:timers/promises';
import { type BenchProduct, NODES, type Target, type WatchOptions } from './bench-product.ts';
import { GeneratorProcess } from './load/generator-process.ts';
import type { Histogram } from './load/positions.ts';
import { cpuMs } from './load/process-usage.ts';
import type { ShardState } from './load/write-load.ts';

/** One stretch of changes, and what became of them. */
export interface Stretch {
  /** From the writer's answer to the watcher, tenths of milliseconds with how often. */
  delays: Histogram;
  changes: number;
  deliveries: number;
  /** Deliveries that there should have been. */
  expected: number;
  /** Writes that kube-apiserver refused for want of time. */
  refused: number;
  /** CPU time of the server under test, milliseconds. */
  cpu: number;
  /** Streams that ended by themselves. */
  lost: number;
}

/** Two: what a generator does must fit beside the server on a small machine, and one process is one core. */
const GENERATORS = 2;
const SLOW_SHARE = 0.01;
const TAIL_MS = 10_000;

/** Watch streams in generator processes, and a writer beside them. */
export class StreamLoad {
  readonly #product: BenchProduct;
  readonly #namespace: string;
  readonly #shards: ShardState[];
  readonly #watchers = Array.from({ length: GENERATORS }, () => new GeneratorProcess());
  readonly #slow = new GeneratorProcess();
  readonly #writer = new GeneratorProcess();
  #open = { target: undefined as Target | undefined, count: 0, filters: 0 };

  constructor(product: BenchProduct, namespace: string, shards: ShardState[]) {
    this.#product = product;
    this.#namespace = namespace;
    this.#shards = shards;
  }

  /** Opens `count` streams (filtered: a multiple of the filters); resolves with the milliseconds until all were live. */
  async open(
    target: Target,
    count: number,
    options: WatchOptions & { slow?: boolean } = {},
  ): Promise<number> {
    const { slow, ...watch } = options;
    this.#open = { target, count, filters: options.owners?.length ?? 0 };
    const asks = await Promise.all(
      this.#watchers.map((_, at) => {
        const owners = options.owners?.filter((_, index) => index % GENERATORS === at);
        return this.#product.watches(target, this.#namespace, count / GENERATORS, { ...watch, owners });
      }),
    );
    const started = performance.now();
    await Promise.all(this.#watchers.map((generator, at) => generator.ask('watch', asks[at]!)));
    const ms = performance.now() - started;
    if (slow) {
      const few = await this.#product.watches(target, this.#namespace, Math.round(count * SLOW_SHARE));
      await this.#slow.ask('watch', { ...few, slow: true });
    }
    return ms;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#watchers, this.#slow].map((generator) => generator.ask('unwatch', null)));
  }

  /** Changes at a steady pace, until the last of them has arrived everywhere, or nothing arrives any more. */
  async run(perSecond: number, forMs: number, under: Target): Promise<Stretch> {
    const { count, filters } = this.#open;
    const { url, ca } = this.#product.kube;
    const load = { url, ca, token: this.#product.operatorToken, shards: this.#shards, nodes: [...NODES] };
    // What streams say when they begin is no delivery.
    await Promise.all(this.#watchers.map((one) => one.ask('measured', { written: [] })));
    const before = cpuMs([under.pid()]);
    const { written, refused, shards } = await this.#writer.ask('write', { ...load, perSecond, forMs });
    for (const [at, shard] of shards.entries()) this.#shards[at] = shard;
    // A move is news to the watchers of the node that loses the shard, and of the one that gets it.
    const expected = written.length * (filters === 0 ? count : (2 * count) / filters);
    await this.#settled(written, expected);
    const cpu = cpuMs([under.pid()]) - before;
    const measured = await Promise.all(this.#watchers.map((one) => one.ask('measured', { written })));
    return {
      delays: merged(measured.map(({ delays }) => delays)),
      changes: written.length,
      deliveries: measured.reduce((sum, { deliveries }) => sum + deliveries, 0),
      expected,
      refused,
      cpu,
      lost: count - measured.reduce((sum, { open }) => sum + open, 0),
    };
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#watchers, this.#slow, this.#writer].map((generator) => generator.stop()));
  }

  async #settled(written: [number, number][], expected: number): Promise<void> {
    const deadline = performance.now() + TAIL_MS;
    let before = -1;
    for (;;) {
      const counts = await Promise.all(
        this.#watchers.map((generator) => generator.ask('arrived', { written })),
      );
      const arrived = counts.reduce((sum, count) => sum + count, 0);
      if (arrived >= expected || performance.now() > deadline) return;
      if (arrived === before && arrived > 0 && performance.now() > deadline - TAIL_MS / 2) return;
      before = arrived;
      await sleep(100);
    }
  }
}

function merged(histograms: readonly Histogram[]): Histogram {
  const counts = new Map<number, number>();
  for (const [bin, count] of histograms.flat()) counts.set(bin, (counts.get(bin) ?? 0) + count);
  return [...counts].sort(([a], [b]) => a - b);
}

/** As `distribution` of the report, of what a histogram holds; nearest rank, milliseconds. */
export function distributionOf(histogram: Histogram) {
  const n = histogram.reduce((sum, [, count]) => sum + count, 0);
  const rank = (share: number): number => {
    let left = Math.max(1, Math.ceil(share * n));
    for (const [bin, count] of histogram) {
      left -= count;
      if (left <= 0) return bin / 10;
    }
    return Number.NaN;
  };
  return { n, p50: rank(0.5), p95: rank(0.95), p99: rank(0.99), min: rank(0), max: rank(1) };
}

/** All stretches of one case as one. */
export function together(stretches: readonly Stretch[]): Stretch {
  const sum = (pick: (stretch: Stretch) => number) => stretches.reduce((total, one) => total + pick(one), 0);
  return {
    delays: merged(stretches.map(({ delays }) => delays)),
    changes: sum(({ changes }) => changes),
    deliveries: sum(({ deliveries }) => deliveries),
    expected: sum(({ expected }) => expected),
    refused: sum(({ refused }) => refused),
    cpu: sum(({ cpu }) => cpu),
    lost: sum(({ lost }) => lost),
  };
}
