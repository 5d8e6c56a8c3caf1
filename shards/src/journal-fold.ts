import { type Change, historyOf, type Mark } from './change.ts';
import type { JournalEntry, JournalState } from './journal.ts';
import { missedChanges } from './missed-changes.ts';
import { compareVersions, type ShardAssignment } from './records.ts';
import { recordOf, type ShardView, served } from './shard-view.ts';
import { type Fingerprint, fingerprintOf, StateDigest } from './state-digest.ts';

/** Who owned a shard last, and up to which epoch: what a shard that lost its status needs to get its owner back. */
export interface Remembered {
  readonly owner?: string;
  readonly epoch: number;
}

/** A shard that is gone, by its key `namespace/name`. */
export interface Departed extends Remembered {
  readonly key: string;
}

/** So many shards that are gone are remembered; the oldest fall out. */
const MAX_DEPARTED = 50_000;

interface Held {
  view: ShardView;
  print: Fingerprint;
}

/**
 * The served state, as it follows from journal entries: forwards by `apply`, backwards by `undo`. Its anchor proves
 * that nothing is missing in between.
 */
export class JournalFold {
  readonly #held = new Map<string, Held>();
  readonly #digest = new StateDigest();
  /** Newest last. */
  readonly #departed = new Map<string, Remembered>();
  #position: string;
  #ordinal: number;

  constructor({ mark, shards, departed = [] }: JournalState) {
    this.#position = mark.position;
    this.#ordinal = mark.ordinal;
    for (const { key, owner, epoch } of departed) this.#departed.set(key, { owner, epoch });
    for (const view of shards) this.#put(keyOf(view), view);
  }

  /** Of a list: a state without a past. */
  static listed(records: Iterable<ShardAssignment>, position: string): JournalFold {
    const shards = Array.from(records, served);
    return new JournalFold({ mark: { position, ordinal: 0, anchor: '' }, shards });
  }

  /** The same state, that goes its own way from here. */
  clone(): JournalFold {
    const copy = new JournalFold({ mark: this.mark, shards: [] });
    for (const [key, held] of this.#held) {
      copy.#held.set(key, held);
      copy.#digest.add(held.print);
    }
    for (const [key, remembered] of this.#departed) copy.#departed.set(key, remembered);
    return copy;
  }

  get mark(): Mark {
    return { position: this.#position, ordinal: this.#ordinal, anchor: this.#digest.toString() };
  }

  get size(): number {
    return this.#held.size;
  }

  /** What a copy of it would hold: shards, and shards that are remembered. */
  get weight(): number {
    return this.#held.size + this.#departed.size;
  }

  get state(): JournalState {
    const shards = Array.from(this.#held.values(), ({ view }) => view);
    const departed = Array.from(this.#departed, ([key, remembered]) => ({ key, ...remembered }));
    return { mark: this.mark, shards, departed };
  }

  get(key: string): ShardView | undefined {
    return this.#held.get(key)?.view;
  }

  /** What is known of a shard's ownership, whether it is there or was; by `namespace/name`. */
  remembered(key: string): Remembered | undefined {
    const departed = this.#departed.get(key);
    const view = this.#held.get(key)?.view;
    if (!view) return departed;
    if (!departed) return view;
    // One that came back and was not granted since does not make forgotten who it belonged to.
    const fresh = view.epoch === 0 && view.owner === undefined;
    return {
      owner: fresh ? departed.owner : view.owner,
      epoch: Math.max(view.epoch, departed.epoch),
    };
  }

  /** Nothing is checked: the anchor at the end of a slice tells whether all was there. */
  apply(entry: JournalEntry): void {
    const { before, after } = entry;
    const key = keyOf((after ?? before)!);
    if (after) this.#put(key, after);
    else if (before) this.#remove(key, before);
    this.#position = entry.position;
    this.#ordinal = entry.ordinal;
  }

  /** Takes back the newest entry; `mark` is where that leads. What departed stays remembered. */
  undo({ before, after }: JournalEntry, mark: Mark): void {
    const key = keyOf((after ?? before)!);
    if (before) this.#put(key, before);
    else this.#drop(key);
    this.#position = mark.position;
    this.#ordinal = mark.ordinal;
  }

  /** The state is known to be the same at a later position. */
  advance(position: string): void {
    if (compareVersions(position, this.#position) <= 0) return;
    this.#position = position;
    this.#ordinal = 0;
  }

  /** What an event of the ordered watch changes; nothing when nothing that is served differs. Does not apply it. */
  changesTo(record: ShardAssignment, deleted: boolean): Change[] {
    const key = `${record.metadata.namespace ?? ''}/${record.metadata.name}`;
    const held = this.#held.get(key);
    const before = held && recordOf(held.view);
    const position = record.metadata.resourceVersion ?? '';
    const same = before?.metadata.uid === record.metadata.uid;
    if (deleted) return before && same ? [{ key, position, ordinal: 0, before }] : [];
    if (!before || same) {
      if (held && fingerprintOf(served(record)).hash === held.print.hash) return [];
      return [{ key, position, ordinal: 0, before, after: record }];
    }
    return [
      { key, position, ordinal: 0, before },
      { key, position, ordinal: 1, after: record },
    ];
  }

  /** What a list tells to have happened since; see `missedChanges`. Does not apply it. */
  changesToList(records: Iterable<ShardAssignment>, position: string): Change[] {
    const known = new Map(Array.from(this.#held, ([key, { view }]) => [key, recordOf(view)]));
    return missedChanges(known, records, position);
  }

  #put(key: string, view: ShardView): void {
    this.#drop(key);
    const print = fingerprintOf(view);
    this.#held.set(key, { view, print });
    this.#digest.add(print);
    // Its own status tells from now on.
    if (view.owner !== undefined && view.epoch >= (this.#departed.get(key)?.epoch ?? 0))
      this.#departed.delete(key);
  }

  #remove(key: string, { owner, epoch }: ShardView): void {
    this.#drop(key);
    const earlier = this.#departed.get(key);
    if (epoch === 0 && !owner && earlier) return;
    this.#departed.delete(key);
    this.#departed.set(key, { owner, epoch: Math.max(epoch, earlier?.epoch ?? 0) });
    const [oldest] = this.#departed.size > MAX_DEPARTED ? this.#departed.keys() : [];
    if (oldest !== undefined) this.#departed.delete(oldest);
  }

  #drop(key: string): void {
    const held = this.#held.get(key);
    if (!held) return;
    this.#held.delete(key);
    this.#digest.remove(held.print);
  }
}

/** The entry that a change becomes; `learnedAt` (RFC 3339) where nothing says when it happened. */
export function entryOf(change: Change, learnedAt: string): JournalEntry {
  const { position, ordinal, before, after, source = 'watch', coalesced } = change;
  return {
    position,
    ordinal,
    at: change.at ?? transitionTime(change) ?? learnedAt,
    before: before && served(before),
    after: after && served(after),
    history: historyOf(change),
    source,
    coalesced,
  };
}

/** When the transition happened that a change brought, RFC 3339. */
export function transitionTime({ before, after }: Change): string | undefined {
  const newest = after?.status?.recentTransitions?.at(-1);
  return newest && newest.version > (before?.status?.version ?? 0) ? newest.at : undefined;
}

/** The change that a hub tells of an entry. `record`: so that the same view may become the same record. */
export function changeOf(entry: JournalEntry, record = recordOf): Change {
  const { position, ordinal, at, before, after, history, source, coalesced } = entry;
  return {
    position,
    ordinal,
    key: keyOf((after ?? before)!),
    before: before && record(before),
    after: after && record(after),
    history,
    at,
    source,
    coalesced,
  };
}

function keyOf({ namespace, name }: ShardView): string {
  return `${namespace}/${name}`;
}
