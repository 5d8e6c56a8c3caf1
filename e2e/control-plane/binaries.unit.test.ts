import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { binarySettings, findBinaries, platform } from './binaries.ts';
import { BINARY_NAMES, KUBERNETES_VERSION, parseVersion } from './versions.ts';

let home: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'meshkit-binaries-'));
});
afterEach(() => rm(home, { recursive: true }));

const { os, arch } = platform();
const inCache = (version: string) => join(home, 'meshkit-shards', 'kubernetes', `${version}-${os}-${arch}`);

/** Executables that only tell their version. */
async function put(folder: string, names: readonly string[], version: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const name of names)
    await writeFile(join(folder, name), `#!/bin/sh\necho Kubernetes ${version}\n`, { mode: 0o755 });
}

test('the cache folder is XDG_CACHE_HOME, else ~/.cache', () => {
  expect(binarySettings({ XDG_CACHE_HOME: '/x', HOME: '/h' }).cache).toBe('/x/meshkit-shards/kubernetes');
  expect(binarySettings({ HOME: '/h' }).cache).toBe('/h/.cache/meshkit-shards/kubernetes');
});

test('an empty cache is no error; it is said what is missing and where', async () => {
  const found = await findBinaries(binarySettings({ XDG_CACHE_HOME: home }));
  expect(found).toMatchObject({ ok: false, missing: BINARY_NAMES });
  expect(found).toHaveProperty('reason', expect.stringContaining(inCache(KUBERNETES_VERSION)));
});

test('a complete folder of the pinned version wins over a newer patch release', async () => {
  const { minor, patch } = parseVersion(KUBERNETES_VERSION);
  const newer = `v1.${minor}.${patch + 1}`;
  await put(inCache(newer), BINARY_NAMES, newer);
  const settings = binarySettings({ XDG_CACHE_HOME: home });
  expect(await findBinaries(settings)).toMatchObject({ ok: true, binaries: { version: newer } });
  expect(await findBinaries(settings, KUBERNETES_VERSION)).toMatchObject({ ok: false });
  await put(inCache(KUBERNETES_VERSION), BINARY_NAMES, KUBERNETES_VERSION);
  expect(await findBinaries(settings)).toMatchObject({ ok: true, binaries: { version: KUBERNETES_VERSION } });
});

test('a file that is not executable counts as missing', async () => {
  await put(inCache(KUBERNETES_VERSION), BINARY_NAMES, KUBERNETES_VERSION);
  await chmod(join(inCache(KUBERNETES_VERSION), 'etcd'), 0o644);
  expect(await findBinaries(binarySettings({ XDG_CACHE_HOME: home }))).toMatchObject({
    ok: false,
    missing: ['etcd'],
  });
});

test('KUBEBUILDER_ASSETS is used alone, and what is missing there is named', async () => {
  await put(inCache(KUBERNETES_VERSION), BINARY_NAMES, KUBERNETES_VERSION);
  const assets = join(home, 'assets');
  const settings = binarySettings({ XDG_CACHE_HOME: home, KUBEBUILDER_ASSETS: assets });
  await put(assets, ['etcd', 'kube-apiserver', 'kubectl'], 'v1.36.3');
  expect(await findBinaries(settings)).toMatchObject({
    ok: false,
    missing: ['kube-controller-manager'],
    reason: expect.stringMatching(
      /KUBEBUILDER_ASSETS is set to .*assets, but kube-controller-manager is missing/,
    ),
  });
  await put(assets, ['kube-controller-manager'], 'v1.36.3');
  expect(await findBinaries(settings)).toMatchObject({
    ok: true,
    binaries: { version: 'v1.36.3', folder: assets, source: 'KUBEBUILDER_ASSETS' },
  });
  expect(await findBinaries(settings, 'v1.37.2')).toHaveProperty(
    'reason',
    expect.stringContaining('v1.36.3, not v1.37.2'),
  );
});
