import { applyManifest, installManifests } from '@meshkit/crds/install';
import { CUSTOM_RESOURCE_DEFINITIONS, MESH_NODES, SHARD_SETS } from '@meshkit/crds/resource';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Plane } from './resources-plane.ts';

let plane: Plane;

beforeAll(async () => {
  plane = await Plane.open();
});
afterAll(() => plane.close());

describe('installManifests', () => {
  test('again changes nothing, and says in one line what the control plane does not serve', async () => {
    const warnings: unknown[] = [];
    const nothing = () => undefined;
    const log = {
      debug: nothing,
      info: nothing,
      error: nothing,
      warn: (fields: unknown) => void warnings.push(fields),
    };
    const { kind } = inject('controlPlane');
    const before = kind === 'real' ? await plane.admin.list(CUSTOM_RESOURCE_DEFINITIONS) : undefined;
    await installManifests(plane.admin, { signal: AbortSignal.timeout(30_000), log });
    if (before) {
      const versions = (list: typeof before) => list.items.map(({ metadata }) => metadata.resourceVersion);
      expect(versions(await plane.admin.list(CUSTOM_RESOURCE_DEFINITIONS))).toEqual(versions(before));
      expect(warnings).toEqual([]);
    } else {
      expect(warnings).toHaveLength(1);
      expect(JSON.stringify(warnings)).toContain('ValidatingAdmissionPolicy');
    }
  });

  test('an aborted signal ends it', async () => {
    const stopped = installManifests(plane.admin, { signal: AbortSignal.abort(new Error('enough')) });
    await expect(stopped).rejects.toThrow('enough');
  });
});

describe('applyManifest', () => {
  const text = (weight: number) => `
apiVersion: meshkit.omnirelay.io/v1alpha1
kind: ShardSet
metadata: {name: applied, namespace: ${plane.namespace}}
spec: {shards: {count: 2}}
---
# a comment only
---
apiVersion: meshkit.omnirelay.io/v1alpha1
kind: MeshNode
metadata: {name: applied, namespace: ${plane.namespace}, labels: {app: x}}
spec: {weight: ${weight}}
`;

  test('creates, and then changes', async () => {
    const key = { namespace: plane.namespace, name: 'applied' };
    await applyManifest(plane.admin, text(1));
    expect((await plane.admin.get(SHARD_SETS, key)).spec).toEqual({ shards: { count: 2 } });
    await applyManifest(plane.admin, text(2));
    const node = await plane.admin.get(MESH_NODES, key);
    expect([node.spec, node.metadata.labels]).toEqual([{ weight: 2 }, { app: 'x' }]);
  });

  test.each([
    ['kind: [', 'the manifest is not YAML'],
    ['kind: ShardSet\nmetadata: {name: x}', 'without apiVersion, kind or metadata.name'],
    ['apiVersion: v1\nkind: Secret\nmetadata: {name: x}', 'cannot apply Secret'],
  ])('%j is refused', async (yaml, says) => {
    await expect(applyManifest(plane.admin, yaml)).rejects.toThrow(says);
  });
});
