import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { ShardClient } from '@meshkit/client/shard-client';
import { systemClock } from '@meshkit/crds/clock';
import { loadKube, loadKubeContext } from '@meshkit/crds/kube-config';
import { run } from './program.ts';
import type { Output } from './surroundings.ts';

const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort(new Error('interrupted')));

/** `head` closes our pipe when it has seen enough: that is the end of the work, not a failure. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

function outputOf(stream: NodeJS.WriteStream): Output {
  const plain = process.env.NO_COLOR !== undefined && process.env.NO_COLOR !== '';
  return {
    async write(text) {
      if (stream.write(text)) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      stream.once('drain', resolve);
      await promise;
    },
    width: stream.isTTY ? stream.columns : undefined,
    color: stream.isTTY === true && !plain && process.env.TERM !== 'dumb',
  };
}

process.exitCode = await run(
  basename(process.env.MESHKIT_CALLED_AS ?? 'kubectl-mesh'),
  process.argv.slice(2),
  {
    stdout: outputOf(process.stdout),
    stderr: outputOf(process.stderr),
    env: process.env,
    clock: systemClock,
    signal: interrupted.signal,
    readFile: (path) => readFile(path, 'utf8'),
    connectApi: (options) => new ShardClient(options),
    connectKube: loadKube,
    loadContext: loadKubeContext,
  },
);
