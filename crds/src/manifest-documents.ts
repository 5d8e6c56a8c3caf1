import type { SimulatedManifest } from '@meshkit/shards/simulate';
import { type Document, isMap, isScalar, isSeq, LineCounter, type Node, parseAllDocuments } from 'yaml';
import { checkManifest, type ManifestFault } from './manifest-check.ts';

export interface ManifestFile {
  /** As it is to be named in problems. */
  file: string;
  /** YAML, any number of documents, or JSON. */
  text: string;
}

/** From 1. */
export interface Place {
  file: string;
  line: number;
  column: number;
}

export interface ManifestProblem extends Place {
  /** `spec.shards.count`; empty for the document as a whole. */
  field: string;
  detail: string;
}

export interface LocatedManifest {
  manifest: SimulatedManifest;
  /** The document as it was written, for a server's dry run. */
  document: unknown;
  /** Where something in the object is, or would have to be: the nearest place that exists. */
  placeOf(path: readonly (string | number)[]): Place;
}

export interface ReadManifests {
  /** In the order of the files and of the documents in them. */
  manifests: LocatedManifest[];
  /** What cannot be read, or breaks our schemas; nothing of such a document is in `manifests`. */
  problems: ManifestProblem[];
  /** Kinds that are none of ours, which a folder of manifests is full of. */
  others: (Place & { kind: string })[];
}

/** What YAML files say, as objects of our kinds, or as problems with file and line. Lists (`kind: List`) are taken apart. */
export function readManifests(files: readonly ManifestFile[]): ReadManifests {
  const read: ReadManifests = { manifests: [], problems: [], others: [] };
  for (const { file, text } of files) {
    const lines = new LineCounter();
    for (const document of parseAllDocuments(text, { lineCounter: lines })) {
      // An empty stream is an object of its own kind.
      if ('contents' in document) readDocument(document as Document.Parsed, file, lines, read);
    }
  }
  return read;
}

function readDocument(
  document: Document.Parsed,
  file: string,
  lines: LineCounter,
  read: ReadManifests,
): void {
  const at = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  const [error] = document.errors;
  if (error) {
    // The rest of the message shows the lines around it.
    const detail = (error.message.split('\n')[0] ?? '').replace(/ at line \d+, column \d+:?$/, '');
    read.problems.push({ ...at(error.pos[0]), field: '', detail });
    return;
  }
  let value: unknown;
  try {
    value = document.toJS();
  } catch (cause) {
    // Aliases that would grow without bound.
    const detail = cause instanceof Error ? cause.message : String(cause);
    read.problems.push({ ...at(document.range[0]), field: '', detail });
    return;
  }
  if (value === null || value === undefined) return;
  const placeOf = (path: readonly (string | number)[]) => at(offsetOf(document, path));
  for (const { root, object } of objectsOf(value)) {
    const checked = checkManifest(object);
    const within = (path: readonly (string | number)[]) => placeOf([...root, ...path]);
    if ('other' in checked) read.others.push({ ...within(['kind']), kind: checked.other });
    else if ('faults' in checked)
      read.problems.push(...checked.faults.map((fault) => problemOf(fault, within)));
    else read.manifests.push({ manifest: checked.manifest, document: object, placeOf: within });
  }
}

function problemOf({ path, detail }: ManifestFault, placeOf: LocatedManifest['placeOf']): ManifestProblem {
  return { ...placeOf(path), field: path.join('.'), detail };
}

/** The object itself, or the items of a list of objects. */
function objectsOf(value: unknown): { root: (string | number)[]; object: unknown }[] {
  const { kind, items } = value as { kind?: unknown; items?: unknown };
  if (kind !== 'List' || !Array.isArray(items)) return [{ root: [], object: value }];
  return items.map((object, index) => ({ root: ['items', index], object }));
}

/** Of the key, the item, or the nearest thing around it. */
function offsetOf(document: Document.Parsed, path: readonly (string | number)[]): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range[0] ?? document.range[0];
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
      if (!pair) break;
      offset = (pair.key as Node).range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      if (!node) break;
      offset = (node as Node).range?.[0] ?? offset;
    } else break;
  }
  return offset;
}
