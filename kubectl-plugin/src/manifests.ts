import { ShardError } from '@meshkit/shards/errors';
import type { KubeObject } from '@meshkit/shards/records';
import { API_VERSION } from '@meshkit/shards/records';
import { type Document, isNode, LineCounter, parseAllDocuments } from 'yaml';
import type { Files } from './surroundings.ts';

/** An object of ours in a file, as a pull request would apply it. */
export interface Manifest {
  object: KubeObject;
  /** `-` is standard input. */
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
  /** `ShardSet payments/orders`; absent when the text is no YAML. */
  object?: string;
  field?: string;
  detail: string;
}

export interface Manifests {
  items: Manifest[];
  /** Objects of other kinds, which have no say in placement. */
  others: number;
}

/** As long as this a directory is somebody's home, and no pull request. */
const MAX_FILES = 5_000;
const OURS = ['ShardSet', 'ShardAssignment', 'MeshNode'];

/** Our objects of files and folders (`-`: standard input). Throws `invalidArgument` with every fault at once. */
export async function readManifests(
  paths: readonly string[],
  o: { files: Files; recursive: boolean; namespace: string },
): Promise<Manifests> {
  const found: Manifests = { items: [], others: 0 };
  const faults: ManifestFault[] = [];
  for (const file of await filesOf(paths, o)) {
    const text = file === '-' ? await o.files.stdin() : await readText(file, o.files);
    collect(text, file, o.namespace, found, faults);
  }
  const seen = new Map<string, Manifest>();
  for (const manifest of found.items) {
    const name = titleOf(manifest.object);
    const first = seen.get(name);
    if (first) {
      faults.push({
        ...manifest,
        object: name,
        detail: `is also in ${first.file}:${first.line}: keep one of them`,
      });
    } else seen.set(name, manifest);
  }
  if (faults.length > 0) throw manifestError(faults);
  if (found.items.length === 0) {
    const what = `${paths.join(', ')} ${paths.length === 1 ? 'has' : 'have'} no ShardSet, ShardAssignment or MeshNode`;
    throw new ShardError('invalidArgument', what);
  }
  return found;
}

/** `ShardSet payments/orders` */
export function titleOf({ kind, metadata }: KubeObject): string {
  return `${kind} ${metadata.namespace}/${metadata.name}`;
}

export function manifestError(faults: readonly ManifestFault[]): ShardError {
  const bare = faults.map(({ file, line, object, field, detail }) => ({ file, line, object, field, detail }));
  return new ShardError('invalidArgument', 'the manifests are not valid', { faults: bare });
}

async function filesOf(
  paths: readonly string[],
  { files, recursive }: { files: Files; recursive: boolean },
): Promise<string[]> {
  const all: string[] = [];
  for (const path of paths) {
    if (path === '-') {
      all.push(path);
      continue;
    }
    let inside: string[] | undefined;
    try {
      inside = await files.below(path);
    } catch (error) {
      throw unreadable(path, error);
    }
    if (inside === undefined) all.push(path);
    else all.push(...inside.filter((name) => isManifest(name) && (recursive || isDirectly(name, path))));
    if (all.length > MAX_FILES) {
      throw new ShardError(
        'invalidArgument',
        `${path} has more than ${MAX_FILES} files: name a smaller folder`,
      );
    }
  }
  return all;
}

function isManifest(name: string): boolean {
  return /\.(ya?ml|json)$/.test(name);
}

function isDirectly(name: string, folder: string): boolean {
  return !name.slice(folder.replace(/\/+$/, '').length + 1).includes('/');
}

async function readText(file: string, files: Files): Promise<string> {
  try {
    return await files.read(file);
  } catch (error) {
    throw unreadable(file, error);
  }
}

function unreadable(path: string, error: unknown): ShardError {
  const why = error instanceof Error ? error.message : String(error);
  return new ShardError('invalidArgument', `-f ${path}: ${why}`, {}, error);
}

function collect(
  text: string,
  file: string,
  namespace: string,
  found: Manifests,
  faults: ManifestFault[],
): void {
  const lines = new LineCounter();
  for (const document of parseAllDocuments(text, { lineCounter: lines })) {
    const [problem] = document.errors;
    if (problem) {
      const line = problem.linePos?.[0].line ?? 1;
      faults.push({ file, line, detail: `not YAML: ${problem.message.split('\n')[0]}` });
      continue;
    }
    const content: unknown = document.toJS({ maxAliasCount: 100 });
    if (content === null || content === undefined) continue;
    const list = listOf(content);
    const paths = list ? list.map((_, at) => `items[${at}]`) : [''];
    for (const [at, object] of (list ?? [content]).entries()) {
      const place = new Place(document, lines, paths[at] ?? '');
      take(
        object,
        { file, line: place.line, lineOf: (field) => place.lineOf(field) },
        namespace,
        found,
        faults,
      );
    }
  }
}

function listOf(content: unknown): unknown[] | undefined {
  const { kind, items } = content as { kind?: unknown; items?: unknown };
  return typeof kind === 'string' && kind.endsWith('List') && Array.isArray(items) ? items : undefined;
}

function take(
  content: unknown,
  place: Omit<Manifest, 'object'>,
  namespace: string,
  found: Manifests,
  faults: ManifestFault[],
): void {
  const object = content as Partial<KubeObject>;
  const group = String(object?.apiVersion ?? '').split('/')[0];
  const isOurs = group === API_VERSION.split('/')[0];
  const fault = (detail: string) => faults.push({ file: place.file, line: place.line, detail });
  if (typeof content !== 'object' || !object.apiVersion || !object.kind) {
    fault('an object has apiVersion and kind; this has not');
  } else if (!isOurs) {
    found.others += 1;
  } else if (object.apiVersion !== API_VERSION || !OURS.includes(object.kind)) {
    fault(`${object.apiVersion} ${object.kind} is not known here; ${API_VERSION} has ${OURS.join(', ')}`);
  } else if (!object.metadata?.name) {
    fault(`${object.kind} without metadata.name`);
  } else {
    const metadata = { ...object.metadata, namespace: object.metadata.namespace ?? namespace };
    found.items.push({ ...place, object: { ...(object as KubeObject), metadata } });
  }
}

/** Where in a text the fields of one object are. */
class Place {
  readonly #document: Document.Parsed;
  readonly #lines: LineCounter;
  readonly #root: readonly (string | number)[];

  constructor(document: Document.Parsed, lines: LineCounter, root: string) {
    this.#document = document;
    this.#lines = lines;
    this.#root = pathOf(root);
  }

  get line(): number {
    return this.#lineAt(this.#root) ?? 1;
  }

  lineOf(field: string): number {
    const path = [...this.#root, ...pathOf(field)];
    for (let length = path.length; length > this.#root.length; length -= 1) {
      const line = this.#lineAt(path.slice(0, length));
      if (line !== undefined) return line;
    }
    return this.line;
  }

  #lineAt(path: readonly (string | number)[]): number | undefined {
    const node: unknown = path.length === 0 ? this.#document.contents : this.#document.getIn(path, true);
    if (!isNode(node) || !node.range) return undefined;
    return this.#lines.linePos(node.range[0]).line;
  }
}

/** `spec.shards.ids[3]` or `metadata.labels[app]`, as Kubernetes names fields. */
function pathOf(field: string): (string | number)[] {
  const words = field.match(/[^.[\]]+|\[[^\]]*\]/g) ?? [];
  return words.map((word) => {
    const inner = word.startsWith('[') ? word.slice(1, -1) : word;
    return /^\d+$/.test(inner) ? Number(inner) : inner;
  });
}
