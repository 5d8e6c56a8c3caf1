import { execFile } from 'node:child_process';
import { access, constants, readdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BINARY_NAMES, type BinaryName, KUBERNETES_VERSION, parseVersion } from './versions.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where binaries may come from; `binarySettings` reads it from the environment. */
export interface BinarySettings {
  /** `KUBEBUILDER_ASSETS`: a folder with all the binaries, used as it is and never written to. */
  assets?: string;
  /** Holds one folder per version and platform. */
  cache: string;
  /** `MESHKIT_ENVTEST_INDEX`: the list of envtest archives. */
  indexUrl: string;
  /** `MESHKIT_KUBERNETES_RELEASES`: the download site of single Kubernetes binaries. */
  releasesUrl: string;
  /** What `go` is run with. */
  env: Environment;
}

export interface Binaries {
  /** As kube-apiserver itself says. */
  version: string;
  folder: string;
  source: 'KUBEBUILDER_ASSETS' | 'cache';
}

export type FoundBinaries =
  | { ok: true; binaries: Binaries }
  | { ok: false; folder: string; missing: BinaryName[]; reason: string };

export function binarySettings(env: Environment): BinarySettings {
  return {
    assets: env.KUBEBUILDER_ASSETS || undefined,
    cache: join(env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache'), 'meshkit-shards', 'kubernetes'),
    indexUrl:
      env.MESHKIT_ENVTEST_INDEX ||
      'https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml',
    releasesUrl: env.MESHKIT_KUBERNETES_RELEASES || 'https://dl.k8s.io/release',
    env,
  };
}

/** `linux-amd64` and the like, in Go's words. */
export function platform(): { os: string; arch: string } {
  const arch = process.arch === 'x64' ? 'amd64' : process.arch;
  return { os: process.platform === 'win32' ? 'windows' : process.platform, arch };
}

export function cacheFolder(settings: BinarySettings, version: string): string {
  const { os, arch } = platform();
  return join(settings.cache, `${version}-${os}-${arch}`);
}

/**
 * Looks in KUBEBUILDER_ASSETS if that is set, else in the cache; downloads nothing. Without `version` any patch
 * release of the supported minor version does, the pinned one first, since an archive may lag a patch behind.
 */
export async function findBinaries(settings: BinarySettings, version?: string): Promise<FoundBinaries> {
  if (settings.assets) return findInAssets(settings.assets, version);
  const wanted = version ?? KUBERNETES_VERSION;
  const versions = version ? [version] : [wanted, ...(await cachedPatches(settings, wanted))];
  for (const candidate of versions) {
    const folder = cacheFolder(settings, candidate);
    if ((await missingIn(folder)).length === 0)
      return { ok: true, binaries: { version: candidate, folder, source: 'cache' } };
  }
  const folder = cacheFolder(settings, wanted);
  const missing = await missingIn(folder);
  return {
    ok: false,
    folder,
    missing,
    reason: `${missing.join(', ')} of Kubernetes ${wanted} not in the cache (${folder})`,
  };
}

/** The binaries that are absent from the folder, or not executable. */
export async function missingIn(folder: string): Promise<BinaryName[]> {
  const absent = await Promise.all(
    BINARY_NAMES.map(async (name) => !(await isExecutable(join(folder, name)))),
  );
  return BINARY_NAMES.filter((_, index) => absent[index]);
}

async function findInAssets(folder: string, version?: string): Promise<FoundBinaries> {
  const missing = await missingIn(folder);
  if (missing.length > 0) {
    const reason =
      `KUBEBUILDER_ASSETS is set to ${folder}, but ${missing.join(', ')} ${missing.length > 1 ? 'are' : 'is'} missing there. ` +
      'Add the missing files (envtest archives carry no kube-controller-manager), or unset KUBEBUILDER_ASSETS to use the cache.';
    return { ok: false, folder, missing, reason };
  }
  const actual = await versionOf(join(folder, 'kube-apiserver'));
  if (version && actual !== version) {
    const reason = `KUBEBUILDER_ASSETS holds Kubernetes ${actual}, not ${version}; unset it to use the cache.`;
    return { ok: false, folder, missing: [...BINARY_NAMES], reason };
  }
  return { ok: true, binaries: { version: actual, folder, source: 'KUBEBUILDER_ASSETS' } };
}

async function cachedPatches(settings: BinarySettings, wanted: string): Promise<string[]> {
  const { os, arch } = platform();
  const { minor } = parseVersion(wanted);
  const pattern = new RegExp(`^(v1\\.${minor}\\.\\d+)-${os}-${arch}$`);
  const names = await readdir(settings.cache).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const versions = names.flatMap((name) => pattern.exec(name)?.[1] ?? []);
  return versions.sort((a, b) => parseVersion(b).patch - parseVersion(a).patch);
}

/** Asks the binary: `Kubernetes v1.37.2` -> `v1.37.2`. */
async function versionOf(apiServer: string): Promise<string> {
  const { stdout } = await promisify(execFile)(apiServer, ['--version'], { timeout: 20_000 });
  const version = /v\d+\.\d+\.\d+/.exec(stdout)?.[0];
  if (!version) throw new Error(`${apiServer} --version says "${stdout.trim()}", which names no version`);
  return version;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch (error) {
    if (['ENOENT', 'EACCES', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}
