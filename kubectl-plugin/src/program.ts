import { ERRORS, ShardError } from '@meshkit/shards/errors';
import { CommanderError } from 'commander';
import { build } from './command-line.ts';
import { complaint } from './complaint.ts';
import type { ConnectionFlags } from './connection.ts';
import { printable } from './printable.ts';
import type { Output, Surroundings } from './surroundings.ts';

/** Ctrl-C, as shells expect it: 128 + SIGINT. */
const INTERRUPTED = 130;
const USAGE = 2;
/** The name by which kubectl asks a plugin named `kubectl-mesh` for completions. */
const COMPLETER = 'kubectl_complete-mesh';

/**
 * Runs one command and returns the exit code, see docs/cli.md. `calledAs`: the file's name, `kubectl-mesh`, `omnirelay`, or
 * `kubectl_complete-mesh`, by which kubectl asks for completions.
 */
export async function run(
  calledAs: string,
  argv: readonly string[],
  surroundings: Surroundings,
): Promise<number> {
  const around = { ...surroundings, stderr: plainly(surroundings.stderr) };
  const asks = calledAs === COMPLETER ? argv : argv[0] === '__complete' ? argv.slice(1) : undefined;
  if (asks) {
    const { complete } = await import('./completion.ts');
    await complete(calledAs, asks, around);
    return 0;
  }
  const texts: Promise<void>[] = [];
  const outcome: { code: number; flags?: ConnectionFlags } = { code: 0 };
  const program = build(calledAs, around, {
    say: (output, text) => texts.push(output.write(text)),
    begin: (flags) => {
      outcome.flags = flags;
    },
    done: (code) => {
      outcome.code = code;
    },
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return around.signal.aborted ? INTERRUPTED : outcome.code;
  } catch (error) {
    if (around.signal.aborted) return INTERRUPTED;
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
    await around.stderr.write(complaint(error, around.env.MESHKIT_DEBUG !== undefined, outcome.flags));
    return error instanceof ShardError ? ERRORS[error.code].exit : ERRORS.internal.exit;
  } finally {
    await Promise.all(texts);
  }
}

/** Hints and errors are lines, in which others may have written: nothing of theirs but those lines counts. */
function plainly(output: Output): Output {
  return { ...output, write: (text) => output.write(text.split('\n').map(printable).join('\n')) };
}
