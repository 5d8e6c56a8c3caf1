import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { projectRoot } from '../start/child.ts';
import { type BenchProduct, withBenchProduct } from './bench-product.ts';
import { type Benchmark, distribution, machine, median, type Row, round, spread } from './report.ts';

const SHARDS = 1_000;
const NAMESPACE = `bench-${SHARDS}`;
const LAUNCHER = join(projectRoot, 'kubectl-plugin/dist/kubectl-mesh');
const WARM_UPS = 2;
const DEADLINE_MS = 30_000;

interface Subject {
  subject: string;
  command: string;
  words: readonly string[];
  /** Lines that it prints: a header, and a row for each shard. */
  lines: number;
}

interface Run {
  /** From just before the process is started to the first row after the header. */
  firstRowMs: number;
  /** To its end. */
  totalMs: number;
}

/** Process start to first row of 1,000 shards, beside `kubectl get shards` of the same objects. */
export const benchmarkCli: Benchmark = ({ progress, quick }) =>
  withBenchProduct(progress, async (product) => {
    progress('bundling the CLI');
    const built = spawnSync(process.execPath, [join(projectRoot, 'e2e/house/build-cli.ts')]);
    if (built.status !== 0) throw new Error(`the CLI cannot be bundled: ${built.stderr}`);
    progress(`writing ${SHARDS} shards`);
    await product.shards(NAMESPACE, SHARDS);
    const subjects = subjectsOf(product);
    const runs = new Map(subjects.map(({ subject }) => [subject, [] as Run[]]));
    const rounds = quick ? 3 : 15;
    progress(`${rounds} rounds, subjects in turn`);
    const env = environment(product);
    for (let at = 0; at < WARM_UPS + rounds; at++) {
      for (const subject of subjects) {
        const run = await timed(subject, env);
        if (at >= WARM_UPS) runs.get(subject.subject)?.push(run);
      }
    }
    return report(runs);
  });

function subjectsOf({ product }: BenchProduct): Subject[] {
  const { kubectl } = product.controlPlane;
  if (kubectl === undefined) throw new Error('the control plane brings no kubectl to compare with');
  const lines = SHARDS + 1;
  const list = ['shards', 'list', '-n', NAMESPACE];
  return [
    { subject: 'meshkit', command: LAUNCHER, words: [...list, '--mode', 'api'], lines },
    { subject: 'kubectl', command: kubectl, words: ['get', 'shards', '-n', NAMESPACE], lines },
    { subject: 'meshkit, direct', command: LAUNCHER, words: [...list, '--mode', 'direct'], lines },
    { subject: 'meshkit, by kubectl', command: kubectl, words: ['mesh', ...list, '--mode', 'api'], lines },
    { subject: 'node, nothing', command: process.execPath, words: ['-e', 'console.log("\\n")'], lines: 2 },
  ];
}

/** kubectl keeps what it discovers in HOME; the warm-up fills it, as it is filled on anybody's machine. */
function environment({ product }: BenchProduct): NodeJS.ProcessEnv {
  const home = join(product.logs, 'home');
  mkdirSync(home, { recursive: true });
  const path = [dirname(LAUNCHER), dirname(process.execPath), process.env.PATH].join(':');
  return { PATH: path, HOME: home, KUBECONFIG: product.files.kubeconfig, MESHKIT_NODE: process.execPath };
}

function timed({ subject, command, words, lines }: Subject, env: NodeJS.ProcessEnv): Promise<Run> {
  return new Promise((resolve, reject) => {
    let [stdout, stderr] = ['', ''];
    let firstRowMs = Number.NaN;
    const began = performance.now();
    const child = spawn(command, words, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: DEADLINE_MS });
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      if (Number.isNaN(firstRowMs) && stdout.split('\n').length > 2) firstRowMs = performance.now() - began;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      const totalMs = performance.now() - began;
      const printed = stdout.split('\n').length - 1;
      if (code === 0 && printed >= lines) resolve({ firstRowMs, totalMs });
      else reject(new Error(`${subject} ended with ${code} after ${printed} of ${lines} lines: ${stderr}`));
    });
  });
}

function report(runs: ReadonlyMap<string, Run[]>) {
  const rows = [...runs].flatMap(([subject, all]): Row[] => [
    rowOf(subject, 'process start to first row', all, 'firstRowMs'),
    rowOf(subject, 'process start to its end', all, 'totalMs'),
  ]);
  const of = (subject: string, key: keyof Run) => median((runs.get(subject) ?? []).map((run) => run[key]));
  const figures = {
    firstRowMs: round(of('meshkit', 'firstRowMs')),
    ratioToKubectl: round(of('meshkit', 'firstRowMs') / of('kubectl', 'firstRowMs')),
    allRowsMs: round(of('meshkit', 'totalMs')),
    allRowsRatioToKubectl: round(of('meshkit', 'totalMs') / of('kubectl', 'totalMs')),
    directFirstRowMs: round(of('meshkit, direct', 'firstRowMs')),
    nodeAloneMs: round(of('node, nothing', 'firstRowMs')),
    bundleKiB: round(Math.round(statSync(`${LAUNCHER}.mjs`).size / 1024)),
  };
  const ok = figures.firstRowMs <= 150 && figures.ratioToKubectl <= 1;
  return { bench: 'cli', ok, machine: machine(), figures, rows };
}

function rowOf(subject: string, name: string, runs: readonly Run[], key: keyof Run): Row {
  const ms = runs.map((run) => run[key]);
  return { subject, case: `${name}, ${SHARDS} shards`, unit: 'ms', ...distribution(ms), spread: spread(ms) };
}
