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
  const outages = header.mayRelist ? outagesOf(entries) : [];
  const ends = new Map<string, bigint>();
  const hopsOfLife = new Map<string, bigint[]>();
  const editsOfLife = new Map<string, bigint[]>();
  const ids = new Map<string, string>();
  for (const { after, before, era, position } of truth.events) {
    if (before && before.uid !== after?.uid) ends.set(lifeOf(era, before.uid), position);
    if (!after) continue;
    const isHop = before?.uid !== after.uid || ownershipOf(after) !== ownershipOf(before);
    const life = lifeOf(era, after.uid);
    const places = isHop ? hopsOfLife : editsOfLife;
    places.set(life, [...(places.get(life) ?? []), position]);
    const id = isHop
      ? `${after.uid} v${after.version} ${ownershipOf(after)}`
      : ids.get(versionOf(era, before));
    // A state that was written again under one version is still the hop that it was.
    if (id !== undefined && (isHop || !ids.has(versionOf(era, after)))) ids.set(versionOf(era, after), id);
  }
  return header.watchers
    .filter(({ kind }) => kind === 'client')
    .flatMap((watcher) =>
      new HopCheck(watcher, { header, truth, outages, ends, hopsOfLife, editsOfLife, ids }).run(entries),
    );
}

/** Positions between which API servers may have had no watch. */
interface Outage {
  era: number;
  /** All of them know what is up to here. */
  from: bigint;
  to: bigint;
}

interface Context {
  header: RunHistory['header'];
  truth: Truth;
  outages: readonly Outage[];
  /** By life (see `lifeOf`): where it ended. */
  ends: ReadonlyMap<string, bigint>;
  hopsOfLife: ReadonlyMap<string, readonly bigint[]>;
  /** Where something changed that was no hop: a list tells only that there was more. */
  editsOfLife: ReadonlyMap<string, readonly bigint[]>;
  /** See `versionOf`: the hop that a version belongs to; not every one is a hop. */
  ids: ReadonlyMap<string, string>;
}

class HopCheck {
  readonly #watcher: WatcherInfo;
  readonly #context: Context;
  readonly #violations: Violation[] = [];
  /** By key: what is to be told from the baseline on, and how far it was. */
  #expected = new Map<string, { hops: Hop[]; next: number; base: string }>();
  /** By key: what was told last. */
  #last = new Map<string, ToldEntry>();
  /** By key: the position of the newest list that said that the shard is gone. */
  #verdicts = new Map<string, bigint>();
  /** The history that it was told of last. */
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
    let newest = 0;
    for (const entry of entries) {
      if (entry.kind === 'restored') newest += 1;
      if (entry.kind === 'quiet' && this.#checking) this.#finish();
      if (!('watcher' in entry) || entry.watcher !== id) continue;
      if (entry.kind === 'reset') {
        reset = true;
        this.#checking = false;
        // Of an API server that does not know yet it may still be the history before, in which nothing happens any more.
        if (newest > this.#era) this.#enter(newest);
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

  /** Positions and versions of the history before say nothing in this one. */
  #enter(era: number): void {
    this.#era = era;
    this.#last = new Map();
    this.#verdicts = new Map();
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
    const id = this.#context.ids.get(versionOf(this.#era, state));
    const ownership = ownershipOf(state);
    return id?.endsWith(` ${ownership}`)
      ? id
      : `${state.uid} v${state.version} ${ownership}, which never was`;
  }

  #told(entry: ToldEntry, id: string): void {
    const { key, uid, position, coalesced } = entry;
    const earlier = this.#last.get(key);
    this.#last.set(key, entry);
    const known = this.#expected.get(key);
    const hops = known?.hops ?? [];
    const next = known?.next ?? 0;
    const found = hops.findIndex((hop, index) => index >= next && hop.id === id);
    const at = BigInt(position);
    const isMerged = coalesced !== undefined && !this.#mayCoalesce(uid, at);
    // What it stands for beside itself was no hop, since of so few all are told.
    const hidesEdits = isMerged && this.#inOutage(this.#context.editsOfLife, uid, at) > 0;
    if (isMerged && !hidesEdits)
      this.#add('coalescedUnexpected', 'coalesced', `${key} ${id} at ${position} stands for ${coalesced}`);
    if (found >= 0) {
      if (entry.type === 'DELETED' && entry.source === 'reconcile') this.#verdicts.set(key, at);
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
    else if (!this.#mayCoalesce(uid, at) && !this.#endedInOutage(uid, at))
      this.#add('outOfOrder', 'hopNeverWas', `${key} ${id} at ${position}`);
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

  /** It happened while an API server did not watch, to a shard that was gone when it looked again. */
  #isUnknowable(key: string, { id, uid, position }: Hop): boolean {
    const { header, ends } = this.#context;
    if (!header.mayReconstruct) return false;
    // Nobody owned it yet: what is reconstructed begins with its first owner.
    if (id.endsWith(' e0 Pending -')) return true;
    const end = ends.get(lifeOf(this.#era, uid));
    // "It is gone, as a list says": whoever is told that knows that there may have been more.
    if (end !== undefined && end <= (this.#verdicts.get(key) ?? -1n)) return true;
    return this.#endedInOutage(uid, position);
  }

  /** Of that life, nothing can be told that was in the same outage as its end. */
  #endedInOutage(uid: string, position: bigint): boolean {
    const end = this.#context.ends.get(lifeOf(this.#era, uid));
    return end !== undefined && this.#outagesAt(position).some((outage) => isIn(outage, end));
  }

  /** Asked for, or one outage had more hops of that life than a shard remembers of itself. */
  #mayCoalesce(uid: string, position: bigint): boolean {
    return (
      this.#watcher.allowCoalescing ||
      this.#inOutage(this.#context.hopsOfLife, uid, position) > REMEMBERED_HOPS
    );
  }

  /** How many of those of that life lie in the outage at a position. */
  #inOutage(places: Context['hopsOfLife'], uid: string, position: bigint): number {
    const ofLife = places.get(lifeOf(this.#era, uid)) ?? [];
    const counts = this.#outagesAt(position).map(
      (outage) => ofLife.filter((place) => isIn(outage, place)).length,
    );
    return Math.max(0, ...counts);
  }

  #outagesAt(position: bigint): Outage[] {
    return this.#context.outages.filter((outage) => outage.era === this.#era && isIn(outage, position));
  }

  #add(counter: Counter, check: string, detail: string): void {
    this.#violations.push({ counter, check, subject: this.#watcher.id, detail });
  }
}

function ownershipOf({ epoch, phase, owner }: ShardState): string {
  return `e${epoch} ${phase} ${owner ?? '-'}`;
}

/** Uids and versions come again after a restore, with another life behind them. */
function lifeOf(era: number, uid: string): string {
  return `${era} ${uid}`;
}

function versionOf(era: number, { uid, version }: ShardState): string {
  return `${lifeOf(era, uid)} ${version}`;
}

function isIn({ from, to }: Outage, position: bigint): boolean {
  return from < position && position <= to;
}

/** Between the beginning and the end of each fault; after a restore, from there on. */
function outagesOf(entries: readonly HistoryEntry[]): Outage[] {
  const outages: Outage[] = [];
  const open = new Map<string, bigint>();
  let era = 0;
  for (const entry of entries) {
    if (entry.kind === 'restored') {
      era += 1;
      for (const what of open.keys()) open.set(what, BigInt(entry.position));
    }
    if (entry.kind !== 'fault') continue;
    const position = BigInt(entry.position);
    if (entry.phase === 'begin') open.set(entry.what, position);
    else {
      outages.push({ era, from: open.get(entry.what) ?? 0n, to: position });
      open.delete(entry.what);
    }
  }
  return outages;
}
