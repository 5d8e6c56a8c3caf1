import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Command, Commands } from './generator.ts';

const SCRIPT = fileURLToPath(new URL('./generator.ts', import.meta.url));
const ANSWER_WITHIN_MS = 180_000;

/** A load generator in a process of its own, so that its cost is nobody else's. Asked one thing at a time. */
export class GeneratorProcess {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(SCRIPT, { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  }

  async ask<C extends Command>(command: C, ask: Commands[C]['ask']): Promise<Commands[C]['answer']> {
    const { promise, resolve, reject } = Promise.withResolvers<Commands[C]['answer']>();
    const timer = setTimeout(
      () =>
        reject(
          new Error(`a load generator did not answer "${command}" within ${ANSWER_WITHIN_MS / 1_000} s`),
        ),
      ANSWER_WITHIN_MS,
    );
    const heard = ({ answer, error }: { answer: Commands[C]['answer']; error?: string }): void =>
      error === undefined ? resolve(answer) : reject(new Error(error));
    const gone = (): void => reject(new Error('a load generator ended by itself'));
    this.#child.once('message', heard);
    this.#child.once('exit', gone);
    this.#child.send({ command, ask });
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#child.off('message', heard);
      this.#child.off('exit', gone);
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await exited;
  }
}
