import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SHARD_SETS } from '@meshkit/crds/resource';
import { planeChoice, startControlPlane } from '../control-plane/start.ts';
import { projectRoot } from '../start/child.ts';
import { Product } from '../start/product.ts';
import { fuzzer } from './tool.ts';

/**
 * `npm run fuzz:api`: requests made from the OpenAPI document, right and wrong ones, against the running product, all
 * checks on. Exit code 0 without a failure; where schemathesis cannot be had it says SKIPPED and why.
 */
const { values } = parseArgs({
  options: {
    'control-plane': { type: 'string', default: 'embedded' },
    seconds: { type: 'string', default: '90' },
    seed: { type: 'string' },
  },
});
const NAMESPACE = 'payments';
const SHARDS_WITHIN_MS = 60_000;

const began = performance.now();
const say = (line: string) =>
  void process.stderr.write(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${line}\n`);
const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort(new Error(name)));
const seconds = Number(values.seconds);
const signal = AbortSignal.any([stop.signal, AbortSignal.timeout((seconds + 600) * 1_000)]);

/** So that there is something to find: the quickstart, until each of its shards has an owner. */
async function populate(product: Product): Promise<void> {
  for (const file of ['00-namespace', '10-nodes', '20-shardset']) {
    await product.apply(`samples/01-quickstart/${file}.yaml`);
  }
  await product.startNodes(NAMESPACE, ['node-1', 'node-2', 'node-3', 'node-4', 'node-5']);
  const deadline = performance.now() + SHARDS_WITHIN_MS;
  for (;;) {
    const set = await product.kube.get(SHARD_SETS, { namespace: NAMESPACE, name: 'orders' }, { signal });
    const { shards = 0, owned = 0 } = set.status ?? {};
    if (shards > 0 && owned === shards) return;
    if (performance.now() > deadline) throw new Error(`only ${owned} of ${shards} shards are owned`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function fuzz(command: string, product: Product): Promise<number> {
  const token = await readFile(product.files.token, 'utf8');
  const args = [
    '--config-file',
    join(projectRoot, 'e2e/fuzz/schemathesis.toml'),
    'run',
    `${product.apiUrl}/openapi.json`,
    '--tls-verify',
    product.files.ca,
    '--header',
    `Authorization: Bearer ${token}`,
    '--max-time',
    values.seconds,
    ...(values.seed === undefined ? [] : ['--seed', values.seed]),
  ];
  const env = { ...process.env, SCHEMATHESIS_HOOKS: join(projectRoot, 'e2e/fuzz/hooks.py'), NO_COLOR: '1' };
  const child = spawn(command, args, {
    cwd: product.logs,
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
    signal,
  });
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once('error', reject);
  child.once('exit', (code) => resolve(code ?? 1));
  return promise;
}

const tool = await fuzzer(process.env, say, signal);
if (!tool.ok) {
  say(`SKIPPED: ${tool.reason}`);
} else {
  const kind = planeChoice(values['control-plane']);
  const controlPlane = await startControlPlane({ kind, env: process.env, log: say, signal });
  try {
    const product = await Product.start({ controlPlane, say, signal });
    try {
      await populate(product);
      say(`Fuzzing ${product.apiUrl} for up to ${seconds} s …`);
      process.exitCode = await fuzz(tool.command, product);
      const crashed = product.crashed()[0];
      if (crashed) throw new Error(`${crashed.name} ended by itself:\n${crashed.tail()}`);
    } finally {
      await product.stop();
    }
  } finally {
    await controlPlane.stop();
  }
}
