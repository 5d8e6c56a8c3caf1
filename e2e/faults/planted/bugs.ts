import type { FaultClass } from '../schedule.ts';

/** A bug that could have been ours, as one edit of one file. It exists only in processes that are told to load it so. */
export interface PlantedBug {
  name: string;
  /** What is wrong then. */
  what: string;
  /** From the project's root. */
  file: string;
  /** Has to be there exactly once. */
  find: string;
  replace: string;
  /** The runs in which it shows. */
  faultClass: FaultClass;
  runs: number;
}

export const BUGS: readonly PlantedBug[] = [];
