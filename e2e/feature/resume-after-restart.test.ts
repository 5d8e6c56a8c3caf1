import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ResumeWorld, Watcher } from './resume-world.ts';

describe('resuming at an API server that was killed and started again', () => {
  let world: ResumeWorld;

  beforeAll(async () => {
    world = await ResumeWorld.start();
  }, 90_000);

  afterAll(async () => {
    await world?.stop();
  });

  it.each(['sse', 'grpc'] as const)(
    'tells every grant once and in order, from every token (%s)',
    async (transport) => {
      const before = [...world.grants];
      const watcher = new Watcher(await world.client(transport));
      watcher.start();
      await watcher.knows(before.slice(-6));
      await world.moves(8);
      await watcher.knows(world.grants.slice(before.length));
      await watcher.stop();
      const tokens = watcher.events.filter((event) => 'previous' in event && event.type === 'MODIFIED');
      await world.moves(6);
      await world.product.apiServer.kill();
      await world.moves(6);
      await world.product.startApiServer();
      await world.moves(4);
      const all = world.grants.slice(before.length);
      // From the token that it had last, and from every fourth that it had before.
      const starts = tokens.filter((_, at) => at % 4 === 0).map((event) => event.token);
      for (const token of [watcher.token, ...starts]) {
        const again = new Watcher(await world.client(transport), token);
        again.start('fail');
        const heard = watcher.events.slice(
          0,
          watcher.events.findLastIndex((event) => event.token === token) + 1,
        );
        const known = new Set(
          heard.flatMap((event) =>
            'previous' in event && event.current
              ? [`${event.current.name} ${event.current.owner} ${event.current.epoch}`]
              : [],
          ),
        );
        const missing = all.filter((grant) => !known.has(grant));
        await again.knows(missing);
        await again.stop();
        expect(again.error).toBeUndefined();
        expect(again.resets).toEqual([]);
        expect(again.repeats).toBe(0);
        expect(again.grants.toSorted()).toEqual(missing.toSorted());
        for (const name of new Set(missing.map((grant) => grant.split(' ')[0]))) {
          const of = (grants: string[]) => grants.filter((grant) => grant.startsWith(`${name} `));
          expect(of(again.grants)).toEqual(of(missing));
        }
      }
      const resumed = await world.resumed();
      // One that has just started, and has heard of nothing since: it goes on all the same, at once.
      await world.product.apiServer.kill();
      await world.product.startApiServer();
      const fresh = new Watcher(await world.client(transport), watcher.token);
      fresh.start('fail');
      await fresh.knows(world.grants.slice(-10));
      await new Promise((resolve) => setTimeout(resolve, 500));
      await fresh.stop();
      expect(fresh.error).toBeUndefined();
      expect(fresh.resets).toEqual([]);
      expect(resumed.journal).toBeGreaterThan(0);
      expect(resumed).not.toHaveProperty('expired');
    },
    120_000,
  );
});
