import { Argument, Command } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { type Flags, formatOf, withFlags } from './flags.ts';
import { SHELLS, type Shell, shellScript } from './shell-script.ts';
import type { Surroundings } from './surroundings.ts';
import type { Verb } from './verb.ts';
import { VERBS } from './verbs.ts';

interface Outlet {
  say: (output: Surroundings['stdout'], text: string) => void;
  /** What a verb is called with, before it does anything. */
  begin?: (flags: Flags) => void;
  done: (code: number) => void;
}

/** The whole command line; also what completion and docs are made from. */
export function build(calledAs: string, around: Surroundings, outlet: Outlet): Command {
  const { say } = outlet;
  const { stdout, stderr } = around;
  const root = new Command(calledAs === 'omnirelay' ? 'omnirelay' : 'kubectl mesh');
  // Before the first subcommand: they inherit it when they are made.
  root.exitOverride().configureOutput({
    writeOut: (text) => say(stdout, text),
    writeErr: (text) => say(stderr, text),
    getOutHelpWidth: () => stdout.width ?? 100,
    getErrHelpWidth: () => stderr.width ?? 100,
    getOutHasColors: () => stdout.color,
    getErrHasColors: () => stderr.color,
  });
  root.description('Who owns which shard, and why.').version(manifest.version, '--version');
  const mesh = calledAs === 'omnirelay' ? root.command('mesh').description('MeshKit') : root;
  const shards = mesh.command('shards').description('shards of a mesh: owners, moves, nodes');
  for (const verb of VERBS) addVerb(shards, verb as Verb, around, outlet);
  // Not inherited by the verbs any more, which know their flags.
  for (const group of [root, mesh, shards]) group.configureOutput({ outputError: flagsComeLast });
  if (calledAs === 'omnirelay') addCompletion(root, around);
  return root;
}

function flagsComeLast(text: string, write: (text: string) => void): void {
  write(/^error: unknown option/.test(text) ? `${text.trimEnd()}; flags come after the verb\n` : text);
}

function addVerb(shards: Command, verb: Verb, around: Surroundings, { begin, done }: Outlet): void {
  const { words, alias, summary, more, examples, load } = verb;
  const [name = '', sub] = words.split(' ');
  const parent = sub === undefined ? shards : groupOf(shards, name);
  const command = parent
    .command(sub ?? name)
    .description(more === undefined ? summary : `${summary}\n\n${more}`);
  command.summary(summary);
  if (alias !== undefined) command.alias(alias);
  for (const [argument, description, choices] of verb.arguments ?? []) {
    const described = new Argument(argument, description);
    command.addArgument(choices === undefined ? described : described.choices([...choices]));
  }
  for (const option of verb.options?.() ?? []) {
    option.helpGroup(`Of ${words}:`);
    command.addOption(option);
  }
  withFlags(command, verb);
  const program = programName(command);
  const lines = examples.map(([line, purpose]) => `  ${program} ${line}\n      ${purpose}`);
  command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
  command.action(async (...given: unknown[]) => {
    const names = given.slice(0, -2) as string[];
    const flags = given.at(-2) as Flags;
    begin?.(flags);
    const format = formatOf(flags);
    const work = await load();
    done(await work({ flags, format, around, program }, ...names));
  });
}

/** kubectl has its own `completion`, which asks us. */
function addCompletion(root: Command, { stdout }: Surroundings): void {
  root
    .command('completion')
    .description('print a script by which a shell completes this program')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .action((shell: Shell) => stdout.write(shellScript(shell, root.name())));
}

function groupOf(shards: Command, name: string): Command {
  const known = shards.commands.find((command) => command.name() === name);
  return known ?? shards.command(name).description('who you are, and what you may do');
}

/** `kubectl mesh shards`, as it was called. */
function programName(command: Command): string {
  const names: string[] = [];
  for (let at: Command | null = command.parent; at; at = at.parent) names.unshift(at.name());
  return names.filter((name) => name !== 'auth').join(' ');
}
