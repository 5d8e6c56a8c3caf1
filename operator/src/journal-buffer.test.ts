import type { JournalEntry } from '@meshkit/shards/journal';
import type { ShardView } from '@meshkit/shards/shard-view';
import { describe, expect, it } from 'vitest';
import { JournalBuffer } from './journal-buffer.ts';

const entry = (position: number): JournalEntry => ({
  position: String(position),
  ordinal: 0,
  at: '2026-11-23T12:00:00.000Z',
  after: { namespace: 'a', name: `orders.${position}` } as ShardView,
  history: {},
  source: 'watch',
});
const many = (count: number, from = 1) => Array.from({ length: count }, (_, at) => entry(from + at));
const ROOM = { entries: 10_000, bytes: 1 << 30 };

describe('the buffer', () => {
  it('gives back everything in order, and gaps by themselves', () => {
    const buffer = new JournalBuffer(ROOM);
    for (const one of many(3)) expect(buffer.push([one])).toBe(true);
    expect(buffer.isUrgent).toBe(false);
    buffer.pushGap({ entries: many(2, 4), gap: { from: '3', to: '9' }, position: '9' });
    buffer.push([entry(10)]);
    expect([buffer.entries, buffer.isUrgent]).toEqual([6, true]);
    const positions = () => buffer.shift()?.entries.map(({ position }) => position);
    expect([positions(), positions(), positions(), positions()]).toEqual([
      ['1', '2', '3'],
      ['4', '5'],
      ['10'],
      undefined,
    ]);
    expect([buffer.entries, buffer.isUrgent]).toEqual([0, false]);
  });

  it('is complete with 256, and gives at most 2,048 and the rest of an event at once', () => {
    const buffer = new JournalBuffer(ROOM);
    for (const one of many(255)) buffer.push([one]);
    expect(buffer.isUrgent).toBe(false);
    buffer.push([entry(256)]);
    expect(buffer.isUrgent).toBe(true);
    for (const one of many(4_000, 257)) buffer.push([one, { ...one, ordinal: 1 }]);
    const batch = buffer.shift()!.entries;
    expect(batch.length).toBeLessThanOrEqual(2_049);
    expect(batch.at(-1)?.ordinal).toBe(1);
  });

  it('takes no more than its limits, but always one event', () => {
    const few = new JournalBuffer({ entries: 2, bytes: 1 << 30 });
    expect([few.push([entry(1)]), few.push([entry(2)]), few.push([entry(3)])]).toEqual([true, true, false]);
    expect(few.clear()).toBe(2);
    const small = new JournalBuffer({ entries: 100, bytes: 1 });
    expect([small.push([entry(1)]), small.push([entry(2)])]).toEqual([true, false]);
    small.shift();
    expect(small.push([entry(2)])).toBe(true);
  });
});
