import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `npm run check`: everything about the sources that needs no running product. */
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

interface Outcome {
  ok: boolean;
  output: string;
}

function run(command: string, args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], timeout: 300_000 });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => resolve({ ok: false, output: String(error) }));
    child.on('close', (code) => resolve({ ok: code === 0, output: Buffer.concat(chunks).toString() }));
  });
}

/** Files git tracks or would track, so that a generated file nobody committed is noticed as well. */
async function fingerprint(): Promise<Map<string, string>> {
  const { ok, output } = await run('git', ['ls-files', '--cached', '--others', '--exclude-standard']);
  if (!ok || output === '')
    throw new Error(`git cannot tell which files there are: ${output || 'it names none'}`);
  const files = output.split('\n').filter((path) => path !== '' && existsSync(join(root, path)));
  return new Map(
    files.map((path) => [
      path,
      createHash('sha256')
        .update(readFileSync(join(root, path)))
        .digest('hex'),
    ]),
  );
}

async function generatedDrift(): Promise<Outcome> {
  const before = await fingerprint();
  const generated = await run(process.execPath, ['e2e/house/generate.ts']);
  if (!generated.ok) return generated;
  const after = await fingerprint();
  const drifted = [...after].filter(([path, hash]) => before.get(path) !== hash).map(([path]) => path);
  return drifted.length === 0
    ? { ok: true, output: '' }
    : { ok: false, output: `Out of date, now regenerated; review and commit:\n  ${drifted.join('\n  ')}` };
}

/** Style, layout and compatibility of the protobuf contract; the image is what was published last. */
async function protobuf(): Promise<Outcome> {
  const outcomes = await Promise.all([
    run('buf', ['lint', 'proto']),
    run('buf', ['format', '--diff', '--exit-code', 'proto']),
    run('buf', ['breaking', 'proto', '--against', 'proto/gen/image.binpb']),
  ]);
  return { ok: outcomes.every(({ ok }) => ok), output: outcomes.map(({ output }) => output).join('') };
}

const steps: [string, () => Promise<Outcome>][] = [
  ['types (tsc)', () => run('tsc', ['--noEmit', '-p', '.'])],
  [
    'lint and format (biome)',
    () => run('biome', ['ci', '--error-on-warnings', '--colors=off', '--max-diagnostics=20', '.']),
  ],
  ['dead code and dependencies (knip)', () => run('knip', ['--no-progress'])],
  ['import arrows (vitest)', () => run('vitest', ['run', '--project', 'unit', 'e2e/house'])],
  ['protobuf contract (buf)', protobuf],
  ['generated files', generatedDrift],
];

let failed = 0;
for (const [name, step] of steps) {
  const started = performance.now();
  const { ok, output } = await step().catch((error: Error) => ({ ok: false, output: error.message }));
  process.stdout.write(
    `${ok ? 'ok    ' : 'FAILED'} ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)\n`,
  );
  if (!ok) {
    failed += 1;
    process.stdout.write(`${output.trimEnd()}\n`);
  }
}
process.stdout.write(`check: ${steps.length - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
