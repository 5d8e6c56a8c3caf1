import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import {
  type Answer,
  Api,
  type Body,
  freshNamespace,
  GROUP,
  installProbes,
  probe,
  probesIn,
  ROOT,
} from './conformance-api.ts';

let api: Api;
let probes: string;
let namespace: string;

beforeAll(async () => {
  api = await Api.admin(inject('controlPlane'));
  await installProbes(api);
  namespace = await freshNamespace(api);
  probes = probesIn(namespace);
  for (const [name, color] of [
    ['a', 'Red'],
    ['b', 'Red'],
    ['c', 'Green'],
    ['d', 'Red'],
    ['e', 'Red'],
  ] as const) {
    await api.post(probes, probe(name, { color }, { labels: { name, ...(name < 'c' && { early: 'yes' }) } }));
  }
  await api.patch(`${probes}/a/status`, {
    status: { owner: 'node-1', conditions: [{ type: 'Ready', status: 'True' }] },
  });
});
afterAll(() => api.close());

const names = ({ body }: Answer) => body.items.map(({ metadata }) => metadata.name).join(' ');
const list = (query: Record<string, string>, path = probes) =>
  api.get(`${path}?${new URLSearchParams(query)}`);
const token = ({ body }: Answer) => body.metadata.continue ?? '';

describe('a list', () => {
  test('has everything of a namespace, in order, under the version of the whole', async () => {
    const answer = await list({});
    expect(answer).toMatchObject({ code: 200, body: { kind: 'ProbeList', apiVersion: `${GROUP}/v1` } });
    expect(names(answer)).toBe('a b c d e');
    expect(token(answer)).toBe('');
    const [first] = answer.body.items;
    expect(first).toEqual((await api.get(`${probes}/a`)).body);
    const newest = Math.max(...answer.body.items.map(({ metadata }) => Number(metadata.resourceVersion)));
    expect(Number(answer.body.metadata.resourceVersion)).toBeGreaterThanOrEqual(newest);
  });

  test('over all namespaces goes by namespace, then name', async () => {
    const other = await freshNamespace(api);
    await api.post(probesIn(other), probe('a'));
    const { body } = await list({}, `${ROOT}/probes`);
    const keys = body.items.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
    expect(keys).toEqual([...keys].sort());
    expect(keys).toEqual(expect.arrayContaining([`${namespace}/a`, `${other}/a`]));
  });

  test('of a namespace that is not there is empty', async () => {
    expect(await list({}, probesIn('nowhere-at-all'))).toMatchObject({ code: 200, body: { items: [] } });
  });
});

describe('pages', () => {
  test('show one snapshot, whatever is written meanwhile', async () => {
    const here = probesIn(await freshNamespace(api));
    for (const name of ['a', 'b', 'c', 'd', 'e']) await api.post(here, probe(name));
    const first = await list({ limit: '2' }, here);
    expect(names(first)).toBe('a b');
    expect(first.body.metadata).toMatchObject({ remainingItemCount: 3 });
    await api.delete(`${here}/d`);
    await api.post(here, probe('cc'));
    await api.patch(`${here}/e`, { spec: { size: 3 } });
    const second = await list({ limit: '2', continue: token(first) }, here);
    expect(names(second)).toBe('c d');
    const third = await list({ limit: '2', continue: token(second) }, here);
    expect(names(third)).toBe('e');
    expect(third.body.items[0]?.spec).not.toHaveProperty('size');
    expect(token(third)).toBe('');
    for (const page of [second, third]) {
      expect(page.body.metadata.resourceVersion).toBe(first.body.metadata.resourceVersion);
    }
    expect(names(await list({}, here))).toBe('a b c cc e');
  });

  test('with a selector do not count what remains', async () => {
    const first = await list({ limit: '1', fieldSelector: 'spec.color=Red' });
    expect(names(first)).toBe('a');
    expect(first.body.metadata).not.toHaveProperty('remainingItemCount');
    expect(names(await list({ limit: '9', fieldSelector: 'spec.color=Red', continue: token(first) }))).toBe(
      'b d e',
    );
  });

  test.each([
    [{ continue: 'xyz', limit: '2' }, 'invalid continue token: continue key is not valid'],
    [{ limit: 'x' }, 'strconv.ParseInt: parsing "x": invalid syntax'],
  ])('refuse %j', async (query, message) => {
    const answer = await list(query);
    expect(answer).toMatchObject({ code: 400, body: { kind: 'Status', reason: 'BadRequest' } });
    expect(answer.body.message).toContain(message);
  });
});

test('a list at resourceVersion 0 is whatever is at hand', async () => {
  expect(names(await list({ resourceVersion: '0' }))).toBe('a b c d e');
});

describe('field selectors', () => {
  test.each([
    ['metadata.name=b', 'b'],
    ['spec.color=Green', 'c'],
    ['spec.color!=Green,metadata.name!=a', 'b d e'],
    ['status.owner=node-1', 'a'],
    ['status.owner=', 'b c d e'],
  ])('%s finds %s', async (fieldSelector, found) => {
    expect(names(await list({ fieldSelector }))).toBe(found);
    expect(names(await list({ fieldSelector: `${fieldSelector},metadata.namespace=${namespace}` }))).toBe(
      found,
    );
  });

  test.each([
    [{ fieldSelector: 'spec.size=3' }, 'field label not supported: spec.size'],
    [{ fieldSelector: 'abc' }, "invalid selector: 'abc'; can't understand 'abc'"],
  ])('%j is refused', async (query, message) => {
    const answer = await list(query);
    expect(answer).toMatchObject({ code: 400, body: { reason: 'BadRequest' } });
    expect(answer.body.message).toContain(message);
  });
});

describe('a Table', () => {
  const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
  type Table = Body & {
    columnDefinitions: Record<string, unknown>[];
    rows: { cells: unknown[]; object: Body | null }[];
  };

  test('has the columns of the definition, and metadata only', async () => {
    const { body } = await api.get(`${probes}?limit=2`, { accept });
    const { columnDefinitions, rows, metadata } = body as Table;
    expect(body).toMatchObject({ kind: 'Table', apiVersion: 'meta.k8s.io/v1' });
    expect(
      columnDefinitions.map(({ name, type, format, priority }) => [name, type, format, priority]),
    ).toEqual([
      ['Name', 'string', 'name', 0],
      ['Color', 'string', '', 0],
      ['Size', 'integer', '', 1],
      ['Ready', 'string', '', 0],
      ['Age', 'date', '', 0],
    ]);
    expect(rows.map(({ cells }) => cells)).toEqual([
      ['a', 'Red', null, 'True', expect.stringMatching(/^\d+[sm]/)],
      ['b', 'Red', null, null, expect.stringMatching(/^\d+[sm]/)],
    ]);
    expect(rows[0]?.object).toMatchObject({
      kind: 'PartialObjectMetadata',
      metadata: { name: 'a', labels: { name: 'a' } },
    });
    expect(metadata).toMatchObject({ continue: expect.stringMatching(/./), remainingItemCount: 3 });
  });

  test('of one object can include all or nothing of it', async () => {
    const all = await api.get(`${probes}/a?includeObject=Object`, { accept });
    expect((all.body as Table).rows[0]?.object).toEqual((await api.get(`${probes}/a`)).body);
    const nothing = await api.get(`${probes}/a?includeObject=None`, { accept });
    expect((nothing.body as Table).rows[0]).toMatchObject({
      cells: ['a', 'Red', null, 'True', expect.anything()],
      object: null,
    });
  });

  test.each([
    ['/api/v1/namespaces', ['Name', 'Status', 'Age']],
    ['/apis/coordination.k8s.io/v1/leases', ['Name', 'Holder', 'Age']],
    ['/apis/rbac.authorization.k8s.io/v1/clusterroles', ['Name', 'Created At']],
  ])('of %s has its columns', async (path, columns) => {
    const { body } = await api.get(`${path}?limit=1`, { accept });
    expect((body as Table).columnDefinitions.map(({ name }) => name)).toEqual(columns);
  });
});

describe('metadata only', () => {
  const as = (kind: string) => `application/json;as=${kind};g=meta.k8s.io;v=v1`;
  const META = { apiVersion: 'meta.k8s.io/v1' };

  test('a list pages as any other', async () => {
    const accept = { accept: as('PartialObjectMetadataList') };
    const { body } = await api.get(`${probes}?limit=2`, accept);
    expect(body).toMatchObject({ kind: 'PartialObjectMetadataList', ...META });
    expect(body.metadata).toMatchObject({ continue: expect.stringMatching(/./), remainingItemCount: 3 });
    const { metadata } = (await api.get(`${probes}/a`)).body;
    expect(body.items[0]).toEqual({ kind: 'PartialObjectMetadata', ...META, metadata });
    const rest = await api.get(`${probes}?continue=${body.metadata.continue}`, accept);
    expect(names(rest)).toBe('c d e');
  });

  test('one object, and what a watch tells', async () => {
    const accept = { accept: as('PartialObjectMetadata') };
    const one = await api.get(`${probes}/a`, accept);
    expect(one.body).toMatchObject({ kind: 'PartialObjectMetadata', ...META, metadata: { name: 'a' } });
    expect(one.body).not.toHaveProperty('spec');
    const watch = await api.watch(`${probes}?watch=true&timeoutSeconds=5`, accept);
    const [first] = await watch.next(1);
    expect(first).toMatchObject({ type: 'ADDED', object: { kind: 'PartialObjectMetadata' } });
    expect(first?.object).not.toHaveProperty('spec');
    watch.close();
  });
});
