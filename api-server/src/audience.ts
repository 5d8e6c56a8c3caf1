import { type Change, historyOf, type Mark, seenThrough } from '@meshkit/shards/change';
import { filterDigest } from '@meshkit/shards/cursor';
import { shardMatches } from '@meshkit/shards/filter';
import { API_VERSION, compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import { type ResumePoint, sealResumeToken } from '@meshkit/shards/resume-token';
import type {
  Encoding,
  KnownShard,
  KnownShards,
  ResetReason,
  ShardMessage,
  WatchMessage,
} from '@meshkit/shards/watch';
import type { ByteCache, Writes } from './byte-cache.ts';
import { fold } from './fold.ts';
import type { Stretch } from './journal-archive.ts';
import type { Told } from './ring.ts';
import type { Timeline } from './timeline.ts';
import type { WatchStream } from './watch-stream.ts';

/** What audiences speak about, and the means they share. */
export interface World {
  readonly timeline: Timeline;
  readonly cache: ByteCache;
  lineage(): string;
  /** Monotonic milliseconds. */
  now(): number;
  /** Rows of a snapshot, or changes of a replay, that are encoded and written together. */
  readonly lot: number;
}

/** Every shard that passes, at one point. */
interface Snapshot {
  id: number;
  records: readonly ShardAssignment[];
  mark: Mark;
  /** Of the newest change that it contains. */
  number: number;
  takenAt: number;
}

/** Told by a block of messages that can only be resumed as a whole. */
export interface BlockProgress {
  /** Before its first message: the token for a cut inside. */
  inside: (token: string) => void;
  /** Before its last lot: the number of the newest change that the block contains, and the state after it. */
  atEnd: (number: number, mark: Mark) => void;
}

/** Before everything. */
const NOWHERE: Mark = { position: '0', ordinal: 0, anchor: '' };
const NOTHING: Writes = { parts: [], messages: 0 };
/** Streams that start within this time share one snapshot, and are then told what happened since. */
const SNAPSHOT_SHARED_MS = 1_000;

/**
 * The streams that are told the same bytes: same filter, same encoding. It finds the words: what is encoded for one
 * stream serves all, and a change that the filter does not let through costs one look.
 */
export class Audience {
  readonly filter: ShardFilter;
  readonly encoding: Encoding;
  /** Those that have heard everything and wait for the next change. */
  readonly live = new Set<WatchStream>();
  /** All of them. */
  readonly streams = new Set<WatchStream>();
  /** When the live ones were last told something, and when all got a heartbeat. */
  toldAt: number;
  beatAt: number;
  readonly #world: World;
  readonly #id: string;
  readonly #digest: string;
  #snapshot: Snapshot | undefined;
  #snapshots = 0;

  /** `id`: not used by any other audience of the same cache. */
  constructor(id: string, filter: ShardFilter, encoding: Encoding, world: World) {
    this.filter = filter;
    this.encoding = encoding;
    this.#world = world;
    this.#id = id;
    this.#digest = filterDigest(filter);
    this.toldAt = world.now();
    this.beatAt = this.toldAt;
  }

  /** Resumes after the mark; `beyond`: whoever gets it may know some of what comes after, up to that position. */
  tokenAfter(mark: Mark, beyond?: string): string {
    return this.#seal({ ...mark, lineage: this.#world.lineage(), snapshot: false, beyond });
  }

  /**
   * Resumes after the change of that number; answered as expired when that is no longer known. `mark`: what the stream
   * was told last of how far it is, which may be further than that change.
   */
  tokenAt(number: number, mark: Mark = NOWHERE): string {
    const { ring } = this.#world.timeline;
    const known = ring.markAt(number) ?? NOWHERE;
    const entry = ring.at(number);
    return this.tokenAfter(newerOf(mark, known), entry && beyondOf(entry));
  }

  /** Starts a snapshot that is no older than the mark; absent: than now. */
  snapshotToken(mark: Mark = this.#world.timeline.head): string {
    return this.#seal({ ...mark, lineage: this.#world.lineage(), snapshot: true });
  }

  /** Of a history that is no more: answered with a reset. */
  foreignToken(): string {
    return this.#seal({ ...NOWHERE, lineage: '', snapshot: false });
  }

  bookmark(mark: Mark, beyond?: string): Writes {
    return this.encode({ type: 'bookmark', position: mark.position, token: this.tokenAfter(mark, beyond) });
  }

  encode(message: WatchMessage): Writes {
    return { parts: [this.encoding.encode(message)], messages: 1 };
  }

  /** What is heard of the changes after number `from` up to number `to`, all of which must be held; perhaps nothing. */
  changes(from: number, to: number): Writes {
    if (to === from + 1) return this.#change(to);
    return this.#world.cache.get(`${this.#id} ${from} ${to}`, () => {
      const parts: Uint8Array[] = [];
      for (let number = from + 1; number <= to; number += 1) parts.push(...this.#change(number).parts);
      return this.#joined(parts);
    });
  }

  /** The end of the lot of changes after that number: fixed places, so that streams which resume share lots. */
  lotAfter(number: number): number {
    return this.lotOf(number, this.#world.timeline.ring.last);
  }

  /** The end of the lot that begins at, or contains, an index; never beyond `end`. */
  lotOf(at: number, end: number): number {
    const { lot } = this.#world;
    return Math.min((Math.floor(at / lot) + 1) * lot, end);
  }

  /**
   * The same, with all changes of a shard folded into one, in lots. What is said of one shard is then ahead of what was
   * not yet said of another, so there is no point to resume from but the end: a cut inside leads to a snapshot.
   */
  *folded(from: number, to: number, { inside, atEnd }: BlockProgress): Generator<Writes> {
    const { lot, timeline } = this.#world;
    const { ring } = timeline;
    const all: Change[] = [];
    for (let number = from + 1; number <= to; number += 1) all.push(ring.at(number)!.change);
    const mark = ring.markAt(to)!;
    const token = this.snapshotToken(mark);
    inside(token);
    const messages = fold(all).flatMap(({ change, count }) => {
      const message = this.#message(change, token);
      return message ? [count > 1 ? { ...message, coalesced: count } : message] : [];
    });
    const last = messages.at(-1);
    if (last) last.token = this.tokenAfter(mark);
    else atEnd(to, mark);
    for (let at = 0; at < messages.length; at += lot) {
      if (at + lot >= messages.length) atEnd(to, mark);
      yield this.#joined(messages.slice(at, at + lot).map((message) => this.encoding.encode(message)));
    }
  }

  /** What is heard of changes `from` (an index) up to `to` that the journal told. */
  replayed({ id, entries }: Stretch, from: number, to: number): Writes {
    return this.#world.cache.get(`${this.#id} journal ${id} ${from} ${to}`, () => {
      const messages = entries
        .slice(from, to)
        .map((entry) => this.#message(entry.change, this.#tokenOf(entry)));
      return this.#joined(messages.flatMap((message) => (message ? [this.encoding.encode(message)] : [])));
    });
  }

  /**
   * What is heard of a change by one who knows as much as `known` already, with a token of that, and who was told
   * positions up to `at`: neither goes back.
   */
  repeated({ change }: Told, known: Mark, at = known.position): Writes {
    const position = [known.position, at, change.position].sort(compareVersions).at(-1)!;
    const message = this.#message(change, this.tokenAfter(known, position));
    if (!message) return NOTHING;
    return this.encode({ ...message, position });
  }

  /** What differs from what a watcher has, as a block like a snapshot; what is gone comes first. */
  *delta(known: KnownShards, reason: ResetReason, { inside, atEnd }: BlockProgress): Generator<Writes> {
    const { lot, timeline } = this.#world;
    const { records, mark, number } = this.#takeSnapshot();
    const { position } = mark;
    const token = this.snapshotToken(mark);
    const lineage = this.#world.lineage();
    inside(token);
    yield this.encode({ type: 'snapshot-begin', position, lineage, reason, delta: true, token });
    const rows: ShardMessage[] = [];
    const passing = new Set<string>();
    for (const current of records) {
      const key = `${current.metadata.namespace}/${current.metadata.name}`;
      const has = known.get(key);
      passing.add(key);
      if (has && isSame(has, current)) continue;
      const event = has?.uid === current.metadata.uid ? 'MODIFIED' : 'ADDED';
      rows.push({ type: 'shard', event, position, current, token });
    }
    const gone: ShardMessage[] = [];
    for (const [key, has] of known) {
      if (passing.has(key)) continue;
      const [namespace = '', name = ''] = key.split('/');
      const current = timeline.get(namespace, name);
      const isThere = current?.metadata.uid === has.uid && !shardMatches(this.filter, current);
      const row = { type: 'shard' as const, event: 'DELETED' as const, position, token };
      gone.push(isThere ? { ...row, cause: 'filter', current } : { ...row, previous: lastOf(key, has) });
    }
    const all = [...gone, ...rows];
    for (let at = 0; at < all.length; at += lot) {
      yield this.#joined(all.slice(at, at + lot).map((message) => this.encoding.encode(message)));
    }
    atEnd(number, mark);
    yield this.encode({ type: 'snapshot-end', position, token: this.tokenAfter(mark) });
  }

  /**
   * A whole snapshot for one who was told all that is known of a stretch and may have more. A cut inside starts with
   * that stretch again, so that none of its changes is lost.
   */
  *settled(known: Mark, { inside, atEnd }: BlockProgress): Generator<Writes> {
    const { lot } = this.#world;
    const { records, mark, number } = this.#takeSnapshot(this.#world.timeline.position);
    const { position } = mark;
    const token = this.tokenAfter(known, position);
    const lineage = this.#world.lineage();
    inside(token);
    yield this.encode({ type: 'snapshot-begin', position, lineage, reason: 'unsettled', token });
    for (let at = 0; at < records.length; at += lot) {
      const rows = records.slice(at, at + lot).map((current) => {
        return this.encoding.encode({ type: 'shard', event: 'ADDED', position, current, token });
      });
      yield this.#joined(rows);
    }
    atEnd(number, mark);
    yield this.encode({ type: 'snapshot-end', position, token: this.tokenAfter(mark) });
  }

  /** A whole snapshot, in lots. */
  *snapshot(reason: ResetReason | undefined, { inside, atEnd }: BlockProgress): Generator<Writes> {
    const { cache, lot } = this.#world;
    // Who has begun with one may be beyond a shared one that is older.
    const least = reason === 'snapshotInterrupted' ? this.#world.timeline.position : undefined;
    const { id, records, mark, number } = this.#takeSnapshot(least);
    const { position } = mark;
    const token = this.snapshotToken(mark);
    inside(token);
    const lineage = this.#world.lineage();
    yield this.encode({ type: 'snapshot-begin', position, lineage, reason, token });
    for (let at = 0; at < records.length; at += lot) {
      yield cache.get(`${this.#id} snapshot ${id} ${at}`, () => {
        const rows = records.slice(at, at + lot);
        const row = (current: ShardAssignment): ShardMessage => {
          return { type: 'shard', event: 'ADDED', position, current, token };
        };
        return this.#joined(rows.map((record) => this.encoding.encode(row(record))));
      });
    }
    atEnd(number, mark);
    yield this.encode({ type: 'snapshot-end', position, token: this.tokenAfter(mark) });
  }

  /** Lets go of what only a rush of new streams needs. */
  tidy(): void {
    if (this.#snapshot && !this.#isFresh(this.#snapshot)) this.#snapshot = undefined;
  }

  /** A fresh one or, if it is not older than the least position, one that others were given just now. */
  #takeSnapshot(least = '0'): Snapshot {
    const { timeline, now } = this.#world;
    const known = this.#snapshot;
    const isEnough = known && compareVersions(known.mark.position, least) >= 0;
    if (isEnough && this.#isFresh(known)) return known;
    this.#snapshots += 1;
    this.#snapshot = {
      id: this.#snapshots,
      records: timeline.all(this.filter),
      mark: timeline.head,
      number: timeline.ring.last,
      takenAt: now(),
    };
    return this.#snapshot;
  }

  #isFresh({ number, takenAt }: Snapshot): boolean {
    const { timeline, now } = this.#world;
    return timeline.ring.reaches(number) && now() - takenAt < SNAPSHOT_SHARED_MS;
  }

  /** No write, or one. */
  #change(number: number): Writes {
    const { ring } = this.#world.timeline;
    const entry = ring.at(number)!;
    const { change } = entry;
    if (!seenThrough(this.filter, change)) return NOTHING;
    return this.#world.cache.get(`${this.#id} ${number}`, () => {
      const message = this.#message(change, this.#tokenOf(entry));
      return message ? this.encode(message) : NOTHING;
    });
  }

  #tokenOf(entry: Told): string {
    return this.tokenAfter(entry.mark, beyondOf(entry));
  }

  #message(change: Change, token: string): ShardMessage | undefined {
    const seen = seenThrough(this.filter, change);
    if (!seen) return undefined;
    const { position, before, after } = change;
    return {
      type: 'shard',
      event: seen.type,
      cause: seen.cause,
      position,
      current: after,
      previous: before,
      history: historyOf(change),
      token,
      coalesced: change.coalesced ? change.coalesced + 1 : undefined,
      source: change.source === 'reconcile' ? 'reconcile' : undefined,
    };
  }

  #joined(parts: readonly Uint8Array[]): Writes {
    const { length: messages } = parts;
    return { parts: this.encoding.join && messages > 1 ? [this.encoding.join(parts)] : parts, messages };
  }

  #seal(point: ResumePoint): string {
    return sealResumeToken(this.#digest, point);
  }
}

/** Inside a reconstructed stretch, how far of it was told. */
function beyondOf({ change, settled }: Told): string | undefined {
  return settled ? undefined : change.position;
}

function newerOf(a: Mark, b: Mark): Mark {
  return compareVersions(a.position, b.position) > 0 ? a : b;
}

function isSame({ uid, generation, version }: KnownShard, { metadata, status }: ShardAssignment): boolean {
  return (
    metadata.uid === uid && (metadata.generation ?? 0) === generation && (status?.version ?? 0) === version
  );
}

/** All that can be said of a shard that is gone, and that only the watcher remembers. */
function lastOf(key: string, { uid, generation, version }: KnownShard): ShardAssignment {
  const [namespace = '', name = ''] = key.split('/');
  const dot = name.indexOf('.');
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace, name, uid, generation },
    spec: { shardSet: name.slice(0, Math.max(dot, 0)), shardId: name.slice(dot + 1) },
    status: { phase: 'Pending', epoch: 0, version },
  };
}
