import { expect, it } from 'vitest';
import { Turns } from './turns.ts';

const { signal } = new AbortController();

it('so much at once, the rest in order; too many who wait are refused', async () => {
  const turns = new Turns({ what: 'plans', atOnce: 2, waiting: 3 });
  const gate = Promise.withResolvers<void>();
  const begun: number[] = [];
  const runs = [0, 1, 2, 3, 4].map((number) =>
    turns.run(async () => {
      begun.push(number);
      await gate.promise;
      return number;
    }, signal),
  );
  await expect(turns.run(() => 5, signal)).rejects.toMatchObject({
    code: 'rateLimited',
    details: { reason: 'plans' },
  });
  await expect.poll(() => begun).toEqual([0, 1]);
  gate.resolve();
  expect(await Promise.all(runs)).toEqual([0, 1, 2, 3, 4]);
  expect(begun).toEqual([0, 1, 2, 3, 4]);
});

it('whoever leaves makes room, and what fails holds nobody up', async () => {
  const turns = new Turns({ what: 'plans', atOnce: 1, waiting: 1 });
  const gate = Promise.withResolvers<void>();
  const first = turns.run(async () => {
    await gate.promise;
    throw new Error('broken');
  }, signal);
  const impatient = new AbortController();
  const second = turns.run(() => 'second', impatient.signal);
  impatient.abort(new Error('gone'));
  await expect(second).rejects.toThrow('gone');
  const third = turns.run(() => 'third', signal);
  gate.resolve();
  await expect(first).rejects.toThrow('broken');
  expect(await third).toBe('third');
  expect(await turns.run(() => 'fourth', signal)).toBe('fourth');
});

it('work whose turn comes when its owner has just left is not done', async () => {
  const turns = new Turns({ what: 'plans', atOnce: 1, waiting: 1 });
  const leaving = new AbortController();
  const run = turns.run(() => expect.unreachable(), leaving.signal);
  leaving.abort(new Error('gone'));
  await expect(run).rejects.toThrow('gone');
  expect(await turns.run(() => 'next', signal)).toBe('next');
});
