import type { Mark } from '@meshkit/shards/change';
import { ShardError } from '@meshkit/shards/errors';
import type {
  JournalEntry,
  JournalHead,
  JournalReader,
  JournalSlice,
  JournalState,
} from '@meshkit/shards/journal';
import type { Departed } from '@meshkit/shards/journal-fold';
import { JournalFold } from '@meshkit/shards/journal-fold';
import { journalExpired, marksOf, sliceAfter, sliceBefore } from '@meshkit/shards/journal-slice';
import { compareVersions } from '@meshkit/shards/records';
import type { ShardView } from '@meshkit/shards/shard-view';
import { type Chain, chainOf } from './journal-chain.ts';
import { checksumOf, damaged, decodeEntries, decodeState, isDamage } from './journal-codec.ts';
import {
  type CheckpointReference,
  INDEX_ANNOTATION,
  JOURNAL_NAME,
  parseIndex,
  type SegmentIndex,
  SHARD_JOURNAL_HEADS,
  SHARD_JOURNAL_SEGMENTS,
  type ShardJournalHead,
  type ShardJournalSegment,
} from './journal-objects.ts';
import { type KubeClient, listAll } from './kube-client.ts';
import { statusOf } from './kube-error.ts';

export interface JournalReaderOptions {
  client: Pick<KubeClient, 'get' | 'list'>;
  /** Of the head, and the beginning of the segments' names. Default: the one journal of a cluster. */
  name?: string;
  /** Entries that may be held decoded, over all segments. */
  cachedEntries?: number;
  /** A segment is missing or not what its writer wrote; called each time it is met. */
  onDamage?: (segment: string) => void;
}

/** About 60 MB at 1.5 kB an entry. */
const CACHED_ENTRIES = 40_000;
/** A segment may be merged into a bigger one between the list and the read; more often than this in a row it is gone. */
const LOOKS = 3;

interface Located {
  head: ShardJournalHead;
  chain: Chain;
}

/**
 * Reads the journal that is kept in the cluster itself: the head by quorum read, a metadata-only list of the segments as
 * its index, and segments on demand. Many readers at once cost one list and one read of each segment.
 */
export class KubernetesJournal implements JournalReader {
  readonly #client: Pick<KubeClient, 'get' | 'list'>;
  readonly #name: string;
  readonly #onDamage: (segment: string) => void;
  readonly #cache: EntryCache;
  #reading: Promise<ShardJournalHead | undefined> | undefined;
  #located: Located | undefined;
  #locating: { version: string; found: Promise<Chain> } | undefined;

  constructor(options: JournalReaderOptions) {
    this.#client = options.client;
    this.#name = options.name ?? JOURNAL_NAME;
    this.#onDamage = options.onDamage ?? (() => undefined);
    this.#cache = new EntryCache(options.cachedEntries ?? CACHED_ENTRIES);
  }

  async head(signal: AbortSignal): Promise<JournalHead | undefined> {
    const head = await this.#readHead(signal);
    return head && journalHead(head);
  }

  async *read(after: string, signal: AbortSignal): AsyncIterable<JournalSlice> {
    let from = after;
    let told: Mark | undefined;
    for (let look = 1; ; look += 1) {
      const { head, chain } = await this.#require(signal, look > 1);
      const about = journalHead(head);
      if (compareVersions(from, about.floor.position) < 0) throw journalExpired(from, about, 'that is gone');
      const groups = [...settledGroups(chain.segments)];
      const first = groups.findIndex((group) => compareVersions(group.at(-1)!.to.position, from) > 0);
      const begin = groups[first]?.[0];
      // What is broken lies before all that is there; whoever begins after it need not know.
      if (
        chain.broken &&
        (!begin || compareVersions(begin.from.position, from) > 0) &&
        isBehind(from, head)
      ) {
        throw this.#lost(from, about, `segment ${chain.broken.sequence} is missing`);
      }
      if (!begin) {
        if (!told) yield { from: about.mark, to: about.mark, entries: [], gaps: [] };
        return;
      }
      try {
        for (const group of groups.slice(first)) {
          // After another look it may begin with what was told: small segments are merged into larger ones.
          const slice = sliceAfter(await this.#slice(group, signal), from);
          if (told) checkContinuity(told, slice.from);
          yield slice;
          told = slice.to;
          from = told.position;
          look = 1;
        }
        return;
      } catch (error) {
        if (statusOf(error) === 404 && look < LOOKS) continue;
        if (statusOf(error) === 404) throw this.#lost(from, about, 'a segment is missing');
        if (isDamage(error)) throw this.#lost(from, about, 'a segment is damaged');
        throw error;
      }
    }
  }

  async *readBack(signal: AbortSignal): AsyncIterable<JournalSlice> {
    let told: Mark | undefined;
    for (let look = 1; ; look += 1) {
      const { chain, head } = await this.#require(signal, look > 1);
      const groups = [...settledGroups(chain.segments)].toReversed();
      const about = journalHead(head);
      try {
        for (const group of groups) {
          if (told && compareVersions(group[0]!.from.position, told.position) >= 0) continue;
          const whole = await this.#slice(group, signal);
          // After another look it may end with what was told.
          const slice: JournalSlice = told ? sliceBefore(whole, told) : whole;
          if (told) checkContinuity(slice.to, told);
          yield slice;
          told = slice.from;
          look = 1;
        }
        if (chain.broken)
          throw this.#lost(told?.position ?? about.mark.position, about, 'a segment is missing');
        return;
      } catch (error) {
        if (statusOf(error) === 404 && look < LOOKS) continue;
        if (statusOf(error) === 404 || isDamage(error)) {
          throw this.#lost(told?.position ?? about.mark.position, about, 'a segment is missing or damaged');
        }
        throw error;
      }
    }
  }

  async state(signal: AbortSignal): Promise<JournalState | undefined> {
    for (let look = 1; ; look += 1) {
      const located = await this.#locate(signal, look > 1);
      if (!located) return undefined;
      const { head, chain } = located;
      try {
        const fold = await readState(
          this.#client,
          head,
          chain,
          (segment) => this.#entries(segment, signal),
          signal,
        );
        return fold.state;
      } catch (error) {
        if (statusOf(error) === 404 && look < LOOKS) continue;
        if (statusOf(error) === 404) throw damaged('a part of the newest state is missing', error);
        throw error;
      }
    }
  }

  #lost(position: string, about: JournalHead, why: string): ShardError {
    this.#onDamage(why);
    return journalExpired(position, about, why);
  }

  async #require(signal: AbortSignal, anew: boolean): Promise<Located> {
    const located = await this.#locate(signal, anew);
    if (located) return located;
    throw new ShardError('unavailable', 'the journal is still empty', { reason: 'noJournal' });
  }

  /**
   * Head and index are read one after the other: what the head names may have been merged into others, and deleted, in
   * between. A chain is broken only when the head has not moved on since.
   */
  async #locate(signal: AbortSignal, anew: boolean): Promise<Located | undefined> {
    let head = await this.#readHead(signal);
    for (let look = 1; head; look += 1) {
      const chain = await this.#chain(head, signal, anew || look > 1);
      if (!chain.broken || look >= LOOKS) return { head, chain };
      // Not one that was under way before the index was read.
      const newer = await readHead(this.#client, this.#name, signal);
      if (newer?.metadata.resourceVersion === head.metadata.resourceVersion) return { head, chain };
      head = newer;
    }
    return undefined;
  }

  /** One read for all who ask while it is under way, so without the asker's signal; its deadline is the client's own. */
  async #readHead(signal: AbortSignal): Promise<ShardJournalHead | undefined> {
    this.#reading ??= readHead(this.#client, this.#name).finally(() => {
      this.#reading = undefined;
    });
    const head = await this.#reading;
    signal.throwIfAborted();
    return head;
  }

  async #chain(head: ShardJournalHead, signal: AbortSignal, anew: boolean): Promise<Chain> {
    const version = head.metadata.resourceVersion ?? '';
    const known = this.#located;
    if (!anew && known?.head.metadata.resourceVersion === version) return known.chain;
    if (this.#locating?.version !== version) {
      // Not the asker's signal: others wait for the same list. Its deadline is the client's own.
      const found = readCatalog(this.#client, this.#name).then(({ segments }) => {
        const chain = chainOf(segments, head.spec);
        this.#located = { head, chain };
        return chain;
      });
      const locating = { version, found };
      this.#locating = locating;
      const done = () => {
        if (this.#locating === locating) this.#locating = undefined;
      };
      found.then(done, done);
    }
    const chain = await this.#locating!.found;
    signal.throwIfAborted();
    return chain;
  }

  /** Segments between which no state is settled are one slice. */
  async #slice(group: readonly SegmentIndex[], signal: AbortSignal): Promise<JournalSlice> {
    const entries: JournalEntry[] = [];
    for (const segment of group)
      for (const entry of await this.#entries(segment, signal)) entries.push(entry);
    const { at: _, ...to } = group.at(-1)!.to;
    return { from: group[0]!.from, to, entries, gaps: gapsOf(group) };
  }

  async #entries(segment: SegmentIndex, signal: AbortSignal): Promise<readonly JournalEntry[]> {
    const entries = await this.#cache.get(segment, () => readSegment(this.#client, segment));
    signal.throwIfAborted();
    return entries;
  }
}

/** Where one slice ends the next one begins: what lies between them would be told by nobody. */
function checkContinuity(end: Mark, begin: Mark): void {
  if (end.anchor !== begin.anchor || compareVersions(begin.position, end.position) > 0) {
    throw damaged(`what begins at position ${begin.position} does not continue what ends at ${end.position}`);
  }
}

function isBehind(position: string, { spec }: ShardJournalHead): boolean {
  return compareVersions(position, spec.mark.position) < 0;
}

function gapsOf(group: readonly SegmentIndex[]) {
  const gaps = new Map(group.flatMap((segment) => segment.gaps).map((gap) => [`${gap.from}-${gap.to}`, gap]));
  return [...gaps.values()];
}

/** Runs of segments that begin and end at settled states. */
export function* settledGroups(segments: readonly SegmentIndex[]): Generator<SegmentIndex[]> {
  let group: SegmentIndex[] = [];
  for (const segment of segments) {
    group.push(segment);
    if (segment.to.partial) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

export function journalHead({ spec }: ShardJournalHead): JournalHead {
  const { nonce, term, mark, floor } = spec;
  const { at: _, ...newest } = mark;
  return { nonce, term, mark: newest, floor };
}

/** Undefined when there is none. Rejects with `unavailable` (reason `noJournal`) where there cannot be one for us. */
export async function readHead(
  client: Pick<KubeClient, 'get'>,
  name: string,
  signal?: AbortSignal,
): Promise<ShardJournalHead | undefined> {
  try {
    return await client.get(SHARD_JOURNAL_HEADS, { name }, { signal });
  } catch (error) {
    if (!(error instanceof ShardError)) throw error;
    // Of a kind that it knows, the server names the object that it misses.
    const isKnown = String(error.details.message).includes(`"${name}"`);
    if (statusOf(error) === 404 && isKnown) return undefined;
    if (statusOf(error) === 404 || statusOf(error) === 403) {
      throw new ShardError('unavailable', error.message, { ...error.details, reason: 'noJournal' }, error);
    }
    throw error;
  }
}

/** What a metadata-only list tells of a journal. */
export interface Catalog {
  segments: SegmentIndex[];
  /** Names of the chunks of checkpoints, and of what cannot be told to be anything. */
  others: string[];
}

export async function readCatalog(
  client: Pick<KubeClient, 'list'>,
  name: string,
  signal?: AbortSignal,
): Promise<Catalog> {
  const { items } = await listAll(client, SHARD_JOURNAL_SEGMENTS, { metadataOnly: true, signal });
  const catalog: Catalog = { segments: [], others: [] };
  for (const { metadata } of items) {
    if (!metadata.name.startsWith(`${name}.`)) continue;
    const index = parseIndex(metadata.name, metadata.annotations?.[INDEX_ANNOTATION]);
    if (index) catalog.segments.push({ ...index, uid: metadata.uid });
    else catalog.others.push(metadata.name);
  }
  return catalog;
}

/** Throws damage, or the 404 of a segment that is gone. */
export async function readSegment(
  client: Pick<KubeClient, 'get'>,
  segment: SegmentIndex,
  signal?: AbortSignal,
): Promise<JournalEntry[]> {
  const { name } = segment;
  const object = await client.get(SHARD_JOURNAL_SEGMENTS, { name }, { signal });
  verify(object, 'Entries');
  const entries = decodeEntries(object.spec.data, object.spec.encoding);
  const end = marksOf(segment.from, entries).at(-1)?.anchor ?? segment.from.anchor;
  if (entries.length !== segment.entries || end !== segment.to.anchor) {
    throw damaged(`segment ${name} does not lead from its beginning to its end`);
  }
  return entries;
}

function verify({ metadata, spec }: ShardJournalSegment, type: ShardJournalSegment['spec']['type']): void {
  const { encoding, checksum, data } = spec;
  const index = metadata.annotations?.[INDEX_ANNOTATION] ?? '';
  if (spec.type !== type || checksum !== checksumOf(`${type} ${encoding} ${index}`, data)) {
    throw damaged(`segment ${metadata.name} is not what was written`);
  }
}

/** The state at the head. Throws damage when a part of it is not what was written, 404 when one is gone. */
export async function readState(
  client: Pick<KubeClient, 'get'>,
  { spec }: ShardJournalHead,
  chain: Chain,
  entriesOf: (segment: SegmentIndex) => Promise<readonly JournalEntry[]>,
  signal: AbortSignal,
): Promise<JournalFold> {
  const fold = await readCheckpoint(client, spec.checkpoint, signal);
  const since = spec.checkpoint.last?.sequence ?? 0;
  const later = chain.segments.filter(({ last }) => last.sequence > since);
  // A merged segment may begin before the checkpoint: what the checkpoint has of it is passed over.
  let reached: string = spec.checkpoint.mark.position;
  for (const segment of later) {
    for (const entry of await entriesOf(segment)) {
      if (compareVersions(entry.position, spec.checkpoint.mark.position) > 0) fold.apply(entry);
    }
    reached = segment.to.position;
  }
  fold.advance(reached);
  if (fold.mark.anchor !== spec.mark.anchor || reached !== spec.mark.position) {
    throw damaged('checkpoint and segments do not lead to the head');
  }
  return fold;
}

async function readCheckpoint(
  client: Pick<KubeClient, 'get'>,
  { name, chunks, mark }: CheckpointReference,
  signal: AbortSignal,
): Promise<JournalFold> {
  const shards: ShardView[] = [];
  const departed: Departed[] = [];
  for (let chunk = 0; chunk < chunks; chunk += 1) {
    const object = await client.get(SHARD_JOURNAL_SEGMENTS, { name: `${name}.${chunk}` }, { signal });
    verify(object, 'Checkpoint');
    const part = decodeState(object.spec.data, object.spec.encoding);
    for (const view of part.shards) shards.push(view);
    for (const one of part.departed) departed.push(one);
  }
  const fold = new JournalFold({ mark, shards, departed });
  if (fold.mark.anchor !== mark.anchor)
    throw damaged(`checkpoint ${name} is not the state that it was made of`);
  return fold;
}

/** The newest decoded segments; each is read once, however many wait for it. */
class EntryCache {
  readonly #limit: number;
  readonly #held = new Map<string, { entries: Promise<readonly JournalEntry[]>; count: number }>();
  #count = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(segment: SegmentIndex, read: () => Promise<JournalEntry[]>): Promise<readonly JournalEntry[]> {
    // By uid: after a restore, another segment may get the same name.
    const key = `${segment.uid} ${segment.name}`;
    const known = this.#held.get(key);
    if (known) {
      this.#held.delete(key);
      this.#held.set(key, known);
      return known.entries;
    }
    const entries = read();
    const held = { entries, count: segment.entries };
    this.#held.set(key, held);
    this.#count += held.count;
    // A failure is not remembered: the next one may ask again.
    entries.catch(() => this.#forget(key, held));
    for (const [oldest, other] of this.#held) {
      if (this.#count <= this.#limit || other === held) break;
      this.#forget(oldest, other);
    }
    return entries;
  }

  #forget(key: string, held: { count: number }): void {
    if (this.#held.get(key) !== held) return;
    this.#held.delete(key);
    this.#count -= held.count;
  }
}
