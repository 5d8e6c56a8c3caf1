import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { systemClock } from '@meshkit/crds/clock';
import { ERRORS } from '@meshkit/shards/errors';
import { run } from './program.ts';
import type { Output } from './surroundings.ts';

const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort(new Error('interrupted')));

/** `head` closes our pipe when it has seen enough: that is the end of the work, not a failure. A full disk is one. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`error: standard output cannot be written: ${error.message}\n`);
  process.exit(ERRORS.unavailable.exit);
});

/** Whoever does not read our complaints still gets the exit code. */
process.stderr.on('error', () => undefined);

function outputOf(stream: NodeJS.WriteStream): Output {
  const plain = process.env.NO_COLOR !== undefined && process.env.NO_COLOR !== '';
  return {
    async write(text) {
      if (stream.write(text) || stream.destroyed) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const goOn = () => {
        stream.off('drain', goOn).off('close', goOn);
        resolve();
      };
      stream.once('drain', goOn).once('close', goOn);
      await promise;
    },
    width: stream.isTTY ? stream.columns : undefined,
    color: stream.isTTY === true && !plain && process.env.TERM !== 'dumb',
  };
}

async function below(path: string): Promise<string[] | undefined> {
  try {
    const entries = await readdir(path, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
    throw error;
  }
}

async function stdin(): Promise<string> {
  const chunks: Buffer[] = [];
  if (process.stdin.isTTY) process.stderr.write('reading from the terminal; Ctrl-D ends it\n');
  interrupted.signal.addEventListener('abort', () => process.stdin.destroy(), { once: true });
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

process.exitCode = await run(
  basename(process.env.MESHKIT_CALLED_AS ?? 'kubectl-mesh'),
  process.argv.slice(2),
  {
    stdout: outputOf(process.stdout),
    stderr: outputOf(process.stderr),
    env: process.env,
    clock: systemClock,
    random: Math.random,
    signal: interrupted.signal,
    files: { read: (path) => readFile(path, 'utf8'), below, stdin },
    connectApi: async (options) => new (await import('@meshkit/client/shard-client')).ShardClient(options),
    connectKube: async (options) => (await import('@meshkit/crds/kube-config')).loadKube(options),
    loadContext: async (options) => (await import('@meshkit/crds/kube-config')).loadKubeContext(options),
  },
);
