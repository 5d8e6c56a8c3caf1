import type { FaultClass } from '../schedule.ts';
import type { Counter } from '../violation.ts';

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

/** No bugs, but settings that nobody can make: those that there are begin at an hour or are promised, and runs end after seconds. */
export const SHORT_JOURNAL: Edit = {
  name: 'short-journal',
  what: 'the journal forgets what is older than a second and a half',
  file: 'operator/src/journal-controller.ts',
  find: 'retention: { ms: retentionMs,',
  replace: 'retention: { ms: Math.min(1_500, retentionMs),',
};
export const QUICK_BOOKMARKS: Edit = {
  name: 'quick-bookmarks',
  what: 'the first tick of a second that finds a stream idle gives it a bookmark',
  file: 'api-server/src/watch-hub.ts',
  find: 'const BOOKMARK_MS = 9_000;',
  replace: 'const BOOKMARK_MS = 400;',
};
export const SETTINGS: readonly Edit[] = [SHORT_JOURNAL, QUICK_BOOKMARKS];

/** A bug that could have been ours. */
export interface PlantedBug extends Edit {
  /** The runs in which it shows. */
  faultClass: FaultClass;
  /** The counter that has to notice; absent: any will do. */
  by?: Counter;
  /** One run at a time: of several, most changes of the cluster are none of a watcher's. */
  alone?: true;
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
    alone: true,
  },
  {
    name: 'resume-repeats',
    what: 'a token is continued with the change that it was handed out with',
    file: 'api-server/src/watch-start.ts',
    find: "return { kind: 'after', number: found.number, mark: isNewest",
    replace: "return { kind: 'after', number: Math.max(found.number - 1, 0), mark: isNewest",
    faultClass: 'watcher-connections',
    alone: true,
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
    find: 'if (isOld(message, current, view)) return true;',
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
    find: 'if (isOld(message, current, view)) return true;',
    replace: 'if (isOld(message, current, view)) return false;',
    faultClass: 'etcd-compaction',
  },
  {
    name: 'early-idle-bookmark',
    what: 'the hub sees that everything was told, waits for something, and then gives idle streams a bookmark of now',
    file: 'api-server/src/watch-hub.ts',
    find: 'const isUpToDate = this.#isUpToDate;',
    replace: 'const isUpToDate = this.#isUpToDate;\n    await this.#options.clock.sleep(250);',
    faultClass: 'filters',
    by: 'outOfOrder',
  },
  {
    name: 'storage-takes-anything',
    what: 'the storage stand-in accepts writes of any epoch',
    file: 'e2e/faults/run.ts',
    find: 'const accepted = epoch >= (this.#highest.get(key) ?? 0);',
    replace: 'const accepted = true;',
    faultClass: 'filters',
    by: 'staleWritesAccepted',
  },
  {
    name: 'move-keeps-epoch',
    what: 'a shard that moves keeps its epoch, so that storage accepts the writes of the node that had it before',
    file: 'shards/src/decide-status.ts',
    find: 'const epoch = step.grant ? granted : previous;',
    replace: 'const epoch = step.grant && before?.owner === undefined ? granted : previous;',
    faultClass: 'filters',
    by: 'staleWritesAccepted',
  },
  {
    name: 'coalesces-unasked',
    what: 'whoever resumes is told the changes of a shard as one, though nobody asked for that',
    file: 'api-server/src/watch-stream.ts',
    find: 'const to = this.audience.lotAfter(this.#told);',
    replace:
      'yield* this.audience.folded(this.#told, ring.last, this.#block);\n        if (ring.last > 0) continue;\n        const to = this.audience.lotAfter(this.#told);',
    faultClass: 'watcher-connections',
    by: 'coalescedUnexpected',
  },
  {
    name: 'forgets-transitions',
    what: 'a shard remembers its newest transition only, so that others are lost in an outage',
    file: 'shards/src/transition.ts',
    find: 'export const MAX_TRANSITIONS = 8;',
    replace: 'export const MAX_TRANSITIONS = 1;',
    faultClass: 'etcd-compaction',
  },
  {
    name: 'restore-unanswered',
    what: 'after a restore the operator goes on in the old lineage',
    file: 'operator/src/lineage-witness.ts',
    find: 'return this.#isLost || this.#known.isAhead(head, newest);',
    replace: 'return false;',
    faultClass: 'restore',
    by: 'unexpectedResets',
  },
  {
    name: 'new-lineage-ignored',
    what: 'an API server that runs when the journal gets a new lineage does not take it up',
    file: 'api-server/src/kubernetes-repository.ts',
    find: 'if (!this.#journal.follow(head) || !this.#timeline.synced) return;',
    replace: 'if (!this.#journal.follow(head) || this.#timeline.synced) return;',
    faultClass: 'restore',
    by: 'unexpectedResets',
  },
  {
    name: 'restore-untold',
    what: 'when history begins anew, open streams go on without a reset',
    file: 'api-server/src/watch-hub.ts',
    find: 'for (const stream of audience.live) stream.startOver();',
    replace: '{}',
    faultClass: 'restore',
    by: 'missed',
  },
];
