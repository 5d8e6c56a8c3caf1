import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

/** `npm run faults`: see README.md beside this file. */
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '12' },
    seed: { type: 'string', default: '1' },
    'control-plane': { type: 'string', default: 'embedded' },
    class: { type: 'string', multiple: true },
    only: { type: 'string' },
    width: { type: 'string', default: '8' },
    patience: { type: 'string', default: '15' },
    out: { type: 'string' },
    keep: { type: 'boolean', default: false },
    check: { type: 'string' },
    plant: { type: 'string' },
    planted: { type: 'boolean', default: false },
    bug: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false },
  },
});

const began = performance.now();
const say = (line: string) => {
  process.stderr.write(`${((performance.now() - began) / 1_000).toFixed(1).padStart(7)} s  ${line}\n`);
};
const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort(new Error(name)));

function fail(message: string): never {
  process.stderr.write(`npm run faults: ${message}\n`);
  process.exit(2);
}

function whole(name: 'runs' | 'seed' | 'width' | 'patience', text: string): number {
  return /^\d{1,9}$/.test(text) ? Number(text) : fail(`--${name} ${text}: a whole number is needed`);
}

const kind = values['control-plane'];
if (kind !== 'real' && kind !== 'embedded') fail(`--control-plane ${kind}: use real or embedded`);

/** Imported only now: what is planted has to be there before the modules are. */
async function campaign() {
  const nodeArguments: string[] = [];
  if (values.plant !== undefined) {
    const { plant, registrationOf } = await import('./planted/plant.ts');
    nodeArguments.push('--import', registrationOf(values.plant));
    plant(values.plant);
  }
  const { runCampaign } = await import('./campaign.ts');
  const { isClean, shortfalls } = await import('./check.ts');
  const { FAULT_CLASSES } = await import('./schedule.ts');
  const classes = values.class?.map(
    (name) =>
      FAULT_CLASSES.find((one) => one === name) ?? fail(`--class ${name}: use ${FAULT_CLASSES.join(', ')}`),
  );
  const out = resolve(values.out ?? mkdtempSync(join(tmpdir(), 'meshkit-faults-')));
  const tally = await runCampaign({
    runs: whole('runs', values.runs),
    seed: whole('seed', values.seed),
    width: whole('width', values.width),
    patienceMs: whole('patience', values.patience) * 1_000,
    only: values.only === undefined ? undefined : Number(values.only),
    controlPlane: kind as 'real' | 'embedded',
    classes,
    out,
    keepAll: values.keep,
    nodeArguments,
    env: process.env,
    say,
    signal: stop.signal,
  });
  const missing = shortfalls(tally);
  for (const words of missing) say(`too little happened for this to show anything: ${words}`);
  return { answer: tally, ok: isClean(tally) && missing.length === 0 };
}

/** Whatever the file holds is judged; how much it is, was the business of the campaign. */
async function checkAgain(file: string) {
  const { checkRun, count, emptyTally, isClean } = await import('./check.ts');
  const { readHistories } = await import('./history.ts');
  const { report } = await import('./campaign.ts');
  const tally = emptyTally();
  for (const history of readHistories(file)) {
    const violations = checkRun(history);
    count(tally, history, violations);
    report(history, violations, undefined, say);
  }
  return { answer: tally, ok: isClean(tally) };
}

async function planted() {
  const { huntPlanted } = await import('./planted/hunt.ts');
  const answer = await huntPlanted({ say, signal: stop.signal, bugs: values.bug });
  return { answer, ok: answer.planted === answer.caught };
}

try {
  const { answer, ok } =
    values.check !== undefined
      ? await checkAgain(values.check)
      : values.planted
        ? await planted()
        : await campaign();
  process.stdout.write(`${JSON.stringify(answer, null, values.json ? undefined : 2)}\n`);
  process.exitCode = ok ? 0 : 1;
} catch (error) {
  process.stderr.write(`npm run faults: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = 2;
}
