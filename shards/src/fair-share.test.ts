import { describe, expect, test } from 'vitest';
import { compareFullness, fairShares, parseLoadBound } from './fair-share.ts';

describe('fair shares', () => {
  test('of 64 shards over weights 1, 2 and 4', () => {
    const shares = fairShares(64, [1, 2, 4], '1.05');
    expect([...shares.floor]).toEqual([9, 18, 36]);
    expect([...shares.ceil]).toEqual([10, 19, 37]);
    expect([...shares.cap]).toEqual([10, 19, 38]);
    expect(shares.mean[0]).toBeCloseTo(9.142857);
  });

  test('cap 50 shards a node at 52 where c = 1.05, not at 53', () => {
    expect([...fairShares(100, [1, 1], '1.05').cap]).toEqual([52, 52]);
  });

  test('are exact where doubles are not', () => {
    const total = 90_000_000_000_001;
    const shares = fairShares(total, [999_999, 1], '1');
    expect(shares.floor[0]! + shares.floor[1]! + 1).toBe(total);
    expect(shares.floor[1]).toBe(90_000_000);
  });

  test.each(['', '0.9', '1,05', '1.', 'x', '-2', '1.0000001'])('refuse the load bound %j', (text) => {
    expect(() => parseLoadBound(text)).toThrow('is not a decimal of at least 1');
  });
});

describe('relative fullness', () => {
  test('compares load over weight', () => {
    expect(compareFullness(1, 3, 2, 5)).toBeLessThan(0);
    expect(compareFullness(2, 4, 1, 2)).toBe(0);
    expect(compareFullness(3, 4, 1, 2)).toBeGreaterThan(0);
  });

  test('is exact beyond 2^53', () => {
    const big = 2 ** 53 - 1;
    expect(compareFullness(big, big, big - 1, big - 1)).toBe(0);
    expect(compareFullness(big, big - 1, big - 1, big - 2)).toBeLessThan(0);
    expect(compareFullness(big - 1, big - 2, big, big - 1)).toBeGreaterThan(0);
  });
});
