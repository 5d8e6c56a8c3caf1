import type { Surroundings } from './surroundings.ts';

const PATIENCE_MS = 1_000;

/** Tells a person at a terminal what takes so long, once, when it takes longer than a second. */
export async function withProgress<T>(
  what: string,
  { stderr, clock }: Pick<Surroundings, 'stderr' | 'clock'>,
  work: Promise<T>,
): Promise<T> {
  if (stderr.width === undefined) return work;
  const done = new AbortController();
  const telling = tell();
  try {
    return await work;
  } finally {
    done.abort();
    await telling;
  }

  async function tell(): Promise<void> {
    try {
      await clock.sleep(PATIENCE_MS, done.signal);
      await stderr.write(`${what} …\n`);
    } catch (error) {
      if (!done.signal.aborted) throw error;
    }
  }
}
