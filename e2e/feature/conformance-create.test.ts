import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Api, type Body, freshNamespace, GROUP, installProbes, probe, probesIn } from './conformance-api.ts';

let api: Api;
let probes: string;

beforeAll(async () => {
  api = await Api.admin(inject('controlPlane'));
  await installProbes(api);
  probes = probesIn(await freshNamespace(api));
});
afterAll(() => api.close());

async function created(name: string, ...rest: object[]): Promise<Body> {
  const { code, body, text } = await api.post(probes, probe(name, ...rest));
  expect(code, text).toBe(201);
  return body;
}

const failure = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure' };
const resource = { group: GROUP, kind: 'probes' };

describe('create', () => {
  test('completes metadata, applies defaults and drops status', async () => {
    const spec = { color: 'Red', nested: { a: 1 } };
    const mine = { uid: 'mine', generation: 7, creationTimestamp: null, labels: { app: 'x' } };
    const body = await created('complete', spec, mine, { status: { owner: 'x' } });
    expect(body).toMatchObject({
      kind: 'Probe',
      metadata: {
        name: 'complete',
        generation: 1,
        labels: { app: 'x' },
        managedFields: [{ operation: 'Update' }],
      },
      spec: { color: 'Red', mode: 'Soft', nested: { a: 1, b: 'bee' } },
    });
    expect(body).not.toHaveProperty('status');
    expect(body.metadata.uid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4/);
    expect(body.metadata.resourceVersion).toMatch(/^[1-9]\d*$/);
    expect(body.metadata.creationTimestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect((await api.get(`${probes}/complete`)).body).toEqual(body);
    expect((await api.get(`${probes}/complete/status`)).body).toEqual(body);
  });

  test('names who wrote by fieldManager, else by user agent', async () => {
    const { body } = await api.send('POST', `${probes}?fieldManager=me`, { body: probe('managed') });
    expect(body.metadata.managedFields).toMatchObject([
      { manager: 'me', operation: 'Update', apiVersion: `${GROUP}/v1`, fieldsV1: { 'f:spec': {} } },
    ]);
    const other = await api.send('PATCH', `${probes}/managed/status`, {
      body: { status: { count: 1 } },
      headers: { 'content-type': 'application/merge-patch+json', 'user-agent': 'other/1.0 (x)' },
    });
    const entries = other.body.metadata.managedFields as { manager: string; subresource?: string }[];
    expect(entries.find(({ manager }) => manager === 'other')).toMatchObject({ subresource: 'status' });
    expect(entries).toHaveLength(2);
  });

  test('tells who wrote spec from who wrote something else', async () => {
    await created('written');
    const patch = async (manager: string, body: object) => {
      const headers = { 'content-type': 'application/merge-patch+json' };
      const answer = await api.send('PATCH', `${probes}/written?fieldManager=${manager}`, { body, headers });
      const entries = answer.body.metadata.managedFields as { manager: string; fieldsV1: object }[];
      return entries.filter(({ fieldsV1 }) => 'f:spec' in fieldsV1).map((entry) => entry.manager);
    };
    expect(await patch('labeller', { metadata: { labels: { app: 'x' } } })).not.toContain('labeller');
    expect(await patch('editor', { spec: { color: 'Green' } })).toContain('editor');
    expect(await patch('editor', { metadata: { labels: { app: 'y' } } })).toContain('editor');
  });

  test('makes a name from generateName', async () => {
    const { body } = await api.post(
      probes,
      probe(undefined as unknown as string, { color: 'Red' }, { generateName: 'gen-' }),
    );
    expect(body.metadata.name).toMatch(/^gen-[a-z0-9]{5}$/);
  });

  test('refuses a name twice', async () => {
    await created('twice');
    const answer = await api.post(probes, probe('twice'));
    expect(answer).toMatchObject({
      code: 409,
      body: { ...failure, reason: 'AlreadyExists', code: 409, details: { ...resource, name: 'twice' } },
    });
    expect(answer.body.message).toBe(`probes.${GROUP} "twice" already exists`);
  });

  test.each([
    ['no name', probe(''), 422, 'metadata.name: Required value: name or generateName is required'],
    [
      'a bad name',
      probe('A_b'),
      422,
      'metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of',
    ],
    [
      'a bad label',
      probe('x', { color: 'Red' }, { labels: { a: 'b c' } }),
      422,
      'metadata.labels: Invalid value: "b c"',
    ],
    ['another kind', { ...probe('x'), kind: 'Other' }, 422, 'kind: Invalid value: "Other": must be Probe'],
    ['no kind', { ...probe('x'), kind: undefined }, 400, "Object 'Kind' is missing in"],
    [
      'another version',
      { ...probe('x'), apiVersion: `${GROUP}/v2` },
      400,
      `the API version in the data (${GROUP}/v2) does not match`,
    ],
    [
      'no version',
      { ...probe('x'), apiVersion: undefined },
      400,
      'the API version in the data () does not match',
    ],
    [
      'another namespace',
      probe('x', { color: 'Red' }, { namespace: 'other' }),
      400,
      'the namespace of the provided object does not match the namespace sent on the request',
    ],
    [
      'labels that are no strings',
      probe('x', { color: 'Red' }, { labels: { a: 5 } }),
      400,
      'cannot be handled as a Probe',
    ],
    [
      'two controllers',
      probe(
        'x',
        { color: 'Red' },
        {
          ownerReferences: ['a', 'b'].map((uid) => ({
            apiVersion: 'v1',
            kind: 'X',
            name: uid,
            uid,
            controller: true,
          })),
        },
      ),
      422,
      'Only one reference can have Controller set to true',
    ],
    [
      'an owner without a name',
      probe('x', { color: 'Red' }, { ownerReferences: [{ apiVersion: 'v1', kind: 'X', uid: 'u' }] }),
      422,
      'metadata.ownerReferences[0].name: Required value',
    ],
    [
      'a resourceVersion',
      probe('x', { color: 'Red' }, { resourceVersion: '5' }),
      500,
      'resourceVersion should not be set on objects to be created',
    ],
  ])('refuses %s', async (_, body, code, message) => {
    const answer = await api.post(probes, body);
    expect(answer.code, answer.text).toBe(code);
    expect(answer.body).toMatchObject(failure);
    expect(answer.body.message).toContain(message);
    expect(answer.body.reason).toBe({ 400: 'BadRequest', 422: 'Invalid', 500: undefined }[code]);
  });

  test.each([
    ['broken JSON', '{"a":', 'application/json', 400, 'BadRequest'],
    ['an array', '[]', 'application/json', 400, 'BadRequest'],
    ['plain text', 'x', 'text/plain', 415, 'UnsupportedMediaType'],
  ])('refuses %s as a body', async (_, body, type, code, reason) => {
    const answer = await api.send('POST', probes, { body, headers: { 'content-type': type } });
    expect(answer).toMatchObject({ code, body: { ...failure, code, reason } });
  });

  test('reads JSON without a content type', async () => {
    const untyped = { body: JSON.stringify(probe('untyped')), headers: { 'content-type': '' } };
    expect(await api.send('POST', probes, untyped)).toMatchObject({ code: 201 });
  });

  test('refuses a namespace that is not there', async () => {
    const answer = await api.post(probesIn('nowhere-at-all'), probe('x'));
    expect(answer).toMatchObject({
      code: 404,
      body: { reason: 'NotFound', details: { name: 'nowhere-at-all', kind: 'namespaces' } },
    });
    expect(answer.body.message).toBe('namespaces "nowhere-at-all" not found');
  });
});

describe('schema', () => {
  test.each([
    [
      'spec.color',
      { color: 'Blue' },
      'FieldValueNotSupported',
      'Unsupported value: "Blue": supported values: "Red", "Green"',
    ],
    ['spec.color', {}, 'FieldValueRequired', 'Required value'],
    [
      'spec.size',
      { size: 0 },
      'FieldValueInvalid',
      'Invalid value: 0: spec.size in body should be greater than or equal to 1',
    ],
    [
      'spec.size',
      { size: 11 },
      'FieldValueInvalid',
      'Invalid value: 11: spec.size in body should be less than or equal to 10',
    ],
    [
      'spec.size',
      { size: 'x' },
      'FieldValueTypeInvalid',
      'Invalid value: "string": spec.size in body must be of type integer: "string"',
    ],
    [
      'spec.size',
      { size: 1.5 },
      'FieldValueTypeInvalid',
      'Invalid value: "number": spec.size in body must be of type integer: "number"',
    ],
    [
      'spec.ratio',
      { ratio: 0 },
      'FieldValueInvalid',
      'Invalid value: 0: spec.ratio in body should be greater than 0',
    ],
    [
      'spec.ratio',
      { ratio: 2 },
      'FieldValueInvalid',
      'Invalid value: 2: spec.ratio in body should be less than 2',
    ],
    [
      'spec.on',
      { on: 'yes' },
      'FieldValueTypeInvalid',
      'Invalid value: "string": spec.on in body must be of type boolean: "string"',
    ],
    [
      'spec.name',
      { name: 'Abc' },
      'FieldValueInvalid',
      `Invalid value: "Abc": spec.name in body should match '^[a-z]+$'`,
    ],
    [
      'spec.name',
      { name: 'a' },
      'FieldValueInvalid',
      'Invalid value: "a": spec.name in body should be at least 2 chars long',
    ],
    ['spec.name', { name: 'abcdef' }, 'FieldValueTooLong', 'Too long: may not be more than 5 bytes'],
    [
      'spec.tags',
      { tags: [] },
      'FieldValueInvalid',
      'Invalid value: 0: spec.tags in body should have at least 1 items',
    ],
    ['spec.tags', { tags: ['a', 'b', 'c'] }, 'FieldValueTooMany', 'Too many: 3: must have at most 2 items'],
    ['spec.tags[1]', { tags: ['a', 'a'] }, 'FieldValueDuplicate', 'Duplicate value: "a"'],
    ['spec.tags[0]', { tags: ['abcde'] }, 'FieldValueTooLong', 'Too long: may not be more than 4 bytes'],
    [
      'spec.tags',
      { tags: 'a' },
      'FieldValueTypeInvalid',
      'Invalid value: "string": spec.tags in body must be of type array: "string"',
    ],
    [
      'spec.labels',
      { labels: {} },
      'FieldValueInvalid',
      'Invalid value: 0: spec.labels in body should have at least 1 properties',
    ],
    [
      'spec.labels',
      { labels: { a: 'a', b: 'b', c: 'c' } },
      'FieldValueTooMany',
      'Too many: 3: must have at most 2 items',
    ],
    [
      'spec.labels.a',
      { labels: { a: 1 } },
      'FieldValueTypeInvalid',
      'Invalid value: "integer": spec.labels.a in body must be of type string: "integer"',
    ],
    [
      'spec.when',
      { when: 'soon' },
      'FieldValueTypeInvalid',
      'Invalid value: "soon": spec.when in body must be of type date-time: "soon"',
    ],
    [
      'spec.port',
      { port: true },
      'FieldValueTypeInvalid',
      'Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"',
    ],
    ['spec.nested.a', { nested: {} }, 'FieldValueRequired', 'Required value'],
    ['spec', undefined, 'FieldValueRequired', 'Required value'],
  ])('%s of %j is %s', async (field, spec, reason, message) => {
    const base = field === 'spec.color' ? {} : { color: 'Red' };
    const answer = await api.post(probes, { ...probe('bad'), spec: spec && { ...base, ...spec } });
    expect(answer, answer.text).toMatchObject({
      code: 422,
      body: { ...failure, reason: 'Invalid', details: { group: GROUP, kind: 'Probe', name: 'bad' } },
    });
    const { causes } = answer.body.details as { causes: object[] };
    expect(causes).toContainEqual({ field, reason, message });
    expect(answer.body.message).toContain(`Probe.${GROUP} "bad" is invalid: `);
    expect(answer.body.message).toContain(`${field}: ${message}`);
  });

  test('reports everything that is wrong at once', async () => {
    const answer = await api.post(probes, probe('bad', { size: 0, on: 1, name: 'a', nested: { a: 'x' } }));
    const { causes } = answer.body.details as { causes: { field: string }[] };
    expect(causes.map(({ field }) => field).sort()).toEqual([
      'spec.color',
      'spec.name',
      'spec.nested.a',
      'spec.on',
      'spec.size',
    ]);
  });

  test('drops nulls that it does not allow, and keeps those it does', async () => {
    const body = await created('nulls', { color: 'Red', mode: null, name: null, size: null, maybe: null });
    expect(body.spec).toEqual({ color: 'Red', mode: 'Soft', maybe: null });
  });

  test('takes good values of every type', async () => {
    const spec = {
      color: 'Green',
      size: 10,
      ratio: 0.5,
      on: false,
      name: 'ab',
      tags: ['a', 'b'],
      labels: { a: '' },
      port: '80',
    };
    const more = {
      when: '2026-11-23T08:00:00.5+01:00',
      free: { any: [{ thing: 1 }] },
      nested: { a: -1, b: 'x' },
      mode: 'Hard',
    };
    expect((await created('good', { ...spec, ...more })).spec).toEqual({ ...spec, ...more });
  });
});

describe('unknown fields', () => {
  const spec = { color: 'Red', bogus: 1, free: { x: 1 }, nested: { a: 1, zap: 2 } };
  const paths = ['extra', 'metadata.foo', 'spec.bogus', 'spec.nested.zap'];
  const object = (name: string) => probe(name, spec, { foo: 1 }, { extra: 1 });

  test('are dropped with a warning by default', async () => {
    const { code, headers, body } = await api.post(probes, object('warned'));
    expect(code).toBe(201);
    const warnings = [headers.warning].flat().join(', ');
    for (const path of paths) expect(warnings).toContain(`299 - "unknown field \\"${path}\\""`);
    expect(body.spec).toEqual({ color: 'Red', mode: 'Soft', free: { x: 1 }, nested: { a: 1, b: 'bee' } });
    expect(body).not.toHaveProperty('extra');
  });

  test('are ignored under Ignore', async () => {
    const ignored = await api.post(`${probes}?fieldValidation=Ignore`, object('ignored'));
    expect(ignored.code).toBe(201);
    expect(ignored.headers.warning).toBeUndefined();
    const odd = await api.post(`${probes}?fieldValidation=Odd`, object('odd'));
    expect(odd).toMatchObject({
      code: 422,
      body: { details: { kind: 'CreateOptions', causes: [{ field: 'fieldValidation' }] } },
    });
  });

  test('in a merge patch are warned of', async () => {
    await created('patched');
    const warned = await api.patch(`${probes}/patched`, { spec: { bogus: 1 } });
    expect(warned.code).toBe(200);
    expect(warned.headers.warning).toContain('unknown field \\"spec.bogus\\"');
    expect(warned.body.spec).toEqual({ color: 'Red', mode: 'Soft' });
  });
});
