import type { JournalHeadSpec } from '@meshkit/crds/journal-objects';
import { headObject } from '@meshkit/crds/journal-objects';
import { silentLog } from '@meshkit/crds/log';
import type { WatchEvent } from '@meshkit/crds/watch-stream';
import { beforeEach, describe, expect, it } from 'vitest';
import { LineageWitness } from './lineage-witness.ts';

const mark = (position: string) => ({ position, ordinal: 0, anchor: 'x', at: '2026-11-23T12:00:00Z' });
function head(term: number, sequence: number, position: string, nonces = ['']): JournalHeadSpec {
  return {
    cluster: 'c',
    term,
    nonce: nonces.at(-1)!,
    nonces,
    last: { sequence, term },
    mark: mark(position),
    floor: mark('1'),
    checkpoint: { name: 'c', chunks: 0, mark: mark('1') },
    entries: 0,
    bytes: 0,
  };
}

/** A server whose watch of the head says what the test tells it to. */
class Server {
  spec: JournalHeadSpec | undefined;
  version = '1';
  #events: WatchEvent<never>[] = [];
  #cut = Promise.withResolvers<void>();
  readonly client = {
    list: async () => ({
      items: this.spec ? [headObject('meshkit', this.spec, { resourceVersion: this.version })] : [],
      resourceVersion: this.version,
    }),
    watch: async function* (this: Server, _: unknown, { onOpen }: { onOpen?: () => void }) {
      onOpen?.();
      for (;;) {
        await Promise.race([this.#cut.promise, new Promise((resolve) => setTimeout(resolve, 1))]);
        yield* this.#events.splice(0);
        if (this.#gone) {
          this.#gone = false;
          return;
        }
      }
    }.bind(this),
  };
  #gone = false;

  write(spec: JournalHeadSpec, version: string): void {
    this.spec = spec;
    this.version = version;
    const object = headObject('meshkit', spec, { resourceVersion: version });
    this.#events.push({ type: 'MODIFIED', object } as never);
  }

  restore(spec: JournalHeadSpec | undefined, version: string): void {
    this.spec = spec;
    this.version = version;
    this.#gone = true;
    this.#cut.resolve();
    this.#cut = Promise.withResolvers<void>();
  }
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 15));

describe('the witness of lineages', () => {
  let server: Server;
  let restores: number;
  let histories: number;
  let stop: AbortController;

  async function witness(request?: string): Promise<LineageWitness> {
    const made = new LineageWitness({
      client: server.client as never,
      journal: 'meshkit',
      request,
      clock: {
        now: Date.now,
        monotonic: () => performance.now(),
        sleep: async () => settle() as Promise<void>,
      },
      random: () => 0,
      log: silentLog,
      onRestore: () => {
        restores += 1;
      },
      onNewHistory: () => {
        histories += 1;
      },
    });
    void made.run(stop.signal);
    await settle();
    return made;
  }

  beforeEach(() => {
    server = new Server();
    restores = 0;
    histories = 0;
    stop = new AbortController();
    return () => stop.abort();
  });

  it('has nothing to say while history goes on', async () => {
    server.write(head(1, 1, '5'), '6');
    const made = await witness();
    server.write(head(2, 2, '8'), '9');
    await settle();
    expect(made.renews(head(2, 2, '8'), '12')).toBe(false);
    // Its own write is ahead of what the watch tells.
    made.wrote(head(3, 3, '14'));
    server.write(head(2, 3, '11'), '12');
    await settle();
    expect(restores).toBe(0);
    expect(made.renews(head(3, 3, '14'), '15')).toBe(false);
  });

  it('sees a restore by the watch, and that a new lineage has answered it', async () => {
    server.write(head(1, 9, '50'), '51');
    const made = await witness();
    server.restore(head(1, 4, '20'), '30');
    await expect.poll(() => restores).toBe(1);
    expect(made.renews(head(1, 4, '20'), '31')).toBe(true);
    server.write(head(2, 4, '20', ['', 'new']), '33');
    await settle();
    expect(made.renews(head(2, 4, '20', ['', 'new']), '34')).toBe(false);
    expect([restores, histories]).toEqual([1, 2]);
  });

  it('sees it by a quorum read before the watch does, and the watch then changes nothing', async () => {
    server.write(head(1, 9, '50'), '51');
    const made = await witness();
    expect(made.renews(head(1, 4, '20'), '30')).toBe(true);
    made.wrote(head(2, 4, '20', ['', 'new']), '32');
    server.restore(head(2, 4, '20', ['', 'new']), '33');
    await settle();
    await settle();
    expect([restores, histories]).toEqual([0, 1]);
    expect(made.renews(head(2, 4, '20', ['', 'new']), '34')).toBe(false);
  });

  it('sees it by the head when positions have overtaken the old ones', async () => {
    server.write(head(5, 9, '50'), '51');
    const made = await witness();
    expect(made.renews(head(5, 9, '50'), '200')).toBe(false);
    expect(made.renews(head(5, 4, '20'), '200')).toBe(true);
    expect(made.renews(undefined, '200')).toBe(true);
  });

  it('sees a second restore', async () => {
    server.write(head(1, 9, '50'), '51');
    const made = await witness();
    server.restore(head(1, 4, '20'), '30');
    await expect.poll(() => restores).toBe(1);
    made.wrote(head(2, 4, '20', ['', 'one']), '31');
    server.write(head(2, 6, '40', ['', 'one']), '41');
    await settle();
    expect(made.renews(head(2, 6, '40', ['', 'one']), '42')).toBe(false);
    server.restore(head(1, 4, '20'), '30');
    await expect.poll(() => restores).toBe(2);
    expect(made.renews(head(1, 4, '20'), '31')).toBe(true);
  });

  it('renews on request until the head says that it was served', async () => {
    const made = await witness('restore-7');
    expect(made.renews(undefined, '1')).toBe(true);
    expect(made.renews(head(1, 1, '5'), '6')).toBe(true);
    expect(made.renews({ ...head(1, 1, '5'), requests: ['restore-7'] }, '6')).toBe(false);
  });
});
