import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, expect, inject, test } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
let started: ChildProcess | undefined;

afterEach(() => {
  started?.kill('SIGINT');
});

/** What `npm start` runs, up to the tour that it prints. */
async function start(kind: string) {
  const child = spawn(process.execPath, ['e2e/start/main.ts', '--control-plane', kind], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  started = child;
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  let [tour, progress] = ['', ''];
  child.stderr.on('data', (chunk) => {
    progress += chunk;
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      tour += chunk;
      if (tour.includes('Ctrl-C stops everything')) resolve();
    });
    ended.then((code) => reject(new Error(`ended with ${code}:\n${progress}`)));
  });
  return { child, ended, tour, progress };
}

function answers(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => resolve(true));
    socket.once('error', () => resolve(false)).once('connect', () => socket.destroy());
  });
}

test('npm start brings up the product, says how to use it, and Ctrl-C leaves nothing behind', async () => {
  const { kind } = inject('controlPlane');
  const { child, ended, tour } = await start(kind);
  expect(tour).toContain('64 shards of ShardSet payments/orders on 5 nodes in 3 zones');
  expect(tour).toContain(`control plane  ${kind} Kubernetes v`);
  expect(tour.match(/^ {2}[1-5]\. (kubectl|curl) /gm)).toHaveLength(5);
  const found = (pattern: RegExp) => pattern.exec(tour)?.[1] ?? `not in the tour: ${pattern}`;
  const kubeconfig = found(/export KUBECONFIG=(\S+)/);
  const path = found(/export PATH="([^"]+):\$PATH"/);
  const addresses = [found(/control plane .*(https:\S+)/), found(/API server +(https:\/\/[^\s/]+)/)];

  // The second and the fifth of the commands, as they are printed.
  const env = { ...process.env, KUBECONFIG: kubeconfig, PATH: `${path}:${process.env.PATH}` };
  const { stdout } = await promisify(execFile)(
    'kubectl-mesh',
    ['shards', 'list', '-n', 'payments', '--owner', 'node-1', '-o', 'name'],
    { env },
  );
  expect(stdout.trim().split('\n')).toHaveLength(16);
  const curl = found(/ {2}5\. ([\s\S]*?)\n\n/);
  const exported = tour.match(/^ *export .*$/gm)?.join('\n');
  const page = await promisify(execFile)('sh', ['-c', `${exported}\n${curl.replace('curl', 'curl -sS')}`]);
  expect(JSON.parse(page.stdout)).toMatchObject({ items: [{ phase: 'Active' }, { phase: 'Active' }] });
  expect(await Promise.all(addresses.map(answers))).toEqual([true, true]);

  child.kill('SIGINT');
  expect(await ended).toBe(0);
  expect(existsSync(kubeconfig)).toBe(false);
  expect(await Promise.all(addresses.map(answers))).toEqual([false, false]);
}, 120_000);
