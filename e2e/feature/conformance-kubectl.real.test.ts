import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { API_VERSION, Api, freshNamespace, installProbes, probe, until } from './conformance-api.ts';
import { Kubectl, kubectlBinary } from './conformance-kubectl.ts';

const plane = inject('controlPlane');
const binary = await kubectlBinary(plane);

let api: Api;
let namespace: string;
let tool: Kubectl;

beforeAll(async () => {
  api = await Api.admin(plane);
  await installProbes(api);
  namespace = await freshNamespace(api);
  tool = await Kubectl.create(plane, namespace, binary);
});
afterAll(async () => {
  await api.close();
  await tool.close();
});

const file: Kubectl['file'] = (...parts) => tool.file(...parts);
const kubectl: Kubectl['run'] = (...command) => tool.run(...command);
const GROUP_NAME = API_VERSION.split('/')[0] ?? '';
const FIELDS = { color: 'Red', size: 3 };

describe.skipIf(!binary)('kubectl', () => {
  test('applies, and finds by label', async () => {
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
    expect(await kubectl('label probe a x=y')).toMatchObject({ code: 0 });
    const selected = await kubectl('get probes -l x=y --field-selector spec.color=Green -o name');
    expect(selected.out).toContain('/a');
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
  });

  test('makes and removes a namespace', async () => {
    const name = `${namespace}-made`;
    expect(await kubectl('create namespace', name)).toMatchObject({ code: 0 });
    expect((await kubectl('get namespace --no-headers', name)).out).toMatch(/ Active +\d+s/);
    expect(await kubectl('delete namespace --timeout=20s', name)).toMatchObject({ code: 0 });
  });
});
