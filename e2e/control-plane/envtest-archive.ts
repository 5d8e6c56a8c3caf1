import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { z } from 'zod';
import { type DownloadOptions, downloadFile, downloadText } from './download.ts';
import { BINARY_NAMES, type BinaryName, parseVersion } from './versions.ts';

/** `envtest-releases.yaml` of kubernetes-sigs/controller-tools, which is also what `setup-envtest` reads. */
const Index = z.object({
  releases: z.record(z.string(), z.record(z.string(), z.object({ hash: z.string(), selfLink: z.url() }))),
});

interface Archive {
  version: string;
  url: string;
  /** Hex. */
  sha512: string;
}

export interface ArchiveRequest {
  version: string;
  /** Otherwise the newest patch of the same minor version will do when there is no archive of `version`. */
  exact: boolean;
  os: string;
  arch: string;
}

/** Picks the archive from the index; throws a sentence that says what the index has instead. */
function chooseArchive(index: string, wanted: ArchiveRequest): Archive {
  const parsed = Index.safeParse(parse(index));
  if (!parsed.success)
    throw new Error(`the envtest index is not what it should be: ${z.prettifyError(parsed.error)}`);
  const archives = Object.entries(parsed.data.releases).flatMap(([version, files]) => {
    const file = files[`envtest-${version}-${wanted.os}-${wanted.arch}.tar.gz`];
    return file ? [{ version, url: file.selfLink, sha512: file.hash }] : [];
  });
  const same = archives.find(({ version }) => version === wanted.version);
  const { minor } = parseVersion(wanted.version);
  const patches = archives
    .filter(({ version }) => new RegExp(`^v1\\.${minor}\\.\\d+$`).test(version))
    .sort((a, b) => parseVersion(b.version).patch - parseVersion(a.version).patch);
  const chosen = same ?? (wanted.exact ? undefined : patches[0]);
  if (chosen) return chosen;
  const others = archives
    .map(({ version }) => version)
    .sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  throw new Error(
    `the envtest index has no Kubernetes ${wanted.version} for ${wanted.os}/${wanted.arch} (newest: ${others.slice(0, 3).join(', ') || 'none'})`,
  );
}

/**
 * Downloads the index, picks, downloads and unpacks the archive in `folder`. Says which binaries came with it:
 * usually etcd, kube-apiserver and kubectl, without kube-controller-manager.
 */
export async function fetchArchive(
  indexUrl: string,
  wanted: ArchiveRequest,
  folder: string,
  log: (line: string) => void,
  signal?: AbortSignal,
): Promise<{ version: string; files: Map<BinaryName, string> }> {
  const options: DownloadOptions = {
    signal,
    onRetry: (reason) => log(`download broke off (${reason}), trying again`),
  };
  const archive = chooseArchive(await downloadText(indexUrl, options), wanted);
  log(`downloading ${archive.url}`);
  const file = join(folder, 'envtest.tar.gz');
  await downloadFile(archive.url, file, archive.sha512, options);
  log('sha512 is right; unpacking');
  await promisify(execFile)('tar', ['-xzf', file, '-C', folder], { signal });
  const files = new Map<BinaryName, string>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const name = BINARY_NAMES.find((binary) => binary === entry.name);
    if (name && entry.isFile()) files.set(name, join(entry.parentPath, entry.name));
  }
  return { version: archive.version, files };
}
