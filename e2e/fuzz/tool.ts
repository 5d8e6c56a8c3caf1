import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** The fuzzer, as its authors publish it on PyPI; it stays outside the repository. */
const PACKAGE = 'schemathesis';
const VERSION = '4.32.5';
const INSTALL_WITHIN_MS = 300_000;
const ANSWER_WITHIN_MS = 60_000;

const run = promisify(execFile);

export type Tool = { ok: true; command: string } | { ok: false; reason: string };

/** Finds schemathesis in the cache, or installs it there; `reason` says in one line why there is none. */
export async function fuzzer(
  env: Readonly<Record<string, string | undefined>>,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Tool> {
  const cache = env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache');
  const folder = join(cache, 'meshkit-shards', `${PACKAGE}-${VERSION}`);
  const bin = (name: string) => join(folder, 'bin', name);
  const works = () =>
    run(bin(PACKAGE), ['--version'], { timeout: ANSWER_WITHIN_MS, signal }).then(
      () => true,
      () => false,
    );
  if (await works()) return { ok: true, command: bin(PACKAGE) };
  signal.throwIfAborted();
  say(`Installing ${PACKAGE} ${VERSION} into ${folder} …`);
  try {
    await rm(folder, { recursive: true, force: true });
    await run('python3', ['-m', 'venv', folder], { timeout: INSTALL_WITHIN_MS, signal });
    const install = ['-m', 'pip', 'install', '--quiet', `${PACKAGE}==${VERSION}`];
    await run(bin('python'), install, { timeout: INSTALL_WITHIN_MS, signal });
  } catch (error) {
    signal.throwIfAborted();
    await rm(folder, { recursive: true, force: true });
    const { stderr = '', message } = error as { stderr?: string; message: string };
    const last = stderr.trim().split('\n').at(-1) || message.split('\n')[0];
    return { ok: false, reason: `${PACKAGE} ${VERSION} cannot be installed: ${last}` };
  }
  if (await works()) return { ok: true, command: bin(PACKAGE) };
  return { ok: false, reason: `${PACKAGE} ${VERSION} was installed, but does not start` };
}
