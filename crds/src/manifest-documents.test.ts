import { describe, expect, it } from 'vitest';
import { readManifests } from './manifest-documents.ts';

const SET = `# the set
apiVersion: meshkit.omnirelay.io/v1alpha1
kind: ShardSet
metadata:
  name: orders
  namespace: payments
  annotations: {note: x}
spec:
  shards:
    count: 64
`;

function read(text: string) {
  return readManifests([{ file: 'a.yaml', text }]);
}

it('reads objects of our kinds, and names the others', () => {
  const { manifests, problems, others } = read(
    `${SET}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\n# nothing\n---\n`,
  );
  expect(manifests.map(({ manifest }) => manifest)).toEqual([
    {
      apiVersion: 'meshkit.omnirelay.io/v1alpha1',
      kind: 'ShardSet',
      metadata: { name: 'orders', namespace: 'payments' },
      spec: { shards: { count: 64 } },
    },
  ]);
  expect(problems).toEqual([]);
  expect(others).toEqual([{ file: 'a.yaml', line: 13, column: 1, kind: 'ConfigMap' }]);
});

it('tells where something in an object is, or would have to be', () => {
  const [found] = read(SET).manifests;
  const line = (...path: (string | number)[]) => found!.placeOf(path).line;
  expect([line('spec', 'shards', 'count'), line('spec', 'strategy'), line(), line('status', 'x')]).toEqual([
    10, 8, 2, 2,
  ]);
});

it('takes lists apart, of JSON as well', () => {
  const items = [
    { apiVersion: 'meshkit.omnirelay.io/v1alpha1', kind: 'MeshNode', metadata: { name: 'a' }, spec: {} },
    {
      apiVersion: 'meshkit.omnirelay.io/v1alpha1',
      kind: 'MeshNode',
      metadata: { name: 'b' },
      spec: { weight: 0 },
    },
  ];
  const { manifests, problems } = read(JSON.stringify({ apiVersion: 'v1', kind: 'List', items }, null, 1));
  expect(manifests).toHaveLength(1);
  expect(problems).toMatchObject([{ line: 20, field: 'spec.weight' }]);
});

describe('what is wrong, with its line', () => {
  it.each([
    ['a bound', 'count: 64', 'count: 0', 10, 'spec.shards.count', /1/],
    ['a type', 'count: 64', 'count: many', 10, 'spec.shards.count', /expected/],
    ['exactly one of two', 'count: 64', 'count: 64\n    ids: [a]', 9, 'spec.shards', /exactly one/],
    [
      'a field that there is not',
      'count: 64',
      'count: 64\n  stratgy: Static',
      11,
      'spec.stratgy',
      /no field/,
    ],
    ['one further down', 'count: 64', 'count: 64\n    conut: 1', 11, 'spec.shards.conut', /no field/],
    ['a name', 'name: orders', 'name: orders.x', 5, 'metadata.name', /DNS label/],
    ['a name that is no name', 'name: orders', 'name: Orders', 5, 'metadata.name', /lower-case/],
    ['no name', 'name: orders', '', 4, 'metadata.name', /expected/],
    ['another version', '/v1alpha1', '/v1beta1', 2, 'apiVersion', /v1alpha1/],
    ['no kind', 'kind: ShardSet', '', 2, 'kind', /missing/],
  ])('%s', (_name, good, bad, line, field, detail) => {
    const { manifests, problems } = read(SET.replace(good, bad));
    expect(manifests).toEqual([]);
    expect(problems).toMatchObject([{ file: 'a.yaml', line, field }]);
    expect(problems[0]!.detail).toMatch(detail);
  });

  it.each([
    ['spec: {shards: [', 1],
    ['a: 1\nb: *nowhere', 1],
    ['just text', 1],
    ['- a\n- b', 1],
    ['a: "\\q"', 1],
    ['a: 1\na: 2', 2],
  ])('%j', (text, line) => {
    expect(read(text).problems).toMatchObject([{ line }]);
  });

  it('aliases that grow without bound', () => {
    const rows = Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`)}]`);
    expect(read(['a0: &a0 [x]', ...rows].join('\n')).problems).toHaveLength(1);
  });
});
