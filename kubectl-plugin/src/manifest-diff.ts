import type { KubeObject } from '@meshkit/shards/records';
import { semanticallyEqual } from '@meshkit/shards/semantic-equality';
import { NONE } from './columns.ts';
import type { Applied } from './dry-run.ts';
import { counted, type Look, tableText } from './print.ts';
import type { Column, Style } from './table.ts';

/** What applying a folder would change: `diff -f`. */
export interface ManifestDiff {
  summary: { objects: number; added: number; changed: number; unchanged: number; notOurs: number };
  items: ManifestChange[];
}

interface ManifestChange {
  kind: string;
  namespace: string;
  name: string;
  change: 'Added' | 'Changed' | 'Unchanged';
  file: string;
  line: number;
  /** Of a changed object, by path. */
  fields: FieldChange[];
  /** Why kube-apiserver could not check it. */
  unchecked?: string;
}

interface FieldChange {
  /** `spec.churn.maxConcurrentMoves` */
  path: string;
  /** Absent: not set. */
  before?: unknown;
  after?: unknown;
}

/** What the server writes by itself is no difference of the manifests. */
const SERVERS_OWN = [
  'managedFields',
  'resourceVersion',
  'generation',
  'uid',
  'creationTimestamp',
  'selfLink',
];

/** Live objects against what the dry run of their manifests answered. Pure. */
export function manifestDiff(applied: readonly Applied[], notOurs: number): ManifestDiff {
  const items = applied.map(changeOf);
  const having = (change: ManifestChange['change']) => items.filter((item) => item.change === change).length;
  return {
    summary: {
      objects: items.length,
      added: having('Added'),
      changed: having('Changed'),
      unchanged: having('Unchanged'),
      notOurs,
    },
    items,
  };
}

function changeOf({ manifest, live, next, unchecked }: Applied): ManifestChange {
  const { kind, metadata } = manifest.object;
  const { namespace = '', name } = metadata;
  const fields = live && next ? fieldChanges(comparable(live), comparable(next), '') : [];
  const change = !live
    ? ('Added' as const)
    : fields.length > 0
      ? ('Changed' as const)
      : ('Unchanged' as const);
  return { kind, namespace, name, change, file: manifest.file, line: manifest.line, fields, unchecked };
}

function comparable({ metadata, ...object }: KubeObject): object {
  const { status: _status, ...rest } = object as { status?: unknown };
  const own = Object.entries(metadata).filter(([name]) => !SERVERS_OWN.includes(name));
  return { ...rest, metadata: Object.fromEntries(own) };
}

function fieldChanges(before: unknown, after: unknown, path: string): FieldChange[] {
  if (semanticallyEqual(before, after)) return [];
  if (!isRecord(before) || !isRecord(after)) return [{ path, before, after }];
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return names.flatMap((name) => fieldChanges(before[name], after[name], pathTo(path, name)));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function pathTo(path: string, name: string): string {
  const step = /^[\w-]+$/.test(name) ? (path === '' ? name : `.${name}`) : `[${name}]`;
  return path + step;
}

interface Row {
  item: ManifestChange;
  field?: FieldChange;
}

export function manifestDiffText({ items, summary }: ManifestDiff, look: Look): string {
  const shown = items.filter(({ change }) => look.wide || change !== 'Unchanged');
  const rows = shown.flatMap((item): Row[] =>
    item.fields.length > 0 ? item.fields.map((field) => ({ item, field })) : [{ item }],
  );
  const { added, changed, unchanged } = summary;
  const sum = `${counted(summary.objects, 'object')}: ${added} added, ${changed} changed, ${unchanged} unchanged\n`;
  const table = tableText(rows, COLUMNS, look);
  return table === '' ? sum : `${table}\n${sum}`;
}

const STYLES: Partial<Record<ManifestChange['change'], Style>> = { Added: 'green', Changed: 'yellow' };

const COLUMNS: Column<Row>[] = [
  { header: 'CHANGE', cell: ({ item }) => item.change, style: ({ item }) => STYLES[item.change] },
  { header: 'OBJECT', cell: ({ item }) => `${item.kind} ${item.namespace}/${item.name}` },
  { header: 'FIELD', cell: ({ field }) => field?.path ?? NONE },
  { header: 'LIVE', cell: ({ field }) => valueText(field, 'before') },
  { header: 'NEW', cell: ({ field }) => valueText(field, 'after') },
  { header: 'AT', cell: ({ item }) => `${item.file}:${item.line}`, spare: 1 },
];

function valueText(field: FieldChange | undefined, side: 'before' | 'after'): string {
  const value = field?.[side];
  if (value === undefined) return NONE;
  return typeof value === 'string' ? value : JSON.stringify(value);
}
