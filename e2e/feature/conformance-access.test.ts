import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { createAuthority, issueClient } from '../control-plane/certificates.ts';
import {
  type Answer,
  Api,
  freshNamespace,
  GROUP,
  installProbes,
  probe,
  probesIn,
  ROOT,
  until,
} from './conformance-api.ts';

const plane = inject('controlPlane');
const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const AUTHENTICATION = 'authentication.k8s.io/v1';
const AUTHORIZATION = 'authorization.k8s.io/v1';
const READ = ['get', 'list', 'watch'];

let api: Api;
let namespace: string;
let probes: string;
const clients: Api[] = [];

/** Of the whole suite only: a client of its own for each identity. */
async function as(
  ...who: Parameters<typeof Api.as> extends [unknown, ...infer Rest] ? Rest : never
): Promise<Api> {
  const client = await Api.as(plane, ...who);
  clients.push(client);
  return client;
}

beforeAll(async () => {
  api = await Api.admin(plane);
  clients.push(api);
  await installProbes(api);
  namespace = await freshNamespace(api);
  probes = probesIn(namespace);
  await api.post(probes, probe('a'));
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
});

async function role(name: string, rules: object[]): Promise<void> {
  expect(
    await api.post(`${RBAC}/namespaces/${namespace}/roles`, { metadata: { name }, rules }),
  ).toMatchObject({ code: 201 });
}

async function bind(name: string, roleRef: { kind: string; name: string }, subject: object): Promise<void> {
  const body = {
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', ...roleRef },
    subjects: [subject],
  };
  expect(await api.post(`${RBAC}/namespaces/${namespace}/rolebindings`, body)).toMatchObject({ code: 201 });
}

const user = (name: string) => ({ kind: 'User', name, apiGroup: 'rbac.authorization.k8s.io' });
/** The real authorizer learns of roles through a cache. */
const soon = (ask: () => Promise<Answer>, code: number) =>
  until(ask, (answer) => answer.code === code, 5_000);

async function whoIs(client: Api): Promise<unknown> {
  const body = { apiVersion: AUTHENTICATION, kind: 'SelfSubjectReview' };
  const answer = await client.post(`/apis/${AUTHENTICATION}/selfsubjectreviews`, body);
  expect(answer.code, answer.text).toBe(201);
  return answer.body.status.userInfo;
}

describe('who', () => {
  test('a client certificate is CN and O', async () => {
    const info = await whoIs(await as({ name: 'jane', groups: ['devs', 'ops'] }));
    expect(info).toMatchObject({
      username: 'jane',
      groups: ['devs', 'ops', 'system:authenticated'],
      extra: {
        'authentication.kubernetes.io/credential-id': [expect.stringMatching(/^X509SHA256=[0-9a-f]{64}$/)],
      },
    });
  });

  test('the administrator has a token of system:masters', async () => {
    expect(await whoIs(api)).toMatchObject({
      username: 'admin',
      groups: ['system:masters', 'system:authenticated'],
    });
  });

  test.each([
    ['an unknown token', () => as('nothing')],
    ['a broken token', () => as('a.b.c')],
    ['a certificate of another CA', foreigner],
  ])('%s is 401', async (_, someone) => {
    const client = await someone();
    clients.push(client);
    const answer = await client.get(`${probes}/a`);
    expect(answer).toMatchObject({
      code: 401,
      body: { kind: 'Status', message: 'Unauthorized', reason: 'Unauthorized', code: 401 },
    });
  });

  test('nobody may ask for the version and for health, and for nothing else', async () => {
    const nobody = await as(undefined);
    for (const path of ['/version', '/livez', '/readyz', '/healthz']) {
      expect(await nobody.get(path)).toMatchObject({ code: 200 });
    }
    expect((await nobody.get('/livez')).text).toBe('ok');
    expect(await nobody.get('/apis')).toMatchObject({
      code: 403,
      body: { message: 'forbidden: User "system:anonymous" cannot get path "/apis"' },
    });
    const answer = await nobody.get(probes);
    expect(answer).toMatchObject({
      code: 403,
      body: { reason: 'Forbidden', details: { group: GROUP, kind: 'probes' } },
    });
    expect(answer.body.message).toBe(
      `probes.${GROUP} is forbidden: User "system:anonymous" cannot list resource "probes" in API group "${GROUP}" in the namespace "${namespace}"`,
    );
  });
});

async function foreigner(): Promise<Api> {
  const authority = await createAuthority('meshkit control plane');
  return new Api(
    plane.url,
    readFileSync(plane.caCert, 'utf8'),
    await issueClient(authority, { name: 'admin', groups: ['system:masters'] }),
  );
}

describe('what', () => {
  test.each([
    ['get', 'GET', () => `${probes}/a`, '"probes"', '"a" '],
    ['list', 'GET', () => probes, '"probes"', ''],
    ['watch', 'GET', () => `${probes}?watch=true`, '"probes"', ''],
    ['create', 'POST', () => probes, '"probes"', ''],
    ['update', 'PUT', () => `${probes}/a/status`, '"probes/status"', '"a" '],
    ['patch', 'PATCH', () => `${probes}/a`, '"probes"', '"a" '],
    ['delete', 'DELETE', () => `${probes}/a`, '"probes"', '"a" '],
    ['deletecollection', 'DELETE', () => probes, '"probes"', ''],
    ['list', 'GET', () => `${probes}?fieldSelector=metadata.name%3Da`, '"probes"', '"a" '],
  ] as const)('%s (%s) needs its verb', async (verb, method, path, resource, name) => {
    const mallory = await as({ name: 'mallory' });
    const answer = await mallory.send(method, path(), {
      body: method === 'GET' || method === 'DELETE' ? undefined : {},
    });
    expect(answer).toMatchObject({ code: 403, body: { kind: 'Status', reason: 'Forbidden', code: 403 } });
    expect(answer.body.message).toBe(
      `probes.${GROUP} ${name}is forbidden: User "mallory" cannot ${verb} resource ${resource} in API group "${GROUP}" in the namespace "${namespace}"`,
    );
  });

  test('what does not exist is forbidden too', async () => {
    const mallory = await as({ name: 'mallory' });
    expect(await mallory.get(`${ROOT}/namespaces/${namespace}/widgets`)).toMatchObject({ code: 403 });
    expect(await mallory.get('/nothing')).toMatchObject({ code: 403 });
    expect((await mallory.get(`${ROOT}/probes`)).body.message).toContain('at the cluster scope');
    expect((await mallory.get(`/api/v1/namespaces/${namespace}`)).body.message).toContain(
      `in the namespace "${namespace}"`,
    );
    expect(await mallory.get('/apis')).toMatchObject({ code: 200 });
  });

  test('a Role grants its verbs in its namespace', async () => {
    await role('reader', [{ apiGroups: [GROUP], resources: ['probes'], verbs: READ }]);
    await bind('reader', { kind: 'Role', name: 'reader' }, user('reader'));
    const reader = await as({ name: 'reader' });
    await soon(() => reader.get(probes), 200);
    expect(await reader.get(`${probes}/a`)).toMatchObject({ code: 200 });
    expect(await reader.get(`${probes}/a/status`)).toMatchObject({ code: 403 });
    expect(await reader.patch(`${probes}/a`, {})).toMatchObject({ code: 403 });
    expect(await reader.get(`${ROOT}/probes`)).toMatchObject({ code: 403 });
    const other = probesIn(await freshNamespace(api));
    expect(await reader.get(other)).toMatchObject({ code: 403 });
  });

  test('resourceNames and subresources narrow a grant; a group gets it too', async () => {
    await role('narrow', [
      { apiGroups: [GROUP], resources: ['probes'], verbs: ['get', 'list'], resourceNames: ['a'] },
      { apiGroups: [GROUP], resources: ['probes/status'], verbs: ['patch'] },
    ]);
    await bind(
      'narrow',
      { kind: 'Role', name: 'narrow' },
      { kind: 'Group', name: 'narrow', apiGroup: 'rbac.authorization.k8s.io' },
    );
    const narrow = await as({ name: 'somebody', groups: ['narrow'] });
    await soon(() => narrow.get(`${probes}/a`), 200);
    expect(await narrow.get(`${probes}/b`)).toMatchObject({ code: 403 });
    expect(await narrow.get(probes)).toMatchObject({ code: 403 });
    expect(await narrow.get(`${probes}?fieldSelector=metadata.name%3Da`)).toMatchObject({ code: 200 });
    expect(await narrow.patch(`${probes}/a/status`, { status: { count: 1 } })).toMatchObject({ code: 200 });
    expect(await narrow.patch(`${probes}/a`, {})).toMatchObject({ code: 403 });
  });

  test('a ClusterRole bound in a namespace counts there, bound in the cluster everywhere', async () => {
    const name = `conformance-${namespace}`;
    const rules = [{ apiGroups: ['*'], resources: ['*'], verbs: ['get', 'list'] }];
    expect(await api.post(`${RBAC}/clusterroles`, { metadata: { name }, rules })).toMatchObject({
      code: 201,
    });
    await bind('cluster-in-namespace', { kind: 'ClusterRole', name }, user('local'));
    const local = await as({ name: 'local' });
    await soon(() => local.get(probes), 200);
    expect(await local.get(`${ROOT}/probes`)).toMatchObject({ code: 403 });
    const roleRef = { kind: 'ClusterRole', name, apiGroup: 'rbac.authorization.k8s.io' };
    await api.post(`${RBAC}/clusterrolebindings`, {
      metadata: { name },
      roleRef,
      subjects: [user('global')],
    });
    const global = await as({ name: 'global' });
    await soon(() => global.get(`${ROOT}/probes`), 200);
    await api.delete(`${RBAC}/clusterrolebindings/${name}`);
    await soon(() => global.get(`${ROOT}/probes`), 403);
    await api.delete(`${RBAC}/clusterroles/${name}`);
  });

  test('roleRef cannot change', async () => {
    await bind('fixed', { kind: 'Role', name: 'one' }, user('x'));
    const path = `${RBAC}/namespaces/${namespace}/rolebindings/fixed`;
    const answer = await api.patch(path, { roleRef: { name: 'two' } });
    expect(answer).toMatchObject({
      code: 422,
      body: { reason: 'Invalid', details: { causes: [{ field: 'roleRef' }] } },
    });
  });

  test('a rule needs verbs, a binding a role', async () => {
    const rules = [{ apiGroups: [''], resources: ['x'] }];
    const bad = await api.post(`${RBAC}/namespaces/${namespace}/roles`, { metadata: { name: 'bad' }, rules });
    expect(bad).toMatchObject({
      code: 422,
      body: { details: { causes: [{ reason: 'FieldValueRequired', field: 'rules[0].verbs' }] } },
    });
    const path = `${RBAC}/namespaces/${namespace}/rolebindings`;
    const other = await api.post(path, { metadata: { name: 'bad' }, roleRef: { kind: 'Foo', name: 'x' } });
    expect(other).toMatchObject({
      code: 422,
      body: { details: { causes: [{ reason: 'FieldValueNotSupported', field: 'roleRef.kind' }] } },
    });
  });
});

describe('SelfSubjectAccessReview', () => {
  test('a review of oneself is open to everybody', async () => {
    const alice = await Api.as(plane, { name: 'alice' });
    const resourceAttributes = { verb: 'get', group: GROUP, resource: 'probes', namespace };
    const self = { apiVersion: AUTHORIZATION, kind: 'SelfSubjectAccessReview', spec: { resourceAttributes } };
    expect(await alice.post(`/apis/${AUTHORIZATION}/selfsubjectaccessreviews`, self)).toMatchObject({
      code: 201,
      body: { kind: 'SelfSubjectAccessReview', status: { allowed: false } },
    });
    expect(await api.post(`/apis/${AUTHORIZATION}/selfsubjectaccessreviews`, self)).toMatchObject({
      code: 201,
      body: { status: { allowed: true } },
    });
    const resources = (await api.get(`/apis/${AUTHORIZATION}`)).body.resources as { name: string }[];
    expect(resources).toContainEqual(
      expect.objectContaining({ name: 'selfsubjectaccessreviews', kind: 'SelfSubjectAccessReview' }),
    );
    await alice.close();
  });
});

describe('SubjectAccessReview', () => {
  const ask = (spec: object) =>
    api.post(`/apis/${AUTHORIZATION}/subjectaccessreviews`, {
      apiVersion: AUTHORIZATION,
      kind: 'SubjectAccessReview',
      spec,
    });

  beforeAll(async () => {
    await role('sar', [
      { apiGroups: [GROUP], resources: ['probes', 'probes/status'], verbs: ['get', 'read'] },
    ]);
    await bind('sar', { kind: 'Role', name: 'sar' }, user('alice'));
    const wanted = {
      user: 'alice',
      resourceAttributes: { verb: 'get', group: GROUP, resource: 'probes', namespace },
    };
    await until(
      () => ask(wanted),
      ({ body }) => body.status.allowed === true,
    );
  });

  test.each([
    ['get', 'probes', undefined, true],
    ['read', 'probes', undefined, true],
    ['get', 'probes', 'status', true],
    ['list', 'probes', undefined, false],
    ['get', 'probes', 'scale', false],
    ['get', 'others', undefined, false],
    ['*', 'probes', undefined, false],
  ])('alice %s %s/%s: %s', async (verb, resource, subresource, allowed) => {
    const resourceAttributes = { verb, group: GROUP, resource, subresource, namespace };
    const { code, body } = await ask({ user: 'alice', resourceAttributes });
    expect(code).toBe(201);
    expect(body.status).toMatchObject({ allowed });
    if (allowed) {
      expect(body.status.reason).toBe(
        `RBAC: allowed by RoleBinding "sar/${namespace}" of Role "sar" to User "alice"`,
      );
    }
    const elsewhere = await ask({
      user: 'alice',
      resourceAttributes: { ...resourceAttributes, namespace: 'default' },
    });
    expect(elsewhere.body.status).toMatchObject({ allowed: false });
  });

  test('knows groups, paths and system:masters', async () => {
    const get = { verb: 'get', group: GROUP, resource: 'probes' };
    expect(
      (await ask({ user: 'x', groups: ['system:masters'], resourceAttributes: get })).body.status,
    ).toMatchObject({ allowed: true });
    const path = { nonResourceAttributes: { verb: 'get', path: '/apis/x' } };
    expect((await ask({ user: 'x', groups: ['system:authenticated'], ...path })).body.status).toMatchObject({
      allowed: true,
    });
    expect((await ask({ user: 'x', ...path })).body.status).toMatchObject({ allowed: false });
  });

  test('needs a subject and one kind of attributes', async () => {
    const resourceAttributes = { verb: 'get' };
    const nonResourceAttributes = { verb: 'get', path: '/' };
    for (const spec of [
      { user: 'x' },
      { resourceAttributes },
      { user: 'x', resourceAttributes, nonResourceAttributes },
    ]) {
      expect(await ask(spec)).toMatchObject({
        code: 422,
        body: { reason: 'Invalid', details: { group: 'authorization.k8s.io' } },
      });
    }
  });

  test('is not for everybody', async () => {
    const alice = await as({ name: 'alice' });
    const resourceAttributes = { verb: 'get', group: GROUP, resource: 'probes', namespace };
    const review = {
      apiVersion: AUTHORIZATION,
      kind: 'SubjectAccessReview',
      spec: { user: 'x', resourceAttributes },
    };
    expect(await alice.post(`/apis/${AUTHORIZATION}/subjectaccessreviews`, review)).toMatchObject({
      code: 403,
    });
  });
});

describe('ServiceAccount tokens', () => {
  const accounts = () => `/api/v1/namespaces/${namespace}/serviceaccounts`;
  const request = (name: string, spec: object = {}) =>
    api.post(`${accounts()}/${name}/token`, { apiVersion: AUTHENTICATION, kind: 'TokenRequest', spec });
  const review = (token: string | undefined, audiences?: string[]) =>
    api.post(`/apis/${AUTHENTICATION}/tokenreviews`, {
      apiVersion: AUTHENTICATION,
      kind: 'TokenReview',
      spec: { token, audiences },
    });

  beforeAll(async () => {
    await api.post(accounts(), { metadata: { name: 'robot' } });
  });

  test('authenticate the account', async () => {
    const { code, body } = await request('robot');
    expect(code).toBe(201);
    expect(body).toMatchObject({
      kind: 'TokenRequest',
      spec: { expirationSeconds: 3600, audiences: [expect.stringMatching(/^https:/)] },
    });
    const token = String(body.status.token);
    expect(Date.parse(String(body.status.expirationTimestamp)) - Date.now()).toBeGreaterThan(3_500_000);
    const robot = await as(token);
    const username = `system:serviceaccount:${namespace}:robot`;
    const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'];
    const extra = { 'authentication.kubernetes.io/credential-id': [expect.stringMatching(/^JTI=/)] };
    const account = (await api.get(`${accounts()}/robot`)).body.metadata.uid;
    expect(await whoIs(robot)).toEqual({ username, uid: account, groups, extra });
    expect(await robot.get(probes)).toMatchObject({ code: 403 });
    await role('robot', [{ apiGroups: [GROUP], resources: ['probes'], verbs: ['list'] }]);
    await bind(
      'robot',
      { kind: 'Role', name: 'robot' },
      { kind: 'ServiceAccount', name: 'robot', namespace },
    );
    await soon(() => robot.get(probes), 200);
    const reviewed = await review(token);
    expect(reviewed).toMatchObject({ code: 201, body: { kind: 'TokenReview' } });
    expect(reviewed.body.status).toEqual({
      authenticated: true,
      user: { username, uid: account, groups, extra },
      audiences: body.spec.audiences,
    });
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    expect(claims).toMatchObject({
      sub: username,
      aud: body.spec.audiences,
      'kubernetes.io': { namespace, serviceaccount: { name: 'robot', uid: account } },
    });
  });

  test('are good for their audiences only', async () => {
    const { body } = await request('robot', { audiences: ['a', 'b'], expirationSeconds: 700 });
    expect(body.spec).toMatchObject({ audiences: ['a', 'b'], expirationSeconds: 700 });
    const token = String(body.status.token);
    expect(await (await as(token)).get(probes)).toMatchObject({ code: 401 });
    expect((await review(token, ['a', 'z'])).body.status).toMatchObject({
      authenticated: true,
      audiences: ['a'],
    });
    for (const audiences of [undefined, ['z']]) {
      const { status } = (await review(token, audiences)).body;
      expect(status).toMatchObject({
        user: {},
        error: expect.stringContaining('token audiences ["a" "b"] is invalid for the target audiences ['),
      });
      expect(status).not.toHaveProperty('authenticated');
    }
  });

  test('need an account', async () => {
    expect(await request('nobody')).toMatchObject({
      code: 404,
      body: { details: { name: 'nobody', kind: 'serviceaccounts' } },
    });
    expect(await api.get(`${accounts()}/robot/token`)).toMatchObject({
      code: 405,
      body: { reason: 'MethodNotAllowed' },
    });
  });

  test('end with the account', async () => {
    await api.post(accounts(), { metadata: { name: 'gone' } });
    const token = String((await request('gone')).body.status.token);
    await api.delete(`${accounts()}/gone`);
    await soon(async () => (await as(token)).get(probes), 401);
    await until(
      () => review(token),
      ({ body }) => body.status.authenticated !== true,
    );
  });

  test('reviews refuse nonsense', async () => {
    expect((await review('nonsense')).body.status).toEqual({ user: {}, error: 'invalid bearer token' });
    expect(await review(undefined)).toMatchObject({
      code: 400,
      body: { message: 'token is required for TokenReview in authentication' },
    });
    expect(await api.get(`/apis/${AUTHENTICATION}/tokenreviews`)).toMatchObject({ code: 405 });
    const mallory = await as({ name: 'mallory' });
    expect(
      await mallory.post(`/apis/${AUTHENTICATION}/tokenreviews`, { spec: { token: 'x' } }),
    ).toMatchObject({ code: 403 });
  });
});
