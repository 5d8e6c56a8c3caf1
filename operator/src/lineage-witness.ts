import type { JournalHeadSpec, ShardJournalHead } from '@meshkit/crds/journal-objects';
import { SHARD_JOURNAL_HEADS } from '@meshkit/crds/journal-objects';
import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { reflect } from '@meshkit/crds/reflector';
import type { Clock } from '@meshkit/shards/clock';
import { compareVersions } from '@meshkit/shards/records';

export interface LineageWitnessOptions {
  client: Pick<KubeClient, 'list' | 'watch'>;
  /** Of the journal's head. */
  journal: string;
  /** Given to `--new-lineage`: a person says that etcd was restored. */
  request?: string;
  clock: Clock;
  random: () => number;
  log: Log;
  /** History went back while this process looked on. */
  onRestore: () => void;
}

/**
 * Remembers what a restored etcd has forgotten: this process followed the journal's head up to some version, and when the
 * server's newest version is below it, positions mean something else from now on. Runs in leader and standby alike, so
 * that whoever leads next knows. A restore is over once the head has a nonce that nobody knew before it.
 */
export class LineageWitness {
  readonly #options: LineageWitnessOptions;
  readonly #known = new Set<string>();
  #version = '0';
  /** The nonces known when a restore was seen that no new lineage has answered yet. */
  #lost: ReadonlySet<string> | undefined;

  constructor(options: LineageWitnessOptions) {
    this.#options = options;
  }

  /** Follows the head until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { client, journal, clock, random, log } = this.#options;
    const fieldSelector = `metadata.name=${journal}`;
    const source = { client, resource: SHARD_JOURNAL_HEADS, fieldSelector, clock, random, log, signal };
    for await (const event of reflect<ShardJournalHead>(source)) {
      if (event.type === 'REPLACED') {
        if (compareVersions(event.resourceVersion, this.#version) < 0) this.restored();
        this.#version = event.resourceVersion;
        for (const head of event.items) this.#note(head.spec);
      } else if (event.type === 'BOOKMARK') this.#version = event.resourceVersion;
      else {
        this.#version = event.object.metadata.resourceVersion ?? this.#version;
        if (event.type !== 'DELETED') this.#note(event.object.spec);
      }
    }
  }

  /** The server's newest version is below one that this process has seen. */
  restored(): void {
    this.#lost = new Set(this.#known);
    this.#options.onRestore();
  }

  /** Whether the lineage of this head, or of a journal that is not there, has to be left. */
  renews(head: JournalHeadSpec | undefined): boolean {
    const { request } = this.#options;
    if (request !== undefined && !head?.requests?.includes(request)) return true;
    return this.#lost !== undefined && (head?.nonces ?? []).every((nonce) => this.#lost?.has(nonce));
  }

  /** This process has taken over, and perhaps renewed: what it wrote is known, and the history that it is part of. */
  tookOver(spec: JournalHeadSpec, newest: string): void {
    this.#note(spec);
    if (compareVersions(newest, this.#version) < 0) this.#version = newest;
  }

  #note({ nonces }: JournalHeadSpec): void {
    if (this.#lost && nonces.some((nonce) => !this.#lost?.has(nonce))) this.#lost = undefined;
    for (const nonce of nonces) this.#known.add(nonce);
  }
}
