import { constants } from 'node:os';
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';

/** Ends the program as a wrong command line should: one line with what is wrong and what is right, exit code 2. */
function wrong(usage: string, problem: string): never {
  process.stderr.write(`${problem}; usage: ${usage}\n`);
  process.exit(2);
}

/** The program's flags. */
export function flagsOf<const T extends ParseArgsOptionsConfig>(usage: string, options: T) {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return wrong(usage, message.split(/\. |\n/)[0] as string);
  }
}

/** A flag's number above 0. */
export function positive(usage: string, flag: string, text: string): number {
  const value = Number(text);
  return value > 0 && Number.isFinite(value) ? value : wrong(usage, `${flag} "${text}" is no number above 0`);
}

/** Aborts when somebody wants the program to end, by Ctrl-C say; the exit code then tells so, as shells do it. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(name, () => {
      process.exitCode = 128 + constants.signals[name];
      stop.abort(new Error(`stopped by ${name}`));
    });
  }
  return stop.signal;
}
