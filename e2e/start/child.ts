import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const projectRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** A process of the product, its output kept in a file. Whoever starts one stops it, by its own process id. */
export class Child {
  readonly name: string;
  readonly logFile: string;
  /** Resolves when the process is gone, whatever the reason. */
  readonly ended: Promise<void>;
  readonly #process: ChildProcess;

  private constructor(name: string, logFile: string, process: ChildProcess) {
    this.name = name;
    this.logFile = logFile;
    this.#process = process;
    this.ended = new Promise((resolve) => {
      process.once('exit', () => resolve());
      process.once('error', () => resolve());
    });
  }

  /** Runs a script of this project (path from its root) on the Node that runs us; `nodeArguments` are for Node itself. */
  static start(options: {
    name: string;
    script: string;
    args: readonly string[];
    folder: string;
    nodeArguments?: readonly string[];
  }): Child {
    const { nodeArguments = [], script, args } = options;
    const logFile = join(options.folder, `${options.name}.log`);
    const output = openSync(logFile, 'a');
    const child = spawn(process.execPath, [...nodeArguments, script, ...args], {
      cwd: projectRoot,
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    return new Child(options.name, logFile, child);
  }

  /** Throws when it could not be started. */
  get pid(): number {
    if (this.#process.pid === undefined) throw new Error(`${this.name} did not start`);
    return this.#process.pid;
  }

  get running(): boolean {
    return (
      this.#process.exitCode === null && this.#process.signalCode === null && this.#process.pid !== undefined
    );
  }

  kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    return this.ended;
  }

  /** Stands still, as a suspended machine does, until `resume`. */
  pause(): void {
    this.#process.kill('SIGSTOP');
  }

  resume(): void {
    this.#process.kill('SIGCONT');
  }

  /** SIGTERM, and SIGKILL after `deadlineMs`. */
  async stop(deadlineMs = 10_000): Promise<void> {
    if (!this.running) return;
    this.#process.kill('SIGTERM');
    await Promise.race([this.ended, sleep(deadlineMs, undefined, { ref: false })]);
    if (this.running) await this.kill();
  }

  /** The last lines it wrote, for an error message. */
  tail(lines = 12): string {
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  /** Waits until `url` answers 200. Rejects when the process exits first, or after `deadlineMs`. */
  async ready(url: string, signal: AbortSignal, deadlineMs = 30_000): Promise<void> {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
    let last = 'no answer';
    while (this.running && !deadline.aborted) {
      try {
        const answer = await fetch(url, { signal: deadline });
        last = `${answer.status} ${(await answer.text()).slice(0, 300)}`;
        if (answer.status === 200) return;
      } catch (error) {
        last = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
      }
      await sleep(50);
    }
    signal.throwIfAborted();
    const what = this.running ? `not ready within ${deadlineMs / 1000} s (${last})` : 'exited';
    throw new Error(`${this.name} ${what}; its last lines:\n${this.tail()}`);
  }
}

/** A TCP port on loopback that is free now: the preferred one if it is. Another process may take it first. */
export function freePort(preferred = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error) => (preferred === 0 ? reject(error) : resolve(freePort())));
    probe.listen(preferred, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
