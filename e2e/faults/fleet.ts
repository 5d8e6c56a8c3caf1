import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Ward } from '../control-plane/ward.ts';
import { projectRoot } from '../start/child.ts';
import type { FleetNews, FleetOrder } from './fleet-messages.ts';

export type FleetListener = (news: FleetNews & { type: 'grant' | 'write' }) => void;

/** A process that plays nodes; see fleet-process.ts. It can be suspended, all its nodes with it. */
export class Fleet {
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;

  private constructor(process: ChildProcess) {
    this.#process = process;
    this.#ended = once(process, 'exit');
  }

  static async start(options: {
    name: string;
    folder: string;
    ward: Ward;
    nodeArguments: readonly string[];
    listener: FleetListener;
  }): Promise<Fleet> {
    const { name, folder, ward, nodeArguments, listener } = options;
    const log = openSync(join(folder, `${name}.log`), 'a');
    const child = spawn(process.execPath, [...nodeArguments, 'e2e/faults/fleet-process.ts'], {
      cwd: projectRoot,
      stdio: ['ignore', log, log, 'ipc'],
    });
    closeSync(log);
    const fleet = new Fleet(child);
    await ward.add({ pid: child.pid, ended: fleet.#ended });
    const ready = Promise.withResolvers<void>();
    child.on('message', (news: FleetNews) => {
      if (news.type === 'ready') ready.resolve();
      else listener(news);
    });
    void fleet.#ended.then(() => ready.reject(new Error(`${name} ended; see ${folder}/${name}.log`)));
    await ready.promise;
    return fleet;
  }

  send(order: FleetOrder): void {
    this.#process.send(order);
  }

  pause(): void {
    this.#process.kill('SIGSTOP');
  }

  resume(): void {
    this.#process.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }
}
