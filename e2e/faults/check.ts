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
    ...checkListings(history),
    ...checkLineage(history),
  ];
}

/** Why a wire watcher may be given a snapshot in the middle of its stream, without a reset. */
const HARMLESS = ['unsettled', 'snapshotInterrupted'];

/** A listing without a reset, in the middle of a stream. The client package's show in the hops that they leave out. */
function checkListings({ header, entries }: RunHistory): Violation[] {
  const violations: Violation[] = [];
  const wire = new Set(header.watchers.filter(({ kind }) => kind === 'wire').map(({ id }) => id));
  const begun = new Set<string>();
  for (const entry of entries) {
    if (!('watcher' in entry) || !wire.has(entry.watcher)) continue;
    if (entry.kind === 'reset') begun.delete(entry.watcher);
    if (entry.kind === 'mark' && entry.type === 'SYNCED') begun.add(entry.watcher);
    if (entry.kind !== 'begin' || !begun.has(entry.watcher) || HARMLESS.includes(entry.reason ?? ''))
      continue;
    const detail = `at ${entry.position}, without a reason`;
    violations.push({ counter: 'unexpectedResets', check: 'listedAgain', subject: entry.watcher, detail });
  }
  return violations;
}

/** After a restore a new lineage begins, and all API servers come to it: else every change of server ends in a reset. */
function checkLineage({ entries }: RunHistory): Violation[] {
  const detail = 'journal and API servers came to no new lineage';
  return entries
    .filter((entry) => entry.kind === 'renewed' && entry.lineage === undefined)
    .map(() => ({ counter: 'unexpectedResets', check: 'notRenewed', subject: 'product', detail }));
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

/** On average of one run; a campaign in which less happened shows nothing, whatever its counters say. */
const LEAST_PER_RUN = { changes: 10, resumes: 1 };

/** In words, what a whole campaign would have to have more of; empty when it had enough. */
export function shortfalls(tally: Tally): string[] {
  if (tally.runs === 0) return ['there was no run'];
  return (['changes', 'resumes'] as const).flatMap((name) => {
    const least = LEAST_PER_RUN[name] * tally.runs;
    return tally[name] < least ? [`${tally[name]} ${name} in ${tally.runs} runs, not ${least}`] : [];
  });
}
