import { comparePoints } from '@meshkit/shards/change';
import { ShardError } from '@meshkit/shards/errors';
import { compareVersions } from '@meshkit/shards/records';
import { openResumeToken, type ResumePoint } from '@meshkit/shards/resume-token';
import type { ResetReason, WatchRequest } from '@meshkit/shards/watch';
import type { Timeline } from './timeline.ts';
import { cannotContinue, type Start } from './watch-stream.ts';

export interface StartOptions {
  timeline: Timeline;
  lineage: () => string;
  /** The cluster's newest position, by a quorum read that began after the call. Rejects with `unavailable`. */
  newest: () => Promise<string>;
  /** Whether the timeline gets to a position soon. */
  waitFor: (position: string) => Promise<boolean>;
}

/**
 * Decides where a watch begins, so that nothing is missed and nothing comes twice. A token is continued only when this
 * server knows the same state at the token's point; whatever else it says is answered by a reset, or an error if asked.
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
  async of({ filter, resumeToken, from, onExpired }: WatchRequest): Promise<Start> {
    const { timeline, lineage } = this.#options;
    if (resumeToken === undefined) {
      if (from !== 'now') return { kind: 'snapshot', reset: false };
      return { kind: 'after', number: timeline.ring.last, mark: timeline.head };
    }
    const reset = (reason: ResetReason): Start => {
      if (onExpired === 'fail') throw cannotContinue(reason, timeline);
      return { kind: 'snapshot', reason, reset: true };
    };
    const token = openResumeToken(filter, resumeToken);
    if (token.lineage !== lineage()) return reset('lineageChanged');
    if (comparePoints(token, timeline.head) > 0) {
      if (!(await this.#exists(token.position))) return reset('lineageChanged');
      // What was not a change of any shard may lie in between: the state is what counts.
      if (!token.snapshot && token.anchor === timeline.head.anchor) return { kind: 'ahead', mark: token };
      if (!(await this.#options.waitFor(token.position))) {
        throw new ShardError('unavailable', 'this server has not caught up with the token yet; try again', {
          reason: 'behindToken',
        });
      }
    }
    if (token.snapshot) return { kind: 'snapshot', reason: 'snapshotInterrupted', reset: false };
    return this.#inRing(token) ?? reset(this.#isBeforeRing(token) ? 'expired' : 'lineageChanged');
  }

  #inRing(token: ResumePoint): Start | undefined {
    const { ring, head } = this.#options.timeline;
    const number = ring.numberAt(token);
    if (number === undefined || ring.markAt(number)?.anchor !== token.anchor) return undefined;
    // All that is known to be true at the token's point is also true at the newest, if nothing happened in between.
    return { kind: 'after', number, mark: number === ring.last ? head : token };
  }

  #isBeforeRing(token: ResumePoint): boolean {
    return comparePoints(token, this.#options.timeline.ring.floor) < 0;
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
