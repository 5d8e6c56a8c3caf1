import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binarySettings } from '../control-plane/binaries.ts';
import { ensureBinaries } from '../control-plane/ensure-binaries.ts';

/**
 * `npm run test:real`: the `real` tests, with the binaries downloaded or built first when they are not at hand.
 * A skipped test is a failure here. Arguments are handed on to vitest.
 */
const say = (line: string) => void process.stderr.write(`${line}\n`);
const vitest = join(fileURLToPath(import.meta.resolve('vitest/package.json')), '..', 'vitest.mjs');

/** Resolves to the exit code; Ctrl-C in a terminal reaches vitest by itself, so it is only waited for. */
function runVitest(report: string): Promise<number> {
  const args = [
    'run',
    '--project',
    'real',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
  ];
  const child = spawn(process.execPath, [vitest, ...args, ...process.argv.slice(2)], { stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(signal ? 1 : (code ?? 1)));
  });
}

async function skippedIn(report: string): Promise<string[]> {
  const { testResults } = JSON.parse(await readFile(report, 'utf8')) as {
    testResults: { name: string; assertionResults: { status: string; fullName: string }[] }[];
  };
  return testResults.flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status !== 'passed' && status !== 'failed')
      .map(({ status, fullName }) => `${status}: ${name}: ${fullName}`),
  );
}

const folder = await mkdtemp(join(tmpdir(), 'meshkit-test-real-'));
const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => stop.abort(new Error(`stopped by ${name}`)));
try {
  const binaries = await ensureBinaries({
    settings: binarySettings(process.env),
    build: true,
    log: say,
    signal: stop.signal,
  });
  say(`Kubernetes ${binaries.version} from ${binaries.folder}`);
  const report = join(folder, 'report.json');
  const code = await runVitest(report);
  const skipped = code === 0 ? await skippedIn(report) : [];
  for (const line of skipped) say(line);
  if (skipped.length > 0) say(`${skipped.length} tests did not run: the real tier has to run in full.`);
  process.exitCode = code || (skipped.length > 0 ? 1 : 0);
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
