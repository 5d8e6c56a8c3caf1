import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { shortfalls, type Tally } from '../check.ts';
import { COUNTERS } from '../violation.ts';
import { BUGS } from './bugs.ts';

export interface HuntOptions {
  say: (line: string) => void;
  signal: AbortSignal;
  /** Names; absent: all of them. */
  bugs?: readonly string[];
}

const RUNS = 3;
const SEED = 5;
/** Campaigns with one bug; what a seed does not show, the next may. */
const ATTEMPTS = 2;
const PATIENCE_SECONDS = 8;

/**
 * Plants one bug after another, each in processes of its own, and runs a small campaign. A bug counts as caught when a counter that
 * has to be 0 is not; a campaign that fails in another way caught nothing. First, without any, everything has to be 0, and enough has
 * to happen: an oracle that always complains proves nothing, nor does one that has nothing to see.
 */
export async function huntPlanted({ say, signal, bugs }: HuntOptions) {
  const chosen = BUGS.filter(({ name }) => bugs === undefined || bugs.includes(name));
  const out = mkdtempSync(join(tmpdir(), 'meshkit-planted-'));
  try {
    const classes = [...new Set(chosen.map(({ faultClass }) => faultClass))];
    const clean = await campaign(
      ['--runs', String(classes.length * 2), ...classes.flatMap(classFlag)],
      out,
      signal,
    );
    const wrong = broken(clean.tally) ?? shortfalls(clean.tally)[0];
    if (wrong)
      throw new Error(
        `without a planted bug: ${wrong}; nothing is proven as long as that is so\n${clean.words}`,
      );
    let caught = 0;
    for (const { name, what, faultClass } of chosen) {
      let found: string | undefined;
      for (let attempt = 0; attempt < ATTEMPTS && found === undefined; attempt += 1) {
        const flags = ['--plant', name, '--runs', String(RUNS), '--seed', String(SEED + attempt)];
        found = broken((await campaign([...flags, ...classFlag(faultClass)], out, signal)).tally);
      }
      if (found !== undefined) caught += 1;
      say(`${found === undefined ? 'NOT CAUGHT' : 'caught'}  ${name}: ${what}${found ? ` (${found})` : ''}`);
    }
    return { planted: chosen.length, caught };
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

function classFlag(faultClass: string): string[] {
  return ['--class', faultClass];
}

/** The counters that are not 0, in words; undefined when all are. */
function broken(tally: Tally): string | undefined {
  const found = COUNTERS.filter((counter) => tally[counter] > 0).map(
    (counter) => `${counter} ${tally[counter]}`,
  );
  return found.length > 0 ? found.join(', ') : undefined;
}

/** The tally, and what was said meanwhile. Rejects when it comes to no result. */
async function campaign(
  flags: readonly string[],
  out: string,
  signal: AbortSignal,
): Promise<{ tally: Tally; words: string }> {
  signal.throwIfAborted();
  const main = join(import.meta.dirname, '..', 'main.ts');
  const fixed = ['--width', '3', '--patience', String(PATIENCE_SECONDS), '--out', out, '--json'];
  const child = spawn(process.execPath, [main, ...flags, ...fixed], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const [answer, words, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  if (code !== 0 && code !== 1) throw new Error(`the campaign ${flags.join(' ')} failed:\n${words}`);
  return { tally: JSON.parse(answer.trim().split('\n').at(-1) ?? '') as Tally, words };
}
