import { setTimeout as sleep } from 'node:timers/promises';
import { type BenchProduct, NODES, type Target, withBenchProduct } from './bench-product.ts';
import { GeneratorProcess } from './load/generator-process.ts';
import { residentBytes } from './load/process-usage.ts';
import { type Benchmark, distribution, machine, median, type Row, round, spread } from './report.ts';
import { distributionOf, StreamLoad, type Stretch, together } from './stream-load.ts';

const NAMESPACE = 'bench';
const SHARDS = 1_000;
const CHANGES_PER_SECOND = 20;
const MOST = 5_000;

interface Extent {
  rounds: number;
  /** Of changes in a round of each case. */
  runMs: number;
  reconnects: number;
}

const FULL: Extent = { rounds: 5, runMs: 3_000, reconnects: 5 };
const QUICK: Extent = { rounds: 1, runMs: 2_000, reconnects: 1 };

interface Case {
  target: Target;
  streams: number;
  filtered: boolean;
  stretches: Stretch[];
}

/** 20 changes a second told to 100 … 5,000 streams, by every transport, beside kube-apiserver's watch of the same objects. */
export const benchmarkFanout: Benchmark = ({ progress, quick }) =>
  withBenchProduct(progress, async (product) => {
    const extent = quick ? QUICK : FULL;
    progress(`writing ${SHARDS} shards`);
    const shards = await product.shards(NAMESPACE, SHARDS);
    const load = new StreamLoad(product, NAMESPACE, shards);
    try {
      const bytesPerStream = await memory(product, load, progress);
      const cases = casesOf(product);
      // The first round warms up: code is compiled, caches are filled.
      for (let at = 0; at <= extent.rounds; at++) {
        for (const one of cases) {
          await load.open(one.target, one.streams, { owners: one.filtered ? NODES : undefined, slow: true });
          const stretch = await load.run(CHANGES_PER_SECOND, extent.runMs, one.target);
          await load.close();
          if (at > 0) one.stretches.push(stretch);
          progress(`round ${at}: ${one.target.subject}, ${nameOf(one)}: ${told(stretch)}`);
        }
      }
      const reconnects = await reconnect(product, load, extent, progress);
      return report(product, cases, bytesPerStream, reconnects);
    } finally {
      await load.stop();
    }
  });

function casesOf({ meshkit, grpc, kube }: BenchProduct): Case[] {
  const one = (target: Target, streams: number, filtered = false): Case => {
    return { target, streams, filtered, stretches: [] };
  };
  return [
    // What changes cost a server by themselves; what deliveries cost is what comes on top.
    ...[meshkit, kube].map((target) => one(target, 0)),
    ...[meshkit, grpc, kube].map((target) => one(target, 100)),
    ...[meshkit, grpc, kube].map((target) => one(target, 1_000)),
    ...[meshkit, grpc].map((target) => one(target, MOST)),
    ...[meshkit, grpc, kube].map((target) => one(target, 1_000, true)),
    ...[meshkit, grpc].map((target) => one(target, MOST, true)),
  ];
}

const told = ({ delays, deliveries }: Stretch): string =>
  deliveries > 0 ? `p99 ${distributionOf(delays).p99} ms` : 'nobody watches';

const nameOf = ({ streams, filtered }: Case): string =>
  `${streams} streams, ${filtered ? `${NODES.length} filters` : 'unfiltered'}`;

/** Growth of the server when it first holds 5,000 idle streams; garbage that it has not collected counts. */
async function memory(
  product: BenchProduct,
  load: StreamLoad,
  progress: (line: string) => void,
): Promise<number> {
  const { meshkit } = product;
  // One of each first, so that what is loaded once is not taken for a cost of streams.
  await load.open(meshkit, 200);
  await load.close();
  await sleep(1_000);
  const before = residentBytes(meshkit.pid());
  const ms = await load.open(meshkit, MOST);
  await sleep(2_000);
  const bytes = (residentBytes(meshkit.pid()) - before) / MOST;
  progress(`${MOST} streams are live after ${Math.round(ms)} ms and take ${Math.round(bytes)} bytes each`);
  await load.close();
  return bytes;
}

/** All streams of a transport are cut, and come back at once with a token, while one client goes on listing. */
async function reconnect(
  product: BenchProduct,
  load: StreamLoad,
  extent: Extent,
  progress: (line: string) => void,
) {
  const lister = new GeneratorProcess();
  const { url, ca, headers } = product.meshkit;
  const path = `/meshkit/shards?namespace=${NAMESPACE}&pageSize=1000`;
  const lists = { url, ca, headers, path, paged: true, clients: 1 };
  try {
    const rounds = { sse: [] as number[], grpc: [] as number[], lists: [] as number[] };
    for (let at = 0; at < extent.reconnects; at++) {
      for (const target of [product.meshkit, product.grpc]) {
        await load.open(target, MOST);
        const resumeToken = await tokenOf(product);
        await load.run(CHANGES_PER_SECOND, 500, target);
        const listing = lister.ask('list', { ...lists, forMs: 2_000 });
        const started = performance.now();
        await load.close();
        await load.open(target, MOST, { resumeToken });
        const ms = performance.now() - started;
        rounds[target === product.grpc ? 'grpc' : 'sse'].push(ms);
        rounds.lists.push(...(await listing).ms);
        await load.close();
        progress(`${target.subject}: all ${MOST} streams are back after ${Math.round(ms)} ms`);
      }
    }
    return rounds;
  } finally {
    await lister.stop();
  }
}

async function tokenOf({ product, meshkit }: BenchProduct): Promise<string> {
  const { ShardClient } = await import('@meshkit/client/shard-client');
  const client = new ShardClient({
    server: product.apiUrl,
    ca: meshkit.ca,
    token: { file: product.files.token },
  });
  try {
    const { value } = await client.pages({ namespace: NAMESPACE }, { pageSize: 1 }).next();
    if (!value?.resumeToken) throw new Error('a list came without a resume token');
    return value.resumeToken;
  } finally {
    await client.close();
  }
}

function report(
  product: BenchProduct,
  cases: Case[],
  bytesPerStream: number,
  reconnects: { sse: number[]; grpc: number[]; lists: number[] },
) {
  const find = (target: Target, streams: number) =>
    cases.find((one) => one.target === target && one.streams === streams && !one.filtered) as Case;
  const idle = new Map(
    [product.meshkit, product.kube].map((target) => {
      const { cpu, changes } = together(find(target, 0).stretches);
      return [target.pid(), cpu / changes];
    }),
  );
  const watched = cases.filter(({ streams }) => streams > 0);
  const rows = watched.map((one) => row(one, idle.get(one.target.pid()) ?? 0));
  const found = (target: Target, streams: number) => rows[watched.indexOf(find(target, streams))] as Row;
  const [ours, kube] = [found(product.meshkit, 1_000), found(product.kube, 1_000)];
  const figures = {
    p99MsSse1000: Number(ours.p99Median),
    p99RatioToKube1000: round(Number(ours.p99Median) / Number(kube.p99Median)),
    p99MsSse5000: Number(found(product.meshkit, MOST).p99Median),
    p99MsGrpc1000: Number(found(product.grpc, 1_000).p99Median),
    p99MsGrpc5000: Number(found(product.grpc, MOST).p99Median),
    bytesPerStreamSse: Math.round(bytesPerStream),
    cpuPerDeliveryRatioToKube: round(Number(ours.cpuUsEach) / Number(kube.cpuUsEach)),
    reconnectAllMs5000: Math.round(Math.max(...reconnects.sse)),
    reconnectAllMsGrpc5000: Math.round(Math.max(...reconnects.grpc)),
    missed: rows.reduce(
      (sum, { subject, missed }) => sum + (subject === 'kube-apiserver' ? 0 : Number(missed)),
      0,
    ),
  };
  const ok =
    figures.p99RatioToKube1000 <= 1 &&
    figures.cpuPerDeliveryRatioToKube <= 0.25 &&
    figures.reconnectAllMs5000 <= 5_000 &&
    figures.missed === 0;
  const back = `all of ${MOST} streams cut, until all are live again`;
  rows.push(
    { subject: 'meshkit', case: back, unit: 'ms', ...distribution(reconnects.sse) },
    { subject: 'meshkit-grpc', case: back, unit: 'ms', ...distribution(reconnects.grpc) },
    {
      subject: 'meshkit',
      case: `list of ${SHARDS} shards meanwhile, one client`,
      unit: 'ms',
      ...distribution(reconnects.lists),
    },
  );
  return { bench: 'fanout', ok, machine: machine(), figures, rows };
}

function row(one: Case, cpuPerChange: number): Row {
  const all = together(one.stretches);
  const p99s = one.stretches.map(({ delays }) => distributionOf(delays).p99);
  return {
    subject: one.target.subject,
    case: nameOf(one),
    unit: 'ms from the write',
    ...distributionOf(all.delays),
    p99Median: round(median(p99s)),
    p99Spread: spread(p99s),
    cpuUsEach: microsOf(all, cpuPerChange),
    missed: all.expected - all.deliveries,
    lost: all.lost,
    refused: all.refused,
  };
}

/** CPU of a delivery; where there are so few that what changes cost by themselves hides them, nobody can say. */
function microsOf({ cpu, changes, deliveries }: Stretch, cpuPerChange: number): number | string {
  const ms = cpu - changes * cpuPerChange;
  return deliveries < 100 * changes || ms <= 0 ? '-' : round((1_000 * ms) / deliveries);
}
