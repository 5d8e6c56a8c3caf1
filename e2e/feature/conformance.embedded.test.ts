import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { startEmbedded } from '../control-plane/embedded/start.ts';
import {
  API_VERSION,
  Api,
  freshNamespace,
  GROUP,
  installProbes,
  probe,
  probesIn,
  told,
} from './conformance-api.ts';

const ADMISSION = '/apis/admissionregistration.k8s.io/v1';
const RBAC = '/apis/rbac.authorization.k8s.io/v1';

let api: Api;
let namespace: string;
let probes: string;

beforeAll(async () => {
  api = await Api.admin(inject('controlPlane'));
  await installProbes(api);
  namespace = await freshNamespace(api);
  probes = probesIn(namespace);
  await api.post(probes, probe('a'));
});
afterAll(() => api.close());

describe('what only the real control plane does says so', () => {
  const owned = { versions: ['v1', 'v2'].map((name) => ({ name, served: true, storage: name === 'v1' })) };
  const names = { plural: 'doubles', kind: 'Double' };
  const definition = {
    metadata: { name: `doubles.${GROUP}` },
    spec: { group: GROUP, names, scope: 'Cluster', ...owned },
  };

  const sent = (type: string, body: string) =>
    api.send('POST', probes, { body, headers: { 'content-type': type } });

  test.each([
    [
      'server-side apply',
      () => api.patch(`${probes}/a?fieldManager=x`, probe('a'), 'application/apply-patch+yaml'),
    ],
    ['JSON patch', () => api.patch(`${probes}/a`, '[]', 'application/json-patch+json')],
    ['admission policies', () => api.post(`${ADMISSION}/validatingadmissionpolicies`, {})],
    ['admission policies', () => api.get(`${ADMISSION}/mutatingadmissionpolicies`)],
    ['finalizers', () => api.post(probes, probe('f', { color: 'Red' }, { finalizers: ['x.io/y'] }))],
    ['finalizers', () => api.patch(`${probes}/a`, { metadata: { finalizers: ['x.io/y'] } })],
    ['propagationPolicy Foreground', () => api.delete(`${probes}/a`, { propagationPolicy: 'Foreground' })],
    ['propagationPolicy Orphan', () => api.delete(`${probes}/a?propagationPolicy=Orphan`)],
    ['impersonation', () => api.get(probes, { 'impersonate-user': 'jane' })],
    ['impersonation', () => api.get(probes, { 'impersonate-group': 'devs' })],
    [
      'more than one served version',
      () => api.post('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', definition),
    ],
    [
      'strategic merge patch',
      () => api.patch(`/api/v1/namespaces/${namespace}`, {}, 'application/strategic-merge-patch+json'),
    ],
    ['bodies in YAML', () => sent('application/yaml', 'kind: Probe')],
    ['protobuf', () => sent('application/vnd.kubernetes.protobuf', 'k8s')],
    ['strict field validation', () => api.post(`${probes}?fieldValidation=Strict`, probe('s'))],
    ['strict field validation', () => api.patch(`${probes}/a?fieldValidation=Strict`, {})],
    ['label selectors', () => api.get(`${probes}?labelSelector=a`)],
    ['label selectors', () => api.get(`${probes}?watch=true&labelSelector=a`)],
    ['label selectors', () => api.delete(`${probes}?labelSelector=a`)],
    ['lists of the state at a resourceVersion', () => api.get(`${probes}?resourceVersion=1`)],
    ['lists of the state at a resourceVersion', () => api.get(`${probes}?resourceVersionMatch=Exact`)],
    [
      'ClusterRoles that aggregate others',
      () => api.post(`${RBAC}/clusterroles`, { metadata: { name: 'whole' }, aggregationRule: {} }),
    ],
    ['rules reviews of oneself', () => api.post('/apis/authorization.k8s.io/v1/selfsubjectrulesreviews', {})],
    [
      'tokens for less than 10 minutes',
      () =>
        api.post(`/api/v1/namespaces/${namespace}/serviceaccounts/default/token`, {
          spec: { expirationSeconds: 10 },
        }),
    ],
    [
      'tokens that are bound to an object',
      () =>
        api.post(`/api/v1/namespaces/${namespace}/serviceaccounts/default/token`, {
          spec: { boundObjectRef: { kind: 'Pod' } },
        }),
    ],
  ])('%s', async (what, ask) => {
    const { code, body } = await ask();
    expect({ code, body }).toMatchObject({
      code: 501,
      body: { kind: 'Status', reason: 'NotImplemented', code: 501 },
    });
    expect(body.message).toMatch(/^the embedded control plane does not do .*; use --control-plane real$/);
    if (!what.startsWith('more')) expect(body.message).toContain(what);
  });

  test('roles by somebody who may not escalate', async () => {
    const rules = [{ apiGroups: ['rbac.authorization.k8s.io'], resources: ['roles'], verbs: ['create'] }];
    await api.post(`${RBAC}/namespaces/${namespace}/roles`, { metadata: { name: 'maker' }, rules });
    const roleRef = { kind: 'Role', name: 'maker', apiGroup: 'rbac.authorization.k8s.io' };
    const subjects = [{ kind: 'User', name: 'maker', apiGroup: 'rbac.authorization.k8s.io' }];
    await api.post(`${RBAC}/namespaces/${namespace}/rolebindings`, {
      metadata: { name: 'maker' },
      roleRef,
      subjects,
    });
    const maker = await Api.as(inject('controlPlane'), { name: 'maker' });
    const answer = await maker.post(`${RBAC}/namespaces/${namespace}/roles`, {
      metadata: { name: 'more' },
      rules,
    });
    expect(answer).toMatchObject({ code: 501, body: { message: expect.stringContaining('escalate') } });
    await maker.close();
  });

  test('OpenAPI, in the text that kubectl apply shows', async () => {
    for (const path of ['/openapi/v2', '/openapi/v3']) {
      const { code, text, headers } = await api.get(path);
      expect(code).toBe(501);
      expect(headers['content-type']).toContain('text/plain');
      expect(text).toMatch(/^the embedded control plane does not do OpenAPI .*; use --control-plane real$/);
    }
  });

  test('there is no garbage collection: the operator deletes what it made', async () => {
    const ownerReferences = [{ apiVersion: 'v1', kind: 'Nothing', name: 'x', uid: 'gone' }];
    await api.post(probes, probe('orphan', { color: 'Red' }, { ownerReferences }));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await api.get(`${probes}/orphan`)).toMatchObject({ code: 200 });
  });

  test('a watch that wants initial events is told to list first', async () => {
    const query = 'watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan';
    expect(await api.get(`${probes}?${query}`)).toMatchObject({ code: 422, body: { reason: 'Invalid' } });
  });
});

describe('an embedded plane of its own', () => {
  test('leaves nothing behind, and can be stopped twice', async () => {
    const plane = await startEmbedded();
    const own = await Api.fromKubeconfig(await plane.kubeconfig());
    expect((await own.get('/version')).body.gitVersion).toBe(plane.version);
    expect(existsSync(`${plane.folder}/admin.kubeconfig`)).toBe(true);
    await Promise.all([plane.stop(), plane.stop()]);
    expect(existsSync(plane.folder)).toBe(false);
    await expect(own.get('/version')).rejects.toThrow();
    await own.close();
  });

  test('does not start once aborted', async () => {
    await expect(startEmbedded({ signal: AbortSignal.abort(new Error('changed my mind')) })).rejects.toThrow(
      'changed my mind',
    );
  });

  test('keeps open watches through a compaction', async () => {
    const plane = await startEmbedded();
    const own = await Api.fromKubeconfig(await plane.kubeconfig());
    await installProbes(own);
    const here = probesIn('default');
    const watch = await own.watch(`${here}?watch=true&timeoutSeconds=10`);
    await plane.compactEtcd();
    await own.post(here, probe('after'));
    expect(told(await watch.next(1))).toEqual(['ADDED after']);
    watch.close();
    await own.close();
    await plane.stop();
  });

  test('survives what is not HTTP for Kubernetes', async () => {
    for (const path of ['/%', '/apis/%E0%A4%A', '//', '/api/v1/namespaces/%2e%2e']) {
      expect((await api.get(path)).code).toBeGreaterThanOrEqual(400);
    }
    const long = { ...probe('long'), spec: { color: 'Red', free: { pad: 'x'.repeat(4 * 1024 * 1024) } } };
    const answer = await api.post(probes, long).catch((error: Error) => error.message);
    if (typeof answer !== 'string')
      expect(answer).toMatchObject({ code: 413, body: { reason: 'RequestEntityTooLarge' } });
    expect(await api.get(`/apis/${API_VERSION}`)).toMatchObject({ code: 200 });
  });
});
