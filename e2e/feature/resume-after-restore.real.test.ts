import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openAnyResumeToken } from '@meshkit/shards/resume-token';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { planeFiles } from '../control-plane/control-plane.ts';
import { ResumeWorld, until, Watcher } from './resume-world.ts';

let world: ResumeWorld;

beforeAll(async () => {
  world = await ResumeWorld.start();
}, 90_000);

afterAll(async () => {
  await world?.stop();
});

/** A copy of etcd's data, taken while etcd is stopped, put back later: what a restore of a snapshot comes to. */
it('says so to every watcher when etcd was restored, and goes on from there', async () => {
  const { etcdData } = planeFiles(world.plane.folder);
  const copy = join(world.plane.folder, 'etcd-copy');
  const watchers = await Promise.all(
    (['sse', 'grpc'] as const).map(async (transport) => new Watcher(await world.client(transport))),
  );
  await world.moves(4);
  await world.plane.restart({ whileDown: () => cp(etcdData, copy, { recursive: true }) });
  for (const watcher of watchers) watcher.start();
  for (const watcher of watchers) await watcher.knows(world.grants.slice(-6));
  await world.moves(6);
  // One of them is away when it happens, the other is there.
  for (const watcher of watchers) await watcher.knows(world.grants.slice(-6));
  await watchers[0]!.stop();
  await world.plane.restart({
    whileDown: async () => {
      await rm(etcdData, { recursive: true });
      await cp(copy, etcdData, { recursive: true });
    },
  });
  watchers[0]!.start();
  for (const watcher of watchers) {
    await until(() => watcher.resets.includes('lineageChanged') || undefined, 'a reset');
  }
  const granted = world.grants.length;
  await world.moves(6);
  for (const watcher of watchers) await watcher.knows(world.grants.slice(granted));
  // Until the journal has named the new history, and the server has heard of it, its tokens are good there alone.
  const isNamed = ({ token = '' }: Watcher) => !openAnyResumeToken(token, 'token').lineage.includes('~');
  await until(() => watchers.every(isNamed) || undefined, 'the name of the new history');
  // From now on tokens count again, also at an API server that knows nothing but the journal.
  const resets = watchers.map((watcher) => watcher.resets.length);
  for (const watcher of watchers) await watcher.stop();
  const known = world.grants.length;
  await world.moves(8);
  await world.product.apiServer.kill();
  await world.product.startApiServer();
  for (const [at, watcher] of watchers.entries()) {
    const heard = watcher.grants.length;
    watcher.start('fail');
    await watcher.knows(world.grants.slice(known));
    await watcher.stop();
    expect(watcher.error).toBeUndefined();
    expect(watcher.resets).toHaveLength(resets[at]!);
    expect(watcher.grants.slice(heard).toSorted()).toEqual(world.grants.slice(known).toSorted());
  }
}, 180_000);
