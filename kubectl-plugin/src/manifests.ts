import { type ManifestFile, type ManifestProblem, readManifests } from '@meshkit/crds/manifest-documents';
import { ShardError } from '@meshkit/shards/errors';
import type { KubeObject } from '@meshkit/shards/records';
import type { SimulatedManifest } from '@meshkit/shards/simulate';
import { type Files, whyUnread } from './surroundings.ts';

/** An object of ours in a file, as a pull request would apply it. */
export interface Manifest {
  /** As it was written, with the namespace that it goes to. */
  object: KubeObject;
  /** What of it counts for a simulation. */
  simulated: SimulatedManifest;
  /** `<stdin>` for standard input. */
  file: string;
  /** Where the object begins, from 1. */
  line: number;
  /** Line of a field such as `spec.shards.count`; of what encloses it where it is not written. */
  lineOf(field: string): number;
}

/** What is wrong with a manifest, and where. */
export interface ManifestFault {
  file: string;
  line: number;
  /** `ShardSet payments/orders`; absent when the text cannot be read. */
  object?: string;
  field?: string;
  detail: string;
}

export interface Manifests {
  items: Manifest[];
  /** Objects of other kinds, which have no say in placement. */
  others: number;
}

/** Who names more than this has named a home directory, and no pull request. */
const MAX_FILES = 5_000;

/** Our objects of files and folders (`-`: standard input). Throws `invalidArgument` with every fault at once. */
export async function manifestsIn(
  paths: readonly string[],
  o: { files: Files; recursive: boolean; namespace: string },
): Promise<Manifests> {
  const { manifests, problems, others } = readManifests(await textsOf(paths, o));
  const faults = problems.map(faultOf);
  const items = manifests.map(({ manifest, document, placeOf }): Manifest => {
    const metadata = { ...manifest.metadata, namespace: manifest.metadata.namespace ?? o.namespace };
    const written = document as KubeObject;
    return {
      object: { ...written, metadata: { ...written.metadata, namespace: metadata.namespace } },
      simulated: { ...manifest, metadata } as SimulatedManifest,
      file: placeOf([]).file,
      line: placeOf([]).line,
      lineOf: (field) => placeOf(pathOf(field)).line,
    };
  });
  const seen = new Map<string, Manifest>();
  for (const item of items) {
    const title = titleOf(item.object);
    const first = seen.get(title);
    if (!first) seen.set(title, item);
    else {
      const detail = `is also in ${first.file}:${first.line}: keep one of them`;
      faults.push({ file: item.file, line: item.line, object: title, detail });
    }
  }
  if (faults.length > 0) throw manifestError(faults);
  if (items.length === 0) {
    const verb = paths.length === 1 ? 'has' : 'have';
    const what = `${paths.join(', ')} ${verb} no ShardSet, ShardAssignment or MeshNode`;
    throw new ShardError('invalidArgument', what);
  }
  return { items, others: others.length };
}

/** `ShardSet payments/orders` */
export function titleOf({ kind, metadata }: KubeObject): string {
  return `${kind} ${metadata.namespace}/${metadata.name}`;
}

export function manifestError(faults: readonly ManifestFault[]): ShardError {
  return new ShardError('invalidArgument', 'the manifests are not valid', { faults });
}

function faultOf({ file, line, field, detail }: ManifestProblem): ManifestFault {
  return { file, line, field: field === '' ? undefined : field, detail };
}

async function textsOf(
  paths: readonly string[],
  { files, recursive }: { files: Files; recursive: boolean },
): Promise<ManifestFile[]> {
  const texts: ManifestFile[] = [];
  for (const path of paths) {
    if (path === '-') {
      texts.push({ file: '<stdin>', text: await files.stdin() });
      continue;
    }
    try {
      const inside = await files.below(path);
      const wanted = inside?.filter((name) => isManifest(name) && (recursive || isDirectly(name, path)));
      if (texts.length + (wanted?.length ?? 1) > MAX_FILES) {
        throw new Error(`more than ${MAX_FILES} files: name a smaller folder`);
      }
      for (const file of wanted ?? [path]) texts.push({ file, text: await files.read(file) });
    } catch (error) {
      throw new ShardError('invalidArgument', `-f ${path}: ${whyUnread(error)}`, {}, error);
    }
  }
  return texts;
}

function isManifest(name: string): boolean {
  return /\.(ya?ml|json)$/.test(name);
}

function isDirectly(name: string, folder: string): boolean {
  return !name.slice(folder.replace(/\/+$/, '').length + 1).includes('/');
}

/** `spec.shards.ids[3]` or `metadata.labels[app]`, as Kubernetes names fields. */
function pathOf(field: string): (string | number)[] {
  const words = field.match(/[^.[\]]+|\[[^\]]*\]/g) ?? [];
  return words.map((word) => {
    const inner = word.startsWith('[') ? word.slice(1, -1) : word;
    return /^\d+$/.test(inner) ? Number(inner) : inner;
  });
}
