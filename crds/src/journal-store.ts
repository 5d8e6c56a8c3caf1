import { randomBytes } from 'node:crypto';
import type { Clock } from '@meshkit/shards/clock';
import type { Gap, JournalEntry, JournalState, JournalWriter, WrittenHead } from '@meshkit/shards/journal';
import { JournalFold } from '@meshkit/shards/journal-fold';
import { marksOf } from '@meshkit/shards/journal-slice';
import { compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardView } from '@meshkit/shards/shard-view';
import { chainOf, expired, heldBy, mergeable, type Retention, totals } from './journal-chain.ts';
import { damaged, isDamage } from './journal-codec.ts';
import {
  type CheckpointReference,
  checkpointName,
  headObject,
  type JournalHeadSpec,
  type SegmentIndex,
  SHARD_JOURNAL_HEADS,
  SHARD_JOURNAL_SEGMENTS,
  type ShardJournalHead,
  type ShardJournalSegment,
  type StoredMark,
  termOf,
} from './journal-objects.ts';
import { readCatalog, readHead, readSegment, readState } from './journal-reader.ts';
import { checkpointChunks, merged, segmentsOf } from './journal-segment.ts';
import { fenced, swapped } from './journal-swap.ts';
import type { KubeClient } from './kube-client.ts';
import { statusOf } from './kube-error.ts';
import type { Log } from './log.ts';

export type JournalClient = Pick<KubeClient, 'get' | 'list' | 'create' | 'update' | 'delete'>;

export interface JournalStoreOptions {
  client: JournalClient;
  /** Of the head, and the beginning of the segments' names. */
  name: string;
  /** Uid of the namespace kube-system. */
  cluster: string;
  retention: Retention;
  clock: Pick<Clock, 'now'>;
  log: Log;
  /** After each write; bytes as they are sent. */
  onWrite?: (kind: 'segment' | 'merged' | 'checkpoint' | 'head' | 'deletion', bytes: number) => void;
  /** A segment was missing or not what was written: the floor is above it now. */
  onDamage?: () => void;
}

/** What a takeover needs beside the store itself. */
export interface TakeOver {
  /** All shards, by a list of their own. */
  list: (signal: AbortSignal) => Promise<{ items: ShardAssignment[]; resourceVersion: string }>;
  /** Whether the head that was found, if any, is of a lineage that has to be left; asked once. */
  renews: (head: WrittenHead | undefined) => boolean | Promise<boolean>;
  /** Noted in the head as served when the lineage is renewed. */
  request?: string;
  /** The largest epoch that this process knows of. */
  highestEpoch: number;
}

/** Checkpoints are made after this many entries, or twice what the checkpoint holds if that is more. */
const CHECKPOINT_AFTER = 5_000;
const REMEMBERED = 16;
/** Merges of one round of maintenance: more wait for the next. */
const MERGES_A_ROUND = 4;

/**
 * The writing end of the journal that is kept in the cluster itself, for one term. Each append creates segments and then
 * replaces the head by compare-and-swap; whoever took over since makes that fail with reason `journalFenced`, and this
 * writer is over. Not reentrant: one call at a time.
 */
export class JournalStore implements JournalWriter {
  readonly #options: JournalStoreOptions;
  #head: ShardJournalHead;
  #fold: JournalFold;
  #segments: SegmentIndex[] = [];
  /** Names of objects that nothing names any more. */
  #garbage: string[] = [];
  #sinceCheckpoint = 0;
  /** The segment whose content is looked at next. */
  #inspected = 0;
  /** The lineage was renewed by this takeover. */
  readonly renewed: boolean;

  private constructor(
    options: JournalStoreOptions,
    head: ShardJournalHead,
    fold: JournalFold,
    renewed: boolean,
  ) {
    this.#options = options;
    this.#head = head;
    this.#fold = fold;
    this.renewed = renewed;
  }

  /**
   * Becomes the journal's only writer, creating the journal where there is none. Rejects with reason `journalFenced` when
   * another one takes over at the same time, `noJournal` where its kinds are not served to us.
   */
  static async takeOver(
    options: JournalStoreOptions,
    ask: TakeOver,
    signal: AbortSignal,
  ): Promise<JournalStore> {
    const found = await readHead(options.client, options.name, signal);
    if (!found) return JournalStore.#first(options, ask, signal);
    const renews = await ask.renews(found.spec);
    const term = found.spec.term + 1;
    // From here on the writer before is fenced: what is read now is all there will be of it.
    const head = await swapped(options, found, { ...found.spec, term }, signal);
    const catalog = await readCatalog(options.client, options.name, signal);
    const chain = chainOf(catalog.segments, head.spec);
    const read = (segment: SegmentIndex) => readSegment(options.client, segment, signal);
    let fold: JournalFold | undefined;
    try {
      fold = await readState(options.client, head, chain, read, signal);
    } catch (error) {
      if (!isDamage(error) && statusOf(error) !== 404) throw error;
      options.log.error({ err: error, journal: options.name }, 'the journal is damaged, it begins anew');
    }
    const isForeign = head.spec.cluster !== options.cluster;
    const placeholder = fold ?? JournalFold.listed([], '0');
    const store = new JournalStore(options, head, placeholder, renews || isForeign);
    if (!fold || isForeign) {
      await store.restart(ask.list, signal);
      if (!fold) options.onDamage?.();
    } else {
      store.#segments = [...chain.segments];
      const since = head.spec.checkpoint.last?.sequence ?? 0;
      store.#sinceCheckpoint = store.#segments.reduce(
        (sum, { last, entries }) => sum + (last.sequence > since ? entries : 0),
        0,
      );
      if (chain.broken) await store.#raiseFloor(chain.segments, signal);
    }
    if (renews || isForeign) await store.#renew(ask, signal);
    store.#collect(catalog.segments, catalog.others);
    return store;
  }

  static async #first(
    options: JournalStoreOptions,
    ask: TakeOver,
    signal: AbortSignal,
  ): Promise<JournalStore> {
    const { client, name, cluster } = options;
    const leftovers = await readCatalog(client, name, signal);
    const names = [...leftovers.segments.map((segment) => segment.name), ...leftovers.others];
    const term = 1 + names.reduce((highest, each) => Math.max(highest, termOf(each)), 0);
    const fold = await listed(ask.list, signal);
    const mark = stored(fold, options.clock);
    const checkpoint = await writeCheckpoint(options, term, 0, { ...fold.state, mark }, mark, signal);
    const isRenewed = await ask.renews(undefined);
    const nonce = isRenewed ? newNonce() : '';
    const spec: JournalHeadSpec = {
      cluster,
      term,
      nonce,
      nonces: [nonce],
      ...(ask.request === undefined ? {} : { requests: [ask.request] }),
      mark,
      floor: mark,
      checkpoint,
      entries: 0,
      bytes: 0,
    };
    const object = headObject(
      name,
      isRenewed ? { ...spec, epochFloor: epochFloor(options, fold, ask) } : spec,
    );
    try {
      const head = await client.create(SHARD_JOURNAL_HEADS, object, { signal });
      options.onWrite?.('head', JSON.stringify(object).length);
      const store = new JournalStore(options, head, fold, isRenewed);
      store.#collect(leftovers.segments, leftovers.others);
      return store;
    } catch (error) {
      if (statusOf(error) === 409) throw fenced(undefined, error);
      throw error;
    }
  }

  get spec(): Readonly<JournalHeadSpec> {
    return this.#head.spec;
  }

  get fold(): JournalFold {
    return this.#fold;
  }

  get segments(): readonly SegmentIndex[] {
    return this.#segments;
  }

  async append(
    entries: readonly JournalEntry[],
    { position, gap }: { position?: string; gap?: Gap },
    signal: AbortSignal,
  ): Promise<void> {
    const { name, retention, clock } = this.#options;
    const { spec } = this.#head;
    const newest = entries.at(-1);
    if (!newest) return;
    this.#checkContinuity(entries);
    const end = marksOf(spec.mark, entries).at(-1)!;
    const beyond = position !== undefined && compareVersions(position, end.position) > 0;
    const to: StoredMark = { ...(beyond ? { ...end, position, ordinal: 0 } : end), at: newest.at };
    const { at: _, ...from } = spec.mark;
    const written = segmentsOf({
      journal: name,
      term: spec.term,
      previous: spec.last,
      from,
      entries,
      to,
      gap,
    });
    const created: SegmentIndex[] = [];
    for (const { object, index } of written) {
      const { uid } = (await this.#put(object, 'segment', signal)).metadata;
      created.push({ ...index, uid });
    }
    const checkpoint = this.#checkpointIsDue() ? await this.#checkpoint(signal) : spec.checkpoint;
    const segments = [...this.#segments, ...created];
    const wanted = expired(segments, retention, clock.now());
    const gone = segments.slice(0, Math.min(wanted, heldBy(checkpoint, segments)));
    const kept = segments.slice(gone.length);
    const floor: StoredMark = { ...kept[0]!.from, at: gone.at(-1)?.to.at ?? spec.floor.at };
    await this.#swap(
      { ...spec, last: created.at(-1)!.last, mark: to, floor, checkpoint, ...totals(kept) },
      signal,
    );
    this.#segments = kept;
    this.#discard(gone.map((segment) => segment.name));
    this.#took(checkpoint, spec.checkpoint);
    for (const entry of entries) this.#fold.apply(entry);
    if (beyond) this.#fold.advance(position);
    this.#sinceCheckpoint += entries.length;
    if (gone.length < wanted) this.#sinceCheckpoint = Number.POSITIVE_INFINITY;
  }

  /** Merges small segments, and deletes what nothing names. */
  async maintain(signal: AbortSignal): Promise<void> {
    for (let round = 0; round < MERGES_A_ROUND; round += 1) {
      const block = mergeable(this.#segments);
      if (!block || !(await this.#merge(block, signal))) break;
    }
    await this.#sweep(signal);
  }

  /** Looks whether all segments are there, and one of them is what was written; heals what is not. */
  async verify(signal: AbortSignal): Promise<void> {
    const { client, name } = this.#options;
    const catalog = await readCatalog(client, name, signal);
    const chain = chainOf(catalog.segments, this.#head.spec);
    if (chain.broken) await this.#raiseFloor(chain.segments, signal);
    this.#collect(catalog.segments, catalog.others);
    const segment = this.#segments[this.#inspected % Math.max(1, this.#segments.length)];
    this.#inspected += 1;
    if (segment) await this.#readOrHeal(segment, signal);
    await this.#sweep(signal);
  }

  /** Forgets all history: it begins at a list. Who owned what stays remembered. */
  async restart(list: TakeOver['list'], signal: AbortSignal): Promise<void> {
    const { spec } = this.#head;
    const before = this.#fold;
    const now = await listed(list, signal);
    const departed = [
      ...(before.state.departed ?? []),
      ...before.state.shards.map(({ namespace, name, owner, epoch }) => {
        return { key: `${namespace}/${name}`, owner, epoch };
      }),
    ];
    this.#fold = new JournalFold({ ...now.state, departed });
    const mark = stored(this.#fold, this.#options.clock);
    const state = { ...this.#fold.state, mark };
    const sequence = spec.last?.sequence ?? 0;
    const checkpoint = await writeCheckpoint(
      this.#options,
      spec.term,
      sequence,
      state,
      mark,
      signal,
      spec.last,
    );
    const gone = this.#segments.map((segment) => segment.name);
    await this.#swap({ ...spec, mark, floor: mark, checkpoint, entries: 0, bytes: 0 }, signal);
    this.#segments = [];
    this.#discard(gone);
    this.#took(checkpoint, spec.checkpoint);
  }

  async #renew(ask: TakeOver, signal: AbortSignal): Promise<void> {
    const { spec } = this.#head;
    const nonce = newNonce();
    const isServed = ask.request === undefined || spec.requests?.includes(ask.request);
    const requests = isServed ? spec.requests : [...(spec.requests ?? []), ask.request!];
    const next: JournalHeadSpec = {
      ...spec,
      cluster: this.#options.cluster,
      nonce,
      nonces: [...spec.nonces, nonce].slice(-REMEMBERED),
      ...(requests ? { requests: requests.slice(-REMEMBERED) } : {}),
      epochFloor: Math.max(spec.epochFloor ?? 0, epochFloor(this.#options, this.#fold, ask)),
    };
    await this.#swap(next, signal);
    this.#options.log.warn(
      { nonce, epochFloor: next.epochFloor },
      'a new lineage begins, all shards are granted again',
    );
  }

  /** Whoever appends must have begun at the state at the head: what is written is proof of it. */
  #checkContinuity(entries: readonly JournalEntry[]): void {
    const held = new Map<string, ShardView | undefined>();
    for (const { before, after, position } of entries) {
      const { namespace, name } = (after ?? before)!;
      const key = `${namespace}/${name}`;
      const known = held.has(key) ? held.get(key) : this.#fold.get(key);
      if (known !== before && JSON.stringify(known) !== JSON.stringify(before)) {
        throw damaged(`the entry at position ${position} does not continue what is known of ${key}`);
      }
      held.set(key, after);
    }
  }

  #checkpointIsDue(): boolean {
    return this.#sinceCheckpoint >= Math.max(CHECKPOINT_AFTER, 2 * this.#fold.weight);
  }

  async #checkpoint(signal: AbortSignal): Promise<CheckpointReference> {
    const { mark, term, last } = this.#head.spec;
    const state = { ...this.#fold.state, mark };
    return writeCheckpoint(this.#options, term, last?.sequence ?? 0, state, mark, signal, last);
  }

  /** The swap that names the new checkpoint was made: the old one is garbage. */
  #took(now: CheckpointReference, before: CheckpointReference): void {
    if (now === before) return;
    this.#sinceCheckpoint = 0;
    this.#discard(Array.from({ length: before.chunks }, (_, chunk) => `${before.name}.${chunk}`));
  }

  /** False when there is nothing more to be done now. */
  async #merge(block: readonly SegmentIndex[], signal: AbortSignal): Promise<boolean> {
    const entries: JournalEntry[] = [];
    for (const part of block) {
      const some = await this.#readOrHeal(part, signal);
      if (!some) return false;
      for (const entry of some) entries.push(entry);
    }
    const one = merged(this.#options.name, block, entries);
    if (!one) return false;
    const { uid } = (await this.#put(one.object, 'merged', signal)).metadata;
    const at = this.#segments.indexOf(block[0]!);
    this.#segments.splice(at, block.length, { ...one.index, uid });
    this.#discard(block.map((part) => part.name));
    return true;
  }

  async #readOrHeal(segment: SegmentIndex, signal: AbortSignal): Promise<JournalEntry[] | undefined> {
    try {
      return await readSegment(this.#options.client, segment, signal);
    } catch (error) {
      if (!isDamage(error) && statusOf(error) !== 404) throw error;
      this.#options.log.error({ err: error, segment: segment.name }, 'a segment of the journal is damaged');
      let after = this.#segments.indexOf(segment) + 1;
      while (this.#segments[after]?.from.partial) after += 1;
      await this.#raiseFloor(this.#segments.slice(after), signal);
      return undefined;
    }
  }

  /**
   * To the beginning of what is kept, which the checkpoint must not be older than. Until the head says so, nothing is
   * given up: what it names stays there.
   */
  async #raiseFloor(kept: readonly SegmentIndex[], signal: AbortSignal): Promise<void> {
    const { spec } = this.#head;
    const oldest = kept[0];
    const floor: StoredMark = oldest ? { ...oldest.from, at: spec.mark.at } : spec.mark;
    const isHeld = compareVersions(spec.checkpoint.mark.position, floor.position) >= 0;
    const checkpoint = isHeld ? spec.checkpoint : await this.#checkpoint(signal);
    await this.#swap({ ...spec, floor, checkpoint, ...totals(kept) }, signal);
    const names = new Set(kept.map((segment) => segment.name));
    const gone = this.#segments.filter((segment) => !names.has(segment.name));
    this.#discard(gone.map((segment) => segment.name));
    this.#segments = [...kept];
    this.#took(checkpoint, spec.checkpoint);
    this.#options.onDamage?.();
  }

  /** Creates an object that may have been created by an earlier try whose answer was lost. */
  async #put(
    object: ShardJournalSegment,
    kind: 'segment' | 'merged',
    signal: AbortSignal,
  ): Promise<ShardJournalSegment> {
    const { client, onWrite } = this.#options;
    const { name } = object.metadata;
    try {
      const created = await client.create(SHARD_JOURNAL_SEGMENTS, object, { signal });
      onWrite?.(kind, JSON.stringify(object).length);
      return created;
    } catch (error) {
      if (statusOf(error) !== 409) throw error;
    }
    const present = await client.get(SHARD_JOURNAL_SEGMENTS, { name }, { signal });
    if (present.spec.checksum === object.spec.checksum) return present;
    await client.delete(SHARD_JOURNAL_SEGMENTS, { name }, { uid: present.metadata.uid, signal });
    return client.create(SHARD_JOURNAL_SEGMENTS, object, { signal });
  }

  async #swap(next: JournalHeadSpec, signal: AbortSignal): Promise<void> {
    this.#head = await swapped(this.#options, this.#head, next, signal);
  }

  #discard(names: readonly string[]): void {
    for (const name of names) this.#garbage.push(name);
  }

  /** What is there and not named; what a later term wrote is not ours to judge. */
  #collect(segments: readonly SegmentIndex[], others: readonly string[]): void {
    const { term, checkpoint } = this.#head.spec;
    const named = new Set(this.#segments.map(({ name }) => name));
    for (let chunk = 0; chunk < checkpoint.chunks; chunk += 1) named.add(`${checkpoint.name}.${chunk}`);
    const present = [...segments.map(({ name }) => name), ...others];
    this.#garbage = present.filter((name) => !named.has(name) && termOf(name) <= term);
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    const { client, onWrite } = this.#options;
    for (let name = this.#garbage.at(-1); name !== undefined; name = this.#garbage.at(-1)) {
      try {
        await client.delete(SHARD_JOURNAL_SEGMENTS, { name }, { signal });
        onWrite?.('deletion', 0);
      } catch (error) {
        if (statusOf(error) !== 404) throw error;
      }
      this.#garbage.pop();
    }
  }
}

async function listed(list: TakeOver['list'], signal: AbortSignal): Promise<JournalFold> {
  const { items, resourceVersion } = await list(signal);
  return JournalFold.listed(items, resourceVersion);
}

function stored(fold: JournalFold, clock: Pick<Clock, 'now'>): StoredMark {
  return { ...fold.mark, at: new Date(clock.now()).toISOString() };
}

function newNonce(): string {
  return randomBytes(6).toString('hex');
}

/** No epoch that was granted before may be larger, as far as anybody can know: the clock is what epochs follow. */
function epochFloor({ clock }: Pick<JournalStoreOptions, 'clock'>, fold: JournalFold, ask: TakeOver): number {
  const { shards, departed = [] }: JournalState = fold.state;
  let highest = Math.max(Math.floor(clock.now() / 1000), ask.highestEpoch);
  for (const { epoch } of [...shards, ...departed]) highest = Math.max(highest, epoch);
  return highest;
}

async function writeCheckpoint(
  { client, name, onWrite }: JournalStoreOptions,
  term: number,
  sequence: number,
  state: JournalState,
  mark: StoredMark,
  signal: AbortSignal,
  last?: JournalHeadSpec['last'],
): Promise<CheckpointReference> {
  const unique = checkpointName(name, sequence, term, randomBytes(3).toString('hex'));
  const chunks = checkpointChunks(unique, state);
  for (const chunk of chunks) {
    await client.create(SHARD_JOURNAL_SEGMENTS, chunk, { signal });
    onWrite?.('checkpoint', JSON.stringify(chunk).length);
  }
  return { name: unique, chunks: chunks.length, mark, ...(last ? { last } : {}) };
}
