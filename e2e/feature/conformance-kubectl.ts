import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { binarySettings, findBinaries } from '../control-plane/binaries.ts';
import type { ProvidedControlPlane } from '../control-plane/control-plane.ts';

interface Run {
  code: number;
  out: string;
  err: string;
}

/** Path of the plane's kubectl, or of the one at hand; undefined without. */
export async function kubectlBinary(plane: ProvidedControlPlane): Promise<string | undefined> {
  const found = plane.kubectl ? undefined : await findBinaries(binarySettings(process.env));
  return plane.kubectl ?? (found?.ok ? join(found.binaries.folder, 'kubectl') : undefined);
}

/** kubectl as administrator in one namespace, with a folder of its own. */
export class Kubectl {
  readonly #common: readonly string[];
  readonly #binary: string;
  readonly #folder: string;

  private constructor(binary: string, kubeconfig: string, namespace: string, folder: string) {
    const cache = join(folder, 'cache');
    this.#common = ['--kubeconfig', kubeconfig, '--cache-dir', cache, '-n', namespace];
    this.#binary = binary;
    this.#folder = folder;
  }

  static async create(plane: ProvidedControlPlane, namespace: string, binary = ''): Promise<Kubectl> {
    const folder = await mkdtemp(join(tmpdir(), 'meshkit-kubectl-'));
    return new Kubectl(binary, plane.adminKubeconfig, namespace, folder);
  }

  /** `command` is split at spaces, what follows is not. */
  async run(command: string, ...rest: string[]): Promise<Run> {
    const args = [...this.#common, ...command.split(' '), ...rest];
    try {
      const { stdout, stderr } = await promisify(execFile)(this.#binary, args, { timeout: 20_000 });
      return { code: 0, out: stdout, err: stderr };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { code, out: stdout, err: stderr };
    }
  }

  /** Writes objects as one YAML file; its path. */
  async file(name: string, ...objects: unknown[]): Promise<string> {
    const path = join(this.#folder, name);
    await writeFile(path, objects.map((object) => stringify(object)).join('---\n'));
    return path;
  }

  close(): Promise<void> {
    return rm(this.#folder, { recursive: true, force: true });
  }
}
