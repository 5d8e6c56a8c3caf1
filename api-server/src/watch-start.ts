import type { Mark } from '@meshkit/shards/change';
import { ShardError } from '@meshkit/shards/errors';
import { compareVersions } from '@meshkit/shards/records';
import { openResumeToken, type ResumePoint } from '@meshkit/shards/resume-token';
import type { KnownShards, ResetReason, WatchRequest } from '@meshkit/shards/watch';
import type { JournalArchive, Replay } from './journal-archive.ts';
import type { Timeline } from './timeline.ts';

/** Where a stream begins. */
export type Start =
  | {
      kind: 'snapshot';
      reason?: ResetReason;
      reset: boolean;
      /** What the watcher has: it is told what differs from that. */
      known?: KnownShards;
    }
  /** With the change after that number of the ring. */
  | ({ kind: 'after'; number: number } & Resumed)
  /** With the change after a mark that this server has yet to reach. */
  | ({ kind: 'ahead' } & Resumed)
  /** With the change after a mark that only the journal knows. */
  | ({ kind: 'journal'; replay: Replay } & Resumed);

interface Resumed {
  /** What the watcher knows. */
  mark: Mark;
  /** It may have shards that no change to come will name: nobody knows what was there at the mark. */
  unsure: boolean;
  /** It was told of some of what came after the mark, up to this position. */
  beyond?: string;
}

export interface StartOptions {
  timeline: Timeline;
  journal: JournalArchive;
  lineage: () => string;
  /** The cluster's newest position, by a quorum read that began after the call. Rejects with `unavailable`. */
  newest: () => Promise<string>;
  /** Whether the timeline gets to a position soon. */
  waitFor: (position: string) => Promise<boolean>;
}

/**
 * Decides where a watch begins, so that nothing is missed and nothing comes twice. A token is continued only when this
 * server, or the journal, knows the same state at the token's position; whatever else it says is answered by a reset, or
 * an error if asked.
 */
export class WatchStart {
  readonly #options: StartOptions;
  /** The newest position that a quorum read gave, and the cut of history that it belongs to. */
  #newest = { position: '0', restarts: 0 };
  #reading: Promise<string> | undefined;

  constructor(options: StartOptions) {
    this.#options = options;
  }

  /** Throws `tokenInvalid`, `filterMismatch`; `tokenExpired` and `lineageChanged` under `fail`; `unavailable`. */
  async of({ filter, resumeToken, from, onExpired, known }: WatchRequest): Promise<Start> {
    const { timeline, journal, lineage } = this.#options;
    if (resumeToken === undefined) {
      if (from !== 'now') return { kind: 'snapshot', reset: false };
      return { kind: 'after', number: timeline.ring.last, mark: timeline.head, unsure: false };
    }
    const reset = (reason: ResetReason): Start => {
      if (onExpired === 'fail') throw cannotContinue(reason, timeline, journal);
      // In another history the same versions may stand for something else.
      const delta = onExpired === 'diff' && reason === 'expired' ? known : undefined;
      return { kind: 'snapshot', reason, reset: true, known: delta };
    };
    const token = openResumeToken(filter, resumeToken);
    if (token.lineage !== lineage()) return reset('lineageChanged');
    const mark = markOf(token);
    const { beyond } = token;
    const told =
      beyond !== undefined && compareVersions(beyond, token.position) > 0 ? beyond : token.position;
    if (compareVersions(told, timeline.position) > 0) {
      if (!(await this.#exists(told))) return reset('lineageChanged');
      // What was not a change of any shard may lie in between: the state is what counts.
      if (!token.snapshot && beyond === undefined && token.anchor === timeline.head.anchor) {
        return { kind: 'ahead', mark, unsure: false };
      }
      if (!(await this.#options.waitFor(told))) {
        // What was read before may have been taken back since, by a restore of which this server saw no trace.
        this.#newest = { position: '0', restarts: timeline.restarts };
        if (!(await this.#exists(told))) return reset('lineageChanged');
        throw new ShardError('unavailable', 'this server has not caught up with the token yet; try again', {
          reason: 'behindToken',
        });
      }
    }
    if (token.snapshot) return { kind: 'snapshot', reason: 'snapshotInterrupted', reset: false };
    const { restarts } = timeline;
    let found = timeline.find(mark);
    const replay = found === 'before' ? await journal.replay(mark) : undefined;
    if (found === 'other' || replay === 'other' || timeline.restarts !== restarts)
      return reset('lineageChanged');
    if (replay === 'behind') found = timeline.find(mark, true);
    if (typeof found === 'object') {
      // All that is known to be true at the token's point is also true at the newest, if nothing happened in between.
      const isNewest = found.exact && found.number === timeline.ring.last;
      const unsure = beyond !== undefined || !found.exact;
      return { kind: 'after', number: found.number, mark: isNewest ? timeline.head : mark, unsure, beyond };
    }
    if (typeof replay !== 'object') return reset('expired');
    return { kind: 'journal', replay, mark, unsure: beyond !== undefined || !replay.exact, beyond };
  }

  /** Whether the cluster ever was at that position; a token of the future is one of another history. */
  async #exists(position: string): Promise<boolean> {
    const { restarts } = this.#options.timeline;
    if (this.#newest.restarts !== restarts) this.#newest = { position: '0', restarts };
    // A read that was under way began before the question, so its answer counts only if it is yes.
    for (let reads = 0; reads < 2 && compareVersions(this.#newest.position, position) < 0; reads += 1) {
      this.#reading ??= this.#options.newest().finally(() => {
        this.#reading = undefined;
      });
      const found = await this.#reading;
      if (compareVersions(found, this.#newest.position) > 0) this.#newest = { position: found, restarts };
    }
    return compareVersions(this.#newest.position, position) >= 0;
  }
}

function markOf({ position, anchor }: ResumePoint): Mark {
  return { position, ordinal: 0, anchor };
}

/** What `onExpired: fail` asks for; `floor` and `head` say which positions could be resumed. */
export function cannotContinue(
  reason: ResetReason,
  { ring, position }: Timeline,
  { floor = ring.floor.position }: JournalArchive,
): ShardError {
  const details = { floor, head: position };
  return reason === 'expired'
    ? new ShardError(
        'tokenExpired',
        `the changes since are no longer known, only those after position ${floor}; start again without the token`,
        details,
      )
    : new ShardError(
        'lineageChanged',
        'the token is of another history (another cluster, or one that was restored since); start again without it',
        details,
      );
}
