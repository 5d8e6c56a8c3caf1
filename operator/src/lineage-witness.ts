import { SHARD_JOURNAL_HEADS, type ShardJournalHead } from '@meshkit/crds/journal-objects';
import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { reflect } from '@meshkit/crds/reflector';
import type { Clock } from '@meshkit/shards/clock';
import type { WrittenHead } from '@meshkit/shards/journal';
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
  /** History went back while this process looked on, and no new lineage has begun yet. */
  onRestore: () => void;
  /** What this process knows may be of a history that is gone. Called for each restore, however it was learned of. */
  onNewHistory: () => void;
}

/**
 * Remembers what a restored etcd has forgotten: how far the journal's head, which only ever goes on, had come. Runs in
 * leader and standby alike, so that whoever leads next knows. A restore is over once the head has a nonce that nobody
 * knew before it.
 */
export class LineageWitness {
  readonly #options: LineageWitnessOptions;
  /** What the watch has told, which may be behind what this process wrote itself. */
  readonly #told = new Sight();
  /** The newest of all, which a quorum read must not be behind. */
  readonly #known = new Sight();
  /** A restore was seen, and no new lineage has answered it yet. */
  #isLost = false;

  constructor(options: LineageWitnessOptions) {
    this.#options = options;
  }

  /** Follows the head until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { client, journal, clock, random, log } = this.#options;
    const fieldSelector = `metadata.name=${journal}`;
    const source = { client, resource: SHARD_JOURNAL_HEADS, fieldSelector, clock, random, log, signal };
    for await (const event of reflect<ShardJournalHead>(source)) {
      if (event.type === 'REPLACED') this.#tell(event.items[0]?.spec, event.resourceVersion);
      else if (event.type === 'BOOKMARK') this.#reach(event.resourceVersion);
      else if (event.type === 'DELETED') this.#forget();
      else this.#tell(event.object.spec, event.object.metadata.resourceVersion ?? '');
    }
  }

  /** The server is behind what this process knows. */
  restored(): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#options.log.warn({ journal: this.#options.journal }, 'history went back, etcd was restored');
    this.#options.onRestore();
    this.#options.onNewHistory();
  }

  /**
   * Whether the lineage of this head, or of a journal that is not there, has to be left. Both by quorum read: `newest` is
   * the server's newest version, read after the head.
   */
  renews(head: WrittenHead | undefined, newest: string): boolean {
    const { request } = this.#options;
    if (request !== undefined && !head?.requests?.includes(request)) return true;
    if (head && this.#known.isNews(head)) return false;
    return this.#isLost || this.#known.isAhead(head, newest);
  }

  /** This process wrote the head. `newest`: a version that the server had reached by then. */
  wrote(head: WrittenHead, renewedAt?: string): void {
    if (renewedAt !== undefined) {
      this.#isLost = false;
      this.#known.version = renewedAt;
    }
    this.#known.note(head);
  }

  #tell(head: WrittenHead | undefined, version: string): void {
    if (head && this.#told.isNews(head)) {
      this.#isLost = false;
      this.#options.onNewHistory();
    } else if (this.#told.isAhead(head, version)) this.restored();
    this.#told.version = version;
    if (!head) return;
    this.#told.note(head);
    if (!this.#known.isAhead(head, version)) this.#known.note(head);
    this.#reach(version);
  }

  #reach(version: string): void {
    this.#told.version = version;
    if (compareVersions(version, this.#known.version) > 0) this.#known.version = version;
  }

  /** Somebody deleted it: the next one begins anew. */
  #forget(): void {
    this.#told.forget();
    this.#known.forget();
  }
}

/** How far the head had come when it was last looked at. */
class Sight {
  version = '0';
  readonly #nonces = new Set<string>();
  #head: WrittenHead | undefined;

  /** It belongs to a lineage that began after everything that was seen. */
  isNews({ nonces }: WrittenHead): boolean {
    return this.#nonces.size > 0 && nonces.some((nonce) => !this.#nonces.has(nonce));
  }

  /** More was seen than there is. */
  isAhead(head: WrittenHead | undefined, version: string): boolean {
    if (compareVersions(version, this.version) < 0) return true;
    const known = this.#head;
    if (!known) return false;
    return (
      !head ||
      head.term < known.term ||
      (head.last?.sequence ?? 0) < (known.last?.sequence ?? 0) ||
      compareVersions(head.mark.position, known.mark.position) < 0
    );
  }

  note(head: WrittenHead): void {
    this.#head = head;
    for (const nonce of head.nonces) this.#nonces.add(nonce);
  }

  forget(): void {
    this.#head = undefined;
  }
}
