import { expect, test } from 'vitest';
import { systemClock } from './clock.ts';

test("a sleep that is aborted rejects with the signal's own reason, before and during it", async () => {
  const reason = new Error('stop');
  await expect(systemClock.sleep(60_000, AbortSignal.abort(reason))).rejects.toBe(reason);
  const stop = new AbortController();
  const sleeping = systemClock.sleep(60_000, stop.signal);
  stop.abort(reason);
  await expect(sleeping).rejects.toBe(reason);
});

test('a sleep of no length, or longer than any timer, is no accident', async () => {
  await systemClock.sleep(-5);
  const stop = new AbortController();
  const long = systemClock.sleep(Number.MAX_SAFE_INTEGER, stop.signal);
  const soon = systemClock.sleep(20).then(() => 'still asleep');
  await expect(Promise.race([long, soon])).resolves.toBe('still asleep');
  stop.abort(new Error('stop'));
  await expect(long).rejects.toThrow('stop');
});
