import { PHASES } from '@meshkit/shards/filter';
import type { Command, Option } from 'commander';
import { build } from './command-line.ts';
import { connect } from './connection.ts';
import type { Flags } from './flags.ts';
import { namespaceOf } from './flags.ts';
import type { Surroundings } from './surroundings.ts';

/** What a shell does with the candidates; cobra's numbers, because that is what kubectl speaks. */
const FILES = 0;
const NO_FILES = 4;

/** A shell waits for us at each press of a key. */
const PATIENCE_MS = 2_000;
const MOST = 1_000;

interface Candidates {
  words: readonly (string | readonly [word: string, description: string])[];
  directive: number;
}

const nothing: Candidates = { words: [], directive: NO_FILES };

/**
 * Answers `words`, of which the last is the one to complete, in cobra's form: a candidate a line, with a description after
 * a tab, then `:` and the directive. Never fails: a shell has no place for an error.
 */
export async function complete(
  calledAs: string,
  words: readonly string[],
  around: Surroundings,
): Promise<void> {
  const { words: found, directive } = await candidates(calledAs, words, around);
  const toComplete = words.at(-1) ?? '';
  // Of `--owner=no` the shell keeps the flag, and wants to know how the value goes on.
  const typed =
    toComplete.startsWith('--') && toComplete.includes('=') ? toComplete.replace(/^[^=]*=/, '') : toComplete;
  const lines = found
    .map((item): readonly [string, string] => (typeof item === 'string' ? [item, ''] : [item[0], item[1]]))
    .filter(([word]) => word.startsWith(typed))
    .map(([word, description]) => `${word}${description === '' ? '' : `\t${description}`}\n`);
  await around.stdout.write(`${lines.join('')}:${directive}\n`);
}

async function candidates(
  calledAs: string,
  words: readonly string[],
  around: Surroundings,
): Promise<Candidates> {
  const quiet = { say: () => undefined, done: () => undefined };
  const root = build(calledAs === 'omnirelay' ? 'omnirelay' : 'kubectl-mesh', around, quiet);
  const before = words.slice(0, -1);
  const toComplete = words.at(-1) ?? '';
  const { command, operands, pending } = walk(root, before);
  const [, flag] = /^(--[^=]+)=/.exec(toComplete) ?? [];
  const wanting = flag === undefined ? pending : optionOf(command, flag);
  // An option that waits for its value cannot be parsed.
  const complete = pending ? before.slice(0, -1) : before;
  if (wanting) return valuesOf(wanting, command, complete, around);
  if (toComplete.startsWith('-')) return { words: flagsOf(command), directive: NO_FILES };
  if (command.commands.length > 0) return { words: subcommandsOf(command), directive: NO_FILES };
  const argument = command.registeredArguments[operands];
  if (!argument) return nothing;
  if (argument.argChoices) return { words: argument.argChoices, directive: NO_FILES };
  return argument.name() === 'name' ? shardNames(command, before, around) : nothing;
}

/** The command that the words lead to, how many operands it has got, and the option that waits for its value. */
function walk(root: Command, words: readonly string[]) {
  let command = root;
  let operands = 0;
  let pending: Option | undefined;
  for (const word of words) {
    if (pending) {
      pending = undefined;
    } else if (word.startsWith('-')) {
      const option = word.includes('=') ? undefined : optionOf(command, word);
      pending = option?.required ? option : undefined;
    } else {
      const next = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
      if (next) command = next;
      else operands += 1;
    }
  }
  return { command, operands, pending };
}

function optionOf(command: Command, flag: string): Option | undefined {
  return command.options.find(({ short, long }) => flag === short || flag === long);
}

function flagsOf(command: Command) {
  return command.options
    .filter((option) => !option.hidden && option.long)
    .map((option) => [option.long as string, option.description] as const);
}

function subcommandsOf(command: Command) {
  return command.commands.map((one) => [one.name(), one.summary() || one.description()] as const);
}

async function valuesOf(
  option: Option,
  command: Command,
  before: readonly string[],
  around: Surroundings,
): Promise<Candidates> {
  if (option.argChoices) return { words: option.argChoices, directive: NO_FILES };
  switch (option.long) {
    case '--status':
      return { words: PHASES, directive: NO_FILES };
    case '--kubeconfig':
    case '--certificate-authority':
    case '--filename':
      return { words: [], directive: FILES };
    case '--namespace':
      return namespaces(command, before, around);
    case '--owner':
    case '--remove':
    case '--drain':
    case '--cordon':
    case '--weight':
      return asking(command, before, around, async ({ source, namespace, limits }) =>
        (await source.nodes(namespace, limits)).map(({ name }) => name),
      );
    case '--zone':
      return asking(command, before, around, async ({ source, namespace, limits }) =>
        (await source.nodes(namespace, limits)).flatMap(({ zone }) => zone ?? []),
      );
    case '--set':
      return asking(command, before, around, async (asked) =>
        (await shards(asked)).map(({ shardSet }) => shardSet),
      );
    default:
      return nothing;
  }
}

function shardNames(command: Command, before: readonly string[], around: Surroundings): Promise<Candidates> {
  return asking(command, before, around, async (asked) => (await shards(asked)).map(({ name }) => name));
}

/** Of those that own or hold shards: whoever may not list namespaces still completes what they see. */
function namespaces(command: Command, before: readonly string[], around: Surroundings): Promise<Candidates> {
  return asking(command, before, around, async ({ source, limits }) => {
    const found = await source.nodes(undefined, limits);
    const listed = await Array.fromAsync(source.pages({}, { ...limits, pageSize: MOST, limit: MOST }));
    return [...found, ...listed.flatMap(({ items }) => items)].map(({ namespace }) => namespace);
  });
}

interface Asked {
  source: Awaited<ReturnType<typeof connect>>['source'];
  namespace: string | undefined;
  limits: { signal: AbortSignal; timeoutMs: number };
}

async function shards({ source, namespace, limits }: Asked) {
  const pages = source.pages({ namespace }, { ...limits, pageSize: MOST, limit: MOST });
  return (await Array.fromAsync(pages)).flatMap(({ items }) => items);
}

async function asking(
  command: Command,
  before: readonly string[],
  around: Surroundings,
  ask: (asked: Asked) => Promise<readonly string[]>,
): Promise<Candidates> {
  const signal = AbortSignal.any([around.signal, AbortSignal.timeout(PATIENCE_MS)]);
  try {
    command.parseOptions([...before]);
    const words = await Promise.race([answer(command.opts<Flags>()), givenUp(signal)]);
    return { words: [...new Set(words)].sort(), directive: NO_FILES };
  } catch {
    // Whatever it is, the command itself will say it.
    return nothing;
  }

  async function answer(flags: Flags): Promise<readonly string[]> {
    const { source, namespace } = await connect(flags, unattended(around, signal));
    try {
      const limits = { signal, timeoutMs: flags.requestTimeout };
      return await ask({ source, namespace: namespaceOf(flags, namespace), limits });
    } finally {
      await source.close();
    }
  }
}

/** Not everything that is waited for heeds a signal. */
function givenUp(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  return promise;
}

/** Nobody reads what would be said on the side, nor answers a credential plugin, which ends with the signal. */
function unattended(around: Surroundings, signal: AbortSignal): Surroundings {
  return {
    ...around,
    stderr: { ...around.stderr, write: async () => undefined },
    connectKube: (options) => around.connectKube({ ...options, interactive: false, signal }),
    loadContext: (options) => around.loadContext({ ...options, interactive: false, signal }),
  };
}
