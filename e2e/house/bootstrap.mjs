// Makes a fresh clone runnable: runs `npm ci` when node_modules is missing or older than the lock file.
// Dependency-free, and plain enough for whatever Node the machine happens to have: the Node that the
// project itself runs on comes from npm, so it is first in PATH once this has run.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const lock = join(root, 'package-lock.json');
const installed = join(root, 'node_modules', '.installed-lock.json');

if (!existsSync(installed) || !readFileSync(installed).equals(readFileSync(lock))) {
  process.stderr.write('Installing dependencies (npm ci), once per change of package-lock.json …\n');
  const started = Date.now();
  const npm = process.env.npm_execpath;
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const run = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: ['ignore', 2, 2] })
    : spawnSync('npm', args, { cwd: root, stdio: ['ignore', 2, 2], shell: process.platform === 'win32' });
  if (run.status !== 0) {
    process.stderr.write('npm ci failed; see the lines above. Nothing was started.\n');
    process.exit(run.status ?? 1);
  }
  copyFileSync(lock, installed);
  process.stderr.write(`Dependencies installed in ${((Date.now() - started) / 1000).toFixed(0)} s.\n`);
}
