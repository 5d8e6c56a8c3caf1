import { afterAll, beforeAll, expect, it } from 'vitest';
import { ResumeWorld, Watcher } from './resume-world.ts';

let world: ResumeWorld;

beforeAll(async () => {
  world = await ResumeWorld.start();
}, 90_000);

afterAll(async () => {
  await world?.stop();
});

it('tells every grant once although the leader, and then the API server, was killed', async () => {
  const before = world.grants.length;
  const watchers = await Promise.all(
    (['sse', 'grpc'] as const).map(async (transport) => new Watcher(await world.client(transport))),
  );
  for (const watcher of watchers) watcher.start();
  for (const watcher of watchers) await watcher.knows(world.grants);
  await world.moves(4);
  for (const watcher of watchers) await watcher.knows(world.grants);
  for (const watcher of watchers) await watcher.stop();
  const known = world.grants.length;
  await world.moves(4);
  await world.product.operator.kill();
  // Nobody writes the journal now.
  await world.edit(0);
  await world.edit(1);
  await world.product.startOperator();
  await world.moves(8);
  await world.product.apiServer.kill();
  await world.product.startApiServer();
  await world.moves(2);
  for (const watcher of watchers) {
    const heard = watcher.grants.length;
    watcher.start('fail');
    await watcher.knows(world.grants);
    await watcher.stop();
    expect(watcher.error).toBeUndefined();
    expect(watcher.resets).toEqual([]);
    expect(watcher.repeats).toBe(0);
    expect(watcher.grants.slice(heard).toSorted()).toEqual(world.grants.slice(known).toSorted());
  }
  expect(known).toBeGreaterThan(before);
  const resumed = await world.resumed();
  expect(resumed.journal).toBeGreaterThan(0);
}, 120_000);
