import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { kubeconfigFor } from './mesh.ts';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'operator-'));
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** Runs the operator as a process, to its own end, or until `done` (which sees its stderr) says that it is time to stop it. */
async function operator(
  args: string[],
  env: Record<string, string> = {},
  done: (stderr: string) => Promise<boolean> = async () => false,
) {
  const child = spawn(process.execPath, [main, ...args], { env: { PATH: process.env.PATH, ...env } });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (bytes) => {
    stdout += bytes;
  });
  child.stderr.on('data', (bytes) => {
    stderr += bytes;
  });
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
  while (child.exitCode === null && !(await done(stderr))) await sleep(20);
  child.kill('SIGTERM');
  return { code: await closed, stdout, stderr };
}

describe('a wrong kubeconfig is one clear line and a non-zero exit', () => {
  test('no such file', async () => {
    const { code, stderr } = await operator(['--kubeconfig', join(folder, 'missing')]);
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toEqual([expect.stringMatching(/^meshkit-operator: .*missing/)]);
  });

  test('no such context', async () => {
    const path = inject('controlPlane').adminKubeconfig;
    const { code, stderr } = await operator(['--kubeconfig', path, '--context', 'nowhere']);
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toEqual([expect.stringMatching(/^meshkit-operator: .*nowhere/)]);
  });

  test('refused credentials', async () => {
    const path = join(folder, 'wrong-token');
    writeFileSync(path, kubeconfigFor('wrong'));
    const { code, stderr } = await operator(['--kubeconfig', path, '--listen', '127.0.0.1:0']);
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toEqual([
      expect.stringMatching(/^meshkit-operator: .*credentials were refused/),
    ]);
  });
});

describe('settings', () => {
  test('all problems at once, exit 2', async () => {
    const { code, stderr } = await operator(['--listen', 'x', '--bogus'], { MESHKIT_LEASE_DURATION: 'soon' });
    expect(code).toBe(2);
    expect(stderr.trim().split('\n')).toHaveLength(3);
  });

  test('--print-config prints what holds, and nothing else', async () => {
    const { code, stdout, stderr } = await operator(['--print-config', '--lease-duration', '3s']);
    expect([code, stderr]).toEqual([0, '']);
    expect(JSON.parse(stdout)).toMatchObject({ leaseDuration: 3000, namespace: 'meshkit-system' });
  });
});

test('a kube-apiserver that cannot be reached is waited for; readyz says so', async () => {
  const path = join(folder, 'nobody-listens');
  writeFileSync(path, kubeconfigFor('any').replace(inject('controlPlane').url, 'https://127.0.0.1:1'));
  let answer = '';
  const { code } = await operator(['--kubeconfig', path, '--listen', '127.0.0.1:0'], {}, async (stderr) => {
    const address = /"address":"([^"]+)"/.exec(stderr)?.[1];
    if (address) answer = await (await fetch(`http://${address}/readyz`)).text();
    return answer.includes('ECONNREFUSED');
  });
  expect(answer).toMatch(
    /^not ready: shardsets not listed yet: cannot list .* at https:\/\/127.0.0.1:1: connect ECONNREFUSED/,
  );
  expect(code).toBe(0);
});

test('SIGTERM: releases the leader Lease and exits 0', async () => {
  const leaseName = `process-${randomBytes(4).toString('hex')}`;
  const { adminKubeconfig } = inject('controlPlane');
  const args = ['--kubeconfig', adminKubeconfig, '--listen', '127.0.0.1:0', '--lease-name', leaseName];
  // A namespace without anything in it: other tests' sets are none of its business.
  const { code, stderr } = await operator([...args, '--watch-namespace', 'kube-public'], {}, async (text) =>
    text.includes('"leading"'),
  );
  expect(stderr).toContain('leadership released');
  expect(code).toBe(0);
  for (const line of stderr.trim().split('\n')) expect(() => JSON.parse(line)).not.toThrow();
});
