import type { FaultClass } from '../schedule.ts';

/** A bug that could have been ours, as one edit of one file. It exists only in processes that are told to load it so. */
export interface PlantedBug {
  name: string;
  /** What is wrong then. */
  what: string;
  /** From the project's root. */
  file: string;
  /** Has to be there exactly once. */
  find: string;
  replace: string;
  /** The runs in which it shows. */
  faultClass: FaultClass;
}

export const BUGS: readonly PlantedBug[] = [
  {
    name: 'dropped-event',
    what: 'the hub passes over every seventh change',
    file: 'api-server/src/watch-hub.ts',
    find: 'await this.#pass(this.#cursor, this.timeline.ring.last);',
    replace:
      'await this.#pass(this.timeline.ring.last % 7 === 0 ? this.timeline.ring.last : this.#cursor, this.timeline.ring.last);',
    faultClass: 'filters',
  },
  {
    name: 'early-bookmark',
    what: 'a resumed stream begins with a bookmark of now, before the changes that lead there',
    file: 'api-server/src/watch-stream.ts',
    find: 'yield this.audience.bookmark(start.mark);',
    replace: 'yield this.audience.bookmark(this.#owner.timeline.head);',
    faultClass: 'watcher-connections',
  },
  {
    name: 'filter-leave-missed',
    what: 'a watcher is not told that a shard no longer passes its filter',
    file: 'shards/src/change.ts',
    find: "{ type: 'DELETED' } : { type: 'DELETED', cause: 'filter' };",
    replace: "{ type: 'DELETED' } : undefined;",
    faultClass: 'filters',
  },
  {
    name: 'token-off-by-one',
    what: 'a token is continued after the change that follows it',
    file: 'api-server/src/watch-start.ts',
    find: "return { kind: 'after', number, mark: number === ring.last ? head : token };",
    replace: "return { kind: 'after', number: Math.min(number + 1, ring.last), mark: token };",
    faultClass: 'watcher-connections',
  },
  {
    name: 'resume-repeats',
    what: 'a token is continued with the change that it was handed out with',
    file: 'api-server/src/watch-start.ts',
    find: "return { kind: 'after', number, mark: number === ring.last ? head : token };",
    replace: "return { kind: 'after', number: Math.max(number - 1, ring.last - ring.size), mark: token };",
    faultClass: 'watcher-connections',
  },
  {
    name: 'reset-suppressed',
    what: 'a token that cannot be continued is continued from now, in silence',
    file: 'api-server/src/watch-start.ts',
    find: "return { kind: 'snapshot', reason, reset: true };",
    replace: "return { kind: 'after', number: timeline.ring.last, mark: timeline.head };",
    faultClass: 'token-below-floor',
  },
  {
    name: 'stale-epoch',
    what: 'a grant within the same second gets the epoch of the one before',
    file: 'shards/src/epoch.ts',
    find: 'return Math.max((previous ?? 0) + 1, Math.floor(nowMs / 1000));',
    replace: 'return Math.max(previous ?? 0, Math.floor(nowMs / 1000));',
    faultClass: 'filters',
  },
  {
    name: 'epoch-forgets',
    what: 'epochs of a shard that was deleted and created again begin anew',
    file: 'shards/src/epoch.ts',
    find: 'return Math.max((previous ?? 0) + 1, Math.floor(nowMs / 1000));',
    replace: 'return (previous ?? 0) + 1;',
    faultClass: 'recreate',
  },
  {
    name: 'snapshot-row-skipped',
    what: 'a snapshot leaves out its first shard',
    file: 'api-server/src/audience.ts',
    find: 'const rows = records.slice(at, at + lot);',
    replace: 'const rows = records.slice(at + 1, at + lot);',
    faultClass: 'resize',
  },
  {
    name: 'deleted-with-wrong-uid',
    what: 'a deletion names another life of the shard',
    file: 'api-server/src/audience.ts',
    find: '      previous: before,\n',
    replace:
      "      previous: before && !after ? { ...before, metadata: { ...before.metadata, uid: 'another' } } : before,\n",
    faultClass: 'recreate',
  },
  {
    name: 'tracker-drops-hops',
    what: 'the client package takes a hop for a repeat when the spec has not changed',
    file: 'client/src/shard-tracker.ts',
    find: 'if (generation <= 0 && version <= 0) return true;',
    replace: 'if (generation <= 0) return true;',
    faultClass: 'filters',
  },
  {
    name: 'tracker-ignores-relists',
    what: 'the client package keeps what a later listing does not list',
    file: 'client/src/shard-tracker.ts',
    find: 'if (listed.has(key)) continue;',
    replace: 'if (listed.size >= 0) continue;',
    faultClass: 'token-below-floor',
  },
  {
    name: 'relist-forgets-deletions',
    what: 'after lost history, an API server keeps the shards that were deleted meanwhile',
    file: 'api-server/src/timeline.ts',
    find: '.filter((record) => !listed.has(keyOf(record)));',
    replace: '.filter((record) => listed.size === 0 && !listed.has(keyOf(record)));',
    faultClass: 'etcd-compaction',
  },
];
