import { expect, it } from 'vitest';
import { age } from './age.ts';

const NOW = Date.parse('2026-11-23T12:00:00Z');
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

it.each([
  [0, '0s'],
  [45_000, '45s'],
  [119_999, '119s'],
  [2 * MINUTE, '2m'],
  [3 * MINUTE + 20_000, '3m20s'],
  [90 * MINUTE, '90m'],
  [3 * HOUR, '3h'],
  [5 * HOUR + 30 * MINUTE, '5h30m'],
  [30 * HOUR, '30h'],
  [2 * DAY + 3 * HOUR, '2d3h'],
  [9 * DAY, '9d'],
  // Somebody's clock is ahead of ours.
  [-5_000, '0s'],
])('%i ms ago is %s', (ms, text) => {
  expect(age(new Date(NOW - ms).toISOString(), NOW)).toBe(text);
});

it.each([undefined, '', 'yesterday'])('%s is no time', (since) => {
  expect(age(since, NOW)).toBe('-');
});
