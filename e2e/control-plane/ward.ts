import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { identify, isRunning, type ProcessIdentity, signalProcess } from './process-identity.ts';

const PREFIX = 'meshkit-control-plane-';
const RECORD = 'processes.json';

interface Record {
  owner: ProcessIdentity;
  processes: ProcessIdentity[];
  /** Whether the folder was made by us and so is ours to remove. */
  temporary: boolean;
}

/**
 * The folder and the processes of one control plane, which must not outlive their starter. Three nets: `release`;
 * a guardian process that notices the starter's death; and, should both have been killed, a record in the folder
 * that the next start reads (`sweepLeftovers`).
 */
export class Ward {
  readonly folder: string;
  readonly #record: Record;
  readonly #guardian: ChildProcess;

  private constructor(folder: string, record: Record, guardian: ChildProcess) {
    this.folder = folder;
    this.#record = record;
    this.#guardian = guardian;
  }

  /** With `folder`, that one is used and kept; otherwise a temporary one. */
  static async create(folder?: string): Promise<Ward> {
    const owner = identify(process.pid);
    if (!owner) throw new Error('cannot read the start time of this process');
    const record: Record = { owner, processes: [], temporary: folder === undefined };
    const path = folder ?? (await mkdtemp(join(tmpdir(), PREFIX)));
    const guardian = spawn(process.execPath, [fileURLToPath(new URL('./guardian.ts', import.meta.url))], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    // It may be killed from outside; the record is the net below, so a broken pipe is no reason to fall.
    guardian.stdin?.on('error', () => guardian.stdin?.destroy());
    guardian.on('error', () => guardian.stdin?.destroy());
    guardian.unref();
    (guardian.stdin as unknown as { unref(): void }).unref();
    const ward = new Ward(path, record, guardian);
    await ward.#save();
    if (record.temporary) ward.#tell(`folder ${path}`);
    return ward;
  }

  /** Has to be called right after the process was started. */
  async add(server: { readonly pid?: number; readonly ended: Promise<unknown> }): Promise<void> {
    const { pid } = server;
    const identity = pid === undefined ? undefined : identify(pid);
    if (!identity) return;
    this.#tell(`+${identity.pid}`);
    this.#record.processes.push(identity);
    void server.ended.then(() => this.#tell(`-${identity.pid}`));
    await this.#save();
  }

  /** Call it when every process has ended: removes a temporary folder and lets the guardian go. */
  async release(): Promise<void> {
    if (this.#record.temporary) await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
    else await rm(join(this.folder, RECORD), { force: true });
    this.#tell('done');
    this.#guardian.stdin?.end();
  }

  #tell(line: string): void {
    if (this.#guardian.stdin?.writable) this.#guardian.stdin.write(`${line}\n`);
  }

  #save(): Promise<void> {
    return writeFile(join(this.folder, RECORD), JSON.stringify(this.#record), { mode: 0o600 });
  }
}

/** Ends what starters that were killed have left behind; returns a line for each thing done. */
export async function sweepLeftovers(parent: string = tmpdir()): Promise<string[]> {
  const done: string[] = [];
  for (const name of await readdir(parent)) {
    if (!name.startsWith(PREFIX)) continue;
    const folder = join(parent, name);
    const record = await readRecord(folder);
    if (!record || isRunning(record.owner)) continue;
    const killed = record.processes.filter((identity) => signalProcess(identity, 'SIGKILL')).length;
    if (record.temporary) await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    done.push(`cleaned up after a control plane whose starter was killed: ${killed} processes, ${folder}`);
  }
  return done;
}

/** Undefined when there is none, or when the folder is another user's. */
async function readRecord(folder: string): Promise<Record | undefined> {
  try {
    const { uid } = await stat(folder);
    if (uid !== process.getuid?.()) return undefined;
    return JSON.parse(await readFile(join(folder, RECORD), 'utf8')) as Record;
  } catch (error) {
    // Gone or half written: its starter is at work on it this very moment.
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Makes the folder that a control plane was told to use; throws when it has something in it. */
export async function requireEmpty(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const found = await readdir(folder);
  if (found.length > 0) throw new Error(`the folder for the control plane is not empty: ${folder}`);
}
