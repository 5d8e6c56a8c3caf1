import { ERRORS, ShardError } from '@meshkit/shards/errors';
import { Command, CommanderError } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { type Flags, withConnection, withFilters, withNamespace, withOutput } from './flags.ts';
import type { Surroundings } from './surroundings.ts';
import { getShard, listNodes, listShards } from './verbs.ts';

/** Ctrl-C, as shells expect it: 128 + SIGINT. */
const INTERRUPTED = 130;
const USAGE = 2;

/**
 * Runs one command and returns the exit code: 0 ok, 2 usage or validation, 3 authentication or scope, 4 not found,
 * 5 conflict, 6 unreachable or timeout, 130 interrupted; see docs/cli.md. `calledAs`: the file's name, kubectl-mesh or omnirelay.
 */
export async function run(calledAs: string, argv: readonly string[], around: Surroundings): Promise<number> {
  const texts: Promise<void>[] = [];
  const program = build(calledAs, around, (output, text) => texts.push(output.write(text)));
  try {
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (around.signal.aborted) return INTERRUPTED;
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
    await around.stderr.write(describe(error, around.env.MESHKIT_DEBUG !== undefined));
    return error instanceof ShardError ? ERRORS[error.code].exit : ERRORS.internal.exit;
  } finally {
    await Promise.all(texts);
  }
}

function build(
  calledAs: string,
  around: Surroundings,
  say: (output: Surroundings['stdout'], text: string) => void,
): Command {
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
  verb(shards, 'list', 'list shards with their owners')
    .alias('ls')
    .action((flags: Flags) => listShards(flags, around));
  verb(shards, 'get', 'show one shard', { filters: false })
    .argument('<name>', 'SHARDSET.SHARDID, such as orders.0042')
    .action((name: string, flags: Flags) => getShard(name, flags, around));
  verb(shards, 'nodes', 'list mesh nodes with the number of their shards', { filters: false })
    .option('-A, --all-namespaces', 'all namespaces')
    .action((flags: Flags) => listNodes(flags, around));
  shards
    .command('version')
    .description('print the version of this program')
    .action(() => around.stdout.write(`${manifest.version}\n`));
  return root;
}

function verb(parent: Command, name: string, description: string, { filters = true } = {}): Command {
  const command = parent.command(name).description(description);
  return withConnection(withOutput(filters ? withFilters(command) : withNamespace(command)));
}

/** What is wrong, and for a missing scope the two commands on lines of their own, ready to be copied. */
function describe(error: unknown, debug: boolean): string {
  if (!(error instanceof ShardError)) {
    const text = error instanceof Error ? (debug ? error.stack : error.message) : String(error);
    return `error: ${text} (this is a mistake in the program; MESHKIT_DEBUG=1 shows where)\n`;
  }
  const { scope, user, namespace, check, grant } = error.details;
  if (error.code !== 'scopeMissing' || typeof check !== 'string') return `error: ${error.message}\n`;
  const where = namespace === '' ? 'all namespaces' : `namespace ${namespace}`;
  const lines = [`error: missing scope ${scope} in ${where} for user ${user}`];
  if (namespace === '') lines.push('  narrow it:    -n NAMESPACE, one that you may read');
  lines.push(`  check it:     ${check}`, `  grant it:     ${grant}`);
  return `${lines.join('\n')}\n`;
}
