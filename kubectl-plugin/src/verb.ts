import type { Option } from 'commander';
import type { FlagGroup, Flags } from './flags.ts';
import type { Format } from './format.ts';
import type { Surroundings } from './surroundings.ts';

/** What a verb is called with. */
export interface Call<Own = object> {
  flags: Flags & Own;
  format: Format;
  around: Surroundings;
  /** `kubectl mesh shards`, as it was called: for commands that it suggests. */
  program: string;
}

/** What a verb does: options to a view model by a source, the model to output. Resolves with the exit code. */
export type Work<Own> = (call: Call<Own>, ...names: string[]) => Promise<number>;

/** One verb, as help, completion and docs/cli.md tell of it. What it does is loaded when it is asked to. */
export interface Verb<Own = object> {
  /** `auth can-i`: the words after `shards`. */
  words: string;
  alias?: string;
  summary: string;
  /** Further lines of its help. */
  more?: string;
  /** `<name>` and what it is. */
  arguments?: readonly (readonly [name: string, description: string, choices?: readonly string[]])[];
  heeds: readonly FlagGroup[];
  /** Those of them that mean something with -f as well; absent: all. */
  heedsWithFiles?: readonly FlagGroup[];
  /** Absent: all. */
  formats?: readonly Format[];
  /** Its own flags. */
  options?: () => Option[];
  /** Commands without the name of the program, and what they are for. */
  examples: readonly (readonly [command: string, purpose: string])[];
  load: () => Promise<Work<Own>>;
}
