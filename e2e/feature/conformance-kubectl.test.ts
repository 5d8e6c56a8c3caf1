import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { API_VERSION, Api, freshNamespace, installProbes, probe, probesIn } from './conformance-api.ts';
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

const kubectl: Kubectl['run'] = (...command) => tool.run(...command);
const GROUP_NAME = API_VERSION.split('/')[0] ?? '';

describe.skipIf(!binary)('kubectl', () => {
  test('shows, changes and deletes', async () => {
    await api.post(probesIn(namespace), probe('a', { color: 'Green' }));
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
    const selected = await kubectl('get probes --field-selector spec.color=Green -o name');
    expect(selected.out).toContain('/a');
    const described = (await kubectl('describe probe a')).out;
    expect(described).toMatch(/Name: +a\n/);
    expect(described).toMatch(/Count: +2\n/);
    expect((await kubectl('delete probe a')).out).toContain('deleted');
    expect((await kubectl('get probe a')).err).toContain('(NotFound)');
  });

  test('applies without validation of its own', async () => {
    const path = await tool.file('p.yaml', probe('p', { color: 'Red', size: 3 }, { namespace }));
    const apply = () => kubectl('apply --validate=false -f', path);
    expect((await apply()).out).toBe(`probe.${GROUP_NAME}/p created\n`);
    expect((await apply()).out).toContain('unchanged');
    await tool.file('p.yaml', probe('p', { color: 'Green' }, { namespace }));
    expect((await apply()).out).toContain('configured');
    expect((await kubectl('get probe p -o jsonpath={.spec}')).out).toBe('{"color":"Green","mode":"Soft"}');
    await tool.file('p.yaml', probe('p', { color: 'Blue' }, { namespace }));
    expect((await apply()).err).toContain(
      'spec.color: Unsupported value: "Blue": supported values: "Red", "Green"',
    );
    expect(await kubectl('delete probe p')).toMatchObject({ code: 0 });
  });

  test('watches, with columns', async () => {
    const watching = kubectl('get probes --watch --field-selector status.owner=w1 --request-timeout=3s');
    await api.post(probesIn(namespace), probe('seen'));
    await sleep(1_000);
    await api.patch(`${probesIn(namespace)}/seen/status`, { status: { owner: 'w1' } });
    expect((await watching).out).toMatch(/^NAME +COLOR +READY +AGE\nseen +Red +\d+s\n/);
  });

  test('waits for a condition, and for the end', async () => {
    const path = `${probesIn(namespace)}/w`;
    await api.post(probesIn(namespace), probe('w'));
    const waiting = kubectl('wait probe/w --for=condition=Ready --timeout=15s');
    await sleep(300);
    await api.patch(`${path}/status`, { status: { conditions: [{ type: 'Ready', status: 'True' }] } });
    expect(await waiting).toMatchObject({ code: 0, out: expect.stringContaining('condition met') });
    const ending = kubectl('wait probe/w --for=delete --timeout=15s');
    await sleep(300);
    await api.delete(path);
    expect(await ending).toMatchObject({ code: 0 });
  });

  test('asks what there is', async () => {
    const resources = await kubectl(`api-resources --no-headers --api-group ${GROUP_NAME}`);
    expect(resources.out).toMatch(/^probes +prb +/);
    expect((await kubectl('version -o json')).out).toContain(`"gitVersion": "${plane.version}"`);
  });

  test('finds and removes a namespace', async () => {
    const name = `${namespace}-made`;
    await api.post('/api/v1/namespaces', { metadata: { name } });
    expect((await kubectl('get namespace --no-headers', name)).out).toMatch(/ Active +\d+s/);
    expect(await kubectl('delete namespace --timeout=20s', name)).toMatchObject({ code: 0 });
  });
});
