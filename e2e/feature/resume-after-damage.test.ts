import { SHARD_JOURNAL_SEGMENTS, type ShardJournalSegment } from '@meshkit/crds/journal-objects';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ResumeWorld, until, Watcher } from './resume-world.ts';

let world: ResumeWorld;

beforeAll(async () => {
  world = await ResumeWorld.start();
}, 90_000);

afterAll(async () => {
  await world?.stop();
});

/** The newest but one of the segments, which every token from before it needs. */
async function victim(): Promise<ShardJournalSegment> {
  const { kube } = world.product;
  const { items } = await kube.listAll<ShardJournalSegment>(SHARD_JOURNAL_SEGMENTS, {});
  const segments = items.filter(({ spec }) => spec.type === 'Entries');
  const { metadata } = segments.sort((a, b) => Number(a.spec.to) - Number(b.spec.to)).at(-2)!;
  return kube.get(SHARD_JOURNAL_SEGMENTS, { name: metadata.name });
}

/** Segments that were found damaged, as the API server counts them. */
async function damaged(): Promise<number> {
  const [, count = '0'] = /^meshkit_journal_damaged_total (\d+)$/m.exec(await world.product.metrics()) ?? [];
  return Number(count);
}

it.each(['altered', 'missing'] as const)(
  'says that a segment is %s by a reset, and goes on with everything that there is',
  async (how) => {
    const { product } = world;
    const watchers = await Promise.all(
      (['sse', 'grpc'] as const).map(async (transport) => new Watcher(await world.client(transport))),
    );
    for (const watcher of watchers) watcher.start();
    for (const watcher of watchers) await watcher.knows(await owned());
    for (const watcher of watchers) await watcher.stop();
    // Batches of a second at most, so these are several segments.
    for (let batch = 0; batch < 3; batch += 1) {
      await world.moves(3);
      await new Promise((resolve) => setTimeout(resolve, 1_300));
    }
    const { metadata, spec, ...object } = await victim();
    await product.kube.delete(SHARD_JOURNAL_SEGMENTS, { name: metadata.name });
    if (how === 'altered') {
      const { name, annotations } = metadata;
      const data = `${spec.data.slice(0, -8)}AAAA${spec.data.slice(-4)}`;
      const altered = { ...object, metadata: { name, annotations }, spec: { ...spec, data } };
      await product.kube.create(SHARD_JOURNAL_SEGMENTS, altered);
    }
    // One that has nothing in memory but what the journal and a list tell.
    await product.apiServer.kill();
    await product.startApiServer();
    for (const watcher of watchers) {
      const refused = new Watcher(await world.client('sse'), watcher.token);
      refused.start('fail');
      await until(() => refused.error, 'a refusal');
      expect(refused.error).toMatchObject({ code: 'tokenExpired' });
      watcher.start();
      await until(() => watcher.resets[0], 'a reset');
      await watcher.knows(await owned());
      await world.moves(2);
      await watcher.knows(await owned());
      await watcher.stop();
      expect(watcher.error).toBeUndefined();
      expect(watcher.resets).toEqual(['expired']);
    }
    expect(await damaged()).toBeGreaterThan(0);
  },
  90_000,
);

/** The grants that count now. */
async function owned(): Promise<string[]> {
  return (await world.shards()).map(
    ({ metadata, status }) => `${metadata.name} ${status?.owner} ${status?.epoch}`,
  );
}
