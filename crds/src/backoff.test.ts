import { expect, test } from 'vitest';
import { Backoff } from './backoff.ts';

test('waits double up to the cap, and start over after a success', () => {
  const backoff = new Backoff({ baseMs: 100, capMs: 1000, random: () => 0.999_999 });
  expect([1, 2, 3, 4, 5, 6].map(() => Math.round(backoff.next()))).toEqual([100, 200, 400, 800, 1000, 1000]);
  expect(backoff.failures).toBe(6);
  backoff.reset();
  expect(Math.round(backoff.next())).toBe(100);
});

test('jitter spreads a wait over its upper half', () => {
  const waits = [0, 0.25, 0.5, 0.75].map((r) =>
    new Backoff({ baseMs: 100, capMs: 1000, random: () => r }).next(),
  );
  expect(waits).toEqual([50, 62.5, 75, 87.5]);
});

test('a very long outage does not overflow', () => {
  const backoff = new Backoff({ baseMs: 100, capMs: 1000, random: () => 0 });
  for (let i = 0; i < 5000; i += 1) expect(backoff.next()).toBeLessThanOrEqual(1000);
});
