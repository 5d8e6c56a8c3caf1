import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chainOf, expired, mergeable } from './journal-chain.ts';
import type { SegmentIndex } from './journal-objects.ts';

const mark = (position: number) => ({ position: String(position), ordinal: 0, anchor: `a${position}` });

/** Segment `first`–`last` by sequence; its positions are ten times that. */
function segment(first: number, last = first, more: Partial<SegmentIndex> = {}): SegmentIndex {
  return {
    name: `s${first}-${last}`,
    first,
    last: { sequence: last, term: 1 },
    previous: first === 1 ? undefined : { sequence: first - 1, term: 1 },
    from: mark(first * 10 - 10),
    to: { ...mark(last * 10), at: new Date(last * 1_000).toISOString() },
    gaps: [],
    entries: last - first + 1,
    dataLength: 100 * (last - first + 1),
    bytes: 1_000 + 100 * (last - first + 1),
    ...more,
  };
}

const head = (last: number, floor = 0) => ({
  last: last === 0 ? undefined : { sequence: last, term: 1 },
  mark: { ...mark(last * 10), at: '' },
  floor: { ...mark(floor * 10), at: '' },
});
const names = (segments: readonly SegmentIndex[]) => segments.map(({ name }) => name);

describe('the chain', () => {
  it('leads from the head to the floor, over merged segments where there are some', () => {
    const index = [segment(3), segment(1), segment(2), segment(1, 2), segment(4)];
    expect(names(chainOf(index, head(4)).segments)).toEqual(['s1-2', 's3-3', 's4-4']);
    expect(names(chainOf(index, head(4, 3)).segments)).toEqual(['s4-4']);
    expect(names(chainOf(index, head(4, 4)).segments)).toEqual([]);
  });

  it('leaves out what no head named: another term, a later sequence', () => {
    const stray = segment(2, 2, { name: 'stray', last: { sequence: 2, term: 7 } });
    const index = [segment(1), stray, segment(2), segment(3)];
    expect(names(chainOf(index, head(2)).segments)).toEqual(['s1-1', 's2-2']);
  });

  it('says what is missing, and begins at a settled state after it', () => {
    const partial = { from: { ...mark(20), partial: true } };
    const chain = chainOf([segment(1), segment(3, 3, partial), segment(4)], head(4));
    expect(names(chain.segments)).toEqual(['s4-4']);
    expect(chain.broken).toEqual({ sequence: 2, term: 1 });
    // The beginning does not reach down to the floor.
    expect(chainOf([segment(2, 2, { previous: undefined })], head(2)).broken).toBeDefined();
    // It is there, but is not the one that its successor continues.
    const other = segment(1, 1, { to: { ...mark(10), anchor: 'else', at: '' } });
    expect(chainOf([other, segment(2)], head(2)).broken).toEqual({ sequence: 1, term: 1 });
  });
});

describe('merging', () => {
  it('keeps few segments, in whole aligned blocks, and rewrites each change seldom', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 600 }), fc.nat(20), (appends, behind) => {
        let segments: SegmentIndex[] = [];
        let rewritten = 0;
        for (let sequence = 1; sequence <= appends; sequence += 1) {
          segments.push(segment(sequence));
          if (sequence % (behind + 1) !== 0) continue;
          for (let block = mergeable(segments); block; block = mergeable(segments)) {
            const [first, last] = [block[0]!.first, block.at(-1)!.last.sequence];
            const size = last - first + 1;
            expect([size & (size - 1), (first - 1) % size]).toEqual([0, 0]);
            rewritten += size;
            const at = segments.indexOf(block[0]!);
            segments = segments.toSpliced(at, block.length, segment(first, last));
          }
        }
        expect(segments.flatMap(({ first, last }) => [first, last.sequence])).toEqual(
          [...segments.flatMap(({ first, last }) => [first, last.sequence])].sort((a, b) => a - b),
        );
        expect(segments.length).toBeLessThan(behind + 8 * Math.ceil(Math.log2(appends + 1) / 3) + 8);
        expect(rewritten).toBeLessThanOrEqual(appends * Math.ceil(Math.log2(appends + 1) / 3));
      }),
      { numRuns: 60 },
    );
  });

  it('makes nothing larger than a quarter of what an object may be', () => {
    const large = Array.from({ length: 64 }, (_, at) => segment(at + 1, at + 1, { dataLength: 40_000 }));
    expect(mergeable(large)).toBeUndefined();
  });
});

describe('retention', () => {
  const segments = [segment(1), segment(2), segment(3), segment(4)];

  it('goes by age', () => {
    expect(expired(segments, { ms: 2_500, bytes: 1e9 }, 5_000)).toBe(2);
    expect(expired(segments, { ms: 1e6, bytes: 1e9 }, 5_000)).toBe(0);
  });

  it('goes by size, and keeps the newest whatever its size', () => {
    expect(expired(segments, { ms: 1e9, bytes: 2_500 }, 5_000)).toBe(2);
    expect(expired(segments, { ms: 1e9, bytes: 1 }, 5_000)).toBe(3);
  });

  it('keeps or drops a gap as a whole', () => {
    const within = { to: { ...mark(20), partial: true, at: new Date(2_000).toISOString() } };
    const [first, , ...rest] = segments;
    expect(expired([first!, segment(2, 2, within), ...rest], { ms: 2_500, bytes: 1e9 }, 5_000)).toBe(1);
  });
});
