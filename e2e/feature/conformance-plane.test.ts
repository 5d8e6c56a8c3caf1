import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Api, freshNamespace, installProbes, probe, probesIn, told } from './conformance-api.ts';

let plane: ControlPlane;
let api: Api;
let probes: string;

beforeAll(async () => {
  plane = await startControlPlane({ kind: inject('controlPlane').kind, env: process.env });
  api = await Api.fromKubeconfig(await plane.kubeconfig());
  await installProbes(api);
  probes = probesIn(await freshNamespace(api));
}, 120_000);
afterAll(async () => {
  await api?.close();
  await plane?.stop();
});

test('a compacted history answers 410, in a watch as for a continue token', async () => {
  for (const name of ['a', 'b', 'c']) await api.post(probes, probe(name));
  const first = await api.get(`${probes}?limit=1`);
  const { continue: token = '', resourceVersion } = first.body.metadata;
  await api.delete(`${probes}/b`);
  await plane.compactEtcd();
  const watch = await api.watch(`${probes}?watch=true&resourceVersion=${resourceVersion}&timeoutSeconds=10`);
  expect(await watch.next(2)).toMatchObject([{ type: 'ERROR', object: { code: 410, reason: 'Expired' } }]);
  const expired = await api.get(`${probes}?limit=1&continue=${encodeURIComponent(token)}`);
  expect(expired).toMatchObject({ code: 410, body: { kind: 'Status', reason: 'Expired' } });
  expect(expired.body.message).toContain(
    'The provided continue parameter is too old to display a consistent list result.',
  );
  const { body } = await api.get(probes);
  const again = await api.watch(
    `${probes}?watch=true&resourceVersion=${body.metadata.resourceVersion}&timeoutSeconds=10`,
  );
  await api.post(probes, probe('d'));
  expect(told(await again.next(1))).toEqual(['ADDED d']);
  again.close();
}, 60_000);

test('a restart keeps data, address and tokens, and ends what was open', async () => {
  const { body } = await api.post(probes, probe('kept'));
  const watch = await api.watch(
    `${probes}?watch=true&resourceVersion=${body.metadata.resourceVersion}&timeoutSeconds=60`,
  );
  await Promise.all([expect(watch.next(1)).rejects.toThrow(), plane.restart()]);
  expect((await api.get(`${probes}/kept`)).body).toEqual(body);
  const next = await api.post(probes, probe('after'));
  expect(Number(next.body.metadata.resourceVersion)).toBeGreaterThan(Number(body.metadata.resourceVersion));
}, 60_000);

test('the audit tells who did what', async () => {
  const since = Date.now();
  const jane = await Api.fromKubeconfig(await plane.kubeconfig({ name: 'jane' }));
  const namespace = probes.split('/')[5];
  await api.post(probes, probe('audited'));
  await api.patch(`${probes}/audited/status?dryRun=All`, { status: { count: 1 } });
  await jane.get(`${probes}/audited`);
  await jane.get('/version');
  const entries = (await plane.audit(since)).filter(({ user }) => user === 'admin' || user === 'jane');
  const common = {
    group: 'conformance.meshkit.omnirelay.io',
    resource: 'probes',
    namespace,
    name: 'audited',
    at: expect.any(Number),
  };
  expect(entries).toMatchObject([
    { ...common, user: 'admin', verb: 'create', dryRun: false, code: 201 },
    { ...common, user: 'admin', verb: 'patch', subresource: 'status', dryRun: true, code: 200 },
    { ...common, user: 'jane', verb: 'get', dryRun: false, code: 403 },
    { user: 'jane', verb: 'get', group: '', resource: '', code: 200 },
  ]);
  await jane.close();
});

test('kubeconfigs for ServiceAccounts need one', async () => {
  const [namespace = ''] = probes.split('/').slice(5);
  await api.post(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name: 'robot' } });
  const robot = await Api.fromKubeconfig(
    await plane.serviceAccountKubeconfig(namespace, 'robot', { expirationSeconds: 900 }),
  );
  expect((await robot.get(probes)).body.message).toContain(
    `User "system:serviceaccount:${namespace}:robot" cannot list`,
  );
  await robot.close();
  await expect(plane.serviceAccountKubeconfig(namespace, 'nobody')).rejects.toThrow(
    'serviceaccounts "nobody" not found',
  );
});
