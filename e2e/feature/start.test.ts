import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { get } from 'node:https';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, expect, inject, test } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
let started: ChildProcess | undefined;

afterEach(() => {
  started?.kill('SIGINT');
});

/** What `npm start` runs; `said` resolves once it has written that. */
function run(flags: string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, ['e2e/start/main.ts', ...flags], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  started = child;
  const written = { stdout: '', stderr: '' };
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const said = (what: string) =>
    new Promise<void>((resolve, reject) => {
      for (const name of ['stdout', 'stderr'] as const)
        child[name].on('data', () => (written[name].includes(what) ? resolve() : undefined));
      ended.then((code) => reject(new Error(`ended with ${code}:\n${written.stderr}`)));
    });
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (chunk) => {
      written[name] += chunk;
    });
  return { child, ended, said, written };
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
  const { child, ended, said, written } = run(['--control-plane', kind]);
  await said('Ctrl-C stops everything');
  const tour = written.stdout;
  expect(tour).toContain('64 shards of ShardSet payments/orders on 5 nodes in 3 zones');
  expect(tour).toContain(`control plane  ${kind} Kubernetes v`);
  expect(tour.match(/^ {2}[1-5]\. (kubectl|curl) /gm)).toHaveLength(5);
  const found = (pattern: RegExp) => pattern.exec(tour)?.[1] ?? `not in the tour: ${pattern}`;
  const kubeconfig = found(/export KUBECONFIG=(\S+)/);
  const path = found(/export PATH="([^"]+):\$PATH"/);
  const addresses = [found(/control plane .*(https:\S+)/), found(/API server +(https:\/\/[^\s/]+)/)];

  // The second of the commands, as it is printed.
  const env = { ...process.env, KUBECONFIG: kubeconfig, PATH: `${path}:${process.env.PATH}` };
  const { stdout } = await promisify(execFile)(
    'kubectl-mesh',
    ['shards', 'list', '-n', 'payments', '--owner', 'node-1', '-o', 'name'],
    { env },
  );
  expect(stdout.trim().split('\n')).toHaveLength(16);
  // The fifth, in place of curl, which need not be installed.
  const ca = readFileSync(found(/export CA=(\S+)/));
  const token = readFileSync(found(/TOKEN="\$\(cat (\S+)\)"/), 'utf8');
  const url = found(/ {2}5\. curl --cacert \$CA .*\n +'(\S+)'/);
  const [answer] = await once(get(url, { ca, headers: { authorization: `Bearer ${token}` } }), 'response');
  expect(JSON.parse(await text(answer))).toMatchObject({ items: [{ phase: 'Active' }, { phase: 'Active' }] });
  expect(await Promise.all(addresses.map(answers))).toEqual([true, true]);

  child.kill('SIGINT');
  expect(await ended).toBe(0);
  expect(existsSync(kubeconfig)).toBe(false);
  expect(await Promise.all(addresses.map(answers))).toEqual([false, false]);
}, 120_000);

test('npm start that cannot begin, or is stopped before it runs, says so in one line', async () => {
  const wrong = run(['--controlplane', 'real']);
  expect(await wrong.ended).toBe(2);
  expect(wrong.written.stderr).toMatch(/^Unknown option '--controlplane'; usage: npm start .*\n$/);

  const without = run(['--control-plane', 'real'], { KUBEBUILDER_ASSETS: '/nowhere' });
  expect(await without.ended).toBe(1);
  expect(without.written.stderr).toMatch(/^npm start: KUBEBUILDER_ASSETS is set to \/nowhere, but .*$/m);

  const stopped = run(['--control-plane', inject('controlPlane').kind]);
  await stopped.said('Starting');
  stopped.child.kill('SIGINT');
  expect(await stopped.ended).toBe(130);
  for (const { written } of [without, stopped]) expect(written.stderr).not.toMatch(/^ +at /m);
}, 60_000);
