import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { describe, expect, it } from 'vitest';
import { ReviewCache } from './review-cache.ts';

function setUp(options: { maxEntries?: number; maxInFlight?: number } = {}) {
  let now = 0;
  const clock: Clock = { now: () => now, monotonic: () => now, sleep: async () => undefined };
  const cache = new ReviewCache<string>({ clock, ttlMs: 10_000, maxEntries: 3, maxInFlight: 3, ...options });
  let asked = 0;
  const ask = async () => `answer ${++asked}`;
  return { cache, ask, asked: () => asked, pass: (ms: number) => (now += ms) };
}

describe('ReviewCache', () => {
  it('asks again only after the time is up', async () => {
    const { cache, ask, pass } = setUp();
    expect(await cache.get('a', ask)).toBe('answer 1');
    pass(9_999);
    expect(await cache.get('a', ask)).toBe('answer 1');
    pass(1);
    expect(await cache.get('a', ask)).toBe('answer 2');
  });

  it('counts the time from the question, so that a slow answer does not live longer', async () => {
    const { cache, pass, ask } = setUp();
    const slow = async () => {
      pass(6_000);
      return 'slow';
    };
    expect(await cache.get('a', slow)).toBe('slow');
    pass(4_000);
    expect(await cache.get('a', ask)).toBe('answer 1');
  });

  it('asks once for equal questions at the same time', async () => {
    const { cache, ask, asked } = setUp();
    expect(await Promise.all([cache.get('a', ask), cache.get('a', ask)])).toEqual(['answer 1', 'answer 1']);
    expect(asked()).toBe(1);
  });

  it('never remembers an error', async () => {
    const { cache, ask } = setUp();
    const fail = async () => {
      throw new ShardError('unavailable', 'down');
    };
    await expect(cache.get('a', fail)).rejects.toThrow('down');
    expect(await cache.get('a', ask)).toBe('answer 1');
  });

  it('forgets the oldest answer when it is full', async () => {
    const { cache, ask } = setUp();
    for (const key of ['a', 'b', 'c', 'd']) await cache.get(key, ask);
    expect(await cache.get('d', ask)).toBe('answer 4');
    expect(await cache.get('a', ask)).toBe('answer 5');
  });

  it('refuses when too many questions are under way, and recovers', async () => {
    const { cache, ask } = setUp({ maxInFlight: 1 });
    const gate = Promise.withResolvers<string>();
    const first = cache.get('a', () => gate.promise);
    await expect(cache.get('b', ask)).rejects.toMatchObject({ code: 'rateLimited' });
    gate.resolve('done');
    await first;
    expect(await cache.get('b', ask)).toBe('answer 1');
  });
});
