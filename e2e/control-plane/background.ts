import { spawn } from 'node:child_process';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { type ControlPlane, type ControlPlaneKind, planeFiles } from './control-plane.ts';
import { identify, isRunning, signalProcess } from './process-identity.ts';

/** A minute for the plane itself, the rest for a download. */
const START_DEADLINE_MS = 5 * 60_000;
const STOP_DEADLINE_MS = 10_000;
const POLL_MS = 50;

/** What the state file says about the control plane that runs in the background. */
const State = z.object({
  owner: z.object({ pid: z.int(), startedAt: z.string() }),
  kind: z.enum(['real', 'embedded']),
  version: z.string(),
  url: z.string(),
  folder: z.string(),
  kubeconfig: z.string(),
});
export type BackgroundPlane = z.infer<typeof State>;

/** What the background process tells the one that waits for it, over Node's IPC channel. */
type Message = { line: string } | { ready: BackgroundPlane } | { failed: string };

/** The plane of the state file, if its process still runs. */
export async function runningPlane(stateFile: string): Promise<BackgroundPlane | undefined> {
  const text = await readFile(stateFile, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  const state = text === undefined ? undefined : State.safeParse(JSON.parse(text)).data;
  return state && isRunning(state.owner) ? state : undefined;
}

/** Starts a process that holds a control plane until it is told to stop; resolves when the plane is ready. */
export function startInBackground(options: {
  kind: ControlPlaneKind;
  version?: string;
  log: (line: string) => void;
}): Promise<BackgroundPlane> {
  const main = fileURLToPath(new URL('./main.ts', import.meta.url));
  const version = options.version ? ['--version', options.version] : [];
  const child = spawn(process.execPath, [main, 'hold', '--control-plane', options.kind, ...version], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  return new Promise((resolve, reject) => {
    const fail = (reason: string) => {
      clearTimeout(deadline);
      child.kill('SIGTERM');
      reject(new Error(reason));
    };
    const deadline = setTimeout(
      () => fail(`not ready within ${START_DEADLINE_MS / 1000} s`),
      START_DEADLINE_MS,
    );
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code, signal) =>
      fail(`the background process ended early (${signal ?? `exit code ${code}`})`),
    );
    child.on('message', (message: Message) => {
      if ('line' in message) options.log(message.line);
      else if ('failed' in message) fail(message.failed);
      else {
        clearTimeout(deadline);
        child.removeAllListeners();
        child.disconnect();
        child.unref();
        resolve(message.ready);
      }
    });
  });
}

/** The background process itself: starts the plane, writes the state file, and stops all at SIGTERM. */
export async function holdPlane(options: {
  stateFile: string;
  start: (log: (line: string) => void, signal: AbortSignal) => Promise<ControlPlane>;
}): Promise<void> {
  const tell = (message: Message) => {
    if (process.connected) process.send?.(message);
  };
  const stop = new AbortController();
  const stopped = new Promise<void>((resolve) => stop.signal.addEventListener('abort', () => resolve()));
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort(new Error(name)));
  // Nobody is left to be told of a plane that is not ready yet, so it would be nobody's.
  const orphaned = () => stop.abort(new Error('the starter is gone'));
  process.once('disconnect', orphaned);
  // A listener holds the process open as long as the channel is; without this it ends when there is nothing to do.
  const alive = setInterval(() => undefined, 60_000);
  let plane: ControlPlane | undefined;
  try {
    plane = await options.start((line) => tell({ line }), stop.signal);
    const state = describe(plane);
    await writeState(options.stateFile, state);
    process.off('disconnect', orphaned);
    tell({ ready: state });
    await stopped;
  } catch (error) {
    tell({ failed: error instanceof Error ? error.message : String(error) });
  } finally {
    clearInterval(alive);
    await plane?.stop();
    if ((await runningPlane(options.stateFile))?.owner.pid === process.pid)
      await rm(options.stateFile, { force: true });
    if (process.connected) process.disconnect?.();
  }
}

/** Ends the plane's own process and with it the plane; resolves when it is gone. */
export async function stopInBackground(stateFile: string, plane: BackgroundPlane): Promise<void> {
  signalProcess(plane.owner, 'SIGTERM');
  const deadline = performance.now() + STOP_DEADLINE_MS;
  while (isRunning(plane.owner)) {
    // Its guardian cleans up when it has to be killed.
    if (performance.now() > deadline) signalProcess(plane.owner, 'SIGKILL');
    await sleep(POLL_MS);
  }
  await rm(stateFile, { force: true });
}

function describe(plane: ControlPlane): BackgroundPlane {
  const owner = identify(process.pid);
  if (!owner) throw new Error('cannot read the start time of this process');
  const { kind, version, url, folder } = plane;
  return { owner, kind, version, url, folder, kubeconfig: planeFiles(folder).adminKubeconfig };
}

async function writeState(stateFile: string, state: BackgroundPlane): Promise<void> {
  const draft = `${stateFile}.${process.pid}`;
  await writeFile(draft, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  await rename(draft, stateFile);
}
