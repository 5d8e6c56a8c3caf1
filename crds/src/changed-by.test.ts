import { ShardError } from '@meshkit/shards/errors';
import { expect, it } from 'vitest';
import { isChangedByGuarded } from './changed-by.ts';
import { silentLog } from './log.ts';
import { ManualClock } from './manual-clock.ts';
import type { Resource } from './resource.ts';

/** Each try is answered by the next HTTP status. */
function ask(statuses: number[]) {
  const [clock, stop] = [new ManualClock(), new AbortController()];
  const asked: string[] = [];
  const said: Record<string, unknown>[] = [];
  const get = async (resource: Resource, { name }: { name: string }) => {
    asked.push(`${resource.kind} ${name}`);
    const status = statuses.shift();
    if (status !== 200) throw new ShardError('unavailable', `answer ${status}`, { status });
    return { metadata: { name } };
  };
  const log = { ...silentLog, info: (fields: Record<string, unknown>) => void said.push(fields) };
  const answer = isChangedByGuarded({
    client: { get: get as never },
    clock,
    random: () => 0.5,
    log,
    signal: stop.signal,
  });
  return { answer, asked, said, clock, stop };
}

it('believes the stamp where the binding of its policy is there', async () => {
  const { answer, asked, said } = ask([200]);
  expect(await answer).toBe(true);
  expect(asked).toEqual(['MutatingAdmissionPolicyBinding meshkit-shards-changed-by']);
  expect(said).toEqual([]);
});

it.each([404, 403, 501])('does not where the answer is %d, and says so once', async (status) => {
  const { answer, said } = ask([status]);
  expect(await answer).toBe(false);
  expect(said).toMatchObject([{ status }]);
});

it('asks again while kube-apiserver has no answer, until aborted', async () => {
  const answered = ask([503, 503, 200]);
  await answered.clock.advance(5_000);
  expect(await answered.answer).toBe(true);
  const aborted = ask([503]);
  await aborted.clock.advance(1);
  aborted.stop.abort();
  expect(await aborted.answer).toBe(false);
});
