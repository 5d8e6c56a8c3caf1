import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { TLS } from './running-server.ts';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const LOOPBACK = ['--listen', '127.0.0.1:0', '--health-listen', '127.0.0.1:0'];
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'api-server-'));
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** Runs the API server as a process, to its own end, or until `done` (which sees its stderr) says that it is time to stop it. */
async function apiServer(args: string[], done: (stderr: string) => Promise<boolean> = async () => false) {
  const tls = ['--tls-cert', TLS.cert, '--tls-key', TLS.key];
  const child = spawn(process.execPath, [main, ...LOOPBACK, ...tls, ...args], {
    env: { PATH: process.env.PATH },
  });
  let stderr = '';
  child.stderr.on('data', (bytes) => {
    stderr += bytes;
  });
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
  while (child.exitCode === null && !(await done(stderr))) await sleep(20);
  child.kill('SIGTERM');
  return { code: await closed, stderr };
}

/** JSON, which is YAML. */
function kubeconfig(name: string, cluster: object): string {
  const path = join(folder, name);
  const config = {
    clusters: [{ name: 'plane', cluster }],
    users: [{ name: 'user', user: { token: 'wrong' } }],
    contexts: [{ name: 'plane', context: { cluster: 'plane', user: 'user' } }],
    'current-context': 'plane',
  };
  writeFileSync(path, JSON.stringify(config));
  return path;
}

describe('a wrong kubeconfig is one clear line and a non-zero exit', () => {
  const plane = () => inject('controlPlane');

  it.each([
    ['no such file', () => ['--kubeconfig', join(folder, 'missing')], /missing: no such file$/, 2],
    [
      'no such context',
      () => ['--kubeconfig', plane().adminKubeconfig, '--context', 'nowhere'],
      /has no context nowhere/,
      2,
    ],
    [
      'refused credentials',
      () => [
        '--kubeconfig',
        kubeconfig('wrong-token', { server: plane().url, 'certificate-authority': plane().caCert }),
      ],
      /credentials were refused/,
      3,
    ],
    [
      'the authority of another cluster',
      () => [
        '--kubeconfig',
        kubeconfig('wrong-authority', { server: plane().url, 'certificate-authority': TLS.cert }),
      ],
      /Is the certificate-authority in the kubeconfig the one of this server\?/,
      6,
    ],
  ])('%s', async (_, args, says, exit) => {
    const { code, stderr } = await apiServer(args());
    expect(stderr.trim().split('\n')).toEqual([expect.stringMatching(/^meshkit-api-server: /)]);
    expect(stderr.trim()).toMatch(says);
    expect(code).toBe(exit);
  });
});

it('a kube-apiserver that cannot be reached is waited for; readyz says so', async () => {
  const path = kubeconfig('nobody-listens', { server: 'https://127.0.0.1:1' });
  let answer = '';
  const { code } = await apiServer(['--kubeconfig', path], async (stderr) => {
    const url = /"healthUrl":"([^"]+)"/.exec(stderr)?.[1];
    if (url) answer = await (await fetch(`${url}/readyz`)).text();
    return answer.includes('ECONNREFUSED');
  });
  expect(answer).toMatch(/waiting for the first list of ShardAssignments: .*ECONNREFUSED/);
  expect(code).toBe(0);
});
