import { ShardError } from '@meshkit/shards/errors';
import type { KubeObject } from '@meshkit/shards/records';
import { describe, expect, test } from 'vitest';
import type { ListOptions, WatchOptions } from './kube-client.ts';
import { statusError } from './kube-error.ts';
import { silentLog } from './log.ts';
import { ManualClock } from './manual-clock.ts';
import { type ReflectorEvent, type ReflectorState, reflect } from './reflector.ts';
import { MESH_NODES } from './resource.ts';
import type { WatchEvent } from './watch-stream.ts';

type List = () => Promise<{ items: KubeObject[]; resourceVersion: string; continue?: string }>;
type Watch = (o: WatchOptions) => AsyncIterable<WatchEvent<KubeObject>>;

/** Answers lists and watches by a script, in order; when it runs out, watches stay open and silent. */
class ScriptedServer {
  readonly lists: List[] = [];
  readonly watches: Watch[] = [];
  readonly asked: string[] = [];
  readonly timeouts: number[] = [];

  /** What a look at the newest version answers. */
  newest = '1000000';

  list = async (_: unknown, o: ListOptions = {}) => {
    if (o.limit === 1) return { items: [], resourceVersion: this.newest } as never;
    this.asked.push(o.continue ? `list ${o.continue}` : 'list');
    const next = this.lists.shift();
    if (!next) throw new Error('the script has no more lists');
    return (await next()) as never;
  };

  watch = (_: unknown, o: WatchOptions) => {
    this.asked.push(`watch ${o.resourceVersion}`);
    this.timeouts.push(o.timeoutSeconds);
    return (this.watches.shift() ?? telling([]))(o) as never;
  };
}

function node(name: string, version: string): KubeObject {
  return {
    apiVersion: 'meshkit.omnirelay.io/v1alpha1',
    kind: 'MeshNode',
    metadata: { name, resourceVersion: version },
  };
}

const listed =
  (version: string, ...items: KubeObject[]) =>
  async () => ({ items, resourceVersion: version });
const failing = (error: unknown) => async () => {
  throw error;
};

function refused(status: number, retryAfter?: string) {
  return statusError({ what: 'watch', server: 's' }, { status, body: `refused with ${status}`, retryAfter });
}

const reset = new ShardError('unavailable', 'connection reset');

/** Until the watch is aborted, as a real one: by throwing the reason. */
async function* silence(o: WatchOptions): AsyncGenerator<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  o.signal.addEventListener('abort', () => reject(o.signal.reason), { once: true });
  await promise;
}

/** Yields these, and then ends in the given way. */
function telling(events: WatchEvent<KubeObject>[], end: 'silent' | 'closed' | Error = 'silent'): Watch {
  return async function* (o) {
    if (end instanceof Error && events.length === 0) throw end;
    o.onOpen?.();
    yield* events;
    if (end instanceof Error) throw end;
    if (end === 'silent') yield* silence(o);
  };
}

function start(server: ScriptedServer, random = () => 0, since?: string) {
  const clock = new ManualClock();
  const stop = new AbortController();
  const events: ReflectorEvent<KubeObject>[] = [];
  const states: ReflectorState[] = [];
  const done = (async () => {
    for await (const event of reflect({
      client: server,
      resource: MESH_NODES as never,
      clock,
      random,
      log: silentLog,
      signal: stop.signal,
      since,
      onState: (state) => states.push(state),
    }))
      events.push(event);
  })();
  const brief = () =>
    events.map((event) => {
      if (event.type === 'REPLACED') return `REPLACED ${event.resourceVersion}`;
      if (event.type === 'BOOKMARK') return `BOOKMARK ${event.resourceVersion}`;
      return `${event.type} ${event.object.metadata.name} ${event.object.metadata.resourceVersion}`;
    });
  return { clock, stop, done, events, brief, states };
}

async function finish(run: ReturnType<typeof start>) {
  run.stop.abort();
  await run.done;
}

describe('in order', () => {
  test('a list of all pages, then the changes after it', async () => {
    const server = new ScriptedServer();
    server.lists.push(
      async () => ({ items: [node('a', '3')], resourceVersion: '10', continue: 'page2' }),
      async () => ({ items: [node('b', '4')], resourceVersion: '10' }),
    );
    server.watches.push(
      telling([
        { type: 'ADDED', object: node('c', '11') },
        { type: 'MODIFIED', object: node('a', '12') },
        { type: 'DELETED', object: node('b', '13') },
      ]),
    );
    const run = start(server);
    await run.clock.advance(0);
    expect(server.asked).toEqual(['list', 'list page2', 'watch 10']);
    expect(run.events[0]).toEqual({
      type: 'REPLACED',
      items: [node('a', '3'), node('b', '4')],
      resourceVersion: '10',
    });
    expect(run.brief().slice(1)).toEqual(['ADDED c 11', 'MODIFIED a 12', 'DELETED b 13']);
    expect(run.states).toEqual([{ connected: true }]);
    await finish(run);
  });

  test('from a version that the consumer knows: no list', async () => {
    const server = new ScriptedServer();
    server.watches.push(telling([{ type: 'ADDED', object: node('c', '8') }]));
    const run = start(server, undefined, '7');
    await run.clock.advance(0);
    expect(server.asked).toEqual(['watch 7']);
    expect(run.brief()).toEqual(['ADDED c 8']);
    await finish(run);
  });

  test.each([
    ['the server has forgotten', telling([], refused(410)), '1000000'],
    ['the server never reached', telling([]), '6'],
  ])('from a version that %s: a list', async (_, watch, newest) => {
    const server = new ScriptedServer();
    server.newest = newest;
    server.watches.push(watch);
    server.lists.push(listed('10', node('a', '3')));
    const run = start(server, undefined, '7');
    await run.clock.advance(0);
    expect(run.brief()).toEqual(['REPLACED 10']);
    await finish(run);
  });

  test('after the server ends a watch, the next starts at the newest event or bookmark, at once', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'));
    server.watches.push(
      telling([{ type: 'ADDED', object: node('a', '11') }], 'closed'),
      telling([{ type: 'BOOKMARK', resourceVersion: '500' }], 'closed'),
    );
    const run = start(server);
    await run.clock.advance(0);
    expect(server.asked).toEqual(['list', 'watch 10', 'watch 11', 'watch 500']);
    expect(run.brief()).toEqual(['REPLACED 10', 'ADDED a 11', 'BOOKMARK 500']);
    await finish(run);
  });

  test('each watch asks for its own 5 to 10 minutes', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'));
    for (let i = 0; i < 20; i += 1)
      server.watches.push(telling([{ type: 'BOOKMARK', resourceVersion: `${11 + i}` }], 'closed'));
    const run = start(server, Math.random);
    await run.clock.advance(0);
    expect(new Set(server.timeouts).size).toBeGreaterThan(5);
    for (const seconds of server.timeouts) {
      expect(seconds).toBeGreaterThanOrEqual(300);
      expect(seconds).toBeLessThanOrEqual(600);
    }
    await finish(run);
  });

  test('each request has the time that it is given', async () => {
    const given: unknown[] = [];
    const watches = [telling([{ type: 'ADDED', object: node('a', '11') }], 'closed'), telling([], 'closed')];
    const stop = new AbortController();
    const client = {
      list: async (_: unknown, o: ListOptions = {}) => {
        given.push(['list', o.timeoutMs]);
        return { items: [], resourceVersion: '11' } as never;
      },
      watch: (_: unknown, o: WatchOptions) => {
        given.push(['watch', o.timeoutMs]);
        if (watches.length === 1) stop.abort();
        return (watches.shift() as Watch)(o) as never;
      },
    };
    const means = { clock: new ManualClock(), random: () => 0, log: silentLog, signal: stop.signal };
    const events = reflect({ client, resource: MESH_NODES as never, timeoutMs: 500, ...means });
    expect(await Array.fromAsync(events)).toHaveLength(2);
    expect(given).toEqual([
      ['list', 500],
      ['watch', 500],
      ['list', 500],
      ['watch', 500],
    ]);
  });

  test('a slow consumer is not overrun: nothing is read ahead', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'));
    let told = 0;
    server.watches.push(async function* () {
      for (;;) {
        told += 1;
        yield { type: 'ADDED', object: node('a', `${10 + told}`) };
      }
    });
    const stop = new AbortController();
    const events = reflect({
      client: server,
      resource: MESH_NODES as never,
      clock: new ManualClock(),
      random: () => 0,
      log: silentLog,
      signal: stop.signal,
    });
    for (let i = 0; i < 4; i += 1) await events.next();
    expect(told).toBe(3);
    await events.return();
  });
});

describe('failures', () => {
  test('after a reset the watch goes on from where it was, without a list', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'));
    server.watches.push(
      telling([{ type: 'ADDED', object: node('a', '11') }], reset),
      telling([{ type: 'MODIFIED', object: node('a', '12') }]),
    );
    const run = start(server);
    await run.clock.advance(0);
    expect(run.states).toEqual([{ connected: true }, { connected: false, error: reset }]);
    await run.clock.advance(200);
    expect(server.asked).toEqual(['list', 'watch 10', 'watch 11']);
    expect(run.brief()).toEqual(['REPLACED 10', 'ADDED a 11', 'MODIFIED a 12']);
    expect(run.states.at(-1)).toEqual({ connected: true });
    await finish(run);
  });

  test.each([
    ['as the answer', telling([], refused(410))],
    ['as an event in the stream', telling([{ type: 'ADDED', object: node('a', '11') }], refused(410))],
  ])('410 %s leads to a new list at once', async (_, watch) => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'), listed('90', node('z', '80')));
    server.watches.push(watch);
    const run = start(server);
    await run.clock.advance(0);
    expect(server.asked.slice(-2)).toEqual(['list', 'watch 90']);
    expect(run.brief().at(-1)).toBe('REPLACED 90');
    await finish(run);
  });

  test('a server that answers 410 to every version is not asked in a busy loop', async () => {
    const server = new ScriptedServer();
    for (let i = 0; i < 50; i += 1) {
      server.lists.push(listed('10'));
      server.watches.push(telling([], refused(410)));
    }
    const run = start(server);
    await run.clock.advance(60_000);
    expect(server.asked.filter((asked) => asked === 'list').length).toBeLessThan(20);
    await finish(run);
  });

  test('504, a version in the future: the same version again, and a list if that does not help', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'), listed('7'));
    server.watches.push(telling([], refused(504)), telling([], refused(504)), telling([], refused(504)));
    const run = start(server);
    await run.clock.advance(0);
    expect(server.asked).toEqual(['list', 'watch 10']);
    await run.clock.advance(200);
    expect(server.asked).toEqual(['list', 'watch 10', 'watch 10']);
    await run.clock.advance(60_000);
    expect(server.asked).toEqual(['list', 'watch 10', 'watch 10', 'watch 10', 'list', 'watch 7']);
    await finish(run);
  });

  test.each([
    ['was cut', reset],
    ['ended as usual', 'closed' as const],
  ])(
    'a server that was restored to an older state while a watch %s is listed, not waited for',
    async (_, end) => {
      const server = new ScriptedServer();
      server.lists.push(listed('300', node('a', '250')), listed('120', node('a', '110')));
      server.watches.push(telling([{ type: 'MODIFIED', object: node('a', '301') }], end));
      const run = start(server);
      server.newest = '120';
      await run.clock.advance(200);
      expect(server.asked).toEqual(['list', 'watch 300', 'list', 'watch 120']);
      expect(run.brief().at(-1)).toBe('REPLACED 120');
      await finish(run);
    },
  );

  test('429: no sooner than the server asked for, at the same version', async () => {
    const server = new ScriptedServer();
    server.lists.push(failing(refused(429, '1')), listed('10'));
    for (let i = 0; i < 5; i += 1) server.watches.push(telling([], refused(429, '3')));
    const run = start(server);
    await run.clock.advance(0);
    expect(run.clock.sleeping).toEqual([1000]);
    await run.clock.advance(1000);
    expect(run.clock.sleeping).toEqual([3000]);
    await run.clock.advance(20_000);
    expect(server.asked).toEqual(['list', 'list', ...Array(6).fill('watch 10')]);
    await finish(run);
  });

  test('404, the definition was deleted: lists until it is back', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10', node('a', '3')), failing(refused(404)), listed('90'));
    server.watches.push(telling([], refused(404)));
    const run = start(server);
    await run.clock.advance(5000);
    expect(server.asked).toEqual(['list', 'watch 10', 'list', 'list', 'watch 90']);
    await finish(run);
  });

  test('an unknown error in the stream is reported and retried, and three in a row lead to a list', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'), listed('20'));
    const unknown = refused(500);
    server.watches.push(telling([], unknown), telling([], unknown), telling([], unknown));
    const run = start(server);
    await run.clock.advance(30_000);
    expect(server.asked).toEqual(['list', 'watch 10', 'watch 10', 'watch 10', 'list', 'watch 20']);
    expect(run.states[0]).toEqual({ connected: false, error: unknown });
    await finish(run);
  });

  test('waits double up to 10 s, and start over after an event', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'));
    for (let i = 0; i < 8; i += 1) server.watches.push(telling([], reset));
    server.watches.push(telling([{ type: 'ADDED', object: node('a', '11') }], reset));
    const run = start(server, () => 0.999_999);
    const waits: number[] = [];
    for (let i = 0; i < 9; i += 1) {
      await run.clock.advance(0);
      const wait = run.clock.sleeping[0] as number;
      waits.push(Math.round(wait));
      await run.clock.advance(wait);
    }
    expect(waits).toEqual([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 200]);
    await finish(run);
  });

  test('a watch that was open for a while has worked: the next failure waits as the first one did', async () => {
    const server = new ScriptedServer();
    server.lists.push(failing(reset), failing(reset), failing(reset), failing(reset), listed('10'));
    let cut: (error: Error) => void = () => undefined;
    server.watches.push(async function* (o) {
      o.onOpen?.();
      const { promise, reject } = Promise.withResolvers<never>();
      cut = reject;
      yield await promise;
    });
    const run = start(server);
    await run.clock.advance(20_000);
    cut(reset);
    await run.clock.advance(0);
    expect(run.clock.sleeping).toEqual([100]);
    await finish(run);
  });

  test('410 after an outage still leads to a list at once', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'), listed('90'));
    server.watches.push(telling([], reset), telling([], reset), telling([], refused(410)));
    const run = start(server);
    await run.clock.advance(100 + 200);
    expect(server.asked).toEqual(['list', 'watch 10', 'watch 10', 'watch 10', 'list', 'watch 90']);
    await finish(run);
  });

  test('watches that end at once without an event are a failure, not a busy loop', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'));
    for (let i = 0; i < 100; i += 1) server.watches.push(telling([], 'closed'));
    const run = start(server);
    await run.clock.advance(10_000);
    expect(server.asked.length).toBeLessThan(12);
    expect(run.states.at(-1)?.connected).toBe(false);
    await finish(run);
  });

  test("a mistake of the consumer's ends the iteration and reaches the consumer", async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'));
    const consume = async () => {
      for await (const _ of reflect({
        client: server,
        resource: MESH_NODES as never,
        clock: new ManualClock(),
        random: () => 0,
        log: silentLog,
        signal: new AbortController().signal,
      }))
        throw new Error('mine');
    };
    await expect(consume()).rejects.toThrow('mine');
    expect(server.asked).toEqual(['list']);
  });
});

describe('stop', () => {
  test('during a list: ends, and what the list answers later is not told', async () => {
    const server = new ScriptedServer();
    const answer = Promise.withResolvers<{ items: KubeObject[]; resourceVersion: string }>();
    server.lists.push(() => answer.promise);
    const run = start(server);
    await run.clock.advance(0);
    run.stop.abort();
    answer.resolve({ items: [node('a', '1')], resourceVersion: '10' });
    await run.done;
    expect(run.events).toEqual([]);
  });

  test('during a watch', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'));
    const run = start(server);
    await run.clock.advance(0);
    await finish(run);
    expect(run.brief()).toEqual(['REPLACED 10']);
  });

  test('while an event arrives: it is not told', async () => {
    const server = new ScriptedServer();
    server.lists.push(listed('10'));
    const arrival = Promise.withResolvers<void>();
    server.watches.push(async function* () {
      await arrival.promise;
      yield { type: 'ADDED', object: node('a', '11') };
    });
    const run = start(server);
    await run.clock.advance(0);
    run.stop.abort();
    arrival.resolve();
    await run.done;
    expect(run.brief()).toEqual(['REPLACED 10']);
  });

  test('during a wait', async () => {
    const server = new ScriptedServer();
    server.lists.push(failing(reset));
    const run = start(server);
    await run.clock.advance(0);
    expect(run.clock.sleeping).toHaveLength(1);
    await finish(run);
    expect(run.clock.sleeping).toEqual([]);
    expect(server.asked).toEqual(['list']);
  });

  test('before the start: nothing is asked', async () => {
    const server = new ScriptedServer();
    const signal = AbortSignal.abort();
    const events = reflect({
      client: server,
      resource: MESH_NODES as never,
      clock: new ManualClock(),
      random: () => 0,
      log: silentLog,
      signal,
    });
    expect(await Array.fromAsync(events)).toEqual([]);
    expect(server.asked).toEqual([]);
  });
});
