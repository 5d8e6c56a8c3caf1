import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import { compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { JournalArchive } from './journal-archive.ts';
import type { Timeline } from './timeline.ts';

/** How long a server that starts waits for the journal's newest changes, which are written at most 1 s late. */
const WAIT_MS = 2_500;
const LOOK_AGAIN_MS = 100;

interface PastOptions {
  clock: Pick<Clock, 'sleep' | 'monotonic'>;
  log: Log;
}

/**
 * What a server that starts takes from the journal: the state at its head, before the first list, and what came after
 * it, up to that list. What is missing even then is found out by comparing, and its states in between stay unknown.
 */
export class JournalPast {
  readonly #archive: JournalArchive;
  readonly #timeline: Timeline;
  readonly #options: PastOptions;
  #begun = false;

  constructor(archive: JournalArchive, timeline: Timeline, options: PastOptions) {
    this.#archive = archive;
    this.#timeline = timeline;
    this.#options = options;
  }

  /** Without a journal, or one that cannot be read, history begins with the list. */
  async begin(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    try {
      const found = await this.#archive.newest(signal);
      if (!found) return;
      this.#begun = this.#timeline.seed(found);
      if (this.#begun) log.info({ position: found.mark.position }, 'took up the journal');
      else log.error({ position: found.mark.position }, 'the journal contradicts itself');
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error }, 'cannot read the journal; history begins now');
    }
  }

  /** Before the first list is applied. */
  async reach(items: readonly ShardAssignment[], position: string, signal: AbortSignal): Promise<void> {
    if (!this.#begun) return;
    this.#begun = false;
    const anchor = this.#timeline.anchorOf(items);
    try {
      if (this.#timeline.head.anchor !== anchor) await this.#wait(anchor, position, signal);
      if (this.#timeline.head.anchor !== anchor) await this.#extend(position);
    } catch (error) {
      if (!signal.aborted)
        this.#options.log.warn({ err: error }, 'cannot read the newest part of the journal');
    }
  }

  /** Until the journal has the list's state, or is beyond it. */
  async #wait(anchor: string, position: string, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const until = clock.monotonic() + WAIT_MS;
    while (!signal.aborted && clock.monotonic() < until) {
      const head = await this.#archive.head(signal);
      if (!head || head.mark.anchor === anchor || compareVersions(head.mark.position, position) >= 0) return;
      await clock.sleep(LOOK_AGAIN_MS, signal);
    }
  }

  async #extend(position: string): Promise<void> {
    const replay = await this.#archive.replay(this.#timeline.head);
    if (replay === 'expired' || replay === 'other') return;
    for (;;) {
      const piece = await replay.next();
      if (piece === undefined || piece === 'expired') return;
      this.#timeline.extend(piece, position);
      if (compareVersions(replay.mark.position, position) >= 0) return;
    }
  }
}
