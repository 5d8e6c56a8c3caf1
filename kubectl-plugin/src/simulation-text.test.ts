import type { SimulatedSet, Simulation } from '@meshkit/shards/simulate';
import { expect, it } from 'vitest';
import { API, AT_REST, play, type Scene } from '../test/scene.ts';

/** What the table says of an answer, where the scene itself gives no such answer. */
async function told(line: string, scene: Scene, change: (set: SimulatedSet) => object): Promise<string> {
  const { stdout } = await play(`shards simulate ${line} --json`, { env: API, ...scene });
  const whole: Simulation = JSON.parse(stdout);
  const answer = { ...whole, sets: whole.sets.map((set) => ({ ...set, ...change(set) })) };
  const simulate = async () => answer;
  return (await play('shards simulate', { env: API, answers: { simulate } })).stdout;
}

it('says how many shards without a place a list leaves out that was cut short', async () => {
  const text = await told('--remove node-21', {}, ({ unplaceable }) => ({
    unplaceable: unplaceable.slice(0, 3),
  }));
  expect(text).toContain('; 5 without a place\n');
  expect(text).toContain('\nat least 3 shards without a place: 0000, 0001, 0002\n');
  expect(text).toContain('\n… and 2 more without a place: -o wide, or -o json\n');
});

it('says how many moves are needed, if there are more', async () => {
  const lowerBound = (least: number) =>
    told('--drain node-1', AT_REST, ({ churn }) => ({ churn: { ...churn, lowerBound: least } }));
  expect(await lowerBound(4)).toMatch(
    /^payments\/orders: 4 moves of 48 shards \(churn 8.3 %\), the fewest possible\n/,
  );
  expect(await lowerBound(3)).toMatch(
    /^payments\/orders: 4 moves of 48 shards \(churn 8.3 %\), at least 3 needed\n/,
  );
});
