import type { MeshNode } from '@meshkit/shards/records';
import { describe, expect, test, vi } from 'vitest';
import { type Change, Informer, objectKey } from './informer.ts';
import type { ListOptions, WatchOptions } from './kube-client.ts';
import { statusError } from './kube-error.ts';
import { silentLog } from './log.ts';
import { ManualClock } from './manual-clock.ts';
import { MESH_NODES } from './resource.ts';
import type { WatchEvent } from './watch-stream.ts';

/** A server whose lists and events the test sends by hand. */
class HandServer {
  items: MeshNode[] = [];
  version = '10';
  /** When set, lists wait for it after their content was fixed. */
  listGate: Promise<void> | undefined;
  #send: ((event: WatchEvent<MeshNode> | Error) => void) | undefined;

  list = async (_: unknown, o: ListOptions = {}) => {
    const answer = { items: [...this.items], resourceVersion: this.version };
    const { promise, reject } = Promise.withResolvers<never>();
    o.signal?.addEventListener('abort', () => reject(o.signal?.reason), { once: true });
    await Promise.race([this.listGate, promise]);
    return answer as never;
  };

  watch = (_: unknown, o: WatchOptions) => this.#watch(o) as never;

  async *#watch(o: WatchOptions): AsyncGenerator<WatchEvent<MeshNode>> {
    const queue: (WatchEvent<MeshNode> | Error)[] = [];
    let wake = Promise.withResolvers<void>();
    this.#send = (event) => {
      queue.push(event);
      wake.resolve();
    };
    o.signal.addEventListener('abort', () => this.#send?.(o.signal.reason), { once: true });
    o.onOpen?.();
    for (;;) {
      await wake.promise;
      wake = Promise.withResolvers();
      for (const event of queue.splice(0)) {
        if (event instanceof Error) throw event;
        yield event;
      }
    }
  }

  send(event: WatchEvent<MeshNode> | Error): void {
    this.#send?.(event);
  }
}

function node(
  name: string,
  version: string,
  more: { uid?: string; zone?: string; deleting?: true } = {},
): MeshNode {
  return {
    apiVersion: 'meshkit.omnirelay.io/v1alpha1',
    kind: 'MeshNode',
    metadata: {
      name,
      namespace: 'fleet',
      uid: more.uid ?? `uid-${name}`,
      resourceVersion: version,
      ...(more.deleting ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
    spec: { zone: more.zone ?? 'z1' },
  };
}

const gone = statusError({ what: 'watch', server: 's' }, { status: 410, body: 'too old' });

function start(items: MeshNode[] = [], listGate?: Promise<void>) {
  const server = new HandServer();
  server.listGate = listGate;
  server.items = items;
  const clock = new ManualClock();
  const log = { ...silentLog, error: vi.fn() };
  const informer = new Informer<MeshNode>({
    client: server,
    resource: MESH_NODES,
    indexes: { zone: (object) => [object.spec.zone ?? ''] },
    clock,
    random: () => 0,
    log,
  });
  const told: string[] = [];
  informer.onChange(({ type, key, object, previous }) => {
    const versions = [previous?.metadata.resourceVersion, object.metadata.resourceVersion].filter(Boolean);
    told.push(`${type} ${key} ${versions.join('->')}`);
  });
  const stop = new AbortController();
  const done = informer.run(stop.signal);
  const settle = () => clock.advance(0);
  const send = async (...events: (WatchEvent<MeshNode> | Error)[]) => {
    for (const event of events) server.send(event);
    await settle();
  };
  const finish = async () => {
    stop.abort();
    await done;
  };
  return { server, clock, log, informer, told, stop, done, settle, send, finish };
}

describe('copy', () => {
  test('holds what was listed, follows the changes, and tells each with what was before', async () => {
    const { informer, told, send, settle, finish } = start([node('a', '3'), node('b', '4')]);
    await informer.synced();
    await settle();
    await send(
      { type: 'ADDED', object: node('c', '11') },
      { type: 'MODIFIED', object: node('a', '12') },
      { type: 'DELETED', object: node('b', '13') },
      { type: 'BOOKMARK', resourceVersion: '99' },
    );
    expect(told).toEqual([
      'ADDED fleet/a 3',
      'ADDED fleet/b 4',
      'ADDED fleet/c 11',
      'MODIFIED fleet/a 3->12',
      'DELETED fleet/b 4->13',
    ]);
    expect(informer.list().map(objectKey)).toEqual(['fleet/a', 'fleet/c']);
    expect(informer.get('fleet/a')).toEqual(node('a', '12'));
    expect(informer.get('fleet/b')).toBeUndefined();
    expect(informer.state).toMatchObject({ synced: true, connected: true, resourceVersion: '99' });
    await finish();
    expect(informer.state.connected).toBe(false);
  });

  test('lists again on request, and then believes the list whatever its versions say', async () => {
    const { server, informer, told, settle, finish } = start([node('a', '3'), node('b', '4')]);
    await informer.synced();
    await settle();
    told.length = 0;
    // A restored server has given versions out a second time; the watch alone would not notice.
    server.items = [node('a', '3', { zone: 'z9' })];
    server.version = '12';
    const relisted = informer.relist();
    await settle();
    await relisted;
    expect(told).toEqual(['MODIFIED fleet/a 3->3', 'DELETED fleet/b 4->4']);
    expect(informer.get('fleet/a')?.spec.zone).toBe('z9');
    expect(informer.state).toMatchObject({ connected: true, resourceVersion: '12' });
    const last = informer.relist();
    await finish();
    await last;
  });

  test('indexes follow changes and deletions', async () => {
    const { informer, send, settle, finish } = start([node('a', '3'), node('b', '4')]);
    await settle();
    const zone = (value: string) => informer.byIndex('zone', value).map(objectKey);
    expect(zone('z1')).toEqual(['fleet/a', 'fleet/b']);
    await send({ type: 'MODIFIED', object: node('a', '11', { zone: 'z2' }) });
    expect([zone('z1'), zone('z2')]).toEqual([['fleet/b'], ['fleet/a']]);
    await send({ type: 'DELETED', object: node('a', '12', { zone: 'z2' }) });
    expect([zone('z1'), zone('z2'), zone('z3')]).toEqual([['fleet/b'], [], []]);
    expect(() => informer.byIndex('region', 'r')).toThrow('there is no index region');
    await finish();
  });

  test('after a lost history, the differences are told as changes', async () => {
    const { server, informer, told, send, settle, finish } = start([
      node('same', '3'),
      node('changed', '4'),
      node('deleted', '5'),
      node('recreated', '6'),
    ]);
    await settle();
    told.length = 0;
    server.items = [
      node('same', '3'),
      node('changed', '44'),
      node('recreated', '60', { uid: 'other' }),
      node('added', '50'),
    ];
    server.version = '90';
    await send(gone);
    expect(told).toEqual([
      'MODIFIED fleet/changed 4->44',
      'DELETED fleet/recreated 6->6',
      'ADDED fleet/recreated 60',
      'ADDED fleet/added 50',
      'DELETED fleet/deleted 5->5',
    ]);
    expect(informer.state.resourceVersion).toBe('90');
    await finish();
  });

  test('a list from a restored server, with lower versions, is the truth', async () => {
    const { server, informer, send, settle, finish } = start([node('a', '300'), node('b', '400')]);
    await settle();
    informer.observe(node('a', '500'));
    server.items = [node('a', '30')];
    server.version = '35';
    await send(gone);
    expect(informer.list()).toEqual([node('a', '30')]);
    await send({ type: 'MODIFIED', object: node('a', '36') });
    expect(informer.get('fleet/a')).toEqual(node('a', '36'));
    await finish();
  });
});

describe('handlers', () => {
  test('one that throws is logged and counted, and the others still run', async () => {
    const { informer, log, told, send, settle, finish } = start();
    await settle();
    const failure = new Error('handler');
    const calls: string[] = [];
    informer.onChange(() => {
      throw failure;
    });
    informer.onChange(({ key }) => calls.push(key));
    await send({ type: 'ADDED', object: node('a', '11') }, { type: 'MODIFIED', object: node('a', '12') });
    expect(told).toEqual(['ADDED fleet/a 11', 'MODIFIED fleet/a 11->12']);
    expect(calls).toEqual(['fleet/a', 'fleet/a']);
    expect(informer.state.handlerErrors).toBe(2);
    expect(log.error).toHaveBeenCalledTimes(2);
    expect(log.error.mock.calls[0]?.[0]).toMatchObject({ err: failure, key: 'fleet/a' });
    await finish();
  });

  test('one that was taken off is told nothing more', async () => {
    const { informer, send, settle, finish } = start();
    await settle();
    const handler = vi.fn();
    const off = informer.onChange(handler);
    await send({ type: 'ADDED', object: node('a', '11') });
    off();
    await send({ type: 'MODIFIED', object: node('a', '12') });
    expect(handler).toHaveBeenCalledOnce();
    await finish();
  });

  test('all see the same order, also when one of them writes', async () => {
    const { informer, send, settle, finish } = start();
    await settle();
    const orders: string[][] = [[], []];
    const note = (i: number) => (change: Change<MeshNode>) =>
      orders[i]?.push(change.object.metadata.resourceVersion as string);
    informer.onChange((change) => {
      note(0)(change);
      if (change.object.metadata.resourceVersion === '11') informer.observe(node('a', '15'));
    });
    informer.onChange(note(1));
    await send({ type: 'ADDED', object: node('a', '11') });
    expect(orders).toEqual([
      ['11', '15'],
      ['11', '15'],
    ]);
    await finish();
  });

  test('after the stop nothing is told', async () => {
    const { informer, server, told, stop, done, settle } = start();
    await settle();
    server.send({ type: 'ADDED', object: node('a', '11') });
    stop.abort();
    await done;
    await settle();
    expect(told).toEqual([]);
    expect(informer.list()).toEqual([]);
  });
});

describe('synced', () => {
  test('waits for the first list to be applied', async () => {
    const { informer, server, finish } = start([node('a', '3')]);
    expect(informer.state.synced).toBe(false);
    await informer.synced();
    expect(informer.get('fleet/a')).toEqual(server.items[0]);
    await informer.synced(AbortSignal.timeout(1000));
    await finish();
  });

  test('ends with its own signal, and with the informer', async () => {
    const { informer, stop, done, settle } = start([], new Promise(() => undefined));
    const impatient = new AbortController();
    const waiting = [informer.synced(impatient.signal), informer.synced()];
    impatient.abort(new Error('enough'));
    await expect(waiting[0]).rejects.toThrow('enough');
    await settle();
    stop.abort(new Error('stopped'));
    await expect(waiting[1]).rejects.toThrow('stopped');
    await done;
  });
});

describe('own writes', () => {
  test('are seen at once, and told once', async () => {
    const { informer, told, send, settle, finish } = start([node('a', '3')]);
    await settle();
    told.length = 0;
    informer.observe(node('a', '12', { zone: 'z2' }));
    expect(informer.byIndex('zone', 'z2')).toHaveLength(1);
    await send({ type: 'MODIFIED', object: node('a', '12', { zone: 'z2' }) });
    expect(told).toEqual(['MODIFIED fleet/a 3->12']);
    await finish();
  });

  test('are not undone by older events that arrive later; newer ones apply', async () => {
    const { informer, told, send, settle, finish } = start([node('a', '3')]);
    await settle();
    told.length = 0;
    informer.observe(node('a', '15'));
    await send({ type: 'MODIFIED', object: node('a', '11') }, { type: 'MODIFIED', object: node('a', '15') });
    expect(informer.get('fleet/a')).toEqual(node('a', '15'));
    await send({ type: 'MODIFIED', object: node('a', '16') });
    expect(told).toEqual(['MODIFIED fleet/a 3->15', 'MODIFIED fleet/a 15->16']);
    await finish();
  });

  test('an answer that comes after the watch passed it changes nothing, and raises nothing from the dead', async () => {
    const { informer, told, send, settle, finish } = start([node('a', '3'), node('b', '4')]);
    await settle();
    told.length = 0;
    await send(
      { type: 'MODIFIED', object: node('a', '11') },
      { type: 'MODIFIED', object: node('b', '12') },
      { type: 'DELETED', object: node('b', '13') },
    );
    informer.observe(node('a', '11'));
    informer.observe(node('b', '12'));
    informer.observeDeleted(node('b', '12'));
    expect(told).toEqual(['MODIFIED fleet/a 3->11', 'MODIFIED fleet/b 4->12', 'DELETED fleet/b 12->13']);
    expect(informer.get('fleet/b')).toBeUndefined();
    await finish();
  });

  test('a deletion hides older events of the object until its own event has come', async () => {
    const { informer, told, send, settle, finish } = start([node('a', '3')]);
    await settle();
    told.length = 0;
    informer.observeDeleted(node('a', '12'));
    expect(informer.get('fleet/a')).toBeUndefined();
    await send(
      { type: 'MODIFIED', object: node('a', '11') },
      { type: 'MODIFIED', object: node('a', '13') },
      { type: 'DELETED', object: node('a', '14') },
    );
    expect(told).toEqual(['DELETED fleet/a 3->12']);
    await send({ type: 'ADDED', object: node('a', '15', { uid: 'other' }) });
    expect(informer.get('fleet/a')?.metadata.uid).toBe('other');
    await finish();
  });

  test('a successor with another uid is welcome, before and after the DELETED event', async () => {
    const { informer, told, send, settle, finish } = start([node('a', '3')]);
    await settle();
    told.length = 0;
    informer.observeDeleted(node('a', '3'));
    informer.observe(node('a', '13', { uid: 'other' }));
    await send(
      { type: 'DELETED', object: node('a', '12') },
      { type: 'ADDED', object: node('a', '13', { uid: 'other' }) },
    );
    expect(told).toEqual(['DELETED fleet/a 3->3', 'ADDED fleet/a 13']);
    expect(informer.get('fleet/a')?.metadata.uid).toBe('other');
    informer.observeDeleted(node('a', '3'));
    expect(informer.get('fleet/a')?.metadata.uid).toBe('other');
    await finish();
  });

  test('deleting a successor that the watch has not shown yet takes the predecessor along', async () => {
    const { informer, told, send, settle, finish } = start([node('a', '3')]);
    await settle();
    informer.observeDeleted(node('a', '12', { uid: 'other' }));
    expect(informer.get('fleet/a')).toBeUndefined();
    await send(
      { type: 'DELETED', object: node('a', '11') },
      { type: 'ADDED', object: node('a', '12', { uid: 'other' }) },
      { type: 'DELETED', object: node('a', '13', { uid: 'other' }) },
    );
    expect(told).toEqual(['ADDED fleet/a 3', 'DELETED fleet/a 3->3']);
    await finish();
  });

  test('what was deleted but waits for finalizers comes back as what it is', async () => {
    const { informer, send, settle, finish } = start([node('a', '3')]);
    await settle();
    informer.observeDeleted(node('a', '3'));
    await send({ type: 'MODIFIED', object: node('a', '12', { deleting: true }) });
    expect(informer.get('fleet/a')).toEqual(node('a', '12', { deleting: true }));
    await send({ type: 'DELETED', object: node('a', '13', { deleting: true }) });
    expect(informer.get('fleet/a')).toBeUndefined();
    await finish();
  });

  test('made while a list is under way, they stand over the list; made before, the list is newer', async () => {
    const { server, informer, send, settle, finish } = start([
      node('updated', '3'),
      node('deleted', '4'),
      node('early', '5'),
    ]);
    await settle();
    informer.observe(node('early', '20'));
    informer.observe(node('vanished', '21'));
    const gate = Promise.withResolvers<void>();
    server.listGate = gate.promise;
    server.items = [node('updated', '3'), node('deleted', '4'), node('early', '25')];
    server.version = '30';
    await send(gone);
    informer.observe(node('updated', '31'));
    informer.observe(node('created', '32'));
    informer.observe(node('brief', '29'));
    informer.observeDeleted(node('deleted', '4'));
    gate.resolve();
    await settle();
    expect(
      informer
        .list()
        .map((object) => `${object.metadata.name} ${object.metadata.resourceVersion}`)
        .sort(),
    ).toEqual(['created 32', 'early 25', 'updated 31']);
    await finish();
  });
});
