import { chmod, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Binaries,
  type BinarySettings,
  cacheFolder,
  findBinaries,
  missingIn,
  platform,
} from './binaries.ts';
import { withLock } from './cache-lock.ts';
import { fetchArchive } from './envtest-archive.ts';
import { buildWithGo } from './go-build.ts';
import { fetchReleaseBinaries } from './release-binaries.ts';
import { BINARY_NAMES, type BinaryName, KUBERNETES_VERSION } from './versions.ts';

export interface EnsureOptions {
  settings: BinarySettings;
  /** Absent: the pinned version, or a patch release of the same minor version where only that is to be had. */
  version?: string;
  /** Whether to build from source what cannot be downloaded. */
  build: boolean;
  log: (line: string) => void;
  signal?: AbortSignal;
}

/**
 * Binaries at hand, or downloaded or built into the cache: the envtest archive first, then the Kubernetes release
 * site for what the archive lacks, then Go modules. Each source is asked only for what is still missing. Rejects
 * with a line per source when something stays missing.
 */
export async function ensureBinaries(options: EnsureOptions): Promise<Binaries> {
  const found = await findBinaries(options.settings, options.version);
  if (found.ok) return found.binaries;
  if (options.settings.assets) throw new Error(found.reason);
  return withLock(`${found.folder}.lock`, () => supply(options), {
    signal: options.signal,
    onWait: (pid) => options.log(`waiting for process ${pid}, which is getting the same binaries`),
  });
}

async function supply({ settings, version, build, log, signal }: EnsureOptions): Promise<Binaries> {
  const found = await findBinaries(settings, version);
  if (found.ok) return found.binaries;
  const shelf = new Shelf(settings, version ?? KUBERNETES_VERSION, log, signal);
  const { os, arch } = platform();
  // What was got before, of this very version, must not be mixed with another patch release.
  const exact = version !== undefined || found.missing.length < BINARY_NAMES.length;

  // An archive that was unpacked before would have brought the controller manager if it had one.
  if (found.missing.some((name) => name !== 'kube-controller-manager')) {
    await shelf.fill('envtest archive', async (_names, staging) => {
      const wanted = { version: shelf.version, exact, os, arch };
      const archive = await fetchArchive(settings.indexUrl, wanted, staging, log, signal);
      shelf.version = archive.version;
      return archive.files;
    });
  }
  // The release site has no etcd: without a build to follow, what it could add would be of no use.
  if (build || !(await shelf.missing()).includes('etcd')) {
    await shelf.fill('Kubernetes release site', (names, staging) => {
      const wanted = { version: shelf.version, os, arch, names };
      return fetchReleaseBinaries(settings.releasesUrl, wanted, staging, log, signal);
    });
  }
  if (build) {
    await shelf.fill('Go modules', (names, staging) =>
      buildWithGo({ version: shelf.version, names, folder: staging, env: settings.env, log, signal }),
    );
  }
  return shelf.close(build);
}

/** One version's folder in the cache while it is being filled, source by source. */
class Shelf {
  /** May change to another patch release, while the folder is empty. */
  version: string;
  readonly #settings: BinarySettings;
  readonly #log: (line: string) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #problems: string[] = [];

  constructor(settings: BinarySettings, version: string, log: (line: string) => void, signal?: AbortSignal) {
    this.#settings = settings;
    this.version = version;
    this.#log = log;
    this.#signal = signal;
  }

  get #folder(): string {
    return cacheFolder(this.#settings, this.version);
  }

  missing(): Promise<BinaryName[]> {
    return missingIn(this.#folder);
  }

  /** Asks one source for what is missing; its failure is noted, and the next source's turn. */
  async fill(
    source: string,
    fetch: (names: readonly BinaryName[], staging: string) => Promise<Map<BinaryName, string>>,
  ): Promise<void> {
    const missing = await this.missing();
    if (missing.length === 0) return;
    this.#log(`${source}: looking for ${missing.join(', ')} of Kubernetes ${this.version}`);
    const staging = `${this.#folder}.partial`;
    await rm(staging, { recursive: true, force: true });
    await mkdir(staging, { recursive: true });
    try {
      const files = await fetch(missing, staging);
      await this.#put(files);
      const lacking = missing.filter((name) => !files.has(name));
      if (lacking.length > 0) this.#note(source, `does not offer ${lacking.join(', ')}`);
    } catch (error) {
      this.#signal?.throwIfAborted();
      this.#note(source, error instanceof Error ? error.message : String(error));
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async close(built: boolean): Promise<Binaries> {
    const missing = await this.missing();
    if (missing.length === 0) return { version: this.version, folder: this.#folder, source: 'cache' };
    const hint = built
      ? ''
      : '\nWhere Go is installed, `npm run control-plane -- fetch` builds them from source.';
    throw new Error(
      `cannot get ${missing.join(', ')} of Kubernetes ${this.version}:\n${this.#problems.join('\n')}${hint}`,
    );
  }

  /** Renames, so that a binary in the cache is always a whole one; those that are there already may be running. */
  async #put(files: Map<BinaryName, string>): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    for (const name of await this.missing()) {
      const file = files.get(name);
      if (!file) continue;
      await chmod(file, 0o755);
      await rename(file, join(this.#folder, name));
    }
  }

  #note(source: string, problem: string): void {
    this.#problems.push(`  ${source}: ${problem}`);
    this.#log(`${source}: ${problem}`);
  }
}
