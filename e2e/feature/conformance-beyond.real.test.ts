import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import {
  type Answer,
  API_VERSION,
  Api,
  type Body,
  freshNamespace,
  GROUP,
  installProbes,
  probe,
  probesIn,
  ROOT,
  told,
  until,
} from './conformance-api.ts';

/** What the tests and clients of this project may count on with the real control plane only: see conformance.embedded.test.ts. */
const plane = inject('controlPlane');
const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const AUTHENTICATION = 'authentication.k8s.io/v1';
const STRATEGIC = 'application/strategic-merge-patch+json';

let api: Api;
let namespace: string;
let probes: string;

beforeAll(async () => {
  api = await Api.admin(plane);
  await installProbes(api);
  namespace = await freshNamespace(api);
  probes = probesIn(namespace);
});
afterAll(() => api.close());

async function created(name: string, ...rest: object[]): Promise<Body> {
  const { code, body, text } = await api.post(probes, probe(name, ...rest));
  expect(code, text).toBe(201);
  return body;
}

const gone = (path: string) =>
  until(
    () => api.get(path),
    ({ code }) => code === 404,
  );
const names = ({ body }: Answer) => body.items.map(({ metadata }) => metadata.name).join(' ');
const list = (query: Record<string, string>, path: string) =>
  api.get(`${path}?${new URLSearchParams(query)}`);
const failure = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure' };

describe('access', () => {
  test('ClusterRoles aggregate, view, edit and admin too', async () => {
    const label = { [`${GROUP}/aggregate`]: namespace };
    const [part, whole] = [`part-${namespace}`, `whole-${namespace}`];
    await api.post(`${RBAC}/clusterroles`, {
      metadata: { name: whole },
      aggregationRule: { clusterRoleSelectors: [{ matchLabels: label }] },
    });
    const rules = [{ apiGroups: [GROUP], resources: ['probes'], verbs: ['get'] }];
    const labels = { ...label, 'rbac.authorization.k8s.io/aggregate-to-view': 'true' };
    await api.post(`${RBAC}/clusterroles`, { metadata: { name: part, labels }, rules });
    const ours = ({ text }: Answer) => text.includes(`"${GROUP}"`);
    expect((await until(() => api.get(`${RBAC}/clusterroles/${whole}`), ours)).body.rules).toEqual(rules);
    for (const level of ['view', 'edit', 'admin'])
      await until(() => api.get(`${RBAC}/clusterroles/${level}`), ours);
    for (const name of [part, whole]) await api.delete(`${RBAC}/clusterroles/${name}`);
    await until(
      () => api.get(`${RBAC}/clusterroles/view`),
      (answer) => !ours(answer),
    );
  });

  test.each([
    [{ expirationSeconds: 10 }, 'Invalid value: 10: may not specify a duration less than 10 minutes'],
    [
      { expirationSeconds: 2 ** 33 },
      'Invalid value: 8589934592: may not specify a duration larger than 2^32 seconds',
    ],
  ])('a token of %j is refused', async (spec, message) => {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/default/token`;
    const answer = await api.post(path, { apiVersion: AUTHENTICATION, kind: 'TokenRequest', spec });
    expect(answer).toMatchObject({
      code: 422,
      body: { details: { kind: 'TokenRequest', causes: [{ field: 'spec.expirationSeconds', message }] } },
    });
  });
});

describe('what kubectl apply asks for', () => {
  test('says in OpenAPI that fields are validated', async () => {
    type Index = { paths: Record<string, { serverRelativeURL: string }> };
    type Document = { paths: Record<string, { patch: { parameters: { name: string }[] } }> };
    const item = `${ROOT}/namespaces/{namespace}/probes/{name}`;
    const document = await until(
      async () => {
        const index = (await api.get('/openapi/v3')).body as unknown as Index;
        return api.get(index.paths[`apis/${API_VERSION}`]?.serverRelativeURL ?? '/nothing');
      },
      ({ text }) => text.includes(item),
    );
    const { patch } = (document.body as unknown as Document).paths[item] ?? { patch: { parameters: [] } };
    expect(patch.parameters.map(({ name }) => name)).toContain('fieldValidation');
  });

  test('strategic merge patch', async () => {
    const leases = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
    const spec = { holderIdentity: 'me', leaseDurationSeconds: 10, renewTime: '2026-11-23T08:38:00.123456Z' };
    await api.post(leases, { metadata: { name: 'strategic' }, spec });
    const answer = await api.patch(`${leases}/strategic`, { spec: { leaseTransitions: 4 } }, STRATEGIC);
    expect(answer).toMatchObject({ code: 200, body: { spec: { ...spec, leaseTransitions: 4 } } });
    const path = `/api/v1/namespaces/${namespace}`;
    const labelled = await api.patch(path, { metadata: { labels: { a: 'c' } } }, STRATEGIC);
    expect(labelled.body.metadata.labels).toMatchObject({ a: 'c' });
  });

  test('bodies in YAML', async () => {
    const yaml = `apiVersion: ${GROUP}/v1\nkind: Probe\nmetadata: {name: yaml}\nspec: {color: Red}\n`;
    const headers = { 'content-type': 'application/yaml' };
    expect(await api.send('POST', probes, { body: yaml, headers })).toMatchObject({ code: 201 });
  });
});

describe('unknown fields', () => {
  const spec = { color: 'Red', bogus: 1, free: { x: 1 }, nested: { a: 1, zap: 2 } };
  const paths = ['extra', 'metadata.foo', 'spec.bogus', 'spec.nested.zap'];
  const object = (name: string) => probe(name, spec, { foo: 1 }, { extra: 1 });

  test('are refused under Strict', async () => {
    const strict = await api.post(`${probes}?fieldValidation=Strict`, object('strict'));
    expect(strict).toMatchObject({ code: 400, body: { ...failure, reason: 'BadRequest' } });
    expect(strict.body.message).toContain(
      'Probe in version "v1" cannot be handled as a Probe: strict decoding error: unknown field ',
    );
    for (const path of paths) expect(strict.body.message).toContain(`unknown field "${path}"`);
  });

  test('in a merge patch are refused under Strict', async () => {
    await created('patched');
    const strict = await api.patch(`${probes}/patched?fieldValidation=Strict`, { spec: { bogus: 1 } });
    expect(strict).toMatchObject({
      code: 422,
      body: { reason: 'Invalid', details: { causes: [{ field: 'patch' }] } },
    });
    expect(strict.body.message).toContain('strict decoding error: unknown field "spec.bogus"');
  });
});

describe('lists of the state at a resourceVersion', () => {
  let here: string;

  beforeAll(async () => {
    here = probesIn(await freshNamespace(api));
    for (const name of ['a', 'b', 'c']) await api.post(here, probe(name));
  });

  test('one that has been answers with at least that', async () => {
    const { body } = await list({}, here);
    expect(names(await list({ resourceVersion: body.metadata.resourceVersion }, here))).toBe('a b c');
  });

  test('resourceVersionMatch=Exact answers with that state', async () => {
    const other = probesIn(await freshNamespace(api));
    const { body } = await api.post(other, probe('a'));
    await api.post(other, probe('b'));
    await api.patch(`${other}/a`, { spec: { size: 3 } });
    const { resourceVersion } = body.metadata;
    const then = await list({ resourceVersion, resourceVersionMatch: 'Exact' }, other);
    expect(then.body).toMatchObject({ metadata: { resourceVersion }, items: [body] });
    const alone = await list({ resourceVersionMatch: 'Exact' }, other);
    expect(alone).toMatchObject({ code: 422, body: { details: { kind: 'ListOptions' } } });
  });

  test('of the future is 504: try again', async () => {
    const answer = await list({ resourceVersion: '100000000' }, here);
    expect(answer).toMatchObject({
      code: 504,
      body: {
        reason: 'Timeout',
        details: { causes: [{ reason: 'ResourceVersionTooLarge' }], retryAfterSeconds: 1 },
      },
    });
    expect(answer.headers['retry-after']).toBe('1');
    expect(answer.body.message).toContain('Too large resource version: 100000000, current: ');
  });

  test('nonsense, or one beside a token, is refused', async () => {
    const nonsense = await list({ resourceVersion: 'abc' }, here);
    expect(nonsense).toMatchObject({ code: 400, body: { kind: 'Status', reason: 'BadRequest' } });
    expect(nonsense.body.message).toContain(
      'invalid resource version: resourceVersion: Invalid value: "abc"',
    );
    const { body } = await list({ limit: '2' }, here);
    const query = { limit: '2', continue: body.metadata.continue ?? '', resourceVersion: '5' };
    expect(await list(query, here)).toMatchObject({
      code: 400,
      body: { message: 'specifying resource version is not allowed when using continue' },
    });
  });
});

describe('label selectors', () => {
  let here: string;

  beforeAll(async () => {
    here = probesIn(await freshNamespace(api));
    for (const name of ['a', 'b', 'c', 'd', 'e'])
      await api.post(
        here,
        probe(name, { color: 'Red' }, { labels: { name, ...(name < 'c' && { early: 'yes' }) } }),
      );
  });

  test.each([
    ['name=a', 'a'],
    ['name==a', 'a'],
    ['name!=a', 'b c d e'],
    ['early', 'a b'],
    ['!early', 'c d e'],
    ['name in (a, c)', 'a c'],
    ['name notin (a,c)', 'b d e'],
    ['early=yes,name!=b', 'a'],
    ['early notin (no)', 'a b c d e'],
  ])('%s finds %s', async (labelSelector, found) => {
    expect(names(await list({ labelSelector }, here))).toBe(found);
  });

  test.each(['a b', 'name in a'])('%s is refused', async (labelSelector) => {
    const answer = await list({ labelSelector }, here);
    expect(answer).toMatchObject({ code: 400, body: { reason: 'BadRequest' } });
    expect(answer.body.message).toContain('unable to parse requirement');
  });

  test('select what a watch tells: what comes into view, and leaves it', async () => {
    const other = probesIn(await freshNamespace(api));
    const [into, out] = ['yes', null].map((green) => ({ metadata: { labels: { green } } }));
    const now = (await list({}, other)).body.metadata.resourceVersion;
    const watch = await api.watch(
      `${other}?watch=true&resourceVersion=${now}&timeoutSeconds=10&labelSelector=green`,
    );
    await api.post(other, probe('s'));
    await api.patch(`${other}/s`, into);
    await api.patch(`${other}/s`, { spec: { size: 2 } });
    const left = await api.patch(`${other}/s`, out);
    await api.patch(`${other}/s`, into);
    await api.delete(`${other}/s`);
    const events = await watch.next(5);
    expect(told(events)).toEqual(['ADDED s', 'MODIFIED s', 'DELETED s', 'ADDED s', 'DELETED s']);
    expect(events[2]?.object, 'the last state that matched').toMatchObject({
      spec: { size: 2 },
      metadata: { resourceVersion: left.body.metadata.resourceVersion },
    });
    watch.close();
  });

  test('select what a deletion deletes', async () => {
    const other = probesIn(await freshNamespace(api));
    for (const name of ['a', 'b', 'c'])
      await api.post(other, probe(name, { color: 'Red' }, { labels: { name } }));
    const some = await api.delete(`${other}?labelSelector=name!%3Db`);
    expect(some).toMatchObject({ code: 200, body: { kind: 'ProbeList' } });
    expect(names(some)).toBe('a c');
    expect(names(await list({}, other))).toBe('b');
  });
});

describe('garbage collection', () => {
  const accounts = () => `/api/v1/namespaces/${namespace}/serviceaccounts`;
  const leases = () => `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;

  async function owner(name: string): Promise<object> {
    const { body } = await api.post(leases(), { metadata: { name } });
    return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', name, uid: body.metadata.uid };
  }
  const owned = (name: string, ownerReferences: object[]) =>
    api.post(accounts(), { metadata: { name, ownerReferences } });

  test('deletes what only the deleted owned', async () => {
    const [one, two] = [await owner('one'), await owner('two')];
    await owned('of-one', [one]);
    await owned('of-both', [one, two]);
    expect(await api.delete(`${leases()}/one`, { propagationPolicy: 'Background' })).toMatchObject({
      code: 200,
    });
    await gone(`${accounts()}/of-one`);
    expect(await api.get(`${accounts()}/of-both`)).toMatchObject({ code: 200 });
    await api.delete(`${leases()}/two`);
    await gone(`${accounts()}/of-both`);
  });

  test('goes down a chain, and takes orphans by birth', async () => {
    const first = await owner('first');
    const { body } = await owned('second', [first]);
    await owned('third', [
      { apiVersion: 'v1', kind: 'ServiceAccount', name: 'second', uid: body.metadata.uid },
    ]);
    await api.delete(`${leases()}/first`);
    await gone(`${accounts()}/third`);
    await owned('orphan', [first]);
    await gone(`${accounts()}/orphan`);
  });
});
