import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('..', import.meta.url));
const IMAGE = 'gen/image.binpb';

/** Runs buf in `proto/`; it works offline, and finds its plugin in node_modules. Throws with what it printed. */
function buf(...args: string[]): void {
  const { status, stdout, stderr, error } = spawnSync('../node_modules/.bin/buf', args, {
    cwd: folder,
    encoding: 'utf8',
    timeout: 60_000,
  });
  if (status !== 0) throw new Error(`buf ${args.join(' ')}: ${error ?? `${stdout}${stderr}`}`);
}

/**
 * Writes `gen/`: TypeScript for every message, and the image, which is the published contract: what reflection
 * serves, and what the next change is held against. An image is never replaced by one that breaks its clients; whoever
 * means to (before anybody has clients) deletes it first.
 */
if (import.meta.main) {
  if (existsSync(`${folder}/${IMAGE}`)) buf('breaking', '--against', IMAGE);
  for (const generated of ['google', 'meshkit']) {
    rmSync(`${folder}/gen/${generated}`, { recursive: true, force: true });
  }
  buf('generate');
  buf('build', '--exclude-source-info', '--output', IMAGE);
}
