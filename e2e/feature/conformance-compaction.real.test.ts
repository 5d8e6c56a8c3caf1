import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Api, freshNamespace, installProbes, probe, probesIn } from './conformance-api.ts';

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

test('an expired continue token comes with an offer to go on with the state as it is', async () => {
  for (const name of ['a', 'b', 'c']) await api.post(probes, probe(name));
  const { continue: token = '' } = (await api.get(`${probes}?limit=1`)).body.metadata;
  await api.delete(`${probes}/b`);
  await plane.compactEtcd();
  const expired = await api.get(`${probes}?limit=1&continue=${encodeURIComponent(token)}`);
  const offered = expired.body.metadata.continue ?? '';
  const rest = await api.get(`${probes}?limit=9&continue=${encodeURIComponent(offered)}`);
  expect(rest.body.items.map(({ metadata }) => metadata.name)).toEqual(['c']);
}, 60_000);
