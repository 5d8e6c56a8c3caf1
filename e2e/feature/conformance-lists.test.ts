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
    [{ resourceVersion: 'abc' }, 'invalid resource version: resourceVersion: Invalid value: "abc"'],
  ])('refuse %j', async (query, message) => {
    const answer = await list(query);
    expect(answer).toMatchObject({ code: 400, body: { kind: 'Status', reason: 'BadRequest' } });
    expect(answer.body.message).toContain(message);
  });

  test('refuse a resourceVersion beside a token', async () => {
    const first = await list({ limit: '2' });
    const answer = await list({ limit: '2', continue: token(first), resourceVersion: '5' });
    expect(answer).toMatchObject({
      code: 400,
      body: { message: 'specifying resource version is not allowed when using continue' },
    });
  });
});

describe('resourceVersion', () => {
  test('0, or one that has been, answers with at least that', async () => {
    const { body } = await list({});
    expect(names(await list({ resourceVersion: '0' }))).toBe('a b c d e');
    expect(names(await list({ resourceVersion: body.metadata.resourceVersion }))).toBe('a b c d e');
  });

  test('with resourceVersionMatch=Exact answers with that state', async () => {
    const here = probesIn(await freshNamespace(api));
    const { body } = await api.post(here, probe('a'));
    await api.post(here, probe('b'));
    await api.patch(`${here}/a`, { spec: { size: 3 } });
    const { resourceVersion } = body.metadata;
    const then = await list({ resourceVersion, resourceVersionMatch: 'Exact' }, here);
    expect(then.body).toMatchObject({ metadata: { resourceVersion }, items: [body] });
    const alone = await list({ resourceVersionMatch: 'Exact' });
    expect(alone).toMatchObject({ code: 422, body: { details: { kind: 'ListOptions' } } });
  });

  test('of the future is 504: try again', async () => {
    const answer = await list({ resourceVersion: '100000000' });
    expect(answer).toMatchObject({
      code: 504,
      body: {
        reason: 'Timeout',
        details: { causes: [{ reason: 'ResourceVersionTooLarge' }], retryAfterSeconds: 1 },
      },
    });
    expect(answer.headers['retry-after']).toBe('1');
    expect(answer.body.message).toContain('Too large resource version: 100000000, current: ');
  });
});

describe('selectors', () => {
  test.each([
    ['name=a', 'a'],
    ['name==a', 'a'],
    ['name!=a', 'b c d e'],
    ['early', 'a b'],
    ['!early', 'c d e'],
    ['name in (a, c)', 'a c'],
    ['name notin (a,c)', 'b d e'],
    ['early=yes,name!=b', 'a'],
    ['early notin (no)', 'a b c d e'],
  ])('label %s finds %s', async (labelSelector, found) => {
    expect(names(await list({ labelSelector }))).toBe(found);
  });

  test.each([
    ['metadata.name=b', 'b'],
    ['spec.color=Green', 'c'],
    ['spec.color!=Green,metadata.name!=a', 'b d e'],
    ['status.owner=node-1', 'a'],
    ['status.owner=', 'b c d e'],
  ])('field %s finds %s', async (fieldSelector, found) => {
    expect(names(await list({ fieldSelector }))).toBe(found);
    expect(names(await list({ fieldSelector: `${fieldSelector},metadata.namespace=${namespace}` }))).toBe(
      found,
    );
  });

  test.each([
    [{ fieldSelector: 'spec.size=3' }, 'field label not supported: spec.size'],
    [{ fieldSelector: 'abc' }, "invalid selector: 'abc'; can't understand 'abc'"],
    [{ labelSelector: 'a b' }, 'unable to parse requirement'],
    [{ labelSelector: 'name in a' }, 'unable to parse requirement'],
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
