import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import {
  API_VERSION,
  Api,
  freshNamespace,
  installProbes,
  probe,
  probesIn,
  ROOT,
  told,
} from './conformance-api.ts';

let api: Api;

beforeAll(async () => {
  api = await Api.admin(inject('controlPlane'));
  await installProbes(api);
});
afterAll(() => api.close());

/** A namespace with one Probe, and the version to watch from. */
async function scene(): Promise<{ probes: string; now: string }> {
  const probes = probesIn(await freshNamespace(api));
  await api.post(probes, probe('a'));
  const { body } = await api.get(probes);
  return { probes, now: body.metadata.resourceVersion };
}

/** One of each change, by name. */
async function live(probes: string, name: string): Promise<string[]> {
  const versions = [
    (await api.post(probes, probe(name))).body,
    (await api.patch(`${probes}/${name}`, { spec: { size: 3 } })).body,
    (await api.patch(`${probes}/${name}/status`, { status: { owner: 'x' } })).body,
  ].map(({ metadata }) => metadata.resourceVersion);
  await api.delete(`${probes}/${name}`);
  return versions;
}

describe('a watch', () => {
  test('tells every change after its version, in order, each once', async () => {
    const { probes, now } = await scene();
    const watch = await api.watch(`${probes}?watch=true&resourceVersion=${now}&timeoutSeconds=10`);
    expect(watch.code).toBe(200);
    const versions = await live(probes, 'w');
    const events = await watch.next(4);
    expect(told(events)).toEqual(['ADDED w', 'MODIFIED w', 'MODIFIED w', 'DELETED w']);
    expect(events.slice(0, 3).map(({ object }) => object.metadata.resourceVersion)).toEqual(versions);
    const last = events[3]?.object;
    expect(last, 'the last state').toMatchObject({
      kind: 'Probe',
      apiVersion: API_VERSION,
      spec: { size: 3 },
      status: { owner: 'x' },
    });
    expect(Number(last?.metadata.resourceVersion), 'the version of the deletion').toBeGreaterThan(
      Number(versions[2]),
    );
    watch.close();
  });

  test('repeats the past from an older version', async () => {
    const { probes, now } = await scene();
    await live(probes, 'w');
    const watch = await api.watch(`${probes}?watch=1&resourceVersion=${now}&timeoutSeconds=10`);
    expect(told(await watch.next(4))).toEqual(['ADDED w', 'MODIFIED w', 'MODIFIED w', 'DELETED w']);
    watch.close();
  });

  test.each(['', '&resourceVersion=0'])('without a version (%j) begins with what is there', async (query) => {
    const { probes } = await scene();
    const watch = await api.watch(`${probes}?watch=true&timeoutSeconds=10${query}`);
    expect(told(await watch.next(1))).toEqual(['ADDED a']);
    await api.patch(`${probes}/a`, { spec: { size: 2 } });
    expect(told(await watch.next(1))).toEqual(['MODIFIED a']);
    watch.close();
  });

  test('ends at its timeout', async () => {
    const { probes, now } = await scene();
    const watch = await api.watch(`${probes}?watch=true&resourceVersion=${now}&timeoutSeconds=1`);
    expect(await watch.next(1)).toEqual([]);
  });

  test('of one namespace says nothing of another', async () => {
    const [here, there] = [await scene(), await scene()];
    const watch = await api.watch(`${here.probes}?watch=true&resourceVersion=${there.now}&timeoutSeconds=10`);
    await api.post(there.probes, probe('there'));
    await api.post(here.probes, probe('here'));
    expect(told(await watch.next(1))).toEqual(['ADDED here']);
    watch.close();
  });

  test('over all namespaces sees them all', async () => {
    const [one, two] = [await scene(), await scene()];
    const watch = await api.watch(
      `${ROOT}/probes?watch=true&resourceVersion=${two.now}&fieldSelector=metadata.name%3Dx${two.now}&timeoutSeconds=10`,
    );
    for (const { probes } of [one, two]) await api.post(probes, probe(`x${two.now}`));
    expect(told(await watch.next(2))).toEqual([`ADDED x${two.now}`, `ADDED x${two.now}`]);
    watch.close();
  });

  test('with a field selector tells what comes into view and leaves it', async () => {
    const [into, out] = [{ spec: { color: 'Green' } }, { spec: { color: 'Red' } }];
    const selector = 'fieldSelector=spec.color%3DGreen';
    const { probes, now } = await scene();
    const watch = await api.watch(
      `${probes}?watch=true&resourceVersion=${now}&timeoutSeconds=10&${selector}`,
    );
    await api.post(probes, probe('s'));
    await api.patch(`${probes}/s`, into);
    await api.patch(`${probes}/s`, { spec: { size: 2 } });
    const left = await api.patch(`${probes}/s`, out);
    await api.patch(`${probes}/s`, into);
    await api.delete(`${probes}/s`);
    const events = await watch.next(5);
    expect(told(events)).toEqual(['ADDED s', 'MODIFIED s', 'DELETED s', 'ADDED s', 'DELETED s']);
    expect(events[2]?.object, 'the last state that matched').toMatchObject({
      spec: { size: 2 },
      metadata: { resourceVersion: left.body.metadata.resourceVersion },
    });
    watch.close();
  });

  test('by name watches one object', async () => {
    const { probes, now } = await scene();
    const watch = await api.watch(
      `${probes}?watch=true&resourceVersion=${now}&fieldSelector=metadata.name%3Da&timeoutSeconds=10`,
    );
    await api.post(probes, probe('b'));
    await api.patch(`${probes}/a`, { spec: { size: 2 } });
    expect(told(await watch.next(1))).toEqual(['MODIFIED a']);
    watch.close();
  });

  test('as Tables sends the columns once', async () => {
    const { probes } = await scene();
    const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
    const watch = await api.watch(`${probes}?watch=true&timeoutSeconds=10`, { accept });
    await api.post(probes, probe('b'));
    const events = await watch.next(2);
    expect(events.map(({ object }) => object)).toMatchObject([
      {
        kind: 'Table',
        columnDefinitions: [{ name: 'Name' }, { name: 'Color' }, {}, {}, {}],
        rows: [{ cells: ['a', 'Red', null, null, expect.any(String)] }],
      },
      {
        kind: 'Table',
        columnDefinitions: null,
        rows: [{ cells: ['b', 'Red', null, null, expect.any(String)] }],
      },
    ]);
    watch.close();
  });
});

describe('bookmarks', () => {
  test('come before the end, with a version that can be watched from, to those who asked', async () => {
    const { probes, now } = await scene();
    const path = `${probes}?watch=true&resourceVersion=${now}&timeoutSeconds=5`;
    const [watch, silent] = await Promise.all([
      api.watch(`${path}&allowWatchBookmarks=true`),
      api.watch(path),
    ]);
    const { body } = await api.patch(`${probes}/a`, { spec: { size: 3 } });
    const [change, ...bookmarks] = await watch.next(10);
    expect(change).toMatchObject({ type: 'MODIFIED' });
    expect(bookmarks.length).toBeGreaterThan(0);
    const [{ type, object } = { type: '', object: undefined }] = bookmarks;
    expect({ type, object }).toEqual({
      type: 'BOOKMARK',
      object: {
        kind: 'Probe',
        apiVersion: API_VERSION,
        metadata: { resourceVersion: expect.stringMatching(/^\d+$/) },
      },
    });
    const version = object?.metadata.resourceVersion ?? '';
    expect(Number(version)).toBeGreaterThanOrEqual(Number(body.metadata.resourceVersion));
    expect(told(await silent.next(10))).toEqual(['MODIFIED a']);
    const after = await api.watch(`${probes}?watch=true&resourceVersion=${version}&timeoutSeconds=10`);
    await api.post(probes, probe('b'));
    expect(told(await after.next(1))).toEqual(['ADDED b']);
    after.close();
  });
});

describe('versions', () => {
  test('too old: 200, and one ERROR event 410 in the stream', async () => {
    const { probes } = await scene();
    const watch = await api.watch(`${probes}?watch=true&resourceVersion=1&timeoutSeconds=10`);
    expect(watch.code).toBe(200);
    const events = await watch.next(2);
    expect(events).toMatchObject([
      {
        type: 'ERROR',
        object: { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'Expired', code: 410 },
      },
    ]);
    expect(events[0]?.object.message).toMatch(/^too old resource version: 1 \(\d+\)$/);
  });

  test('of the future: silence until then', async () => {
    const { probes } = await scene();
    const watch = await api.watch(`${probes}?watch=true&resourceVersion=100000000&timeoutSeconds=2`);
    expect(watch.code).toBe(200);
    await api.post(probes, probe('b'));
    expect(await watch.next(1)).toEqual([]);
  });

  test('that are no numbers are an error', async () => {
    const { probes } = await scene();
    expect(await api.get(`${probes}?watch=true&resourceVersion=abc`)).toMatchObject({
      code: 500,
      body: { kind: 'Status' },
    });
  });
});
