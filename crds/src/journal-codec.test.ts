import type { JournalEntry } from '@meshkit/shards/journal';
import { recordOf, type ShardView, served } from '@meshkit/shards/shard-view';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeEntries,
  decodeState,
  ENCODING,
  encodeEntries,
  encodeState,
  isDamage,
} from './journal-codec.ts';

const text = fc.oneof(fc.string({ maxLength: 6 }), fc.constantFrom('node-1', 'node-2', '0', '1'));
const some = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const number = fc.nat(1_000);
const time = fc.oneof(
  fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) }).map((date) => date.toISOString()),
  fc.constantFrom('2026-11-23T12:00:00.000Z', '2026-11-23T12:00:00Z', '2026-11-23T13:00:00+01:00', 'never'),
);
const members = fc.record({
  phase: fc.constantFrom('Pending', 'Active', 'Draining', 'Paused', 'Disabled', 'Lost'),
  state: fc.constantFrom('Active', 'Paused', 'Disabled'),
  owner: some(text),
  ownerEndpoint: some(text),
  previousOwner: some(text),
  epoch: fc.oneof(number, fc.constant(1_795_000_000)),
  version: number,
  generation: number,
  observedGeneration: number,
  capacity: number,
  locality: some(fc.record({ region: some(text), zone: some(text) })),
  pinned: some(text),
  move: some(fc.record({ to: some(text), startedAt: time, deadline: time })),
  since: some(time),
  changeTicket: some(text),
  reason: some(text),
  conditions: some(
    fc.array(fc.record({ type: text, status: fc.constant('Unknown'), reason: text, message: text }), {
      minLength: 1,
    }),
  ),
} as const);
const names = fc.constantFrom(
  {
    namespace: 'a',
    name: 'orders.1',
    uid: '0b0e6dc9-5f0c-4d5e-9a3b-2f6f4f6f0001',
    shardSet: 'orders',
    shardId: '1',
  },
  { namespace: 'a', name: 'orders.2', uid: 'plain', shardSet: 'orders', shardId: '2' },
  { namespace: '', name: 'odd', uid: '=', shardSet: 'o.d', shardId: '' },
);
const view = fc
  .tuple(names, members)
  .map(([name, rest]) => served(recordOf({ ...name, ...rest } as ShardView)));
const history = fc.record({
  actor: some(fc.record({ kind: fc.constantFrom('User', 'FieldManager', 'Operator'), name: text })),
  reason: some(text),
  changeTicket: some(text),
  previousOwner: some(text),
} as const);

const step = fc.record({
  names,
  before: some(members),
  after: some(members),
  history,
  at: time,
  source: fc.constantFrom('watch', 'reconcile'),
  coalesced: some(fc.integer({ min: 1, max: 99 })),
  fresh: fc.boolean(),
  position: fc.oneof(
    fc.nat(50).map((plus) => ({ plus })),
    fc.constantFrom('7', '12345678901234567890123', 'x'),
  ),
} as const);

/** As a journal has them, but wilder: most go on from what was said before, some do not. */
const entries = fc.array(step, { maxLength: 12 }).map((steps) => {
  const held = new Map<string, ShardView>();
  let position = 100n;
  return steps.map((one, ordinal): JournalEntry => {
    const as = (rest: typeof one.before) => rest && served(recordOf({ ...one.names, ...rest } as ShardView));
    const known = one.fresh ? undefined : held.get(one.names.name);
    const before = known ?? as(one.before);
    const after = as(one.after) ?? (before ? undefined : as(FIRST as never));
    if (after) held.set(one.names.name, after);
    else held.delete(one.names.name);
    if (typeof one.position !== 'string') position += BigInt(one.position.plus);
    const where = typeof one.position === 'string' ? one.position : String(position);
    const { at, source, coalesced } = one;
    return { position: where, ordinal, at, before, after, history: one.history, source, coalesced };
  });
});
const FIRST = {
  phase: 'Pending',
  state: 'Active',
  epoch: 0,
  version: 0,
  generation: 1,
  observedGeneration: 0,
  capacity: 1,
} as const;

describe('the codec of segments', () => {
  it('gives back every entry, to the letter', () => {
    fc.assert(
      fc.property(entries, (given) => {
        const read = decodeEntries(encodeEntries(given), ENCODING);
        expect(read).toEqual(given);
        // Fingerprints depend on the order of members.
        expect(read.map(({ before, after }) => JSON.stringify([before, after]))).toEqual(
          given.map(({ before, after }) => JSON.stringify([before, after])),
        );
      }),
      { numRuns: 500 },
    );
  });

  it('gives back every state', () => {
    const departed = fc.array(fc.record({ key: text, epoch: number, owner: some(text) }));
    fc.assert(
      fc.property(fc.array(view), departed, (shards, gone) => {
        const read = decodeState(encodeState({ shards, departed: gone }), ENCODING);
        expect(read).toEqual({ shards, departed: gone });
        expect(JSON.stringify(read.shards)).toBe(JSON.stringify(shards));
      }),
    );
  });

  it('refuses what it did not write, whatever that is', () => {
    const refusal = (read: () => unknown) => {
      try {
        read();
      } catch (error) {
        return isDamage(error);
      }
      return 'accepted';
    };
    expect(refusal(() => decodeEntries('AAAA', ENCODING))).toBe(true);
    expect(refusal(() => decodeEntries('', ENCODING))).toBe(true);
    expect(refusal(() => decodeEntries(encodeEntries([]), 'gzip-0'))).toBe(true);
    expect(refusal(() => decodeState(encodeEntries([]), ENCODING))).toBe(true);
    fc.assert(
      fc.property(entries, fc.nat(), fc.nat(255), (given, place, byte) => {
        const bytes = Buffer.from(encodeEntries(given), 'base64');
        bytes[place % bytes.length] = byte;
        // Most damage is found here, all of it by the checksum; none may be anything but damage.
        expect(['accepted', true]).toContain(
          refusal(() => decodeEntries(bytes.toString('base64'), ENCODING)),
        );
      }),
    );
  });
});
