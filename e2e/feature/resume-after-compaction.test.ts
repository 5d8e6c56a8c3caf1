import { afterAll, beforeAll, expect, it } from 'vitest';
import { ResumeWorld, Watcher } from './resume-world.ts';

let world: ResumeWorld;

beforeAll(async () => {
  world = await ResumeWorld.start();
}, 90_000);

afterAll(async () => {
  await world?.stop();
});

it('tells every grant once although etcd was compacted while neither the leader nor an API server ran', async () => {
  const watcher = new Watcher(await world.client('grpc'));
  watcher.start();
  await watcher.knows(world.grants);
  await watcher.stop();
  const known = world.grants.length;
  await world.moves(6);
  await world.product.operator.kill();
  await world.product.apiServer.kill();
  await world.edit(0);
  await world.edit(3);
  await world.plane.compactEtcd();
  await world.shards();
  await world.product.startOperator();
  await world.product.startApiServer();
  await world.moves(8);
  const heard = watcher.grants.length;
  watcher.start('fail');
  await watcher.knows(world.grants);
  await watcher.stop();
  expect(watcher.error).toBeUndefined();
  expect(watcher.resets).toEqual([]);
  expect(watcher.grants.slice(heard).toSorted()).toEqual(world.grants.slice(known).toSorted());
}, 120_000);
