import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { AdminApi } from '../control-plane/admin-api.ts';
import { type ControlPlane, planeFiles } from '../control-plane/control-plane.ts';
import { identify, type ProcessIdentity } from '../control-plane/process-identity.ts';
import { startControlPlane } from '../control-plane/start.ts';

// A plane of its own: these tests restart it.
let plane: ControlPlane;
let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'meshkit-feature-'));
  plane = await startControlPlane({ kind: 'real', env: process.env });
}, 90_000);
afterAll(async () => {
  await plane.stop();
  await rm(scratch, { recursive: true });
});

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs kubectl as whoever the kubeconfig (YAML) belongs to; the administrator otherwise. */
async function kubectl(args: string, options: { as?: string; input?: object } = {}): Promise<Ran> {
  const kubeconfig = options.as
    ? join(scratch, `${Math.random()}.kubeconfig`)
    : planeFiles(plane.folder).adminKubeconfig;
  if (options.as) await writeFile(kubeconfig, options.as);
  return new Promise((resolve) => {
    const child = execFile(
      plane.kubectl!,
      ['--kubeconfig', kubeconfig, ...args.split(' ')],
      { env: { HOME: scratch }, timeout: 20_000 },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code) || 1 : 0, stdout, stderr }),
    );
    child.stdin?.end(options.input && JSON.stringify(options.input));
  });
}

async function eventually(what: () => Promise<boolean> | boolean, withinMs = 20_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await what())) {
    if (performance.now() > deadline) expect.fail(`not within ${withinMs} ms: ${what}`);
    await sleep(100);
  }
}

const processesOf = async (folder: string): Promise<ProcessIdentity[]> =>
  JSON.parse(await readFile(join(folder, 'processes.json'), 'utf8')).processes;

const configMap = (name: string, owner?: object) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, ownerReferences: owner && [owner] },
});

test('kubectl of the same version works as administrator', async () => {
  const { stdout } = await kubectl('version -o json');
  expect(JSON.parse(stdout)).toMatchObject({
    clientVersion: { gitVersion: plane.version },
    serverVersion: { gitVersion: plane.version },
  });
  expect((await kubectl('auth whoami')).stdout).toMatch(
    /Username\s+admin\n.*Groups\s+\[system:masters system:authenticated\]/s,
  );
});

test('RBAC: a user may nothing without a role, and exactly what a role of a group allows', async () => {
  const jane = await plane.kubeconfig({ name: 'jane', groups: ['devs'] });
  expect((await kubectl('auth whoami', { as: jane })).stdout).toMatch(
    /jane\n.*\[devs system:authenticated\]/s,
  );
  const refused = await kubectl('get configmaps', { as: jane });
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('configmaps is forbidden: User "jane" cannot list resource "configmaps"');
  await kubectl('create rolebinding devs --clusterrole=view --group=devs');
  await eventually(async () => (await kubectl('get configmaps', { as: jane })).code === 0);
  expect((await kubectl('create configmap hers', { as: jane })).stderr).toContain('forbidden');
});

test('a ServiceAccount gets a token for the API, or for another audience, or a clear refusal', async () => {
  await kubectl('create serviceaccount robot');
  const robot = await plane.serviceAccountKubeconfig('default', 'robot');
  expect((await kubectl('auth whoami', { as: robot })).stdout).toContain(
    'system:serviceaccount:default:robot',
  );
  await expect(plane.serviceAccountKubeconfig('default', 'nobody')).rejects.toThrow(
    'no token for ServiceAccount default/nobody: serviceaccounts "nobody" not found',
  );

  const elsewhere = await plane.serviceAccountKubeconfig('default', 'robot', {
    audiences: ['meshkit-shards'],
  });
  expect((await kubectl('auth whoami', { as: elsewhere })).code).toBe(1);
  const { token } = parse(elsewhere).users[0].user;
  const review = (audiences: string[]) => ({
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token, audiences },
  });
  const right = await kubectl('create -f - -o json', { input: review(['meshkit-shards']) });
  expect(JSON.parse(right.stdout).status).toMatchObject({
    authenticated: true,
    audiences: ['meshkit-shards'],
    user: { username: 'system:serviceaccount:default:robot' },
  });
  const wrong = await kubectl('create -f - -o json', { input: review(['something-else']) });
  expect(JSON.parse(wrong.stdout).status.authenticated).toBeFalsy();
});

test('deleting an owner deletes its dependents, deleting a namespace what is in it', async () => {
  const owner = JSON.parse((await kubectl('create configmap owner -o json')).stdout);
  const reference = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: owner.metadata.uid };
  await kubectl('create -f -', { input: configMap('dependent', reference) });
  await kubectl('create -f -', { input: configMap('independent') });
  await kubectl('delete configmap owner');
  await eventually(async () => (await kubectl('get configmap dependent')).code !== 0);
  expect((await kubectl('get configmap independent')).code).toBe(0);

  await kubectl('create namespace doomed');
  await kubectl('create configmap inside -n doomed');
  await kubectl('delete namespace doomed --wait=false');
  await eventually(async () => (await kubectl('get namespace doomed')).code !== 0);
});

test('admission policies of both kinds are served, and CEL that does not fit its resource is reported', async () => {
  const { stdout } = await kubectl('api-resources --api-group=admissionregistration.k8s.io -o name');
  expect(stdout).toContain('mutatingadmissionpolicies.admissionregistration.k8s.io');
  const resourceRules = [
    { apiGroups: ['apps'], apiVersions: ['v1'], operations: ['CREATE'], resources: ['deployments'] },
  ];
  await kubectl('create -f -', {
    input: {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingAdmissionPolicy',
      metadata: { name: 'misspelt' },
      spec: {
        matchConstraints: { resourceRules },
        validations: [{ expression: 'object.spec.replicsa > 1' }],
      },
    },
  });
  const warning = '{.status.typeChecking.expressionWarnings[*].warning}';
  await eventually(async () => {
    const found = await kubectl(`get validatingadmissionpolicy misspelt -o jsonpath=${warning}`);
    return found.stdout.includes("undefined field 'replicsa'");
  });
});

test('the audit log tells who wrote what, dry runs and refusals included', async () => {
  const since = Date.now();
  const jane = await plane.kubeconfig({ name: 'audited-jane' });
  await kubectl('create configmap audited');
  await kubectl('create configmap unsaid --dry-run=server');
  await kubectl('delete configmap audited', { as: jane });
  await eventually(async () => (await plane.audit(since)).some(({ user }) => user === 'audited-jane'));
  const entries = (await plane.audit(since)).filter(({ resource }) => resource === 'configmaps');
  expect(entries).toEqual([
    expect.objectContaining({
      user: 'admin',
      verb: 'create',
      name: 'audited',
      group: '',
      dryRun: false,
      code: 201,
    }),
    expect.objectContaining({ user: 'admin', verb: 'create', name: 'unsaid', dryRun: true, code: 201 }),
    expect.objectContaining({
      user: 'audited-jane',
      verb: 'delete',
      namespace: 'default',
      dryRun: false,
      code: 403,
    }),
  ]);
  expect(await plane.audit(Date.now() + 60_000)).toEqual([]);
});

describe('over a restart', () => {
  test('address, credentials and data stay, and in between nobody answers', async () => {
    await kubectl('create configmap survivor');
    const before = plane.url;
    const restarted = plane.restart({ downMs: 1_500 });
    await eventually(async () => (await kubectl('get --raw /version')).stderr.includes('was refused'), 5_000);
    await restarted;
    expect(plane.url).toBe(before);
    expect((await kubectl('get configmap survivor -o name')).stdout).toBe('configmap/survivor\n');
    await kubectl('create namespace after-restart');
    await kubectl('delete namespace after-restart --wait=false');
    await eventually(async () => (await kubectl('get namespace after-restart')).code !== 0);
  }, 60_000);

  test('after a compaction a watch from an older version answers 410', async () => {
    const created = JSON.parse((await kubectl('create configmap old -o json')).stdout);
    await kubectl('create configmap new');
    const { clusters, users } = parse(await plane.kubeconfig());
    const ca = Buffer.from(clusters[0].cluster['certificate-authority-data'], 'base64').toString();
    const api = new AdminApi({ url: plane.url, ca, token: users[0].user.token });
    const watch = `/api/v1/configmaps?watch=1&timeoutSeconds=1&resourceVersion=${created.metadata.resourceVersion}`;
    try {
      expect((await api.call('GET', watch)).body).toContain('"name":"new"');
      await plane.compactEtcd();
      expect((await api.call('GET', watch)).body).toContain('"code":410');
    } finally {
      await api.close();
    }
  }, 60_000);
});

describe('the end', () => {
  const start = fileURLToPath(new URL('../control-plane/start.ts', import.meta.url));

  test('stop leaves no process and no folder', async () => {
    const other = await startControlPlane({ kind: 'real', env: process.env });
    const processes = await processesOf(other.folder);
    expect(processes).toHaveLength(3);
    await Promise.all([other.stop(), other.stop()]);
    expect(processes.map(({ pid }) => identify(pid))).toEqual([undefined, undefined, undefined]);
    expect(existsSync(other.folder)).toBe(false);
  }, 90_000);

  test('neither does a starter that is killed', async () => {
    const code = `
      import { startControlPlane } from ${JSON.stringify(start)};
      const plane = await startControlPlane({ kind: 'real', env: process.env });
      console.log(plane.folder);`;
    const starter: ChildProcess = spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const folder = await new Promise<string>((resolve, reject) => {
      createInterface({ input: starter.stdout! }).once('line', resolve);
      starter.once('exit', (status) => reject(new Error(`the starter ended by itself: ${status}`)));
    });
    const processes = await processesOf(folder);
    starter.kill('SIGKILL');
    await eventually(() => processes.every(({ pid }) => !identify(pid)) && !existsSync(folder));
  }, 90_000);
});

test('from the shell: start, use, stop', async () => {
  const main = fileURLToPath(new URL('../control-plane/main.ts', import.meta.url));
  const env = { ...process.env, KUBEBUILDER_ASSETS: dirname(plane.kubectl!), XDG_CACHE_HOME: scratch };
  const run = (command: string) =>
    promisify(execFile)(process.execPath, [main, command], { env, timeout: 80_000 });
  expect((await run('path')).stdout.trim()).toBe(dirname(plane.kubectl!));
  const kubeconfig = (await run('start')).stdout.trim();
  try {
    const again = await run('start');
    expect(again.stdout.trim()).toBe(kubeconfig);
    expect(again.stderr).toContain('runs already');
    const { stdout } = await promisify(execFile)(plane.kubectl!, [
      '--kubeconfig',
      kubeconfig,
      'get',
      'ns',
      '-o',
      'name',
    ]);
    expect(stdout).toContain('namespace/default');
  } finally {
    expect((await run('stop')).stderr).toContain('Stopped the control plane');
  }
  expect(existsSync(dirname(kubeconfig))).toBe(false);
  expect((await run('stop')).stderr).toContain('No control plane runs');
}, 120_000);
