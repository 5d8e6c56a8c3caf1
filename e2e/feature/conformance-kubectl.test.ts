import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { stringify } from 'yaml';
import { binarySettings, findBinaries } from '../control-plane/binaries.ts';
import { API_VERSION, Api, freshNamespace, installProbes, probe } from './conformance-api.ts';

const plane = inject('controlPlane');
const found = plane.kubectl ? undefined : await findBinaries(binarySettings(process.env));
const binary = plane.kubectl ?? (found?.ok ? join(found.binaries.folder, 'kubectl') : undefined);

let api: Api;
let namespace: string;
let folder: string;

beforeAll(async () => {
  api = await Api.admin(plane);
  await installProbes(api);
  namespace = await freshNamespace(api);
  folder = await mkdtemp(join(tmpdir(), 'meshkit-kubectl-'));
});
afterAll(async () => {
  await api.close();
  await rm(folder, { recursive: true, force: true });
});

interface Run {
  code: number;
  out: string;
  err: string;
}

/** Runs kubectl as administrator; a list of arguments, since nothing here needs a shell. */
async function kubectl(...args: string[]): Promise<Run> {
  const common = [
    '--kubeconfig',
    plane.adminKubeconfig,
    '--cache-dir',
    join(folder, 'cache'),
    '-n',
    namespace,
  ];
  try {
    const { stdout, stderr } = await promisify(execFile)(binary ?? '', [...common, ...args], {
      timeout: 20_000,
    });
    return { code: 0, out: stdout, err: stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, out: stdout, err: stderr };
  }
}

async function file(name: string, ...objects: unknown[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, objects.map((object) => stringify(object)).join('---\n'));
  return path;
}

describe.skipIf(!binary)('kubectl', () => {
  test('creates, shows, changes and deletes', async () => {
    const path = await file('a.yaml', probe('a', { color: 'Red', size: 3 }, { namespace }));
    expect(await kubectl('apply', '-f', path)).toMatchObject({
      code: 0,
      out: `probe.${API_VERSION.split('/')[0]}/a created\n`,
    });
    expect(await kubectl('apply', '-f', path)).toMatchObject({
      code: 0,
      out: expect.stringContaining('unchanged'),
    });
    await file('a.yaml', probe('a', { color: 'Green' }, { namespace }));
    expect(await kubectl('apply', '-f', path)).toMatchObject({
      code: 0,
      out: expect.stringContaining('configured'),
    });
    expect((await kubectl('get', 'prb', 'a', '-o', 'jsonpath={.spec}')).out).toBe(
      '{"color":"Green","mode":"Soft"}',
    );
    const table = (await kubectl('get', 'probes')).out
      .trim()
      .split('\n')
      .map((line) => line.split(/\s{2,}/).map((cell) => cell.trim()));
    expect(table).toEqual(
      [
        ['NAME', 'COLOR', 'READY', 'AGE'],
        ['a', 'Green', expect.anything(), expect.stringMatching(/^\d+s$/)].flat(),
      ]
        .map((row) => row.filter((cell) => cell !== ''))
        .map((row) => expect.arrayContaining(row.slice(0, 2))),
    );
    expect((await kubectl('get', 'confo', '-o', 'name')).out).toContain('/a');
    expect((await kubectl('get', 'probes', '-o', 'wide')).out).toMatch(/^NAME\s+COLOR\s+SIZE\s+READY\s+AGE/);
    expect(
      await kubectl('patch', 'probe', 'a', '--type', 'merge', '-p', '{"spec":{"size":5}}'),
    ).toMatchObject({ code: 0 });
    const merged = await kubectl(
      'patch',
      'probe',
      'a',
      '--subresource',
      'status',
      '--type',
      'merge',
      '-p',
      '{"status":{"count":2}}',
    );
    expect(merged).toMatchObject({ code: 0 });
    expect(await kubectl('label', 'probe', 'a', 'x=y')).toMatchObject({ code: 0 });
    expect(
      (await kubectl('get', 'probes', '-l', 'x=y', '--field-selector', 'spec.color=Green', '-o', 'name')).out,
    ).toContain('/a');
    const described = (await kubectl('describe', 'probe', 'a')).out;
    expect(described).toMatch(/Name:\s+a\n/);
    expect(described).toMatch(/Count:\s+2\n/);
    expect(await kubectl('delete', 'probe', 'a')).toMatchObject({
      code: 0,
      out: expect.stringContaining('deleted'),
    });
    expect((await kubectl('get', 'probe', 'a')).err).toContain('(NotFound)');
  });

  test('is told what is wrong with a file', async () => {
    const unknown = await kubectl(
      'apply',
      '-f',
      await file('unknown.yaml', probe('u', { color: 'Red', bogus: 1 })),
    );
    expect(unknown.code).toBe(1);
    expect(unknown.err).toContain('strict decoding error: unknown field "spec.bogus"');
    const invalid = await kubectl('apply', '-f', await file('invalid.yaml', probe('i', { color: 'Blue' })));
    expect(invalid.err).toContain('spec.color: Unsupported value: "Blue": supported values: "Red", "Green"');
    const dry = await kubectl('apply', '--dry-run=server', '-f', await file('dry.yaml', probe('d')));
    expect(dry.out).toContain('created (server dry run)');
    expect(await kubectl('get', 'probe', 'd')).toMatchObject({ code: 1 });
  });

  test('waits for a condition, and for the end', async () => {
    await kubectl('apply', '-f', await file('w.yaml', probe('w')));
    const waiting = kubectl('wait', 'probe/w', '--for=condition=Ready', '--timeout=15s');
    await new Promise((resolve) => setTimeout(resolve, 300));
    const path = `/apis/${API_VERSION}/namespaces/${namespace}/probes/w`;
    await api.patch(`${path}/status`, { status: { conditions: [{ type: 'Ready', status: 'True' }] } });
    expect(await waiting).toMatchObject({ code: 0, out: expect.stringContaining('condition met') });
    const ending = kubectl('wait', 'probe/w', '--for=delete', '--timeout=15s');
    await new Promise((resolve) => setTimeout(resolve, 300));
    await api.delete(path);
    expect(await ending).toMatchObject({ code: 0 });
  });

  test('applies built-in kinds twice', async () => {
    const objects = [
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'robot', namespace } },
      {
        ...{
          apiVersion: 'rbac.authorization.k8s.io/v1',
          kind: 'Role',
          metadata: { name: 'robot', namespace },
        },
        rules: [{ apiGroups: [''], resources: ['serviceaccounts'], verbs: ['get'] }],
      },
      {
        ...{
          apiVersion: 'rbac.authorization.k8s.io/v1',
          kind: 'RoleBinding',
          metadata: { name: 'robot', namespace },
        },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'robot' },
        subjects: [{ kind: 'ServiceAccount', name: 'robot', namespace }],
      },
    ];
    const path = await file('built-in.yaml', ...objects);
    expect(await kubectl('apply', '-f', path)).toMatchObject({ code: 0, err: '' });
    expect((await kubectl('apply', '-f', path)).out.match(/unchanged/g)).toHaveLength(3);
    objects[1] = {
      ...objects[1],
      rules: [{ apiGroups: [''], resources: ['serviceaccounts'], verbs: ['get', 'list'] }],
    } as (typeof objects)[1];
    const changed = await file('built-in.yaml', ...objects);
    expect((await kubectl('apply', '-f', changed)).out).toContain(
      'role.rbac.authorization.k8s.io/robot configured',
    );
    const token = (await kubectl('create', 'token', 'robot')).out.trim();
    expect(token.split('.')).toHaveLength(3);
    const robot = await Api.as(plane, token);
    expect(await robot.get(`/api/v1/namespaces/${namespace}/serviceaccounts`)).toMatchObject({ code: 200 });
    await robot.close();
  });

  test('asks what it may, and who it is', async () => {
    expect(await kubectl('auth', 'can-i', 'get', 'probes')).toMatchObject({ code: 0, out: 'yes\n' });
    expect((await kubectl('auth', 'whoami', '-o', 'jsonpath={.status.userInfo.username}')).out).toBe('admin');
    expect(
      (await kubectl('api-resources', '--api-group', API_VERSION.split('/')[0] ?? '', '--no-headers')).out,
    ).toMatch(/^probes\s+prb\s/);
    expect((await kubectl('version', '-o', 'json')).out).toContain(`"gitVersion": "${plane.version}"`);
  });

  test('makes and removes a namespace', async () => {
    const name = `${namespace}-made`;
    expect(await kubectl('create', 'namespace', name)).toMatchObject({ code: 0 });
    expect((await kubectl('get', 'namespace', name, '--no-headers')).out).toMatch(/\sActive\s+\d+s/);
    expect(await kubectl('delete', 'namespace', name, '--timeout=20s')).toMatchObject({ code: 0 });
  });
});
