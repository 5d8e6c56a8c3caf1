import { setImmediate as nextTurn } from 'node:timers/promises';
import { comparePoints, type Point } from '@meshkit/shards/change';
import type { Clock } from '@meshkit/shards/clock';
import { filterDigest } from '@meshkit/shards/cursor';
import { type LogItem, logItem, NetFold, placeOf, summaryOf } from '@meshkit/shards/diff';
import { ShardError } from '@meshkit/shards/errors';
import { shardMatches } from '@meshkit/shards/filter';
import { openPlace, sealPlace } from '@meshkit/shards/history-cursor';
import type { Gap } from '@meshkit/shards/journal';
import { entryOf } from '@meshkit/shards/journal-fold';
import { gapAround } from '@meshkit/shards/journal-slice';
import { notAMoment, parseMoment } from '@meshkit/shards/moment';
import { invalid } from '@meshkit/shards/problem';
import { compareVersions } from '@meshkit/shards/records';
import type {
  DiffPage,
  DiffRequest,
  HistoryPage,
  HistoryPoint,
  HistoryRequest,
  ShardFilter,
} from '@meshkit/shards/repository';
import { openAnyResumeToken } from '@meshkit/shards/resume-token';
import type { JournalArchive, Replay, Stretch } from './journal-archive.ts';
import type { Told } from './ring.ts';
import type { Timeline } from './timeline.ts';

export interface HistoryReaderOptions {
  timeline: Timeline;
  journal: JournalArchive;
  lineage: () => string;
  clock: Pick<Clock, 'now'>;
}

/** Consecutive changes, oldest first, and the states after the range's beginning that nobody knows. */
interface Part {
  /** Of the first part: the settled state that the changes come after. */
  from?: string;
  entries: readonly Told[];
  gaps: readonly Gap[];
}

/** So many changes are looked at before other work of the process gets its turn. */
const TURN = 1_000;

/** What happened, from the journal and, where it ends, from the ring. */
export class HistoryReader {
  readonly #options: HistoryReaderOptions;

  constructor(options: HistoryReaderOptions) {
    this.#options = options;
  }

  /** See `ShardRepository.diff`. */
  async diff(filter: ShardFilter, request: DiffRequest, signal: AbortSignal): Promise<DiffPage> {
    const { mode, limit, cursor } = request;
    const about = `${mode} ${filterDigest(filter)}`;
    const place = cursor === undefined ? undefined : this.#place(about, cursor);
    let { from, to } = place ?? (await this.#range(request, signal));
    const [inside, later] = [new NetFold(), new NetFold()];
    const log: LogItem[] = [];
    let more = false;
    for await (const part of this.#since(from.position, signal)) {
      if (part.from !== undefined && part.from !== from.position) from = { ...from, position: part.from };
      const gap = gapAround(part.gaps, to.position);
      if (gap) to = { ...to, position: gap.from };
      for (const told of part.entries) {
        const { change } = told;
        if (compareVersions(change.position, to.position) > 0) {
          later.add(change);
          continue;
        }
        inside.add(change);
        const passes = [change.before, change.after].some((record) => record && shardMatches(filter, record));
        if (mode === 'net' || !passes || (place && comparePoints(change, pointOf(place.after)) <= 0))
          continue;
        if (log.length < limit) log.push(logItem(entryOf(change, told.at)));
        else more = true;
      }
    }
    const net = inside.items(filter);
    // What is now, without what came after the range.
    const shards = this.#options.timeline.all(filter).length - later.growth(filter);
    const rest = place ? net.filter((item) => placeOf(item) > place.after) : net;
    const items = mode === 'net' ? rest.slice(0, limit) : log;
    if (mode === 'net') more = rest.length > limit;
    const last = items.at(-1);
    const after = !last ? '' : 'ordinal' in last ? textOf(last) : placeOf(last);
    const lineage = this.#options.lineage();
    const next = more ? sealPlace(about, { lineage, from, to, after }) : undefined;
    const summary = summaryOf(net, shards);
    return { mode, lineage, from, to, summary, items, next, coalesced: inside.coalesced } as DiffPage;
  }

  /** See `ShardRepository.history`. */
  async history(request: HistoryRequest, signal: AbortSignal): Promise<HistoryPage> {
    const { timeline, lineage } = this.#options;
    const { namespace, name, limit, cursor, since } = request;
    const key = `${namespace}/${name}`;
    const place = cursor === undefined ? undefined : this.#place(key, cursor);
    const asked = since === undefined ? undefined : await this.#moment('since', since, signal);
    const from = place?.from ?? asked ?? { position: '0' };
    const items: LogItem[] = [];
    let known = timeline.get(namespace, name) !== undefined;
    let complete = true;
    /** The oldest that was told of it. */
    let oldest: Told | undefined;
    for await (const { told, again } of this.#back(signal)) {
      const { change } = told;
      complete = compareVersions(change.position, from.position) > 0 && items.length <= limit;
      if (!complete) break;
      if (change.key !== key || (again && oldest && !isEarlier(told, oldest))) continue;
      known = true;
      oldest = told;
      if (place && comparePoints(change, pointOf(place.after)) >= 0) continue;
      items.push(logItem(entryOf(change, told.at)));
    }
    if (!known && complete) {
      const detail = 'no such shard, and the history that is kept does not tell of one';
      throw new ShardError(
        'notFound',
        `there is no shard ${name} in namespace ${namespace}, and never was as far as is known`,
        {
          errors: [{ pointer: '/path/name', detail }],
        },
      );
    }
    // Read last: what was forgotten meanwhile may be missing from the answer.
    const { floor } = await this.#head(signal);
    const more = items.length > limit;
    if (more) items.pop();
    const last = items.at(-1);
    const range = { lineage: lineage(), from, to: { position: timeline.position } };
    const next = more && last ? sealPlace(key, { ...range, after: textOf(last) }) : undefined;
    return { namespace, name, floor, items, next };
  }

  #place(about: string, cursor: string) {
    const place = openPlace(about, cursor);
    if (place.lineage !== this.#options.lineage()) throw otherLineage('cursor');
    return place;
  }

  async #range({ from, to }: DiffRequest, signal: AbortSignal) {
    if (from === undefined) {
      const detail =
        'is required: a resume token, a position, a time (RFC 3339) or a duration before now, such as 10m';
      throw invalid([{ pointer: '/query/from', detail }]);
    }
    await this.#head(signal);
    const end =
      to === undefined ? { position: this.#options.timeline.position } : await this.#moment('to', to, signal);
    const start = await this.#moment('from', from, signal);
    // Where nothing changed in between, only the times tell.
    const isLater = Date.parse(start.at ?? '') > Date.parse(end.at ?? '');
    if (isLater || compareVersions(start.position, end.position) > 0) {
      throw invalid([{ pointer: '/query/from', detail: 'is after the end of the range' }]);
    }
    return { from: start, to: end };
  }

  /** The journal's floor and head. Throws `unavailable` where there is no journal. */
  async #head(signal: AbortSignal) {
    const { journal, timeline } = this.#options;
    const head = await journal.head(signal);
    if (!head || timeline.branch !== '') {
      throw new ShardError('unavailable', 'there is no journal of this history: the operator writes it', {
        reason: 'noJournal',
      });
    }
    return { floor: { position: head.floor.position, at: head.floor.at }, head };
  }

  async #moment(name: string, text: string, signal: AbortSignal): Promise<HistoryPoint> {
    const { timeline, clock } = this.#options;
    const moment = parseMoment(text, clock.now());
    if (moment.kind === 'time') return this.#atTime(moment.at, signal);
    const position = moment.kind === 'position' ? moment.position : this.#tokenPosition(name, moment.token);
    if (compareVersions(position, timeline.position) <= 0) return { position };
    const detail = `this server has not seen position ${position}`;
    throw new ShardError('unavailable', `${detail}; try again, or ask for an earlier one`, {
      reason: 'notReached',
      errors: [{ pointer: `/query/${name}`, detail }],
    });
  }

  #tokenPosition(name: string, token: string): string {
    try {
      const { lineage, position } = openAnyResumeToken(token, `/query/${name}`);
      if (lineage !== this.#options.lineage()) throw otherLineage(name);
      return position;
    } catch (error) {
      if (error instanceof ShardError && error.code === 'tokenInvalid') throw notAMoment(name);
      throw error;
    }
  }

  /** The settled state after the newest change that had happened by then. */
  async #atTime(time: number, signal: AbortSignal): Promise<HistoryPoint> {
    const { head, floor } = await this.#head(signal);
    const at = new Date(time).toISOString();
    for await (const { told } of this.#back(signal)) {
      if (Date.parse(told.at) <= time) return { position: told.mark.position, at };
    }
    if (Date.parse(floor.at) <= time) return { position: floor.position, at };
    throw expired(floor.position, head.mark.position, floor.at);
  }

  /** Every change after a position, or, where the state there is not known, after the nearest earlier one that is. */
  async *#since(position: string, signal: AbortSignal): AsyncGenerator<Part> {
    const { timeline, journal } = this.#options;
    const gap = timeline.gapAround(position);
    let number = timeline.ring.numberAt(gap ? gap.from : position);
    let first: string | undefined = gap ? gap.from : position;
    if (number === undefined) {
      const replay = await journal.replay({ position });
      if (typeof replay === 'string') {
        const { head, floor } = await this.#head(signal);
        throw expired(floor.position, head.mark.position, floor.at);
      }
      first = replay.exact ? position : replay.from.position;
      for (;;) {
        signal.throwIfAborted();
        number = this.#inRing(replay);
        if (number !== undefined) break;
        const piece = await replay.next();
        if (piece === 'expired') throw await this.#lost(signal);
        if (piece) {
          const { entries, gaps } = piece.stretch;
          yield { from: first, entries: entries.slice(piece.at), gaps };
          first = undefined;
        } else if (compareVersions(replay.mark.position, timeline.position) >= 0) return;
        else if (!(await replay.more())) {
          number = this.#inRing(replay, true);
          if (number === undefined) throw behind();
          break;
        }
      }
    }
    // Taken out at once: the ring moves on.
    const entries: Told[] = [];
    const { ring, gaps } = timeline;
    for (let at = number + 1; at <= ring.last; at += 1) entries.push(ring.at(at)!);
    yield { from: first, entries: [], gaps: [...gaps] };
    for (let at = 0; at < entries.length; at += TURN) {
      yield { entries: entries.slice(at, at + TURN), gaps: [] };
      await nextTurn();
    }
  }

  /** Where the ring goes on after what the journal told; undefined when it cannot, or not without repeating. */
  #inRing({ mark }: Replay, isNewest = false): number | undefined {
    const { timeline } = this.#options;
    if (compareVersions(mark.position, timeline.position) > 0 || mark.anchor === '') return undefined;
    const found = timeline.find(mark, isNewest);
    return typeof found === 'object' && found.exact ? found.number : undefined;
  }

  /** Newest first. `again`: of a stretch that the ring told a part of. */
  async *#back(signal: AbortSignal): AsyncGenerator<{ told: Told; again: boolean }> {
    const { timeline, journal } = this.#options;
    const { ring } = timeline;
    const { floor } = ring;
    const held: Told[] = [];
    const oldest = ring.numberAt(floor.position)!;
    for (let at = ring.last; at > oldest; at -= 1) held.push(ring.at(at)!);
    for (const told of held) yield { told, again: false };
    const { head } = await this.#head(signal);
    const isBehind =
      compareVersions(head.mark.position, floor.position) < 0 && head.mark.anchor !== floor.anchor;
    if (isBehind && !(await journal.beyond(floor.position, true))) throw behind();
    for await (const stretch of journal.back(signal)) yield* older(stretch, floor.position);
  }

  async #lost(signal: AbortSignal): Promise<ShardError> {
    const { head, floor } = await this.#head(signal);
    return expired(floor.position, head.mark.position, floor.at);
  }
}

function* older({ entries, gaps }: Stretch, floor: string): Generator<{ told: Told; again: boolean }> {
  const gap = gapAround(gaps, floor);
  for (const told of entries.toReversed()) {
    const { position } = told.change;
    const again = compareVersions(position, floor) > 0;
    if (!again || (gap && compareVersions(position, gap.to) <= 0)) yield { told, again };
  }
}

/** Whether a change of a shard is older than another one, by the shard's own counters. */
function isEarlier(told: Told, { change: later }: Told): boolean {
  const [one, other] = [told.change.after, later.before];
  if (!one || !other)
    return one !== undefined && later.before === undefined && one.metadata.uid !== later.after?.metadata.uid;
  return (
    one.metadata.uid === other.metadata.uid && (one.status?.version ?? 0) <= (other.status?.version ?? 0)
  );
}

function textOf({ position, ordinal }: Point): string {
  return `${position}.${ordinal}`;
}

function pointOf(text: string): Point {
  const [position = '0', ordinal = '0'] = text.split('.');
  return { position, ordinal: Number(ordinal) };
}

function otherLineage(name: string): ShardError {
  return new ShardError(
    'lineageChanged',
    `${name} is of another history (another cluster, or one that was restored since)`,
    { errors: [{ pointer: `/query/${name}`, detail: 'is of another history' }] },
  );
}

function expired(floor: string, head: string, at: string): ShardError {
  return new ShardError(
    'tokenExpired',
    `the history that is kept begins at position ${floor} (${at}); ask for a later beginning`,
    { floor, head },
  );
}

function behind(): ShardError {
  return new ShardError('unavailable', 'the journal is behind what happened; try again', {
    reason: 'journalBehind',
  });
}
