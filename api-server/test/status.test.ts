import { systemClock } from '@meshkit/crds/clock';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { API_SERVER_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import { ShardError } from '@meshkit/shards/errors';
import { entryOf, JournalFold } from '@meshkit/shards/journal-fold';
import { MemoryJournal } from '@meshkit/shards/journal-memory';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JournalSource } from '../src/journal-source.ts';
import { Wire } from './exchange.ts';
import { AUDIENCE, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

const AT = '2026-11-23T12:00:00.000Z';

/** A journal that is written when the test says so. */
class Writer {
  readonly #fold = JournalFold.listed([], '1');
  readonly journal = new MemoryJournal(this.#fold.state, AT);
  #tell = async (): Promise<void> => undefined;

  readonly source: JournalSource = {
    reader: this.journal,
    follow: async (told, signal) => {
      this.#tell = async () => {
        const head = await this.journal.head(signal);
        if (head) told(head);
      };
      await this.#tell();
      const { promise, resolve } = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => resolve(), { once: true });
      await promise;
    },
  };

  /** Writes down what there is now. */
  async catchUp(cast: Cast): Promise<void> {
    const { items, resourceVersion } = await cast.admin.listAll(SHARD_ASSIGNMENTS);
    const changes = this.#fold.changesToList(items, resourceVersion);
    const entries = changes.map((change) => entryOf(change, AT));
    for (const entry of entries) this.#fold.apply(entry);
    this.journal.append(entries);
    await this.#tell();
  }
}

describe('how the server is', () => {
  const cast = new Cast();
  const writer = new Writer();
  /** Monotonic time runs ahead of the machine's by so much. */
  let ahead = 0;
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + ahead };
  let running: RunningServer;
  let wire: Wire;
  let token: string;

  beforeAll(async () => {
    await cast.open();
    await Promise.all([cast.account('reader', 'meshkit-shards-reader'), cast.shard('0000')]);
    token = await cast.token(cast.namespace, 'reader', AUDIENCE);
    running = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT), {
      clock,
      journal: writer.source,
    });
    await eventually(() => running.server.notReady() === undefined || undefined, 'ready');
    wire = new Wire(running.url);
  });

  afterAll(async () => {
    wire?.close();
    await running?.server.stop();
    await cast.close();
  });

  const status = async () => (await wire.get(`/meshkit/status?namespace=${cast.namespace}`, token)).body;
  const behindSeconds = async () => {
    const text = await (await fetch(`${running.healthUrl}/metrics`)).text();
    return Number(/^meshkit_journal_behind_seconds (\S+)$/m.exec(text)?.[1]);
  };

  it('says when the journal lags behind what was there when the server began', async () => {
    const fresh = { api: 'v1', cache: { state: 'fresh' } };
    expect(await status()).toMatchObject({
      ...fresh,
      journal: { state: 'current', head: { position: '1' } },
    });
    ahead += 6_000;
    expect(await status()).toMatchObject({
      journal: { state: 'behind', head: { position: '1' }, floor: { position: '1', at: AT } },
    });
    expect(await behindSeconds()).toBeGreaterThan(6);
  });

  it('says when all is written down, and again when something is not', async () => {
    // Others change the same cluster.
    await eventually(async () => {
      await writer.catchUp(cast);
      return (await status()).journal.behindMs === undefined || undefined;
    }, 'the journal has everything');
    expect((await status()).journal.state).toBe('current');
    const { newest } = (await status()).journal;
    const before = await behindSeconds();
    await cast.shard('0001');
    await eventually(async () => (await status()).journal.newest !== newest || undefined, 'the change');
    const waiting = (await status()).journal;
    expect(waiting).toMatchObject({ state: 'current', behindMs: expect.any(Number) });
    ahead += 6_000;
    expect((await status()).journal.state).toBe('behind');
    expect(await behindSeconds()).toBeGreaterThan(before);
  });

  it('says when the journal cannot be read, as an answer', async () => {
    writer.journal.failure = new ShardError('unavailable', 'the store is away');
    expect((await status()).journal).toMatchObject({ state: 'unreadable', detail: 'the store is away' });
    writer.journal.failure = undefined;
  });

  it('says when there is no journal', async () => {
    const alone = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT), {
      journal: {
        ...writer.source,
        reader: Object.assign(new Writer().journal, { head: async () => undefined }),
      },
    });
    const aside = new Wire(alone.url);
    try {
      await eventually(() => alone.server.notReady() === undefined || undefined, 'ready');
      const { body } = await aside.get(`/meshkit/status?namespace=${cast.namespace}`, token);
      expect(body.journal.state).toBe('absent');
    } finally {
      aside.close();
      await alone.server.stop();
    }
  });
});
