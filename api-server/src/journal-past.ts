import { Backoff } from '@meshkit/crds/backoff';
import { isDamage } from '@meshkit/crds/journal-codec';
import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { JournalArchive } from './journal-archive.ts';
import type { Timeline } from './timeline.ts';

/** How long a server that starts waits for the journal's newest changes, which are written at most 1 s late. */
const WAIT_MS = 2_500;
const LOOK_AGAIN_MS = 100;
/** So often a journal is asked for that does not answer although kube-apiserver does: it may not keep a server from serving. */
const TRIES = 5;
const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 5_000;

interface PastOptions {
  clock: Pick<Clock, 'sleep' | 'monotonic'>;
  random: () => number;
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

  /**
   * Without a journal, or one that cannot be read, history begins with the list. `server` resolves when kube-apiserver
   * answers: while it is away the list cannot come either, and nothing is lost by waiting.
   */
  async begin(server: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#options;
    const backoff = new Backoff({ baseMs: FIRST_WAIT_MS, capMs: LONGEST_WAIT_MS, random });
    while (!signal.aborted) {
      try {
        await this.#takeUp(signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        const waitMs = backoff.next();
        if (!isPassing(error) || backoff.failures >= TRIES) {
          log.warn({ err: error }, 'cannot read the journal; history begins now');
          return;
        }
        log.info({ err: error, waitMs }, 'cannot read the journal yet');
        await clock.sleep(waitMs, signal).catch(() => undefined);
        await server();
      }
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

  async #takeUp(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    const found = await this.#archive.newest(signal);
    if (!found) return;
    this.#begun = this.#timeline.seed(found);
    if (this.#begun) log.info({ position: found.mark.position }, 'took up the journal');
    else log.error({ position: found.mark.position }, 'the journal contradicts itself');
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
    if (typeof replay === 'string') return;
    for (;;) {
      const piece = await replay.next();
      if (piece === undefined || piece === 'expired') return;
      this.#timeline.extend(piece, position);
      if (compareVersions(replay.mark.position, position) >= 0) return;
    }
  }
}

/** Neither is a journal that is damaged, or not there for us, another one a moment later. */
function isPassing(error: unknown): boolean {
  if (!(error instanceof ShardError) || error.code !== 'unavailable') return false;
  return !isDamage(error) && error.details.reason !== 'noJournal';
}
