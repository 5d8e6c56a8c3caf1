import { checkHops } from './check-hops.ts';
import { checkOwnership, checkStorage } from './check-ownership.ts';
import { checkStates } from './check-states.ts';
import type { RunHistory } from './history.ts';
import { sameState, Truth } from './truth.ts';
import { COUNTERS, type Counter, type Violation } from './violation.ts';

/** What `npm run faults -- --json` says. */
export interface Tally extends Record<Counter, number> {
  runs: number;
  /** Changes of what is served of shards, by the oracle. */
  changes: number;
  /** Streams that were lost and went on where they were. */
  resumes: number;
}

/** Every check over one recorded run. Pure: the same history gives the same answer, now or years later. */
export function checkRun(history: RunHistory): Violation[] {
  return [
    ...checkOwnership(history),
    ...checkStorage(history),
    ...checkStates(history),
    ...checkHops(history),
    ...checkWireResets(history),
  ];
}

/** Raw watchers count resets themselves; those of the others are counted with their hops. */
function checkWireResets({ header, entries }: RunHistory): Violation[] {
  if (header.mayReset) return [];
  const wire = new Set(header.watchers.filter(({ kind }) => kind === 'wire').map(({ id }) => id));
  return entries.flatMap((entry) =>
    entry.kind === 'reset' && wire.has(entry.watcher)
      ? [
          {
            counter: 'unexpectedResets' as const,
            check: 'reset',
            subject: entry.watcher,
            detail: entry.reason,
          },
        ]
      : [],
  );
}

export function emptyTally(): Tally {
  const zeros = Object.fromEntries(COUNTERS.map((counter) => [counter, 0])) as Record<Counter, number>;
  return { runs: 0, changes: 0, resumes: 0, ...zeros };
}

export function count(tally: Tally, { entries }: RunHistory, violations: readonly Violation[]): void {
  tally.runs += 1;
  tally.changes += new Truth(entries).events.filter(({ before, after }) => !sameState(before, after)).length;
  tally.resumes += entries.filter(({ kind }) => kind === 'resumed').length;
  for (const { counter } of violations) tally[counter] += 1;
}

export function isClean(tally: Tally): boolean {
  return COUNTERS.every((counter) => tally[counter] === 0);
}
