import { parseArgs } from 'node:util';
import { type Benchmark, table } from './report.ts';

/** `npm run bench -- NAME [--json] [--seed N] [--quick]`: a table on stderr; with --json the report as the last line of stdout. */
const BENCHMARKS: Record<string, () => Promise<Benchmark>> = {
  cli: async () => (await import('./cli.ts')).benchmarkCli,
  fanout: async () => (await import('./fanout.ts')).benchmarkFanout,
  journal: async () => (await import('./journal.ts')).benchmarkJournal,
  list: async () => (await import('./list.ts')).benchmarkList,
  placement: async () => (await import('./placement.ts')).benchmarkPlacement,
  propagation: async () => (await import('./propagation.ts')).benchmarkPropagation,
  resume: async () => (await import('./resume.ts')).benchmarkResume,
  simulate: async () => (await import('./simulate.ts')).benchmarkSimulate,
};

function usage(problem: string): never {
  const names = Object.keys(BENCHMARKS).join(', ');
  process.stderr.write(
    `${problem}; usage: npm run bench -- NAME [--json] [--seed N] [--quick], NAME one of: ${names}\n`,
  );
  process.exit(2);
}

function readArguments() {
  const options = {
    json: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
    quick: { type: 'boolean', default: false },
  } as const;
  try {
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    return usage(error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error));
  }
}

const { values, positionals } = readArguments();
const [name, ...rest] = positionals;
if (name === undefined) usage('no benchmark named');
if (!Object.hasOwn(BENCHMARKS, name)) usage(`there is no benchmark "${name}"`);
if (rest.length > 0) usage(`unexpected "${rest[0]}"`);
const seed = Number(values.seed);
if (!Number.isSafeInteger(seed)) usage(`--seed "${values.seed}" is not an integer`);

const benchmark = await BENCHMARKS[name]!();
const report = await benchmark({
  seed,
  quick: values.quick,
  progress: (line) => process.stderr.write(`${line}\n`),
});
process.stderr.write(`\n${table(report.rows)}\nfigures ${JSON.stringify(report.figures, null, 2)}\n`);
process.stderr.write(
  report.ok ? 'ok: every figure is within its bound\n' : 'NOT ok: a figure is out of its bound\n',
);
if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`);
process.exitCode = report.ok ? 0 : 1;
