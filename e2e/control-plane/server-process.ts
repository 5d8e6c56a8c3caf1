import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** How much of a log an error message shows. */
const TAIL_BYTES = 4_000;
const TAIL_LINES = 12;

/** How a server ended: `exit code 1`, `signal SIGKILL`, or why it could not be started. */
export type Ending = string;

/** One server of the control plane: its output goes to a file, so nothing is buffered here. */
export class ServerProcess {
  readonly name: string;
  readonly logFile: string;
  /** Settles once, when the process has ended; never rejects. */
  readonly ended: Promise<Ending>;
  readonly #child: ChildProcess;
  #running = true;
  #stopping = false;

  /** In a process group of its own, so that Ctrl-C in a terminal reaches the starter alone and the order of stopping is ours. */
  constructor(options: {
    name: string;
    binary: string;
    args: readonly string[];
    logFile: string;
    cwd: string;
  }) {
    this.name = options.name;
    this.logFile = options.logFile;
    const log = openSync(options.logFile, 'a', 0o600);
    try {
      this.#child = spawn(options.binary, options.args, {
        cwd: options.cwd,
        stdio: ['ignore', log, log],
        detached: true,
        env: { PATH: '/usr/bin:/bin', HOME: options.cwd },
      });
    } finally {
      closeSync(log);
    }
    this.ended = new Promise((resolve) => {
      const settle = (ending: Ending) => {
        this.#running = false;
        resolve(ending);
      };
      this.#child.once('error', (error) => settle(`could not be started: ${error.message}`));
      this.#child.once('exit', (code, signal) => settle(signal ? `signal ${signal}` : `exit code ${code}`));
    });
  }

  /** Undefined when it could not even be spawned. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  get running(): boolean {
    return this.#running;
  }

  /** Whether `stop` was called: an end after that is no surprise. */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** SIGTERM, then SIGKILL after `graceMs` (0: at once). Resolves when the process is gone. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    if (graceMs > 0) {
      this.#child.kill('SIGTERM');
      await Promise.race([this.ended, sleep(graceMs, undefined, { ref: false })]);
    }
    if (this.#running) this.#child.kill('SIGKILL');
    await this.ended;
  }

  /** The last lines of its log, for error messages. */
  async tail(): Promise<string> {
    const file = await open(this.logFile, 'r');
    try {
      const { size } = await file.stat();
      const start = Math.max(0, size - TAIL_BYTES);
      const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(TAIL_BYTES), position: start });
      const lines = buffer.toString('utf8', 0, bytesRead).trimEnd().split('\n');
      return lines.slice(-TAIL_LINES).join('\n');
    } finally {
      await file.close();
    }
  }
}
