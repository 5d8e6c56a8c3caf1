/** The counters that have to be 0. */
export const COUNTERS = [
  'missed',
  'duplicated',
  'outOfOrder',
  'twoOwners',
  'staleWritesAccepted',
  'unexpectedResets',
  'coalescedUnexpected',
] as const;

export type Counter = (typeof COUNTERS)[number];

/** A promise that did not hold. */
export interface Violation {
  counter: Counter;
  /** The name of the check. */
  check: string;
  /** A watcher, a node or a shard. */
  subject: string;
  detail: string;
}
