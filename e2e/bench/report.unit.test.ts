import { describe, expect, test } from 'vitest';
import { clusterTrace } from './placement-trace.ts';
import { distribution, type Row, table } from './report.ts';
import { SeededRandom } from './seeded-random.ts';

describe('a benchmark report', () => {
  test('gives median, tails and spread by nearest rank', () => {
    const values = Array.from({ length: 100 }, (_, index) => 100 - index);
    expect(distribution(values)).toEqual({ n: 100, p50: 50, p95: 95, p99: 99, min: 1, max: 100 });
    expect(distribution([7])).toEqual({ n: 1, p50: 7, p95: 7, p99: 7, min: 7, max: 7 });
  });

  test('prints a block for each case with its columns aligned', () => {
    const row = (subject: string, p50: number): Row => {
      return { subject, case: 'list', unit: 'ms', n: 5, p50, p95: 9, p99: 10, min: 1, max: 11 };
    };
    expect(table([row('meshkit', 2.5), row('kube-apiserver', 41)])).toBe(
      [
        'list (ms)',
        '  subject         n  p50  p95  p99  min  max',
        '  meshkit         5  2.5    9   10    1   11',
        '  kube-apiserver  5   41    9   10    1   11',
        '',
      ].join('\n'),
    );
  });
});

describe('the trace of cluster changes', () => {
  const first = Array.from({ length: 20 }, (_, index) => {
    return { name: `n${index}`, weight: 2, standing: 'eligible' as const };
  });
  const trace = (seed: number) => [...clusterTrace(new SeededRandom(seed), first, 50).take(500)];

  test('is the same for the same seed', () => {
    expect(trace(3)).toEqual(trace(3));
    expect(trace(3)).not.toEqual(trace(4));
  });

  test('has every kind of change and keeps the sum of weights within its bounds', () => {
    expect(new Set(trace(1).map(({ change }) => change))).toEqual(
      new Set(['join', 'leave', 'drain', 'reweigh']),
    );
    for (const { nodes } of trace(1)) {
      const sum = nodes.reduce((total, node) => total + (node.standing === 'eligible' ? node.weight : 0), 0);
      expect(sum).toBeLessThanOrEqual(50);
      expect(sum).toBeGreaterThanOrEqual(20);
    }
  });
});
