import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { stringify } from 'yaml';
import { binarySettings, findBinaries } from '../control-plane/binaries.ts';
import {
  API_VERSION,
  Api,
  freshNamespace,
  installProbes,
  probe,
  probesIn,
  until,
} from './conformance-api.ts';

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

/** Runs kubectl as administrator; `command` is split at spaces, what follows is not. */
async function kubectl(command: string, ...rest: string[]): Promise<Run> {
  const args = [...command.split(' '), ...rest];
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

const GROUP_NAME = API_VERSION.split('/')[0] ?? '';
const FIELDS = { color: 'Red', size: 3 };

describe.skipIf(!binary)('kubectl', () => {
  test('creates, shows, changes and deletes', async () => {
    const path = await file('a.yaml', probe('a', FIELDS, { namespace }));
    expect(await kubectl('apply -f', path)).toMatchObject({
      code: 0,
      out: `probe.${GROUP_NAME}/a created\n`,
    });
    expect((await kubectl('apply -f', path)).out).toContain('unchanged');
    await file('a.yaml', probe('a', { color: 'Green' }, { namespace }));
    expect((await kubectl('apply -f', path)).out).toContain('configured');
    expect((await kubectl('get prb a -o jsonpath={.spec}')).out).toBe('{"color":"Green","mode":"Soft"}');
    expect((await kubectl('get confo -o name')).out).toBe(`probe.${GROUP_NAME}/a\n`);
    const patched = await kubectl('patch probe a --type merge -p', '{"spec":{"size":5}}');
    expect(patched).toMatchObject({ code: 0, out: expect.stringContaining('patched') });
    const status = '{"status":{"count":2,"conditions":[{"type":"Ready","status":"True"}]}}';
    expect(await kubectl('patch probe a --subresource status --type merge -p', status)).toMatchObject({
      code: 0,
    });
    expect((await kubectl('get probes')).out).toMatch(/^NAME +COLOR +READY +AGE\na +Green +True +\d+s\n$/);
    const wide = /^NAME +COLOR +SIZE +READY +AGE\na +Green +5 +True +\d+s\n$/;
    expect((await kubectl('get probes -o wide')).out).toMatch(wide);
    expect(await kubectl('label probe a x=y')).toMatchObject({ code: 0 });
    const selected = await kubectl('get probes -l x=y --field-selector spec.color=Green -o name');
    expect(selected.out).toContain('/a');
    const described = (await kubectl('describe probe a')).out;
    expect(described).toMatch(/Name: +a\n/);
    expect(described).toMatch(/Count: +2\n/);
    expect((await kubectl('delete probe a')).out).toContain('deleted');
    expect((await kubectl('get probe a')).err).toContain('(NotFound)');
  });

  test('is told what is wrong with a file', async () => {
    const unknown = await kubectl(
      'apply -f',
      await file('unknown.yaml', probe('u', { color: 'Red', bogus: 1 })),
    );
    expect(unknown.code).toBe(1);
    expect(unknown.err).toContain('strict decoding error: unknown field "spec.bogus"');
    const invalid = await kubectl('apply -f', await file('invalid.yaml', probe('i', { color: 'Blue' })));
    expect(invalid.err).toContain('spec.color: Unsupported value: "Blue": supported values: "Red", "Green"');
    const dry = await kubectl('apply --dry-run=server -f', await file('dry.yaml', probe('d')));
    expect(dry.out).toContain('created (server dry run)');
    expect(await kubectl('get probe d')).toMatchObject({ code: 1 });
  });

  test('waits for a condition, and for the end', async () => {
    await kubectl('apply -f', await file('w.yaml', probe('w')));
    const path = `${probesIn(namespace)}/w`;
    const waiting = kubectl('wait probe/w --for=condition=Ready --timeout=15s');
    await sleep(300);
    await api.patch(`${path}/status`, { status: { conditions: [{ type: 'Ready', status: 'True' }] } });
    expect(await waiting).toMatchObject({ code: 0, out: expect.stringContaining('condition met') });
    const ending = kubectl('wait probe/w --for=delete --timeout=15s');
    await sleep(300);
    await api.delete(path);
    expect(await ending).toMatchObject({ code: 0 });
  });

  test('applies built-in kinds twice', async () => {
    const rbac = 'rbac.authorization.k8s.io';
    const metadata = { name: 'robot', namespace };
    const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata };
    const role = (...verbs: string[]) => {
      const rules = [{ apiGroups: [''], resources: ['serviceaccounts'], verbs }];
      return { apiVersion: `${rbac}/v1`, kind: 'Role', metadata, rules };
    };
    const roleRef = { apiGroup: rbac, kind: 'Role', name: 'robot' };
    const subjects = [{ kind: 'ServiceAccount', ...metadata }];
    const binding = { apiVersion: `${rbac}/v1`, kind: 'RoleBinding', metadata, roleRef, subjects };
    const path = await file('built-in.yaml', account, role('get'), binding);
    expect(await kubectl('apply -f', path)).toMatchObject({ code: 0, err: '' });
    expect((await kubectl('apply -f', path)).out.match(/unchanged/g)).toHaveLength(3);
    await file('built-in.yaml', account, role('get', 'list'), binding);
    expect((await kubectl('apply -f', path)).out).toContain(`role.${rbac}/robot configured`);
    const token = (await kubectl('create token robot')).out.trim();
    const robot = await Api.as(plane, token);
    const list = () => robot.get(`/api/v1/namespaces/${namespace}/serviceaccounts`);
    expect(await until(list, ({ code }) => code !== 403, 5_000)).toMatchObject({ code: 200 });
    await robot.close();
  });

  test('asks what it may, and who it is', async () => {
    expect(await kubectl('auth can-i get probes')).toMatchObject({ code: 0, out: 'yes\n' });
    expect((await kubectl('auth whoami -o jsonpath={.status.userInfo.username}')).out).toBe('admin');
    const resources = await kubectl(`api-resources --no-headers --api-group ${GROUP_NAME}`);
    expect(resources.out).toMatch(/^probes +prb +/);
    expect((await kubectl('version -o json')).out).toContain(`"gitVersion": "${plane.version}"`);
  });

  test('makes and removes a namespace', async () => {
    const name = `${namespace}-made`;
    expect(await kubectl('create namespace', name)).toMatchObject({ code: 0 });
    expect((await kubectl('get namespace --no-headers', name)).out).toMatch(/ Active +\d+s/);
    expect(await kubectl('delete namespace --timeout=20s', name)).toMatchObject({ code: 0 });
  });
});
