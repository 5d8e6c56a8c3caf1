import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemClock } from '@meshkit/crds/clock';
import { identify, isRunning, type ProcessIdentity } from './process-identity.ts';

/** A build from source on a slow machine is the longest that a holder works. */
const DEADLINE_MS = 60 * 60_000;
const POLL_MS = 500;

/**
 * Runs `work` while holding the lock file, so that two processes do not build the same thing at once. A lock
 * whose holder died is taken over. `onWait` is called once, with the holder's pid, when somebody else is at it.
 */
export async function withLock<T>(
  file: string,
  work: () => Promise<T>,
  options: { onWait: (pid: number) => void; signal?: AbortSignal; deadlineMs?: number },
): Promise<T> {
  const me = identify(process.pid);
  if (!me) throw new Error('cannot read the start time of this process');
  const deadline = performance.now() + (options.deadlineMs ?? DEADLINE_MS);
  let told = false;
  await mkdir(dirname(file), { recursive: true });
  for (;;) {
    options.signal?.throwIfAborted();
    const holder = await take(file, me);
    if (!holder) break;
    if (!isRunning(holder)) {
      await discard(file, holder);
      continue;
    }
    if (performance.now() > deadline) throw new Error(`process ${holder.pid} has held ${file} for too long`);
    if (!told) options.onWait(holder.pid);
    told = true;
    await systemClock.sleep(POLL_MS, options.signal);
  }
  try {
    return await work();
  } finally {
    await rm(file, { force: true });
  }
}

/** Takes the lock, or says who has it. The file appears complete: it is written under another name and linked. */
async function take(file: string, me: ProcessIdentity): Promise<ProcessIdentity | undefined> {
  const draft = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  await writeFile(draft, JSON.stringify(me));
  try {
    await link(draft, file);
    return undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    // Gone in the meantime reads as a dead holder: the next round finds out.
    return (await readHolder(file)) ?? { pid: 0, startedAt: '' };
  } finally {
    await rm(draft, { force: true });
  }
}

/** Removes the lock of a dead holder, unless somebody else has already done that and taken it. */
async function discard(file: string, dead: ProcessIdentity): Promise<void> {
  const aside = `${file}.stale.${process.pid}`;
  try {
    await rename(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  const found = await readHolder(aside);
  if (found && found.pid !== dead.pid) await link(aside, file);
  await rm(aside, { force: true });
}

async function readHolder(file: string): Promise<ProcessIdentity | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as ProcessIdentity;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
