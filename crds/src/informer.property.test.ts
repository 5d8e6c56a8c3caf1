import { compareVersions, type KubeObject } from '@meshkit/shards/records';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Change, Informer, objectKey } from './informer.ts';
import type { ListOptions, WatchOptions } from './kube-client.ts';
import { statusError } from './kube-error.ts';
import { silentLog } from './log.ts';
import { ManualClock } from './manual-clock.ts';
import { MESH_NODES } from './resource.ts';
import type { WatchEvent } from './watch-stream.ts';

const NAMES = ['a', 'b', 'c', 'd'] as const;
/** Versions pass 9 -> 10 and 99 -> 100 on the way, where comparing them as text would go wrong. */
const FIRST_VERSION = 5;

type Step =
  /** Somebody creates the object, changes it if it exists, or deletes it. `own`: we do, and observe the answer. */
  | { do: 'write' | 'delete'; name: (typeof NAMES)[number]; own: boolean }
  /** The open watch breaks, in this way. */
  | { do: 'break'; how: 'reset' | 'end' | 410 | 429 | 500 | 504 }
  /** The next request is refused. */
  | { do: 'refuse'; status: 410 | 429 | 500 | 503 | 504 }
  /** History up to now is lost; open watches go on. */
  | { do: 'compact' }
  | { do: 'bookmark' }
  /** etcd is restored to what it held this many versions ago. */
  | { do: 'restore'; versions: number }
  /** Time for the informer to act; without it, several steps meet it at once. */
  | { do: 'wait'; ms: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      name: fc.constantFrom(...NAMES),
      own: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('delete' as const),
      name: fc.constantFrom(...NAMES),
      own: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('break' as const),
      how: fc.constantFrom(
        'reset' as const,
        'end' as const,
        410 as const,
        429 as const,
        500 as const,
        504 as const,
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('refuse' as const),
      status: fc.constantFrom(410 as const, 429 as const, 500 as const, 503 as const, 504 as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('compact' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('bookmark' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('restore' as const), versions: fc.integer({ min: 1, max: 12 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(0, 0, 100, 1000, 20_000) }),
  },
);

type Ending = 'end' | Error;
interface Entry {
  version: number;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  object: KubeObject;
}

/** A Kubernetes API server for one resource: a log of versions, its folded state, and the faults of a script. */
class ModelServer {
  version = FIRST_VERSION;
  readonly objects = new Map<string, KubeObject>();
  readonly #log: Entry[] = [];
  readonly #refusals: number[] = [];
  readonly #bookmarks = new Set<() => void>();
  readonly #clock: ManualClock;
  #compacted = 0;
  #uids = 0;
  #change = Promise.withResolvers<void>();
  #breaks = Promise.withResolvers<Ending>();
  /** How often etcd was restored. */
  restores = 0;
  /** Versions up to here have been listed or sent: no event below may be asked for again. */
  #told = 0;
  readonly repeated: string[] = [];

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  write(name: string): KubeObject {
    this.version += 1;
    const before = this.objects.get(name);
    if (!before) this.#uids += 1;
    const object: KubeObject = {
      apiVersion: 'meshkit.omnirelay.io/v1alpha1',
      kind: 'MeshNode',
      metadata: {
        name,
        uid: before?.metadata.uid ?? `uid-${this.#uids}`,
        resourceVersion: `${this.version}`,
      },
    };
    this.objects.set(name, object);
    this.#append({ version: this.version, type: before ? 'MODIFIED' : 'ADDED', object });
    return object;
  }

  delete(name: string): KubeObject | undefined {
    const before = this.objects.get(name);
    if (!before) return undefined;
    this.version += 1;
    this.objects.delete(name);
    const object = { ...before, metadata: { ...before.metadata, resourceVersion: `${this.version}` } };
    this.#append({ version: this.version, type: 'DELETED', object });
    return before;
  }

  compact(): void {
    this.#compacted = this.version;
  }

  restore(versions: number): void {
    this.version = Math.max(FIRST_VERSION, this.version - versions);
    this.#compacted = this.version;
    this.#told = 0;
    this.restores += 1;
    this.#log.splice(
      0,
      Number.POSITIVE_INFINITY,
      ...this.#log.filter((entry) => entry.version <= this.version),
    );
    this.objects.clear();
    for (const { type, object } of this.#log)
      if (type === 'DELETED') this.objects.delete(object.metadata.name);
      else this.objects.set(object.metadata.name, object);
    this.break(new Error('restart'));
  }

  bookmark(): void {
    for (const send of this.#bookmarks) send();
  }

  refuse(status: number): void {
    this.#refusals.push(status);
  }

  break(how: Ending): void {
    this.#breaks.resolve(how);
    this.#breaks = Promise.withResolvers();
  }

  list = async (_: unknown, o: ListOptions = {}) => {
    await turn();
    if (o.limit === 1) return { items: [], resourceVersion: `${this.version}` } as never;
    this.#maybeRefuse();
    const answer = { items: [...this.objects.values()], resourceVersion: `${this.version}` };
    const { restores } = this;
    await turn();
    o.signal?.throwIfAborted();
    if (restores === this.restores) this.#told = Number(answer.resourceVersion);
    return answer as never;
  };

  watch = (_: unknown, o: WatchOptions) => this.#watch(o) as never;

  async *#watch(o: WatchOptions): AsyncGenerator<WatchEvent<KubeObject>> {
    await turn();
    this.#maybeRefuse();
    let sent = Number(o.resourceVersion);
    if (sent < this.#compacted) throw refusal(410);
    o.onOpen?.();
    if (sent > this.version) {
      // As kube-apiserver does: not a word, not even a bookmark, until the client takes it for dead.
      await this.#clock.sleep(150_000, o.signal);
      throw new Error('silent');
    }
    const broken = this.#breaks.promise.then((how) => ({ how }));
    const aborted = new Promise<{ how: Ending }>((resolve) => {
      o.signal.addEventListener('abort', () => resolve({ how: o.signal.reason }), { once: true });
    });
    const over = new AbortController();
    const ended = this.#clock.sleep(o.timeoutSeconds * 1000, over.signal).then(
      () => ({ how: 'end' as const }),
      () => undefined,
    );
    let due = 0;
    const bookmark = () => {
      due += 1;
      this.#notify();
    };
    this.#bookmarks.add(bookmark);
    try {
      for (;;) {
        const change = this.#change.promise.then(() => undefined);
        for (const { version, type, object } of this.#log.filter((entry) => entry.version > sent)) {
          sent = version;
          if (version <= this.#told) this.repeated.push(`${type} ${version}`);
          this.#told = version;
          yield { type, object };
        }
        if (due > 0) {
          due = 0;
          yield { type: 'BOOKMARK', resourceVersion: `${sent}` };
        }
        const event = await Promise.race([broken, aborted, ended, change]);
        if (event?.how === 'end') return;
        if (event) throw event.how;
      }
    } finally {
      this.#bookmarks.delete(bookmark);
      over.abort();
    }
  }

  #append(entry: Entry): void {
    this.#log.push(entry);
    this.#notify();
  }

  #notify(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  #maybeRefuse(): void {
    const status = this.#refusals.shift();
    if (status) throw refusal(status);
  }
}

function refusal(status: number): Error {
  return statusError({ what: 'watch', server: 's' }, { status, body: 'by the script' });
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** What a consumer that only listens makes of the changes; complains of whatever no server ever did. */
class Listener {
  readonly held = new Map<string, KubeObject>();
  readonly told: string[] = [];
  restores = 0;

  take({ type, key, object, previous }: Change<KubeObject>): void {
    const held = this.held.get(key);
    expect(previous, `${type} ${key}: previous is what was told before`).toEqual(held);
    const version = object.metadata.resourceVersion as string;
    if (type === 'ADDED') expect(held).toBeUndefined();
    else expect(held?.metadata.uid).toBe(object.metadata.uid);
    if (type === 'MODIFIED' && this.restores === 0)
      expect(compareVersions(version, held?.metadata.resourceVersion as string)).toBeGreaterThan(0);
    this.told.push(`${type} ${key} ${version}`);
    if (type === 'DELETED') this.held.delete(key);
    else this.held.set(key, object);
  }
}

async function play(script: readonly Step[], random: () => number) {
  const clock = new ManualClock();
  const server = new ModelServer(clock);
  const informer = new Informer<KubeObject>({
    client: server,
    resource: MESH_NODES as never,
    clock,
    random,
    log: silentLog,
  });
  const listener = new Listener();
  const errors: unknown[] = [];
  informer.onChange((change) => {
    try {
      listener.take(change);
    } catch (error) {
      errors.push(error);
    }
  });
  const stop = new AbortController();
  const done = informer.run(stop.signal);
  /** The newest version of each object that we wrote ourselves: never may the copy show an older one. */
  const own = new Map<string, string | undefined>();
  const checkOwn = () => {
    for (const [name, version] of own) {
      const held = informer.get(name)?.metadata.resourceVersion;
      if (version === undefined) continue;
      if (held !== undefined) expect(compareVersions(held, version)).toBeGreaterThanOrEqual(0);
    }
  };
  const settle = async () => {
    for (let i = 0; i < 40; i += 1) await clock.advance(20_000);
  };
  for (const step of script) {
    if (step.do === 'wait') await clock.advance(step.ms);
    else if (step.do === 'compact') server.compact();
    else if (step.do === 'bookmark') server.bookmark();
    else if (step.do === 'restore') {
      server.restore(step.versions);
      listener.restores += 1;
      own.clear();
      // New writes under old versions cannot be told from old ones: only a lineage of our own could do that.
      await settle();
    } else if (step.do === 'refuse') server.refuse(step.status);
    else if (step.do === 'break')
      server.break(
        step.how === 'end' ? 'end' : step.how === 'reset' ? new Error('reset') : refusal(step.how),
      );
    else if (step.do === 'write') {
      const object = server.write(step.name);
      if (step.own) {
        informer.observe(object);
        own.set(step.name, object.metadata.resourceVersion);
      }
    } else {
      const deleted = server.delete(step.name);
      if (deleted && step.own) {
        informer.observeDeleted(deleted);
        expect(informer.get(step.name), 'an own deletion is seen at once').toBeUndefined();
        own.set(step.name, deleted.metadata.resourceVersion);
      }
    }
    checkOwn();
  }
  // Whatever happened, given some quiet time the copy is the server's state.
  await settle();
  expect(errors).toEqual([]);
  expect(server.repeated, 'no event is asked for twice').toEqual([]);
  const state = [...server.objects.values()].sort(byKey);
  expect(informer.list().sort(byKey)).toEqual(state);
  expect([...listener.held.values()].sort(byKey)).toEqual(state);
  expect(informer.state).toMatchObject({ synced: true, connected: true });
  stop.abort();
  await done;
  const told = listener.told.length;
  server.write('a');
  await clock.advance(20_000);
  expect(listener.told.length, 'nothing is told after the stop').toBe(told);
  return listener;
}

function byKey(a: KubeObject, b: KubeObject): number {
  return objectKey(a) < objectKey(b) ? -1 : 1;
}

test('whatever the server does, the copy becomes its state, and the changes told are a possible history', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      async (script, r) => {
        await play(script, () => r);
      },
    ),
    { numRuns: 150 },
  );
});

test('while history lasts, every change is told exactly once, through resets and refusals', async () => {
  const gentle = step.filter(
    (s) =>
      !(
        s.do === 'compact' ||
        s.do === 'restore' ||
        (s.do === 'refuse' && s.status === 410) ||
        (s.do === 'break' && s.how === 410)
      ) &&
      // Own writes may overtake others' changes of the same object, which are then no longer told.
      !((s.do === 'write' || s.do === 'delete') && s.own),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(gentle, { maxLength: 60 }), async (script) => {
      const prefix: Step[] = [{ do: 'wait', ms: 100 }];
      const expected: string[] = [];
      const shadow = new ModelServer(new ManualClock());
      for (const s of script) {
        if (s.do === 'write') {
          const type = shadow.objects.has(s.name) ? 'MODIFIED' : 'ADDED';
          expected.push(`${type} ${s.name} ${shadow.write(s.name).metadata.resourceVersion}`);
        } else if (s.do === 'delete' && shadow.delete(s.name))
          expected.push(`DELETED ${s.name} ${shadow.version}`);
      }
      const refusals = script.filter(
        (s) => s.do === 'refuse' || (s.do === 'break' && s.how !== 'end'),
      ).length;
      fc.pre(refusals < 3);
      const listener = await play([...prefix, ...script], () => 0);
      expect(listener.told).toEqual(expected);
    }),
    { numRuns: 150 },
  );
});
