import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { ShardError } from '@meshkit/shards/errors';
import { xxh64 } from '@meshkit/shards/hash';
import type { JournalEntry, JournalState } from '@meshkit/shards/journal';
import type { Departed } from '@meshkit/shards/journal-fold';
import type { Actor } from '@meshkit/shards/records';
import { recordOf, type ShardView, served } from '@meshkit/shards/shard-view';
import { DICTIONARY } from './journal-dictionary.ts';

/** Changes whenever what is written below, or the dictionary, changes: old segments keep being read by the old rules. */
export const ENCODING = 'zstd-1';
const LEVEL = 19;
/** More is no segment of ours: whoever could write one should not be able to fill our memory with it. */
const MAX_TEXT_BYTES = 32 << 20;

/*
 * Rows of JSON, then zstd with a dictionary, then base64. A row says of a shard only what differs from the row before it
 * that told of the same shard; the first one in a segment carries the state before in full, so that each segment can be
 * read by itself. What follows from something else (a time that is the entry's own, a version that grew by one, an owner
 * that was the target) is written as a digit.
 */
type Row = [
  position: number | string,
  ordinal: number,
  at: number | string,
  shard: number | FullView | 0,
  after: Delta | FullView | 0,
  history: HistoryRow,
  flags?: number,
  coalesced?: number,
];
type FullView = unknown[];
type Delta = Record<string, unknown>;
type HistoryRow = unknown[];

export function encodeEntries(entries: readonly JournalEntry[]): string {
  const known = new Map<string, { index: number; view?: ShardView }>();
  let position = '0';
  let at = 0;
  const rows = entries.map((entry): Row => {
    const { before, after, coalesced } = entry;
    const shown = (after ?? before)!;
    const id = `${shown.namespace}/${shown.name}/${shown.uid}`;
    const earlier = known.get(id);
    const time = exactTime(entry.at);
    const shard = earlier && same(earlier.view, before) ? earlier.index : before ? fullView(before) : 0;
    const change = after === undefined ? 0 : before ? delta(before, after, entry.at) : fullView(after);
    const row: Row = [
      positionStep(position, entry.position),
      entry.ordinal,
      time === undefined ? entry.at : time - at,
      shard,
      change,
      historyRow(entry),
      entry.source === 'reconcile' ? 1 : 0,
      coalesced ?? 0,
    ];
    while (row.at(-1) === 0 && row.length > 6) row.pop();
    known.set(id, { index: earlier?.index ?? known.size, view: after });
    position = entry.position;
    at = time ?? at;
    return row;
  });
  return pack(rows);
}

/** Throws `journalDamaged` for what `encodeEntries` did not write. */
export function decodeEntries(data: string, encoding: string): JournalEntry[] {
  return guarded(() => {
    const rows = unpack(data, encoding) as Row[];
    const known: (ShardView | undefined)[] = [];
    const indexes = new Map<string, number>();
    let position = '0';
    let at = 0;
    return rows.map(
      ([step, ordinal, time, shard, change, history, flags = 0, coalesced = 0]): JournalEntry => {
        position = stepPosition(position, step);
        if (typeof time === 'number') at += time;
        const when = typeof time === 'number' ? new Date(at).toISOString() : time;
        const before = readBefore(shard, known, change);
        const after = readAfter(change, before, when);
        const shown = (after ?? before)!;
        const id = `${shown.namespace}/${shown.name}/${shown.uid}`;
        const index = indexes.get(id) ?? indexes.size;
        indexes.set(id, index);
        known[index] = after;
        return {
          position,
          ordinal,
          at: when,
          before,
          after,
          history: readHistory(history, before, after),
          source: flags & 1 ? 'reconcile' : 'watch',
          coalesced: coalesced === 0 ? undefined : coalesced,
        };
      },
    );
  });
}

function readBefore(
  shard: number | FullView,
  known: readonly (ShardView | undefined)[],
  change: Row[4],
): ShardView | undefined {
  if (Array.isArray(shard)) return readView(shard);
  return Array.isArray(change) ? undefined : known[shard];
}

function readAfter(change: Row[4], before: ShardView | undefined, at: string): ShardView | undefined {
  if (change === 0) return undefined;
  if (Array.isArray(change)) return readView(change);
  if (!before) throw new TypeError('a change without a state before it');
  return applyDelta(before, change, at);
}

/** Part of a checkpoint: some of the shards, and some of those that are gone. */
export type StatePart = Pick<JournalState, 'shards'> & { departed: readonly Departed[] };

export function encodeState({ shards, departed }: StatePart): string {
  return pack([
    shards.map(fullView),
    departed.map(({ key, owner, epoch }) => (owner === undefined ? [key, epoch] : [key, epoch, owner])),
  ]);
}

export function decodeState(data: string, encoding: string): StatePart {
  return guarded(() => {
    const [shards, departed] = unpack(data, encoding) as [FullView[], [string, number, string?][]];
    return {
      shards: shards.map(readView),
      departed: departed.map(([key, epoch, owner]) => ({ key, epoch, owner })),
    };
  });
}

/** 16 hex digits over everything that a segment says. */
export function checksumOf(index: string, data: string): string {
  return xxh64(`${index}\n${data}`).toString(16).padStart(16, '0');
}

export function damaged(what: string, cause?: unknown): ShardError {
  return new ShardError(
    'unavailable',
    `the journal is damaged: ${what}`,
    { reason: 'journalDamaged' },
    cause,
  );
}

export function isDamage(error: unknown): boolean {
  return error instanceof ShardError && error.details.reason === 'journalDamaged';
}

function guarded<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    // Whatever bytes can do to decompression, JSON or the rows: it is one thing to the reader.
    throw damaged('a segment cannot be decoded', error);
  }
}

function pack(rows: unknown): string {
  const params = { [constants.ZSTD_c_compressionLevel]: LEVEL, [constants.ZSTD_c_contentSizeFlag]: 0 };
  return zstdCompressSync(JSON.stringify(rows), { dictionary: DICTIONARY, params }).toString('base64');
}

function unpack(data: string, encoding: string): unknown {
  if (encoding !== ENCODING) throw new TypeError(`unknown encoding ${encoding}`);
  const bytes = zstdDecompressSync(Buffer.from(data, 'base64'), {
    dictionary: DICTIONARY,
    maxOutputLength: MAX_TEXT_BYTES,
  });
  return JSON.parse(bytes.toString());
}

const PHASES = ['Pending', 'Active', 'Draining', 'Paused', 'Disabled', 'Lost'] as const;
const STATES = ['Active', 'Paused', 'Disabled'] as const;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** Members of a view that a delta may set, each by one letter; the rest names the shard. */
const LETTERS = {
  phase: 'p',
  state: 's',
  owner: 'o',
  ownerEndpoint: 'e',
  previousOwner: 'b',
  epoch: 'n',
  version: 'v',
  generation: 'g',
  observedGeneration: 'G',
  capacity: 'c',
  locality: 'l',
  pinned: 'i',
  move: 'm',
  since: 't',
  changeTicket: 'k',
  reason: 'r',
  conditions: 'C',
} as const satisfies Partial<Record<keyof ShardView, string>>;
type Member = keyof typeof LETTERS;
const MEMBERS = Object.keys(LETTERS) as Member[];

function fullView(view: ShardView): FullView {
  const { namespace, name, uid, shardSet, shardId } = view;
  const derived = name === `${shardSet}.${shardId}` && !shardSet.includes('.');
  const others: Delta = {};
  for (const member of MEMBERS) {
    const value = view[member];
    if (value !== undefined) others[LETTERS[member]] = value;
  }
  const id = UUID.test(uid) ? Buffer.from(uid.replaceAll('-', ''), 'hex').toString('base64url') : `=${uid}`;
  return derived ? [namespace, name, id, others] : [namespace, name, id, others, shardSet, shardId];
}

function readView(row: FullView): ShardView {
  const [namespace, name, id, others, set, shard] = row as [string, string, string, Delta, string?, string?];
  const dot = name.indexOf('.');
  return canonical({
    namespace,
    name,
    uid: id.startsWith('=') ? id.slice(1) : uuidOf(id),
    shardSet: set ?? name.slice(0, dot),
    shardId: shard ?? name.slice(dot + 1),
    ...Object.fromEntries(MEMBERS.map((member) => [member, others[LETTERS[member]]])),
  } as unknown as ShardView);
}

function uuidOf(id: string): string {
  const hex = Buffer.from(id, 'base64url').toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** In the order of `served`, on which fingerprints depend. */
function canonical(view: ShardView): ShardView {
  return served(recordOf(view));
}

/** What differs; `0` is unset. Numbers and texts that follow from what is known are small numbers instead. */
function delta(before: ShardView, after: ShardView, at: string): Delta {
  const rows: Delta = {};
  for (const member of MEMBERS) {
    const [was, is] = [before[member], after[member]];
    if (same(was, is)) continue;
    rows[LETTERS[member]] = is === undefined ? 0 : shortened(member, is, before, at);
  }
  if (rows[LETTERS.version] === 1) delete rows[LETTERS.version];
  else if (rows[LETTERS.version] === undefined) rows[LETTERS.version] = 0;
  return rows;
}

function shortened(member: Member, value: unknown, before: ShardView, at: string): unknown {
  switch (member) {
    case 'phase':
      return PHASES.indexOf(value as ShardView['phase']) + 1;
    case 'state':
      return STATES.indexOf(value as ShardView['state']) + 1;
    case 'owner':
      return value === before.move?.to ? 1 : value;
    case 'previousOwner':
      return value === before.owner ? 1 : value;
    case 'since':
      return value === at ? 1 : value;
    case 'version':
      return (value as number) - before.version;
    case 'generation':
      return (value as number) - before.generation;
    case 'epoch':
      return (value as number) - secondsOf(at);
    case 'move':
      return moveRow(value as NonNullable<ShardView['move']>, at);
    default:
      return value;
  }
}

function lengthened(member: Member, value: unknown, before: ShardView, at: string): unknown {
  switch (member) {
    case 'phase':
      return PHASES[(value as number) - 1];
    case 'state':
      return STATES[(value as number) - 1];
    case 'owner':
      return value === 0 ? undefined : value === 1 ? before.move?.to : value;
    case 'previousOwner':
      return value === 0 ? undefined : value === 1 ? before.owner : value;
    case 'since':
      return value === 0 ? undefined : value === 1 ? at : value;
    case 'version':
      return before.version + (value as number);
    case 'generation':
      return before.generation + (value as number);
    case 'epoch':
      return (value as number) + secondsOf(at);
    case 'observedGeneration':
    case 'capacity':
      return value;
    case 'move':
      return value === 0 ? undefined : readMove(value as [number | string, number | string, string?], at);
    default:
      return value === 0 ? undefined : value;
  }
}

function applyDelta(before: ShardView, rows: Delta, at: string): ShardView {
  const after: Record<string, unknown> = { ...before, version: before.version + 1 };
  for (const member of MEMBERS) {
    const value = rows[LETTERS[member]];
    if (value !== undefined) after[member] = lengthened(member, value, before, at);
  }
  return canonical(after as unknown as ShardView);
}

/** `to` last, because a retirement has none; the deadline as milliseconds after the start. */
function moveRow({ to, startedAt, deadline }: NonNullable<ShardView['move']>, at: string): unknown[] {
  const [start, end] = [exactTime(startedAt), exactTime(deadline)];
  const row = [
    startedAt === at ? 0 : startedAt,
    start === undefined || end === undefined ? deadline : end - start,
  ];
  return to === undefined ? row : [...row, to];
}

function readMove([start, length, to]: [number | string, number | string, string?], at: string) {
  const startedAt = typeof start === 'number' ? at : start;
  const deadline =
    typeof length === 'number' ? new Date(Date.parse(startedAt) + length).toISOString() : length;
  return { to, startedAt, deadline };
}

const ACTORS: Actor['kind'][] = ['Operator', 'User', 'FieldManager'];

/** [actor kind, actor name, reason, ticket, previous owner]; the last only where it does not follow. */
function historyRow({ history, before, after }: JournalEntry): HistoryRow {
  const { actor, reason, changeTicket, previousOwner } = history;
  const row: HistoryRow = [
    actor ? ACTORS.indexOf(actor.kind) : -1,
    actor?.name ?? 0,
    reason ?? 0,
    changeTicket ?? 0,
    previousOwner === impliedOwner(before, after) ? 0 : (previousOwner ?? 1),
  ];
  while (row.at(-1) === 0 && row.length > 1) row.pop();
  return row;
}

function readHistory(
  row: HistoryRow,
  before: ShardView | undefined,
  after: ShardView | undefined,
): JournalEntry['history'] {
  const [kind, name, reason, changeTicket, previous] = row as [
    number,
    string?,
    string?,
    string?,
    (string | 1)?,
  ];
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  const actor = kind >= 0 ? { kind: ACTORS[kind]!, name: text(name) ?? '' } : undefined;
  return {
    actor,
    reason: text(reason),
    changeTicket: text(changeTicket),
    previousOwner: previous === 1 ? undefined : (text(previous) ?? impliedOwner(before, after)),
  };
}

function impliedOwner(before: ShardView | undefined, after: ShardView | undefined): string | undefined {
  return before?.owner === after?.owner ? undefined : before?.owner;
}

/** Positions are decimal numbers of any size; what is not written as one is carried as it is. */
function positionStep(from: string, to: string): number | string {
  if (!isNumber(from) || !isNumber(to)) return `=${to}`;
  const step = BigInt(to) - BigInt(from);
  return step >= 0n && step <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(step) : `=${to}`;
}

function stepPosition(from: string, step: number | string): string {
  return typeof step === 'string' ? step.slice(1) : String(BigInt(from) + BigInt(step));
}

function isNumber(text: string): boolean {
  return /^(0|[1-9]\d*)$/.test(text);
}

/** Milliseconds of a time that is written as JavaScript would write it; undefined for every other spelling. */
function exactTime(text: string): number | undefined {
  const ms = Date.parse(text);
  return !Number.isNaN(ms) && new Date(ms).toISOString() === text ? ms : undefined;
}

function secondsOf(at: string): number {
  const ms = Date.parse(at);
  return Number.isNaN(ms) ? 0 : Math.floor(ms / 1000);
}

function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
