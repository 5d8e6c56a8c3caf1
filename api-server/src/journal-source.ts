import { Informer } from '@meshkit/crds/informer';
import { JOURNAL_NAME, SHARD_JOURNAL_HEADS, type ShardJournalHead } from '@meshkit/crds/journal-objects';
import { journalHead, KubernetesJournal } from '@meshkit/crds/journal-reader';
import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import type { JournalHead, JournalReader } from '@meshkit/shards/journal';
import { Counter, Gauge, type Registry } from 'prom-client';

export interface JournalSourceOptions {
  client: Pick<KubeClient, 'get' | 'list' | 'watch'>;
  clock: Clock;
  random: () => number;
  log: Log;
  registry: Registry;
}

/** A journal, and the way to hear of its head. */
export interface JournalSource {
  reader: JournalReader;
  /** Tells each head until aborted; resolves then. */
  follow(told: (head: JournalHead) => void, signal: AbortSignal): Promise<void>;
}

/** The journal that the operator keeps in the cluster itself. */
export class KubernetesJournalSource implements JournalSource {
  readonly reader: JournalReader;
  readonly #heads: Informer<ShardJournalHead>;

  constructor(options: JournalSourceOptions) {
    const { client, registry } = options;
    const registers = [registry];
    const damaged = new Counter({
      name: 'meshkit_journal_damaged_total',
      help: 'How often a segment of the journal was met that is missing or damaged: tokens from before it get a reset.',
      registers,
    });
    this.reader = new KubernetesJournal({ client, onDamage: () => damaged.inc() });
    const fieldSelector = `metadata.name=${JOURNAL_NAME}`;
    this.#heads = new Informer({ ...options, resource: SHARD_JOURNAL_HEADS, fieldSelector });
    const heads = this.#heads;
    new Gauge({
      name: 'meshkit_journal_followed',
      help: '1 while the head of the journal is followed; 0: tokens that are older than the ring may get a reset.',
      registers,
      collect() {
        this.set(heads.state.connected && heads.list().length > 0 ? 1 : 0);
      },
    });
  }

  async follow(told: (head: JournalHead) => void, signal: AbortSignal): Promise<void> {
    const stop = this.#heads.onChange(({ type, object }) => {
      // Who deletes the head deletes the journal; the next one says what comes of it.
      if (type !== 'DELETED') told(journalHead(object));
    });
    try {
      await this.#heads.run(signal);
    } finally {
      stop();
    }
  }
}
