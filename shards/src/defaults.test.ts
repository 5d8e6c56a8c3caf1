import { describe, expect, test } from 'vitest';
import { effectiveSet, parseDuration, shardIds } from './defaults.ts';

describe('a ShardSet spec', () => {
  test('gets every default', () => {
    expect(effectiveSet({ shards: { count: 2 } })).toEqual({
      ids: ['0000', '0001'],
      strategy: 'Rendezvous',
      locality: 'Preferred',
      loadBound: '1.05',
      maxConcurrentMoves: 5,
      handoffMode: 'Graceful',
      drainTimeoutMs: 30_000,
      freeze: 'None',
    });
  });

  test('keeps what it says', () => {
    const spec = {
      shards: { ids: ['us-1', 'eu-0'] },
      strategy: 'Static',
      locality: 'Required',
      loadBound: '1.25',
      churn: { maxConcurrentMoves: 1 },
      handoff: { mode: 'Immediate', drainTimeout: '5m' },
      freeze: 'All',
    } as const;
    expect(effectiveSet({ ...spec, shards: { ids: [...spec.shards.ids] } })).toEqual({
      ids: ['eu-0', 'us-1'],
      strategy: 'Static',
      locality: 'Required',
      loadBound: '1.25',
      maxConcurrentMoves: 1,
      handoffMode: 'Immediate',
      drainTimeoutMs: 300_000,
      freeze: 'All',
    });
  });

  test('of 10,001 shards renames none of its first 10,000', () => {
    const ids = shardIds({ shards: { count: 10_001 } });
    expect(new Set(ids).size).toBe(10_001);
    expect(ids).toContain('0000');
    expect(ids).toContain('9999');
    expect(ids).toContain('10000');
  });

  test.each([{}, { count: 1, ids: ['a'] }])('with shards %j is refused', (shards) => {
    expect(() => shardIds({ shards })).toThrow('spec.shards needs exactly one of count and ids');
  });

  test.each(['30', '1.5s', '2h', '', '-1s'])('refuses the duration %j', (text) => {
    expect(() => parseDuration(text)).toThrow('write whole seconds or minutes');
  });
});
