import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ResumeWorld, Watcher } from './resume-world.ts';

let world: ResumeWorld;

beforeAll(async () => {
  world = await ResumeWorld.start();
}, 90_000);

afterAll(async () => {
  await world?.stop();
});

it('goes on from every token at an API server that was started while kube-apiserver was away', async () => {
  const watcher = new Watcher(await world.client('sse'));
  watcher.start();
  await watcher.knows(world.grants);
  await world.moves(6);
  await watcher.knows(world.grants);
  await watcher.stop();
  const changes = watcher.events.filter((event) => 'previous' in event && event.type === 'MODIFIED');
  const tokens = changes.map((event) => event.token);
  await world.moves(6);
  // The journal is at most a second behind.
  await sleep(2_000);
  await world.product.apiServer.kill();
  let started: Promise<void> | undefined;
  await world.plane.restart({
    whileDown: async () => {
      started = world.product.startApiServer();
      await sleep(3_000);
    },
  });
  await started;
  const known = world.grants.slice(-6);
  const all = await Promise.all(
    [watcher.token, ...tokens].map(async (token) => new Watcher(await world.client('sse'), token)),
  );
  for (const again of all) again.start('fail');
  for (const again of all) await again.knows(known);
  // Longer than a stream waits for a journal that is behind.
  await sleep(5_000);
  await world.move(0);
  for (const again of all) {
    await again.knows(world.grants.slice(-1));
    await again.stop();
    expect(again.error).toBeUndefined();
    expect(again.resets).toEqual([]);
    expect(again.repeats).toBe(0);
  }
  expect(await world.resumed()).not.toHaveProperty('expired');
}, 120_000);
