import type { HistoryEntry, RunHistory, ShardState, ToldEntry, WatcherInfo } from './history.ts';
import { passes, sameState, Truth, type TruthEvent } from './truth.ts';
import type { Counter, Violation } from './violation.ts';

/** `recentTransitions` holds this many hops: so many can be told one by one after lost history. */
const REMEMBERED_HOPS = 8;
const LEAVES = 'leaves by ';
const GONE = 'gone ';

/** A hop of one life of a shard: who has it now, in which epoch and phase; or its end, or its leaving the filter by such a hop. */
interface Hop {
  id: string;
  uid: string;
  position: bigint;
  enters: boolean;
  leaves: boolean;
}

/**
 * Behind the client package every hop of ownership is told once and in order, shard by shard, through every cut and resume;
 * what is left out has to be covered by an explicit reset, or by `coalesced` where that was asked for or cannot be helped.
 */
export function checkHops({ header, entries }: RunHistory): Violation[] {
  const truth = new Truth(entries);
  const gaps = header.mayRelist ? faultSpans(entries) : [];
  const lives = endedLives(truth);
  const hopsOfLife = new Map<string, number>();
  const edited = new Set<string>();
  const ids = new Map<string, string>();
  for (const { after, before, era } of truth.events) {
    // Versions begin anew in a restored cluster, whose hops are not checked.
    if (!after || era > 0) continue;
    const isHop = before?.uid !== after.uid || ownershipOf(after) !== ownershipOf(before);
    if (isHop) hopsOfLife.set(after.uid, (hopsOfLife.get(after.uid) ?? 0) + 1);
    else edited.add(after.uid);
    const id = isHop ? `${after.uid} v${after.version} ${ownershipOf(after)}` : ids.get(versionOf(before));
    // A state that was written again under one version is still the hop that it was.
    if (id !== undefined && (isHop || !ids.has(versionOf(after)))) ids.set(versionOf(after), id);
  }
  return header.watchers
    .filter(({ kind }) => kind === 'client')
    .flatMap((watcher) =>
      new HopCheck(watcher, { header, truth, gaps, lives, hopsOfLife, edited, ids }).run(entries),
    );
}

interface Context {
  header: RunHistory['header'];
  truth: Truth;
  /** Positions between which API servers may have had no watch. */
  gaps: { from: bigint; to: bigint }[];
  /** Uids that are no more. */
  lives: ReadonlySet<string>;
  hopsOfLife: ReadonlyMap<string, number>;
  /** Uids of shards of which something changed that was no hop: a list tells only that there was more. */
  edited: ReadonlySet<string>;
  /** `uid version` -> the hop that it belongs to: not every version is one. */
  ids: ReadonlyMap<string, string>;
}

class HopCheck {
  readonly #watcher: WatcherInfo;
  readonly #context: Context;
  readonly #violations: Violation[] = [];
  /** By key: what is to be told from the baseline on, and how far it was. */
  #expected = new Map<string, { hops: Hop[]; next: number; base: string }>();
  /** By key: what was told last. */
  readonly #last = new Map<string, ToldEntry>();
  /** By key: the position of the newest list that said that the shard is gone. */
  readonly #verdicts = new Map<string, bigint>();
  #era = 0;
  #checking = false;

  constructor(watcher: WatcherInfo, context: Context) {
    this.#watcher = watcher;
    this.#context = context;
  }

  run(entries: readonly HistoryEntry[]): Violation[] {
    const { id, allowCoalescing } = this.#watcher;
    let synced = 0;
    let reset = false;
    for (const entry of entries) {
      if (entry.kind === 'quiet' && this.#checking) this.#finish();
      if (!('watcher' in entry) || entry.watcher !== id) continue;
      if (entry.kind === 'reset') {
        if (!this.#context.header.mayReset.includes(entry.reason))
          this.#add('unexpectedResets', 'reset', entry.reason);
        reset = true;
        this.#checking = false;
        // After a restore positions are of another history, and only states can be compared.
        if (this.#context.truth.eras > 1) return this.#violations;
      } else if (entry.kind === 'mark' && entry.type === 'SYNCED') {
        // Listed again without a reset, after a stretch that was reconstructed: no excuse for leaving out a hop.
        if (synced === 0 || reset || allowCoalescing) this.#begin(BigInt(entry.position));
        synced += 1;
        reset = false;
      } else if (entry.kind === 'told' && this.#checking) {
        const gone = entry.type === 'DELETED';
        const { state } = entry;
        this.#told(entry, state ? `${gone ? LEAVES : ''}${this.#idOf(state)}` : `${GONE}${entry.uid}`);
      }
    }
    return this.#violations;
  }

  /** Everything up to the position is known; what comes after it is to be told. */
  #begin(position: bigint): void {
    const base = this.#context.truth.at(this.#era, position);
    this.#expected = new Map(
      [...base].map(([key, state]) => [key, { hops: [], next: 0, base: this.#idOf(state) }]),
    );
    this.#checking = true;
    for (const event of this.#context.truth.events) {
      if (event.era !== this.#era || event.position <= position) continue;
      const hop = this.#hopOf(event);
      if (!hop) continue;
      const known = this.#expected.get(event.key) ?? { hops: [], next: 0, base: '' };
      known.hops.push(hop);
      this.#expected.set(event.key, known);
    }
  }

  /** Undefined for what is no hop, or not seen through the filter. */
  #hopOf({ key, before, after, position }: TruthEvent): Hop | undefined {
    const was = passes(this.#watcher, key, before);
    const is = passes(this.#watcher, key, after);
    const uid = (after ?? before)!.uid;
    const place = { uid, position, enters: is && !was, leaves: was && !is };
    if (!after) return was ? { ...place, id: `${GONE}${uid}` } : undefined;
    if (before && this.#idOf(before) === this.#idOf(after)) return undefined;
    if (is) return { ...place, id: this.#idOf(after) };
    return was ? { ...place, id: `${LEAVES}${this.#idOf(after)}` } : undefined;
  }

  /** Of the hop that led to the state; what was told of it has to be what was written. */
  #idOf(state: ShardState): string {
    const id = this.#context.ids.get(versionOf(state));
    const ownership = ownershipOf(state);
    return id?.endsWith(` ${ownership}`) ? id : `${versionOf(state)} ${ownership}, which never was`;
  }

  #told(entry: ToldEntry, id: string): void {
    const { key, uid, position, coalesced } = entry;
    const earlier = this.#last.get(key);
    this.#last.set(key, entry);
    const known = this.#expected.get(key);
    const hops = known?.hops ?? [];
    const next = known?.next ?? 0;
    const found = hops.findIndex((hop, at) => at >= next && hop.id === id);
    const hidesEdits = coalesced !== undefined && !this.#mayCoalesce(uid) && this.#mayHideEdits(uid);
    if (coalesced !== undefined && !this.#mayCoalesce(uid) && !hidesEdits)
      this.#add('coalescedUnexpected', 'coalesced', `${key} ${id} at ${position} stands for ${coalesced}`);
    if (found >= 0) {
      if (entry.type === 'DELETED' && entry.source === 'reconcile') this.#verdicts.set(key, BigInt(position));
      this.#skip(key, hops.slice(next, found), hidesEdits ? 0 : (coalesced ?? 1) - 1);
      known!.next = found + 1;
      return;
    }
    // No hop: an edit of the spec, a new endpoint; or a hop that was told before, which only a program that began again may hear.
    if (this.#watcher.restarts) return;
    const isEdit =
      id === (hops[next - 1]?.id ?? known?.base) && !id.startsWith(LEAVES) && !id.startsWith(GONE);
    if (isEdit) {
      const isNews =
        !earlier || !sameState(earlier.state, entry.state) || this.#happened(key, earlier.position, position);
      if (!isNews) this.#add('duplicated', 'toldAgain', `${key} ${id} at ${position}`);
      return;
    }
    const before = hops.findIndex((hop) => hop.id === id);
    if (before >= 0)
      this.#add(before === next - 1 ? 'duplicated' : 'outOfOrder', 'hopAgain', `${key} ${id} at ${position}`);
    else if (!this.#mayCoalesce(uid)) this.#add('outOfOrder', 'hopNeverWas', `${key} ${id} at ${position}`);
  }

  /** Whether something of the shard was written at that very position, later than what was told before. */
  #happened(key: string, after: string, position: string): boolean {
    const at = BigInt(position);
    return (
      at > BigInt(after) &&
      this.#context.truth.events.some((event) => event.key === key && event.position === at)
    );
  }

  #finish(): void {
    for (const [key, known] of this.#expected) {
      this.#skip(key, known.hops.slice(known.next), 0);
      known.next = known.hops.length;
    }
  }

  /** `covered`: so many hops may have been left out, as is said. */
  #skip(key: string, hops: readonly Hop[], covered: number): void {
    // Merged away altogether: came and went between two looks.
    if (this.#watcher.allowCoalescing && hops[0]?.enters && (hops.at(-1)?.leaves ?? false)) return;
    const lost = hops.filter((hop) => !this.#isUnknowable(key, hop));
    if (lost.length <= covered) return;
    const detail = lost.map(({ id, position }) => `${id} at ${position}`).join(', ');
    for (const _ of lost) this.#add('missed', 'hopMissed', `${key}: ${detail}`);
  }

  /** It happened while nobody watched, to a shard that was gone when somebody looked again. */
  #isUnknowable(key: string, { id, uid, position }: Hop): boolean {
    // Nobody owned it yet: what is reconstructed begins with its first owner.
    if (id.endsWith(' e0 Pending -')) return true;
    const { gaps, lives } = this.#context;
    if (!lives.has(uid)) return false;
    // "It is gone, as a list says": whoever is told that knows that there may have been more.
    if (position <= (this.#verdicts.get(key) ?? -1n)) return true;
    return gaps.some(({ from, to }) => from <= position && position <= to);
  }

  #mayCoalesce(uid: string): boolean {
    const { header, hopsOfLife, lives } = this.#context;
    if (this.#watcher.allowCoalescing) return true;
    return header.mayRelist && ((hopsOfLife.get(uid) ?? 0) > REMEMBERED_HOPS || lives.has(uid));
  }

  /** What it stands for beside itself was no hop, since of so few all are told. */
  #mayHideEdits(uid: string): boolean {
    return this.#context.header.mayRelist && this.#context.edited.has(uid);
  }

  #add(counter: Counter, check: string, detail: string): void {
    this.#violations.push({ counter, check, subject: this.#watcher.id, detail });
  }
}

function ownershipOf({ epoch, phase, owner }: ShardState): string {
  return `e${epoch} ${phase} ${owner ?? '-'}`;
}

function versionOf({ uid, version }: ShardState): string {
  return `${uid} ${version}`;
}

function endedLives(truth: Truth): Set<string> {
  const ended = new Set<string>();
  for (const { before, after } of truth.events)
    if (before && before.uid !== after?.uid) ended.add(before.uid);
  return ended;
}

/** Between the beginning and the end of each fault. */
function faultSpans(entries: readonly HistoryEntry[]): { from: bigint; to: bigint }[] {
  const spans: { from: bigint; to: bigint }[] = [];
  const open = new Map<string, bigint>();
  for (const entry of entries) {
    if (entry.kind !== 'fault') continue;
    if (entry.phase === 'begin') open.set(entry.what, BigInt(entry.position));
    else spans.push({ from: open.get(entry.what) ?? 0n, to: BigInt(entry.position) });
  }
  return spans;
}
