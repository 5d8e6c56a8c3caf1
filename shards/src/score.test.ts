import { describe, expect, test } from 'vitest';
import { xxh64 } from './hash.ts';
import { cost, Draws, score } from './score.ts';

const DRAWS = [
  0, 1, 2, 3, 0x7fffffff, 0x80000000, 0x80000001, 0xdeadbeef, 0xfffff000, 0xfffffffe, 0xffffffff,
];

function favourites(weights: number[], shards: number): number[] {
  const draws = new Draws(
    Array.from({ length: shards }, (_, shard) => `shard-${shard}`),
    weights.map((_, node) => `node-${node}`),
  );
  const held = weights.map(() => 0);
  for (let shard = 0; shard < shards; shard++) {
    const costs = weights.map((weight, node) => cost(draws.of(shard, node), weight));
    held[costs.indexOf(Math.min(...costs))]! += 1;
  }
  return held;
}

describe('the score', () => {
  test('gives weights 1:2:4 their 14, 29 and 57 percent', () => {
    const shares = favourites([1, 2, 4], 70_000).map((held) => held / 70_000);
    [1 / 7, 2 / 7, 4 / 7].forEach((share, node) => {
      expect(Math.abs(shares[node]! - share)).toBeLessThan(0.006);
    });
  });

  test('spreads shards over 50 equal nodes as chance would', () => {
    const held = favourites(Array(50).fill(1), 20_000);
    const chiSquare = held.reduce((sum, count) => sum + (count - 400) ** 2 / 400, 0);
    // 49 degrees of freedom: 85.4 is the 99.9th percentile.
    expect(chiSquare).toBeLessThan(85.4);
  });

  test('is -weight / ln(h) to seven digits of the logarithm', () => {
    for (let draw = 1; draw < 2 ** 32; draw += 999_983) {
      const h = (draw | 1) >>> 0;
      expect(1 / score(draw, 1)).toBeCloseTo(32 * Math.LN2 - Math.log(h), 6);
    }
  });

  test('never grows worse with a larger draw, and is positive and finite at both ends', () => {
    const sorted = [...DRAWS, ...Array.from({ length: 4_096 }, (_, index) => index * 0x100000 + 17)].sort(
      (a, b) => a - b,
    );
    sorted.slice(1).forEach((draw, index) => {
      expect(cost(draw, 3)).toBeLessThanOrEqual(cost(sorted[index]!, 3));
    });
    expect(cost(0xffffffff, 1)).toBeGreaterThan(0);
    expect(score(0xffffffff, 1_000_000)).toBeLessThan(Number.POSITIVE_INFINITY);
  });

  test('is the same on every platform: golden vectors', async () => {
    const names = {
      shards: ['0000', '0001', 'payments/orders/0042'],
      nodes: ['node-1', 'node-2', 'worker-ä'],
    };
    const draws = new Draws(names.shards, names.nodes);
    const everyEntry = Array.from({ length: 4_096 }, (_, index) => cost(index * 0x100000 + 1, 1)).join();
    const vectors = {
      draws: names.shards.flatMap((shard, s) =>
        names.nodes.map((node, n) => ({ shard, node, draw: draws.of(s, n) })),
      ),
      costs: DRAWS.flatMap((draw) =>
        [1, 3, 1_000_000].map((weight) => ({ draw, weight, cost: cost(draw, weight) })),
      ),
      logarithmTable: xxh64(everyEntry).toString(16),
    };
    await expect(`${JSON.stringify(vectors, null, 2)}\n`).toMatchFileSnapshot('__golden__/score.json');
  });
});
