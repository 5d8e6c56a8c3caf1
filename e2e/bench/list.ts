import { type BenchProduct, NODES, type Target, withBenchProduct } from './bench-product.ts';
import { GeneratorProcess } from './load/generator-process.ts';
import type { ListLoad, ListResult, RevalidationResult } from './load/list-load.ts';
import { cpuMs } from './load/process-usage.ts';
import type { ShardState } from './load/write-load.ts';
import { type Benchmark, distribution, machine, median, type Row, round, spread } from './report.ts';

const SMALL = 1_000;
const CLIENTS = 32;
const WATCHERS = 1_000;
const CHANGES_PER_SECOND = 100;
/** While one owner is asked for: enough that a tag of the whole list would never hold. */
const OTHERS_PER_SECOND = 20;
const LOADED_WARM_UPS = 1;
/** Of conditional lists, and how many of them make code that has not run yet run as it does later. */
const ROUND_MS = 1_000;
const SHORT_WARM_UPS = 3;

interface Extent {
  /** Shards of the second case. */
  large: number;
  warmUps: number;
  rounds: number;
  /** Lists of each subject in a round. */
  lists: number;
  loadedRounds: number;
  loadedMs: number;
}

const FULL: Extent = { large: 10_000, warmUps: 2, rounds: 7, lists: 15, loadedRounds: 5, loadedMs: 4_000 };
const QUICK: Extent = { large: 2_000, warmUps: 1, rounds: 2, lists: 5, loadedRounds: 1, loadedMs: 2_000 };

interface Scene {
  product: BenchProduct;
  lister: GeneratorProcess;
  writer: GeneratorProcess;
  watcher: GeneratorProcess;
  extent: Extent;
  progress: (line: string) => void;
}

/** Lists of 1,000 and 10,000 shards, all pages, beside kube-apiserver's LIST from its watch cache of the same objects. */
export const benchmarkList: Benchmark = ({ progress, quick }) =>
  withBenchProduct(progress, async (product) => {
    const extent = quick ? QUICK : FULL;
    const generators = [new GeneratorProcess(), new GeneratorProcess(), new GeneratorProcess()] as const;
    const [lister, writer, watcher] = generators;
    const scene: Scene = { product, lister, writer, watcher, extent, progress };
    try {
      const rows: Row[] = [];
      progress(`writing ${SMALL} and ${extent.large} shards`);
      const shards = await product.shards(namespaceOf(SMALL), SMALL);
      await product.shards(namespaceOf(extent.large), extent.large);
      for (const size of [SMALL, extent.large]) rows.push(...(await sequential(scene, size)));
      const unmodified = await notModified(scene, shards);
      rows.push(unmodified.row, ...(await loaded(scene, shards)));
      return report(rows, extent.large, unmodified.hitRate);
    } finally {
      await Promise.all(generators.map((generator) => generator.stop()));
    }
  });

function report(rows: Row[], large: number, notModifiedHitRate: number) {
  const found = (subject: string, name: string) =>
    rows.find((row) => row.subject === subject && row.case === name) as Row;
  const ratio = (name: string, column: string, peer = 'kube-apiserver') =>
    round(Number(found('meshkit', name)[column]) / Number(found(peer, name)[column]));
  const small = sequentialName(SMALL);
  const figures = {
    p95Ms: Number(found('meshkit', small).p95Median),
    p95RatioToKube: ratio(small, 'p95Median'),
    p95RatioToKubeTable: ratio(small, 'p95Median', TABLE_SUBJECT),
    p95Ms10000: Number(found('meshkit', sequentialName(large)).p95Median),
    p95RatioToKube10000: ratio(sequentialName(large), 'p95Median'),
    loadedP95RatioToKube: ratio(LOADED, 'p95Median'),
    cpuPerListRatioToKube: ratio(small, 'cpuMsEach'),
    notModifiedP95Ms: Number(found('meshkit', NOT_MODIFIED).p95Median),
    notModifiedHitRate: round(notModifiedHitRate),
  };
  const ok =
    figures.p95RatioToKube <= 0.2 &&
    figures.loadedP95RatioToKube <= 0.3 &&
    figures.notModifiedP95Ms <= 2 &&
    figures.notModifiedHitRate >= 0.99;
  return { bench: 'list', ok, machine: machine(), figures, rows };
}

const namespaceOf = (size: number): string => `bench-${size}`;
const sequentialName = (size: number): string => `${size} shards, one client`;
const LOADED = `${SMALL} shards, ${CLIENTS} clients, ${WATCHERS} watchers, ${CHANGES_PER_SECOND} changes/s`;
const NOT_MODIFIED = `list of one owner with If-None-Match, ${OTHERS_PER_SECOND} changes/s of others`;

/** The whole list, whatever it takes: pages of 1,000 from us, one answer from kube-apiserver. */
function listOf({ subject, url, ca, headers }: Target, size: number): Omit<ListLoad, 'clients'> {
  const namespace = namespaceOf(size);
  if (subject === 'meshkit') {
    return { url, ca, headers, path: `/meshkit/shards?namespace=${namespace}&pageSize=1000`, paged: true };
  }
  // From the watch cache, as informers ask; a limit would be passed over. `includeObject` is for tables only.
  const path = `/apis/meshkit.omnirelay.io/v1alpha1/namespaces/${namespace}/shardassignments?resourceVersion=0`;
  return {
    url,
    ca,
    headers: { accept: 'application/json', ...headers },
    path: `${path}&includeObject=None`,
    paged: false,
  };
}

/**
 * kube-apiserver's own short form: the columns that `kubectl get` prints, which are about what we serve of a shard. Its
 * full objects are what clients of a watch cache ask for, and what the bounds are held against (docs/decisions.md).
 */
const TABLE_SUBJECT = 'kube-apiserver, table';
const TABLE = 'application/json;as=Table;g=meta.k8s.io;v=v1';

async function sequential({ product, lister, extent, progress }: Scene, size: number): Promise<Row[]> {
  progress(`${sequentialName(size)}: ${extent.rounds} rounds, ${extent.lists} lists each, subjects in turn`);
  const { meshkit, kube } = product;
  const short = { ...kube, subject: TABLE_SUBJECT, headers: { ...kube.headers, accept: TABLE } };
  const subjects = [meshkit, kube, short].map((target) => ({
    target,
    rounds: [] as { result: ListResult; cpu: number }[],
  }));
  const times = size > 1_000 ? Math.max(3, Math.round(extent.lists / 3)) : extent.lists;
  for (let at = 0; at < extent.warmUps + extent.rounds; at++) {
    for (const { target, rounds } of subjects) {
      const before = cpuMs([target.pid()]);
      const result = await lister.ask('list', { ...listOf(target, size), clients: 1, times });
      if (result.items !== size)
        throw new Error(`${target.subject} listed ${result.items} of ${size} shards`);
      if (at >= extent.warmUps) rounds.push({ result, cpu: cpuMs([target.pid()]) - before });
    }
  }
  return subjects.map(({ target, rounds }) => ({
    subject: target.subject,
    case: sequentialName(size),
    unit: 'ms',
    ...distribution(rounds.flatMap(({ result }) => result.ms)),
    ...ofRounds(rounds.map(({ result }) => distribution(result.ms).p95)),
    cpuMsEach: round(rounds.reduce((sum, { cpu }) => sum + cpu, 0) / (rounds.length * times)),
    bytes: rounds[0]!.result.bytes,
  }));
}

/** What is left when a noisy round is not to decide. */
function ofRounds(p95s: readonly number[]) {
  return { p95Median: round(median(p95s)), p95Spread: spread(p95s) };
}

/** While each subject's own watchers are told of 100 changes a second, 32 clients list without a pause. */
async function loaded(scene: Scene, shards: ShardState[]): Promise<Row[]> {
  const { product, lister, watcher, extent, progress } = scene;
  progress(LOADED);
  const subjects = [product.meshkit, product.kube].map((target) => ({
    target,
    rounds: [] as number[][],
    changes: 0,
  }));
  for (let at = 0; at < LOADED_WARM_UPS + extent.loadedRounds; at++) {
    for (const subject of subjects) {
      const { target } = subject;
      await watcher.ask('watch', await product.watches(target, namespaceOf(SMALL), WATCHERS));
      const writing = write(scene, shards, extent.loadedMs);
      const load = { ...listOf(target, SMALL), clients: CLIENTS, forMs: extent.loadedMs };
      const { ms } = await lister.ask('list', load);
      const changes = await writing;
      await watcher.ask('unwatch', null);
      progress(`${target.subject}: ${ms.length} lists, p95 ${distribution(ms).p95} ms, ${changes} changes`);
      if (at < LOADED_WARM_UPS) continue;
      subject.rounds.push(ms);
      subject.changes += changes;
    }
  }
  return subjects.map(({ target, rounds, changes }) => ({
    subject: target.subject,
    case: LOADED,
    unit: 'ms',
    ...distribution(rounds.flat()),
    ...ofRounds(rounds.map((ms) => distribution(ms).p95)),
    changesPerSecond: round((changes * 1_000) / (rounds.length * extent.loadedMs)),
  }));
}

/** Resolves with how many changes were made. */
async function write(
  { product, writer }: Scene,
  shards: ShardState[],
  forMs: number,
  perSecond = CHANGES_PER_SECOND,
): Promise<number> {
  const { url, ca } = product.kube;
  const load = { url, ca, token: product.operatorToken, shards, nodes: [...NODES] };
  const result = await writer.ask('write', { ...load, perSecond, forMs });
  for (const [at, shard] of result.shards.entries()) shards[at] = shard;
  return result.written.length;
}

/** One owner is asked for over and over, by a client that knows the answer, while shards move between the others. */
async function notModified(scene: Scene, shards: ShardState[]): Promise<{ row: Row; hitRate: number }> {
  const { product, lister, extent, progress } = scene;
  progress(NOT_MODIFIED);
  const { url, ca, headers } = product.meshkit;
  const own = NODES.at(-1) as string;
  const path = `/meshkit/shards?namespace=${namespaceOf(SMALL)}&owner=${own}&pageSize=1000`;
  // Moved along by one each time, a shard of the first half never reaches the last node in the time of a bench.
  const others = shards.filter(({ owner }) => owner < NODES.length / 2);
  const load = { url, ca, headers, path, pauseMs: 2, forMs: ROUND_MS };
  const count = SHORT_WARM_UPS + extent.rounds;
  const writing = write(scene, others, count * ROUND_MS, OTHERS_PER_SECOND);
  const rounds: RevalidationResult[] = [];
  for (let at = 0; at < count; at++) rounds.push(await lister.ask('revalidate', load));
  await writing;
  for (const moved of others) shards[shards.findIndex(({ name }) => name === moved.name)] = moved;
  const measured = rounds.slice(SHORT_WARM_UPS);
  const ms = measured.map((round) => round.ms);
  const row: Row = {
    subject: 'meshkit',
    case: NOT_MODIFIED,
    unit: 'ms',
    ...distribution(ms.flat()),
    ...ofRounds(ms.map((some) => distribution(some).p95)),
  };
  return { row, hitRate: measured.reduce((sum, { notModified }) => sum + notModified, 0) / ms.flat().length };
}
