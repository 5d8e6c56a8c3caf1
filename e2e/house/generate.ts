import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Runs every package's `src/generate.ts`; `npm run check` then sees whether what is checked in still matches. */
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
for (const script of globSync('*/src/generate.ts', { cwd: root }).sort()) {
  const run = spawnSync(process.execPath, [script], { cwd: root, stdio: 'inherit', timeout: 120_000 });
  if (run.status !== 0) {
    process.stderr.write(`generate: ${script} failed\n`);
    process.exit(1);
  }
}
