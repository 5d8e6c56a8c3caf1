import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import {
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
const STALE = 'the object has been modified; please apply your changes to the latest version and try again';

describe('update', () => {
  test('bumps the generation with the spec only, and leaves status alone', async () => {
    const first = await created('update');
    const path = `${probes}/update`;
    const labelled = await api.put(path, {
      ...first,
      metadata: { ...first.metadata, labels: { a: 'b' } },
      status: { owner: 'x' },
    });
    expect(labelled.body.metadata).toMatchObject({
      generation: 1,
      labels: { a: 'b' },
      uid: first.metadata.uid,
    });
    expect(labelled.body).not.toHaveProperty('status');
    expect(Number(labelled.body.metadata.resourceVersion)).toBeGreaterThan(
      Number(first.metadata.resourceVersion),
    );
    const meddled = { ...labelled.body.metadata, generation: 99, creationTimestamp: '2020-01-01T00:00:00Z' };
    const changed = await api.put(path, { ...labelled.body, metadata: meddled, spec: { color: 'Green' } });
    expect(changed.body.metadata).toMatchObject({
      generation: 2,
      creationTimestamp: first.metadata.creationTimestamp,
    });
    expect(changed.body.spec).toEqual({ color: 'Green', mode: 'Soft' });
  });

  test('writes nothing when nothing changes', async () => {
    const first = await created('same');
    expect((await api.put(`${probes}/same`, first)).body).toEqual(first);
    expect((await api.patch(`${probes}/same`, { spec: { color: 'Red' } })).body).toEqual(first);
    const set = await api.patch(`${probes}/same/status`, { status: { count: 1 } });
    expect((await api.put(`${probes}/same/status`, set.body)).body).toEqual(set.body);
  });

  test('needs the version of the stored object', async () => {
    const first = await created('versioned');
    const path = `${probes}/versioned`;
    const at = (resourceVersion?: string) => probe('versioned', { color: 'Green' }, { resourceVersion });
    for (const stale of [
      await api.put(path, at('3')),
      await api.put(`${path}/status`, at('3')),
      await api.patch(path, at('3')),
    ]) {
      expect(stale).toMatchObject({
        code: 409,
        body: { ...failure, reason: 'Conflict', details: { ...resource, name: 'versioned' } },
      });
      expect(stale.body.message).toBe(
        `Operation cannot be fulfilled on probes.${GROUP} "versioned": ${STALE}`,
      );
    }
    for (const missing of [
      await api.put(path, at()),
      await api.put(`${path}/status`, at()),
      await api.patch(path, { metadata: { resourceVersion: null } }),
    ]) {
      expect(missing.code, missing.text).toBe(422);
      expect(missing.body.message).toContain(
        'metadata.resourceVersion: Invalid value: 0: must be specified for an update',
      );
    }
    expect(await api.put(path, at('abc'))).toMatchObject({ code: 500 });
    expect((await api.get(path)).body).toEqual(first);
  });

  test('refuses another name, namespace, kind or uid', async () => {
    const first = await created('fixed');
    const path = `${probes}/fixed`;
    const put = (metadata: object) =>
      api.put(path, { ...first, metadata: { ...first.metadata, ...metadata } });
    expect(await put({ name: 'other' })).toMatchObject({
      code: 400,
      body: { message: 'the name of the object (other) does not match the name on the URL (fixed)' },
    });
    expect(await put({ uid: 'other' })).toMatchObject({ code: 409, body: { reason: 'Conflict' } });
    expect(await api.patch(path, { metadata: { name: 'other' } })).toMatchObject({ code: 400 });
    expect(await api.patch(path, { metadata: { namespace: 'other' } })).toMatchObject({ code: 400 });
    expect(await api.patch(path, { metadata: { uid: 'other' } })).toMatchObject({ code: 422 });
    expect(await api.patch(path, { kind: 'Other' })).toMatchObject({ code: 422 });
    expect(await api.patch(path, { apiVersion: 'v9' })).toMatchObject({ code: 422 });
  });

  test('of what is not there is 404', async () => {
    const answers = [
      await api.put(`${probes}/none`, probe('none')),
      await api.put(`${probes}/none/status`, probe('none', { color: 'Red' }, { resourceVersion: '5' })),
      await api.patch(`${probes}/none`, { spec: { size: 1 } }),
      await api.get(`${probes}/none`),
      await api.delete(`${probes}/none`),
    ];
    for (const answer of answers) {
      expect(answer).toMatchObject({
        code: 404,
        body: { ...failure, reason: 'NotFound', details: { ...resource, name: 'none' } },
      });
      expect(answer.body.message).toBe(`probes.${GROUP} "none" not found`);
    }
  });
});

describe('status subresource', () => {
  test('PUT changes nothing but the status, and no generation', async () => {
    const first = await created('status', { color: 'Red' }, { labels: { kept: 'yes' } });
    const status = { owner: 'x', conditions: [{ type: 'Ready', status: 'True' }] };
    const { code, body } = await api.put(`${probes}/status/status`, {
      ...first,
      metadata: { ...first.metadata, labels: { other: 'x' } },
      spec: { color: 'Green' },
      status,
    });
    expect(code).toBe(200);
    expect(body).toMatchObject({
      metadata: { generation: 1, labels: { kept: 'yes' } },
      spec: { color: 'Red', mode: 'Soft' },
    });
    expect(body.metadata.labels).toEqual({ kept: 'yes' });
    expect(body.status).toEqual(status);
    const patched = await api.patch(`${probes}/status/status`, {
      status: { count: 3, owner: null },
      spec: { size: 9 },
    });
    expect(patched.body.status).toEqual({ count: 3, conditions: status.conditions });
    expect(patched.body.spec).not.toHaveProperty('size');
    const main = await api.patch(`${probes}/status`, { spec: { size: 2 }, status: { count: 9 } });
    expect(main.body).toMatchObject({ metadata: { generation: 2 }, spec: { size: 2 }, status: { count: 3 } });
  });

  test('is validated by the schema, in words relative to the status', async () => {
    await created('strict-status');
    const path = `${probes}/strict-status/status`;
    const bad = await api.patch(path, { status: { count: -1 } });
    expect(bad.code).toBe(422);
    expect(bad.body.message).toContain(
      'status.count: Invalid value: -1: count in body should be greater than or equal to 0',
    );
    expect(await api.patch(path, { status: { owner: 5 } })).toMatchObject({ code: 422 });
    const twice = [
      { type: 'Ready', status: 'True' },
      { type: 'Ready', status: 'False' },
    ];
    const duplicate = await api.patch(path, { status: { conditions: twice } });
    expect(duplicate.code).toBe(422);
    expect(duplicate.body.message).toContain('status.conditions[1]: Duplicate value: {"type":"Ready"}');
  });

  test('has get, update and patch only', async () => {
    await created('verbs');
    for (const method of ['POST', 'DELETE'] as const) {
      const answer = await api.send(method, `${probes}/verbs/status`, {
        body: method === 'POST' ? {} : undefined,
      });
      const verb = method === 'POST' ? 'create' : 'delete';
      expect(answer).toMatchObject({
        code: 405,
        body: { reason: 'MethodNotAllowed', details: { group: GROUP, kind: 'probes' } },
      });
      expect(answer.body.message).toBe(`${verb} is not supported on resources of kind "probes.${GROUP}"`);
    }
    expect(await api.get(`${probes}/verbs/scale`)).toMatchObject({ code: 404, body: { reason: 'NotFound' } });
  });
});

describe('merge patch', () => {
  test('merges maps, replaces lists, removes with null', async () => {
    await created(
      'merge',
      { color: 'Red', tags: ['a', 'b'], labels: { a: '1', b: '2' }, size: 3 },
      { annotations: { a: '1', b: '2' } },
    );
    const patch = {
      metadata: { annotations: { a: null, c: '3' } },
      spec: { tags: ['c'], labels: { a: null }, size: null, mode: null },
    };
    const { body } = await api.patch(`${probes}/merge`, patch);
    expect(body.metadata).toMatchObject({ generation: 2, annotations: { b: '2', c: '3' } });
    expect(body.metadata.annotations).not.toHaveProperty('a');
    expect(body.spec).toEqual({ color: 'Red', tags: ['c'], labels: { b: '2' }, mode: 'Soft' });
  });

  test('is validated after merging', async () => {
    const first = await created('merge-bad');
    expect(await api.patch(`${probes}/merge-bad`, { spec: { size: 30 } })).toMatchObject({
      code: 422,
      body: { reason: 'Invalid' },
    });
    expect(await api.patch(`${probes}/merge-bad`, { spec: null })).toMatchObject({ code: 422 });
    expect((await api.get(`${probes}/merge-bad`)).body).toEqual(first);
  });

  test.each([
    ['{"a":', 'application/merge-patch+json', 400],
    ['[1]', 'application/merge-patch+json', 400],
    ['{}', 'application/strategic-merge-patch+json', 415],
    ['{}', 'application/json', 415],
  ])('%s as %s is %i', async (body, type, code) => {
    await api.post(probes, probe('merge-type'));
    const answer = await api.patch(`${probes}/merge-type`, body, type);
    expect(answer).toMatchObject({ code, body: failure });
  });
});

describe('delete', () => {
  test('answers with a Status, and the object is gone', async () => {
    const { metadata } = await created('delete');
    const answer = await api.delete(`${probes}/delete`);
    expect(answer.code).toBe(200);
    expect(answer.body).toEqual({
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Success',
      details: { ...resource, name: 'delete', uid: metadata.uid },
    });
    expect(await api.get(`${probes}/delete`)).toMatchObject({ code: 404 });
    expect((await created('delete')).metadata.uid).not.toBe(metadata.uid);
  });

  test('holds to preconditions', async () => {
    const { metadata } = await created('precondition');
    const path = `${probes}/precondition`;
    const uid = await api.delete(path, {
      kind: 'DeleteOptions',
      apiVersion: 'v1',
      preconditions: { uid: 'other' },
    });
    expect(uid).toMatchObject({
      code: 409,
      body: { reason: 'Conflict', details: { group: GROUP, kind: 'Probe', name: 'precondition' } },
    });
    expect(uid.body.message).toContain(
      `the UID in the precondition (other) does not match the UID in record (${metadata.uid})`,
    );
    const version = await api.delete(path, { preconditions: { resourceVersion: '3' } });
    expect(version.code).toBe(409);
    expect(version.body.message).toContain('the ResourceVersion in the precondition (3) does not match');
    const { uid: right, resourceVersion } = metadata;
    expect(await api.delete(path, { preconditions: { uid: right, resourceVersion } })).toMatchObject({
      code: 200,
    });
  });

  test('refuses options that it does not know', async () => {
    await created('options');
    const policy = await api.delete(`${probes}/options?propagationPolicy=Odd`);
    expect(policy).toMatchObject({
      code: 422,
      body: { details: { kind: 'DeleteOptions', causes: [{ field: 'propagationPolicy' }] } },
    });
    expect(await api.delete(`${probes}/options`, { kind: 'Other', apiVersion: 'v1' })).toMatchObject({
      code: 400,
    });
  });

  test('of a collection goes by selector and answers with what was deleted', async () => {
    const here = probesIn(await freshNamespace(api));
    for (const [name, color] of Object.entries({ a: 'Red', b: 'Green', c: 'Red' }))
      await api.post(here, probe(name, { color }));
    const red = `${here}?fieldSelector=spec.color%3DRed`;
    expect(await api.delete(`${red}&dryRun=All`)).toMatchObject({ code: 200 });
    const some = await api.delete(red);
    expect(some).toMatchObject({ code: 200, body: { kind: 'ProbeList' } });
    expect(some.body.items.map(({ metadata }) => metadata.name)).toEqual(['a', 'c']);
    expect((await api.get(here)).body.items.map(({ metadata }) => metadata.name)).toEqual(['b']);
  });
});

describe('dry run', () => {
  test('answers as usual and stores nothing', async () => {
    const first = await created('dry');
    const path = `${probes}/dry`;
    const fresh = await api.post(`${probes}?dryRun=All`, probe('dry-new'));
    expect(fresh).toMatchObject({
      code: 201,
      body: { metadata: { name: 'dry-new', generation: 1 }, spec: { mode: 'Soft' } },
    });
    expect(fresh.body.metadata).not.toHaveProperty('resourceVersion');
    const { resourceVersion } = first.metadata;
    const put = await api.put(`${path}?dryRun=All`, { ...first, spec: { color: 'Green' } });
    expect(put).toMatchObject({
      code: 200,
      body: { metadata: { generation: 2, resourceVersion }, spec: { color: 'Green' } },
    });
    expect(await api.patch(`${path}?dryRun=All`, { spec: { size: 2 } })).toMatchObject({
      code: 200,
      body: { metadata: { generation: 2 } },
    });
    expect(await api.patch(`${path}/status?dryRun=All`, { status: { count: 2 } })).toMatchObject({
      code: 200,
    });
    expect(await api.delete(`${path}?dryRun=All`)).toMatchObject({ code: 200, body: { status: 'Success' } });
    expect(await api.delete(path, { dryRun: ['All'] })).toMatchObject({
      code: 200,
      body: { status: 'Success' },
    });
    expect((await api.get(path)).body).toEqual(first);
    expect(await api.get(`${probes}/dry-new`)).toMatchObject({ code: 404 });
  });

  test('still refuses what is wrong', async () => {
    await created('dry-wrong');
    expect(await api.post(`${probes}?dryRun=All`, probe('dry-wrong'))).toMatchObject({ code: 409 });
    expect(await api.post(`${probes}?dryRun=All`, probe('x', {}))).toMatchObject({ code: 422 });
    expect(await api.post(`${probes}?dryRun=Some`, probe('x'))).toMatchObject({
      code: 422,
      body: { details: { causes: [{ field: 'dryRun' }] } },
    });
  });
});

describe('paths', () => {
  test.each([
    ['GET', `${ROOT}/namespaces/default/nothing`],
    ['GET', '/apis/nothing.io/v1/things'],
    ['GET', '/nothing'],
    ['POST', `${ROOT}/probes`],
    ['GET', `${ROOT}/probes/named`],
    ['DELETE', `${ROOT}/probes`],
  ] as const)('%s %s is a plain 404', async (method, path) => {
    const answer = await api.send(method, path, { body: method === 'POST' ? probe('x') : undefined });
    expect(answer).toMatchObject({ code: 404, text: '404 page not found\n' });
    expect(answer.headers['content-type']).toContain('text/plain');
  });

  test('a verb that a path does not have is refused', async () => {
    expect(await api.put(probes, probe('x'))).toMatchObject({
      code: 400,
      body: { message: 'name must be provided' },
    });
    expect(await api.send('OPTIONS', `${probes}/x`)).toMatchObject({
      code: 405,
      body: { reason: 'MethodNotAllowed' },
    });
    expect(await api.get(`${probes}/x`, { accept: 'text/html' })).toMatchObject({
      code: 406,
      body: { reason: 'NotAcceptable' },
    });
  });

  test('HEAD is GET without the body', async () => {
    await created('head');
    expect(await api.send('HEAD', `${probes}/head`)).toMatchObject({ code: 200, text: '' });
  });
});
