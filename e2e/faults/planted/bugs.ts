import type { FaultClass } from '../schedule.ts';

/** One edit of one file. It exists only in processes that are told to load it so. */
export interface Edit {
  name: string;
  what: string;
  /** From the project's root. */
  file: string;
  /** Has to be there exactly once. */
  find: string;
  replace: string;
}

/** No bug, but a setting that nobody can make: settings begin at an hour, runs end after seconds. */
export const SHORT_JOURNAL: Edit = {
  name: 'short-journal',
  what: 'the journal forgets what is older than a second and a half',
  file: 'operator/src/journal-controller.ts',
  find: 'retention: { ms: retentionMs,',
  replace: 'retention: { ms: Math.min(1_500, retentionMs),',
};

/** A bug that could have been ours. */
export interface PlantedBug extends Edit {
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
    name: 'event-written-twice',
    what: 'every live change is written twice to every stream',
    file: 'api-server/src/watch-stream.ts',
    find: '    this.#write(due);\n',
    replace: '    this.#write(due);\n    this.#write(due);\n',
    faultClass: 'filters',
  },
  {
    name: 'early-bookmark',
    what: 'a resumed stream begins with a bookmark of now, before the changes that lead there',
    file: 'api-server/src/watch-stream.ts',
    find: 'yield this.audience.bookmark(mark, unsure ? beyond : undefined);',
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
    find: "return { kind: 'after', number: found.number, mark: isNewest",
    replace: "return { kind: 'after', number: Math.min(found.number + 1, timeline.ring.last), mark: isNewest",
    faultClass: 'watcher-connections',
  },
  {
    name: 'resume-repeats',
    what: 'a token is continued with the change that it was handed out with',
    file: 'api-server/src/watch-start.ts',
    find: "return { kind: 'after', number: found.number, mark: isNewest",
    replace: "return { kind: 'after', number: Math.max(found.number - 1, 0), mark: isNewest",
    faultClass: 'watcher-connections',
  },
  {
    name: 'reset-suppressed',
    what: 'a token that cannot be continued is continued from now, in silence',
    file: 'api-server/src/watch-start.ts',
    find: "return { kind: 'snapshot', reason, reset: true, known: delta };",
    replace: "return { kind: 'after', number: timeline.ring.last, mark: timeline.head, unsure: false };",
    faultClass: 'token-below-floor',
  },
  {
    name: 'always-resets',
    what: 'every token is answered with a reset, so that nothing is ever missed',
    file: 'api-server/src/watch-start.ts',
    find: "if (token.lineage !== lineage()) return reset('lineageChanged');",
    replace: "if (token.lineage) return reset('expired');",
    faultClass: 'watcher-connections',
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
    name: 'epoch-of-the-clock',
    what: 'a grant takes its epoch from the clock, whatever was given out before',
    file: 'shards/src/decide-status.ts',
    find: 'nextEpoch(highest, context.now);',
    replace: 'Math.min(nextEpoch(highest, context.now), Math.floor(context.now / 1000));',
    faultClass: 'filters',
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
    find: 'if (this.#delta || listed.has(key)) continue;',
    replace: 'if (this.#delta || listed.size >= 0) continue;',
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
  {
    name: 'journal-entry-dropped',
    what: 'the journal passes over the changes of one shard',
    file: 'operator/src/journal-controller.ts',
    find: 'const changes = fold.changesTo(event.object,',
    replace: "const changes = event.object.metadata.name.endsWith('3') ? [] : fold.changesTo(event.object,",
    faultClass: 'api-server-kill',
  },
  {
    name: 'journal-batch-reordered',
    what: 'changes of one batch are written down in the wrong order',
    file: 'operator/src/journal-buffer.ts',
    find: 'for (const entry of entries) newest.batch.entries.push(entry);',
    replace: 'newest.batch.entries.unshift(...entries);',
    faultClass: 'api-server-kill',
  },
  {
    name: 'gap-token-not-clamped',
    what: 'a token from inside a reconstructed stretch is continued after it',
    file: 'api-server/src/timeline.ts',
    find: 'const number = this.ring.numberAt(gap ? gap.from : position);',
    replace: 'const number = this.ring.numberAt(gap ? gap.to : position);',
    faultClass: 'etcd-compaction',
  },
  {
    name: 'missed-hops-skipped',
    what: 'after lost history only the newest of several hops of a shard is told',
    file: 'shards/src/missed-changes.ts',
    find: 'for (const hop of missed.slice(0, -1)) {',
    replace: 'for (const hop of missed.slice(0, 0)) {',
    faultClass: 'etcd-compaction',
  },
  {
    name: 'tracker-lets-repeats-through',
    what: 'the client package tells again what a resumed stream repeats',
    file: 'client/src/shard-tracker.ts',
    find: 'if (generation <= 0 && version <= 0) return true;',
    replace: 'if (generation <= 0 && version <= 0) return false;',
    faultClass: 'etcd-compaction',
  },
];
