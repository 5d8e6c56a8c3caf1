import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { shortfalls, type Tally } from '../check.ts';
import type { FaultClass } from '../schedule.ts';
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
const ATTEMPTS = 4;
const PATIENCE_SECONDS = 8;
/** Side by side. */
const WIDTH = 3;

/**
 * Plants one bug after another, each in processes of its own, and runs a small campaign. A bug counts as caught when a counter that
 * has to be 0 is not, or the one that the bug names; a campaign that fails in another way caught nothing. First, without any, everything
 * has to be 0, and enough has to happen: an oracle that always complains proves nothing, nor does one that has nothing to see.
 */
export async function huntPlanted({ say, signal, bugs }: HuntOptions) {
  const chosen = BUGS.filter(({ name }) => bugs === undefined || bugs.includes(name));
  const out = mkdtempSync(join(tmpdir(), 'meshkit-planted-'));
  try {
    const classes = [...new Set(chosen.map(({ faultClass }) => faultClass))];
    for (const some of [classes.filter((name) => !isReal(name)), classes.filter(isReal)]) {
      if (some.length === 0) continue;
      const clean = await campaign(['--runs', String(some.length * 2), ...classFlags(some)], out, signal);
      const wrong = broken(clean.tally) ?? shortfalls(clean.tally)[0];
      if (wrong)
        throw new Error(
          `without a planted bug: ${wrong}; nothing is proven as long as that is so\n${clean.words}`,
        );
    }
    let caught = 0;
    for (const { name, what, faultClass, by, alone } of chosen) {
      let found: string | undefined;
      let isCaught = false;
      for (let attempt = 0; attempt < ATTEMPTS && !isCaught; attempt += 1) {
        const flags = ['--plant', name, '--runs', String(RUNS), '--seed', String(SEED + attempt)];
        if (alone) flags.push('--width', '1');
        const { tally } = await campaign([...flags, ...classFlags([faultClass])], out, signal);
        found = broken(tally);
        isCaught = by === undefined ? found !== undefined : tally[by] > 0;
      }
      if (isCaught) caught += 1;
      say(`${isCaught ? 'caught' : 'NOT CAUGHT'}  ${name}: ${what}${found ? ` (${found})` : ''}`);
    }
    return { planted: chosen.length, caught };
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** Only a real etcd can be restored. */
function isReal(faultClass: FaultClass): boolean {
  return faultClass === 'restore';
}

function classFlags(classes: readonly FaultClass[]): string[] {
  const plane = classes.some(isReal) ? 'real' : 'embedded';
  return ['--control-plane', plane, ...classes.flatMap((name) => ['--class', name])];
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
  const usual = ['--width', String(WIDTH), '--patience', String(PATIENCE_SECONDS), '--out', out, '--json'];
  // The last word of a flag counts.
  const child = spawn(process.execPath, [main, ...usual, ...flags], {
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
