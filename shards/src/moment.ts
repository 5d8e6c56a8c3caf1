import { invalid } from './problem.ts';

/** How a caller names a moment of the history. */
export type Moment =
  | { kind: 'token'; token: string }
  | { kind: 'position'; position: string }
  /** Milliseconds since the Unix epoch. */
  | { kind: 'time'; at: number };

const POSITION = /^(0|[1-9]\d{0,39})$/;
const DURATION = /^(\d{1,9})(s|m|h|d)$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/;
const UNIT_MS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * A position, RFC 3339, a duration before now (`90s`, `10m`, `2h`, `7d`), or else a token, which is not looked into.
 * `now` in milliseconds since the Unix epoch.
 */
export function parseMoment(text: string, now: number): Moment {
  if (POSITION.test(text)) return { kind: 'position', position: text };
  const [, count, unit = ''] = DURATION.exec(text) ?? [];
  // Before 1970 nothing happened, and before the year -271821 there are no dates.
  if (count !== undefined)
    return { kind: 'time', at: Math.max(0, now - Number(count) * (UNIT_MS[unit] ?? 0)) };
  const at = TIME.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? { kind: 'token', token: text } : { kind: 'time', at };
}

/** For a text that names none. `name`: of the parameter. */
export function notAMoment(name: string) {
  const detail =
    'not a resume token, a position, a time (RFC 3339) or a duration before now, such as 10m or 2h';
  return invalid([{ pointer: `/query/${name}`, detail }]);
}
