import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { type DownloadOptions, downloadFile, downloadText } from './download.ts';
import { type BinaryName, parseVersion } from './versions.ts';

/** What the Kubernetes release site offers as single files: servers for Linux, kubectl for every platform. */
function offered(os: string): readonly BinaryName[] {
  return os === 'linux' ? ['kube-apiserver', 'kube-controller-manager', 'kubectl'] : ['kubectl'];
}

/**
 * Downloads single binaries from the Kubernetes release site (`<base>/v1.37.2/bin/linux/amd64/kubectl` and
 * `….sha512` beside it) into `folder`. Leaves out what the site does not carry.
 */
export async function fetchReleaseBinaries(
  base: string,
  wanted: { version: string; os: string; arch: string; names: readonly BinaryName[] },
  folder: string,
  log: (line: string) => void,
  signal?: AbortSignal,
): Promise<Map<BinaryName, string>> {
  parseVersion(wanted.version);
  const files = new Map<BinaryName, string>();
  const options: DownloadOptions = {
    signal,
    onRetry: (reason) => log(`download broke off (${reason}), trying again`),
  };
  for (const name of offered(wanted.os).filter((candidate) => wanted.names.includes(candidate))) {
    const url = `${base}/${wanted.version}/bin/${wanted.os}/${wanted.arch}/${name}`;
    const sha512 = (await downloadText(`${url}.sha512`, options)).trim().split(/\s/)[0] ?? '';
    log(`downloading ${url}`);
    const file = join(folder, name);
    await downloadFile(url, file, sha512, options);
    await chmod(file, 0o755);
    files.set(name, file);
  }
  return files;
}
