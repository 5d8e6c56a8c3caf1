import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { systemClock } from '@meshkit/crds/clock';
import { Informer } from '@meshkit/crds/informer';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { silentLog } from '@meshkit/crds/log';
import { type ReflectorEvent, type ReflectorState, reflect } from '@meshkit/crds/reflector';
import { MESH_NODES } from '@meshkit/crds/resource';
import type { MeshNode } from '@meshkit/shards/records';
import { afterEach, describe, expect, test } from 'vitest';
import { FakeApi, json, type Received, status } from './fake-api.ts';

const opened: { close(): Promise<void> }[] = [];

afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});

type OnWatch = (answer: ServerResponse, from: string, request: Received) => unknown;

/** Lists are answered with `items` at `version`; the n-th watch by the n-th function, further ones stay open. */
async function serve(items: MeshNode[], version: string, ...watches: OnWatch[]) {
  const asked: string[] = [];
  const server = await FakeApi.start((request, answer) => {
    const { query } = request;
    // How the reflector learns the newest version before it opens a further watch.
    if (query.get('limit') === '1')
      return json(answer, 200, { items: [], metadata: { resourceVersion: '1000' } });
    if (!query.has('watch')) {
      asked.push('list');
      return json(answer, 200, { items, metadata: { resourceVersion: version } });
    }
    const from = query.get('resourceVersion') ?? '';
    asked.push(`watch ${from}`);
    return (watches.shift() ?? open)(answer, from, request);
  });
  const client = server.client();
  opened.push(server, client);
  return { server, client, asked };
}

function open(answer: ServerResponse): void {
  answer.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
}

function node(name: string, version: string): MeshNode {
  return {
    apiVersion: 'meshkit.omnirelay.io/v1alpha1',
    kind: 'MeshNode',
    metadata: { name, namespace: 'fleet', uid: `uid-${name}`, resourceVersion: version },
    spec: {},
  };
}

const line = (type: string, object: object) => `${JSON.stringify({ type, object })}\n`;

function follow(client: KubeClient, options: { idleTimeoutMs?: number } = {}) {
  const stop = new AbortController();
  const seen: string[] = [];
  const states: ReflectorState[] = [];
  const done = (async () => {
    for await (const event of reflect<MeshNode>({
      client,
      resource: MESH_NODES,
      clock: systemClock,
      random: () => 0,
      log: silentLog,
      signal: stop.signal,
      onState: (state) => states.push(state),
      ...options,
    }))
      seen.push(brief(event));
  })();
  const finish = async () => {
    stop.abort();
    await done;
  };
  opened.push({ close: finish });
  return { stop, seen, states, done, finish };
}

function brief(event: ReflectorEvent<MeshNode>): string {
  if ('resourceVersion' in event) return `${event.type} ${event.resourceVersion}`;
  return `${event.type} ${event.object.metadata.name} ${event.object.metadata.resourceVersion}`;
}

describe('a watch over the network', () => {
  test('asks for bookmarks and for an end, from the version of the list', async () => {
    const requests: Received[] = [];
    const { client } = await serve([], '10', (answer, _, request) => {
      requests.push(request);
      open(answer);
    });
    follow(client);
    await expect.poll(() => requests).toHaveLength(1);
    const { path, query } = requests[0] as Received;
    expect(path).toBe('/apis/meshkit.omnirelay.io/v1alpha1/meshnodes');
    expect(Object.fromEntries(query)).toMatchObject({
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: '10',
      timeoutSeconds: '300',
    });
  });

  test('reads events whatever the pieces they come in', async () => {
    const name = 'näme-€-😀';
    const { client } = await serve([], '10', async (answer) => {
      open(answer);
      const bytes = Buffer.from(
        [11, 12, 13, 14, 15].map((version) => line('MODIFIED', node(name, `${version}`))).join(''),
      );
      for (let at = 0; at < bytes.length; ) {
        const size = 1 + ((randomBytes(1)[0] as number) % 40);
        answer.write(bytes.subarray(at, at + size));
        at += size;
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
    const { seen } = follow(client);
    await expect.poll(() => seen).toHaveLength(6);
    expect(seen.slice(1)).toEqual([11, 12, 13, 14, 15].map((version) => `MODIFIED ${name} ${version}`));
  });

  test('that is reset in the middle of an event goes on where it was', async () => {
    const { client, asked } = await serve(
      [],
      '10',
      (answer) => {
        open(answer);
        const half = line('ADDED', node('b', '12')).slice(0, 30);
        answer.write(line('ADDED', node('a', '11')) + half, () => answer.socket?.resetAndDestroy());
      },
      (answer) => {
        open(answer);
        answer.write(line('ADDED', node('b', '12')));
      },
    );
    const { seen, states } = follow(client);
    await expect.poll(() => seen).toEqual(['REPLACED 10', 'ADDED a 11', 'ADDED b 12']);
    expect(asked).toEqual(['list', 'watch 10', 'watch 11']);
    expect(states.map(({ connected }) => connected)).toEqual([true, false, true]);
    expect(states[1]?.error?.message).toContain(
      'cannot watch meshnodes.meshkit.omnirelay.io in all namespaces',
    );
  });

  test('that falls silent is given up and opened again', async () => {
    const { client, asked } = await serve(
      [],
      '10',
      (answer) => {
        open(answer);
        answer.write(line('ADDED', node('a', '11')));
      },
      (answer) => {
        open(answer);
        const timer = setInterval(
          () => answer.write(line('BOOKMARK', { metadata: { resourceVersion: '12' } })),
          50,
        );
        answer.on('close', () => clearInterval(timer));
      },
    );
    const { seen, states } = follow(client, { idleTimeoutMs: 200 });
    await expect.poll(() => seen.length, { timeout: 5000 }).toBeGreaterThan(12);
    expect(asked).toEqual(['list', 'watch 10', 'watch 11']);
    expect(states[1]?.error?.message).toContain('has been silent for 0.2 s');
  });

  test.each([
    ['as the answer', (answer: ServerResponse) => status(answer, 410, 'Expired', 'too old resource version')],
    [
      'in the stream',
      (answer: ServerResponse) => {
        open(answer);
        answer.end(line('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' }));
      },
    ],
  ])('whose history is gone (410 %s) starts from a new list', async (_, watch) => {
    const { client, asked } = await serve([node('a', '5')], '10', watch);
    const { seen } = follow(client);
    await expect.poll(() => asked).toEqual(['list', 'watch 10', 'list', 'watch 10']);
    expect(seen).toEqual(['REPLACED 10', 'REPLACED 10']);
  });

  test('that must wait (429) waits as long as it was told', async () => {
    const { client, asked } = await serve([], '10', (answer) => {
      json(
        answer,
        429,
        { kind: 'Status', code: 429, message: 'storage is (re)initializing' },
        { 'retry-after': '1' },
      );
    });
    const { states } = follow(client);
    const start = performance.now();
    await expect.poll(() => states.length, { timeout: 5000 }).toBe(2);
    expect(performance.now() - start).toBeGreaterThan(900);
    expect(asked).toEqual(['list', 'watch 10', 'watch 10']);
  });
});

describe('stop', () => {
  test('while the connection is being made, or the server has not answered yet', async () => {
    const { client, asked } = await serve([], '10', () => undefined);
    const { stop, done, seen } = follow(client);
    await expect.poll(() => asked).toEqual(['list', 'watch 10']);
    stop.abort();
    await done;
    expect(seen).toEqual(['REPLACED 10']);
    const atOnce = follow(client);
    atOnce.stop.abort();
    await atOnce.done;
    expect(atOnce.seen).toEqual([]);
  });

  test('while events pour in: nothing is told afterwards, and the connection is closed', async () => {
    const { client, server } = await serve([], '10', (answer) => {
      open(answer);
      let version = 10;
      const timer = setInterval(() => {
        version += 1;
        answer.write(line('MODIFIED', node('a', `${version}`)));
      }, 1);
      answer.on('close', () => clearInterval(timer));
    });
    const informer = new Informer<MeshNode>({
      client,
      resource: MESH_NODES,
      clock: systemClock,
      random: Math.random,
      log: silentLog,
    });
    let told = 0;
    informer.onChange(() => {
      told += 1;
    });
    const stop = new AbortController();
    const done = informer.run(stop.signal);
    await expect.poll(() => told).toBeGreaterThan(10);
    stop.abort();
    const atStop = told;
    await done;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(told).toBe(atStop);
    expect(informer.state.connected).toBe(false);
    await expect.poll(() => server.sockets.size).toBeLessThanOrEqual(1);
  });
});
