import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import {
  API_VERSION,
  Api,
  freshNamespace,
  GROUP,
  installProbes,
  isEstablished,
  probe,
  probesIn,
  ROOT,
  told,
  until,
} from './conformance-api.ts';

let api: Api;
let namespace: string;

beforeAll(async () => {
  api = await Api.admin(inject('controlPlane'));
  await installProbes(api);
  namespace = await freshNamespace(api);
});
afterAll(() => api.close());

const gone = (path: string, ms?: number) =>
  until(
    () => api.get(path),
    ({ code }) => code === 404,
    ms,
  );

describe('discovery', () => {
  test('/version names the version', async () => {
    const { gitVersion, major, minor } = (await api.get('/version')).body;
    expect(gitVersion).toBe(inject('controlPlane').version);
    expect(`v${major}.${minor}`).toBe(inject('controlPlane').version.replace(/\.\d+$/, ''));
  });

  test('lists groups and versions', async () => {
    expect((await api.get('/api')).body).toMatchObject({ kind: 'APIVersions', versions: ['v1'] });
    const served = { groupVersion: API_VERSION, version: 'v1' };
    const group = { name: GROUP, versions: [served], preferredVersion: served };
    expect((await api.get('/apis')).body).toMatchObject({
      kind: 'APIGroupList',
      groups: expect.arrayContaining([group]),
    });
    expect((await api.get(`/apis/${GROUP}`)).body).toEqual({ kind: 'APIGroup', apiVersion: 'v1', ...group });
    expect(await api.get('/apis/nothing.io')).toMatchObject({ code: 404 });
    expect(await api.get('/apis/nothing.io/v1')).toMatchObject({ code: 404 });
  });

  test('lists the resources of a definition', async () => {
    const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
    const { body } = await api.get(ROOT);
    expect(body).toMatchObject({ kind: 'APIResourceList', groupVersion: API_VERSION });
    const [main, status] = body.resources as { verbs: string[] }[];
    const shared = { namespaced: true, kind: 'Probe' };
    expect(main).toMatchObject({
      ...shared,
      name: 'probes',
      singularName: 'probe',
      shortNames: ['prb'],
      categories: ['confo'],
    });
    expect(main?.verbs.toSorted()).toEqual(verbs);
    expect(status).toEqual({
      ...shared,
      name: 'probes/status',
      singularName: '',
      verbs: ['get', 'patch', 'update'],
    });
  });

  test.each([
    ['/api/v1', 'namespaces', 'Namespace', false],
    ['/api/v1', 'serviceaccounts', 'ServiceAccount', true],
    ['/api/v1', 'serviceaccounts/token', 'TokenRequest', true],
    ['/apis/coordination.k8s.io/v1', 'leases', 'Lease', true],
    ['/apis/events.k8s.io/v1', 'events', 'Event', true],
    ['/apis/rbac.authorization.k8s.io/v1', 'clusterrolebindings', 'ClusterRoleBinding', false],
    ['/apis/authentication.k8s.io/v1', 'tokenreviews', 'TokenReview', false],
    ['/apis/authorization.k8s.io/v1', 'subjectaccessreviews', 'SubjectAccessReview', false],
    ['/apis/apiextensions.k8s.io/v1', 'customresourcedefinitions', 'CustomResourceDefinition', false],
  ])('%s has %s', async (path, name, kind, namespaced) => {
    const resources = (await api.get(path)).body.resources as { name: string }[];
    expect(resources.find((one) => one.name === name)).toMatchObject({ kind, namespaced });
  });
});

describe('a CustomResourceDefinition', () => {
  test('is served once established, and takes its objects with it', async () => {
    const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
    const group = `t${Date.now().toString(36)}.${GROUP}`;
    const names = { plural: 'gadgets', singular: 'gadget', kind: 'Gadget', listKind: 'GadgetList' };
    const schema = {
      openAPIV3Schema: {
        type: 'object',
        properties: { spec: { type: 'object', properties: { a: { type: 'integer' } } } },
      },
    };
    const definition = {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: `gadgets.${group}` },
      spec: {
        group,
        names,
        scope: 'Cluster',
        versions: [{ name: 'v1', served: true, storage: true, schema }],
      },
    };
    expect(await api.post(definitions, definition)).toMatchObject({
      code: 201,
      body: { metadata: { generation: 1 } },
    });
    const path = `${definitions}/gadgets.${group}`;
    const established = await until(() => api.get(path), isEstablished);
    expect(established.body.status).toMatchObject({
      acceptedNames: { plural: 'gadgets', kind: 'Gadget' },
      storedVersions: ['v1'],
      conditions: expect.arrayContaining([expect.objectContaining({ type: 'Established', status: 'True' })]),
    });
    const gadgets = `/apis/${group}/v1/gadgets`;
    await until(
      () => api.get(gadgets),
      ({ code }) => code === 200,
    );
    const gadget = {
      apiVersion: `${group}/v1`,
      kind: 'Gadget',
      metadata: { name: 'g' },
      spec: { a: 1 },
      status: { free: 'dropped' },
    };
    const made = await api.post(gadgets, gadget);
    expect(made, made.text).toMatchObject({
      code: 201,
      body: { metadata: { generation: 1 }, spec: { a: 1 } },
    });
    expect(made.body.metadata).not.toHaveProperty('namespace');
    expect(await api.patch(`${gadgets}/g/status`, { status: {} }), 'no subresource').toMatchObject({
      code: 404,
    });
    expect(await api.get(`/apis/${group}/v1/namespaces/default/gadgets`), 'cluster scope').toMatchObject({
      code: 404,
    });
    expect((await api.patch(`${gadgets}/g`, { spec: { a: 'x' } })).code).toBe(422);
    const loose = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
    await api.patch(path, {
      spec: { versions: [{ name: 'v1', served: true, storage: true, schema: loose }] },
    });
    await until(
      () => api.patch(`${gadgets}/g`, { spec: { a: 'x' } }),
      ({ code }) => code === 200,
    );
    expect(await api.delete(path)).toMatchObject({ code: 200 });
    await gone(gadgets);
    await gone(`/apis/${group}/v1`);
  });
});

describe('a Lease', () => {
  const leases = () => `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
  const spec = { holderIdentity: 'me', leaseDurationSeconds: 10, renewTime: '2026-11-23T08:38:00.123456Z' };

  test('keeps microseconds, has no generation, and comes typed alone but not in lists', async () => {
    const { code, body } = await api.post(leases(), { metadata: { name: 'lease' }, spec });
    expect(code).toBe(201);
    expect(body).toMatchObject({ kind: 'Lease', apiVersion: 'coordination.k8s.io/v1', spec });
    expect(body.metadata).not.toHaveProperty('generation');
    const { body: list } = await api.get(leases());
    expect(list).toMatchObject({ kind: 'LeaseList', apiVersion: 'coordination.k8s.io/v1' });
    expect(list.metadata).not.toHaveProperty('continue');
    const { kind: _, apiVersion: _1, ...item } = body;
    expect(list.items).toContainEqual(item);
    const next = {
      ...body,
      spec: { ...spec, renewTime: '2026-11-23T08:38:10.123456Z', leaseTransitions: 1 },
    };
    expect(await api.put(`${leases()}/lease`, next)).toMatchObject({ code: 200, body: { spec: next.spec } });
    expect(await api.put(`${leases()}/lease`, next), 'stale now').toMatchObject({ code: 409 });
    const nulled = await api.patch(`${leases()}/lease`, { spec: { renewTime: null, acquireTime: null } });
    expect(nulled.body.spec).toEqual({ holderIdentity: 'me', leaseDurationSeconds: 10, leaseTransitions: 1 });
  });

  test('is told to watchers with its kind', async () => {
    const { body } = await api.get(leases());
    const watch = await api.watch(
      `${leases()}?watch=true&resourceVersion=${body.metadata.resourceVersion}&timeoutSeconds=10`,
    );
    await api.post(leases(), { metadata: { name: 'watched' }, spec });
    await api.patch(`${leases()}/watched`, { spec: { leaseTransitions: 2 } });
    await api.delete(`${leases()}/watched`);
    const events = await watch.next(3);
    expect(told(events)).toEqual(['ADDED watched', 'MODIFIED watched', 'DELETED watched']);
    expect(events[1]?.object).toMatchObject({
      kind: 'Lease',
      apiVersion: 'coordination.k8s.io/v1',
      spec: { leaseTransitions: 2 },
    });
    watch.close();
  });

  test.each([
    [{ renewTime: '2026-11-23T08:38:00Z' }, 400],
    [{ renewTime: '2026-11-23T08:38:00.123Z' }, 400],
    [{ renewTime: 'soon' }, 400],
    [{ leaseDurationSeconds: 'x' }, 400],
    [{ leaseDurationSeconds: 1.5 }, 400],
    [{ leaseDurationSeconds: 0 }, 422],
    [{ leaseTransitions: -1 }, 422],
  ])('of %j is %i', async (more, code) => {
    const answer = await api.post(leases(), { metadata: { name: 'bad' }, spec: { ...spec, ...more } });
    expect(answer, answer.text).toMatchObject({
      code,
      body: { kind: 'Status', reason: code === 400 ? 'BadRequest' : 'Invalid' },
    });
    if (code === 422)
      expect(answer.body.details).toMatchObject({ causes: [{ field: `spec.${Object.keys(more)[0]}` }] });
  });

  test('is made by PUT where there is none, and needs a version where there is one', async () => {
    const object = { metadata: { name: 'put' }, spec };
    expect(await api.put(`${leases()}/put`, object)).toMatchObject({ code: 201 });
    const again = await api.put(`${leases()}/put`, object);
    expect(again).toMatchObject({
      code: 422,
      body: { details: { causes: [{ field: 'metadata.resourceVersion' }] } },
    });
  });

  test('has generic words for what it does not have', async () => {
    const message = 'the server does not allow this method on the requested resource';
    expect(await api.put(leases(), {})).toMatchObject({
      code: 405,
      body: { message, reason: 'MethodNotAllowed', details: {} },
    });
    expect(await api.post(`${leases()}/x`, {})).toMatchObject({ code: 405 });
    expect(await api.get(`${leases()}/x/status`)).toMatchObject({
      code: 404,
      body: { message: 'the server could not find the requested resource' },
    });
    expect(
      await api.post(leases(), { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' } }),
    ).toMatchObject({ code: 400 });
  });
});

describe('an Event', () => {
  const events = () => `/apis/events.k8s.io/v1/namespaces/${namespace}/events`;
  const event = (name: string, more: object = {}) => ({
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name },
    eventTime: '2026-11-23T08:38:00.123456Z',
    reportingController: 'meshkit.omnirelay.io/operator',
    reportingInstance: 'pod-1',
    action: 'Move',
    reason: 'Moved',
    type: 'Normal',
    note: 'hello',
    regarding: { apiVersion: API_VERSION, kind: 'Probe', name: 'p', namespace },
    ...more,
  });

  test('can be written, repeated as a series, found and deleted', async () => {
    expect(await api.post(events(), event('one'))).toMatchObject({
      code: 201,
      body: { note: 'hello', regarding: { name: 'p' } },
    });
    const series = { count: 2, lastObservedTime: '2026-11-23T08:39:00.123456Z' };
    expect(await api.patch(`${events()}/one`, { series })).toMatchObject({ code: 200, body: { series } });
    const found = await api.get(`${events()}?fieldSelector=regarding.name%3Dp,reason%3DMoved,type%3DNormal`);
    expect(found.body.items.map(({ metadata }) => metadata.name)).toEqual(['one']);
    expect(await api.patch(`${events()}/one`, { note: 'other' })).toMatchObject({
      code: 422,
      body: { reason: 'Invalid' },
    });
    expect(await api.delete(`${events()}/one`)).toMatchObject({ code: 200, body: { status: 'Success' } });
  });

  test.each(['reportingController', 'reportingInstance', 'action', 'reason', 'type', 'eventTime'])(
    'needs %s',
    async (field) => {
      const answer = await api.post(events(), event('bad', { [field]: undefined }));
      expect(answer, answer.text).toMatchObject({ code: 422, body: { reason: 'Invalid' } });
    },
  );

  test.each([
    { note: 'x'.repeat(1025) },
    { reason: 'x'.repeat(129) },
    { action: 'x'.repeat(129) },
    { type: 'Odd' },
  ])('is bounded', async (more) => {
    expect(await api.post(events(), event('bad', more))).toMatchObject({
      code: 422,
      body: { reason: 'Invalid' },
    });
  });
});

describe('a Namespace', () => {
  test('is Active, labelled, has its default ServiceAccount, and no dots', async () => {
    const { body } = await api.get(`/api/v1/namespaces/${namespace}`);
    expect(body).toMatchObject({
      metadata: { labels: { 'kubernetes.io/metadata.name': namespace } },
      spec: { finalizers: ['kubernetes'] },
      status: { phase: 'Active' },
    });
    await until(
      () => api.get(`/api/v1/namespaces/${namespace}/serviceaccounts/default`),
      ({ code }) => code === 200,
    );
    expect(await api.post('/api/v1/namespaces', { metadata: { name: 'a.b' } })).toMatchObject({
      code: 422,
      body: { details: { causes: [{ field: 'metadata.name' }] } },
    });
    const twice = await api.post('/api/v1/namespaces', { metadata: { name: namespace } });
    expect(twice).toMatchObject({ code: 409, body: { reason: 'AlreadyExists' } });
  });

  test('keeps spec, status and its own label through updates', async () => {
    const path = `/api/v1/namespaces/${namespace}`;
    const { body } = await api.put(path, { metadata: { name: namespace, labels: { a: 'b' } } });
    expect(body.metadata.labels).toEqual({ a: 'b', 'kubernetes.io/metadata.name': namespace });
    expect(body).toMatchObject({ spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } });
    const patched = await api.patch(path, { metadata: { labels: { a: 'c' } } });
    expect(patched.body.metadata.labels).toEqual({ a: 'c', 'kubernetes.io/metadata.name': namespace });
  });

  test('terminates, empties itself, and goes', async () => {
    const name = await freshNamespace(api);
    const [path, probes] = [`/api/v1/namespaces/${name}`, probesIn(name)];
    for (const one of ['a', 'b']) await api.post(probes, probe(one));
    const { body } = await api.get(probes);
    const watch = await api.watch(
      `${probes}?watch=true&resourceVersion=${body.metadata.resourceVersion}&timeoutSeconds=20`,
    );
    const answer = await api.delete(path);
    expect(answer).toMatchObject({
      code: 200,
      body: { metadata: { deletionTimestamp: expect.any(String) }, status: { phase: 'Terminating' } },
    });
    const late = await api.post(probes, probe('late'));
    expect([403, 404]).toContain(late.code);
    expect(told(await watch.next(2)).toSorted()).toEqual(['DELETED a', 'DELETED b']);
    watch.close();
    await gone(path);
    expect((await api.get(probes)).body.items).toEqual([]);
  });

  test('default stays', async () => {
    const answer = await api.delete('/api/v1/namespaces/default');
    expect(answer).toMatchObject({
      code: 403,
      body: {
        reason: 'Forbidden',
        message: 'namespaces "default" is forbidden: this namespace may not be deleted',
      },
    });
  });
});
