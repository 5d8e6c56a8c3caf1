import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { CRDS, type StructuralSchema } from './crd.ts';
import { manifestYaml } from './generate.ts';
import { MANIFESTS } from './manifest.ts';

const folder = new URL('../manifests/', import.meta.url);

interface Version {
  name: string;
  served: boolean;
  storage: boolean;
  subresources: object;
  additionalPrinterColumns: { name: string; priority?: number }[];
  selectableFields?: { jsonPath: string }[];
  schema: { openAPIV3Schema: StructuralSchema };
}

function versionOf(kind: string): Version {
  const definition = CRDS.find(({ spec }) => spec.names.kind === kind);
  if (!definition) throw new Error(`no CRD of ${kind}`);
  return (definition.spec as unknown as { versions: Version[] }).versions[0] as Version;
}

/** Every schema below `schema`, with its path. */
function* nodes(schema: StructuralSchema, path = ''): Generator<[string, StructuralSchema]> {
  yield [path || '.', schema];
  for (const [name, property] of Object.entries(schema.properties ?? {}))
    yield* nodes(property, `${path}.${name}`);
  if (schema.items) yield* nodes(schema.items, `${path}[]`);
  if (schema.additionalProperties) yield* nodes(schema.additionalProperties, `${path}{}`);
}

const all = CRDS.flatMap(({ spec }) =>
  [...nodes(versionOf(spec.names.kind).schema.openAPIV3Schema)].map(
    ([path, schema]) => [`${spec.names.kind}${path}`, schema] as const,
  ),
);
const bounded = all.filter(([path]) => !/^\w+\.(apiVersion|kind|metadata|metadata[.]name)$/.test(path));

describe('manifests', () => {
  test.each(MANIFESTS)('$file is what the sources generate', (manifest) => {
    expect(readFileSync(new URL(manifest.file, folder), 'utf8')).toBe(manifestYaml(manifest));
  });

  test('the folder holds nothing else', () => {
    expect(readdirSync(folder).sort()).toEqual(MANIFESTS.map(({ file }) => file).sort());
  });
});

describe('structural schemas', () => {
  test.each([
    'anyOf',
    'oneOf',
    'allOf',
    'not',
    '$ref',
    'nullable',
    'default',
    'const',
    'uniqueItems',
    'propertyNames',
  ])('never use %s', (keyword) => {
    expect(all.filter(([, schema]) => keyword in schema).map(([path]) => path)).toEqual([]);
  });

  test('every node has a type', () => {
    expect(all.filter(([, schema]) => schema.type === undefined).map(([path]) => path)).toEqual([]);
  });

  test('every string, list, map and number is bounded', () => {
    const unbounded = bounded.filter(([, schema]) => {
      switch (schema.type) {
        case 'string':
          return !('maxLength' in schema || 'enum' in schema || schema.format === 'date-time');
        case 'array':
          return !('maxItems' in schema);
        case 'integer':
          return !('maximum' in schema && 'minimum' in schema && 'format' in schema);
        case 'object':
          return schema.additionalProperties ? !('maxProperties' in schema) : !schema.properties;
        default:
          return true;
      }
    });
    expect(unbounded.map(([path]) => path)).toEqual([]);
  });

  test('patterns are RE2: no look-around, no back-references', () => {
    const patterns = all.filter(([, schema]) => 'pattern' in schema);
    expect(patterns.length).toBeGreaterThan(10);
    expect(patterns.filter(([, schema]) => /\(\?|\\\d|\\k/.test(String(schema.pattern)))).toEqual([]);
  });

  test('every list says how server-side apply merges it', () => {
    const silent = all.filter(
      ([, schema]) => schema.type === 'array' && !('x-kubernetes-list-type' in schema),
    );
    expect(silent.map(([path]) => path)).toEqual([]);
  });

  test('every rule has a message in one line', () => {
    const rules = all.flatMap(
      ([, schema]) => (schema['x-kubernetes-validations'] ?? []) as { message?: string }[],
    );
    expect(rules.length).toBeGreaterThan(20);
    for (const { message } of rules) expect(message).toMatch(/^[^\n]{15,250}$/);
  });
});

describe('what kubectl shows', () => {
  test.each([
    ['ShardAssignment', 'Set Shard Owner Phase Epoch Age', 'Version Move Pin Ticket'],
    [
      'ShardSet',
      'Shards Owned Draining Nodes Ready Age',
      'Strategy Freeze Unplaceable Lost Max/Mean Message',
    ],
    ['MeshNode', 'Ready Weight Zone Scheduling Age', 'Region Endpoint Liveness Message'],
  ])('%s: columns, and more with -o wide', (kind, columns, wide) => {
    const { additionalPrinterColumns: shown } = versionOf(kind);
    const names = (priority: number) =>
      shown.filter((column) => (column.priority ?? 0) === priority).map(({ name }) => name);
    expect(names(0).join(' ')).toBe(columns);
    expect(names(1).join(' ')).toBe(wide);
  });

  test('at most eight selectable fields, which is what Kubernetes allows', () => {
    for (const { spec } of CRDS) {
      expect(versionOf(spec.names.kind).selectableFields?.length ?? 0).toBeLessThanOrEqual(8);
    }
    expect(versionOf('ShardAssignment').selectableFields?.map(({ jsonPath }) => jsonPath)).toEqual(
      expect.arrayContaining(['.spec.shardSet', '.spec.state', '.status.owner', '.status.phase']),
    );
  });
});
