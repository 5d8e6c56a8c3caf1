import { describe, expect, test } from 'vitest';
import { xxh64 } from './hash.ts';
import { jumpHash, shardForKey } from './key.ts';

const KEYS = ['', 'a', 'customer-42', 'order/2026-11-23/0001', 'Grüße', '東京', '🙂', 'x'.repeat(1_000)];
const COUNTS = [1, 2, 3, 10, 64, 1_000, 10_000, 100_000];

describe('xxh64', () => {
  test('is the published function, seed 0', () => {
    expect(xxh64('')).toBe(0xef46db3751d8e999n);
    expect(xxh64('abc')).toBe(0x44bc2cf5ad770999n);
  });
});

describe('jump consistent hash', () => {
  test('agrees with the vectors that other implementations of arXiv 1406.2294 are tested by', () => {
    const of100 = [0, 55, 62, 8, 45, 59, 86, 97, 82, 59, 73, 37, 17, 56, 86, 21, 90, 37, 38, 83];
    expect(of100.map((_, key) => jumpHash(BigInt(key), 100))).toEqual(of100);
    expect(jumpHash(10_863_919_174_838_991n, 11)).toBe(6);
    expect(jumpHash(2_016_238_256_797_177_309n, 11)).toBe(3);
    expect(jumpHash(1_673_758_223_894_951_030n, 11)).toBe(5);
    expect(jumpHash(2n, 100_001)).toBe(80_343);
    expect(jumpHash(2_201n, 100_001)).toBe(22_152);
    expect(jumpHash(2_202n, 100_001)).toBe(15_018);
    expect(jumpHash(256n, 1_024)).toBe(520);
  });

  test('moves keys only to the new bucket when one is added', () => {
    for (let key = 0n; key < 200n; key++) {
      for (let buckets = 1; buckets < 100; buckets++) {
        const after = jumpHash(key * 0x9e3779b97f4a7c15n, buckets + 1);
        if (after !== buckets) expect(after).toBe(jumpHash(key * 0x9e3779b97f4a7c15n, buckets));
      }
    }
  });

  test.each([0, -1, 1.5, Number.NaN, 2 ** 31])('refuses %s buckets', (buckets) => {
    expect(() => jumpHash(1n, buckets)).toThrow('a shard count is an integer from 1 to 2147483647');
  });
});

describe('the shard of a key', () => {
  test('spreads keys evenly', () => {
    const held = new Map<string, number>();
    for (let key = 0; key < 64_000; key++) {
      const id = shardForKey(`customer-${key}`, 64);
      held.set(id, (held.get(id) ?? 0) + 1);
    }
    expect(held.size).toBe(64);
    for (const count of held.values()) expect(Math.abs(count - 1_000)).toBeLessThan(150);
  });

  test('is the same in every version and language: golden vectors', async () => {
    const vectors = KEYS.map((key) => ({
      key,
      xxh64: xxh64(key).toString(16).padStart(16, '0'),
      shards: Object.fromEntries(COUNTS.map((count) => [count, shardForKey(key, count)])),
    }));
    await expect(`${JSON.stringify(vectors, null, 2)}\n`).toMatchFileSnapshot(
      '__golden__/shard-for-key.json',
    );
  });
});
