import { expect, test } from 'vitest';
import { FAULT_CLASSES, type FaultClass, planCampaign } from './schedule.ts';

const OPTIONS = { runs: 30, seed: 7, classes: FAULT_CLASSES, width: 2, watchers: 9 };

test('the seed replays the schedule, and another one gives another', () => {
  const plan = planCampaign(OPTIONS);
  expect(planCampaign(OPTIONS)).toEqual(plan);
  expect(planCampaign({ ...OPTIONS, seed: 8 })).not.toEqual(plan);
});

test('every run is there once, about 30 steps long, and each class gets its share', () => {
  const runs = planCampaign(OPTIONS).flatMap((wave) => wave.runs);
  expect(runs.map(({ run }) => run).sort((a, b) => a - b)).toEqual(
    Array.from({ length: 30 }, (_, at) => at + 1),
  );
  for (const { steps } of runs) {
    expect(steps.length).toBeGreaterThanOrEqual(30);
    expect(steps.at(-1)!.atMs).toBeLessThan(5_000);
    expect(steps.map(({ atMs }) => atMs)).toEqual(steps.map(({ atMs }) => atMs).sort((a, b) => a - b));
  }
  for (const name of FAULT_CLASSES)
    expect(runs.filter(({ faultClass }) => faultClass === name).length).toBe(
      name === 'api-server-kill' || name === 'operator-kill' ? 3 : 2,
    );
});

test('what breaks in several ways breaks in each of them, in as few waves as that takes', () => {
  const waves = (runs: number, classes: readonly FaultClass[]) =>
    planCampaign({ ...OPTIONS, runs, classes, width: 8 }).map((wave) => [wave.index, wave.runs.length]);
  expect(waves(7, ['leader-switch'])).toEqual([
    [0, 2],
    [1, 2],
    [2, 3],
  ]);
  expect(waves(14, ['restore', 'nodes'])).toEqual([
    [0, 3],
    [1, 4],
    [0, 7],
  ]);
  expect(waves(1, ['restore'])).toEqual([[0, 1]]);
  expect(waves(9, ['filters'])).toEqual([
    [0, 4],
    [1, 5],
  ]);
});

test('a run of a longer campaign is the same in a shorter one', () => {
  const find = (runs: number) =>
    planCampaign({ ...OPTIONS, runs })
      .flatMap((wave) => wave.runs)
      .find(({ run }) => run === 5);
  expect(find(12)).toEqual(find(30));
});
