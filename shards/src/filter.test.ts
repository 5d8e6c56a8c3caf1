import { describe, expect, test } from 'vitest';
import { ShardError } from './errors.ts';
import { parseShardFilter, type Query, shardMatches } from './filter.ts';
import type { Phase, ShardAssignment } from './records.ts';

function shard(id: string, phase?: Phase, owner?: string, zone?: string): ShardAssignment {
  return {
    apiVersion: 'meshkit.omnirelay.io/v1alpha1',
    kind: 'ShardAssignment',
    metadata: { name: `orders.${id}`, namespace: 'payments' },
    spec: { shardSet: 'orders', shardId: id, locality: zone === undefined ? undefined : { zone } },
    status: phase && { phase, owner, epoch: 1, version: 1 },
  };
}

const SHARDS = [
  shard('0001', 'Active', 'node-1', 'a'),
  shard('0002', 'Draining', 'node-2', 'b'),
  shard('0012', 'Active', 'node-2'),
  shard('0020'),
];

function ids(query: Query): string[] {
  const filter = parseShardFilter(query);
  return SHARDS.filter((candidate) => shardMatches(filter, candidate)).map(({ spec }) => spec.shardId);
}

describe('the shard filter', () => {
  test.each<[Query, string[]]>([
    [{}, ['0001', '0002', '0012', '0020']],
    [{ pageSize: '3' }, ['0001', '0002', '0012', '0020']],
    [{ namespace: 'payments', shardSet: 'orders' }, ['0001', '0002', '0012', '0020']],
    [{ namespace: 'search' }, []],
    [{ shardSet: 'carts' }, []],
    [{ status: 'active' }, ['0001', '0012']],
    [{ status: 'Active,DRAINING' }, ['0001', '0002', '0012']],
    [{ status: ['Active', 'Pending'] }, ['0001', '0012', '0020']],
    [{ owner: 'node-2' }, ['0002', '0012']],
    [{ owner: ['node-1', 'node-2'], status: 'Active' }, ['0001', '0012']],
    [{ zone: 'a, b' }, ['0001', '0002']],
    [{ search: '00' }, ['0001', '0002', '0012', '0020']],
    [{ search: '2' }, ['0002', '0012', '0020']],
    [{ search: '.' }, []],
  ])('%j lists %j', (query, expected) => {
    expect(ids(query)).toEqual(expected);
  });

  test.each<[Query, string, string]>([
    [{ status: 'Sleeping' }, 'status', 'Pending, Active, Draining, Paused, Disabled, Lost'],
    [{ owner: '' }, 'owner', 'it is empty'],
    [{ owner: 'a,,b' }, 'owner', 'it is empty'],
    [{ namespace: ['a', 'b'] }, 'namespace', 'give it once'],
    [{ namespace: 'A/b' }, 'namespace', 'lower-case letters'],
    [{ search: 'x'.repeat(300) }, 'search', 'at most 253 characters'],
    [{ owner: 'x,'.repeat(1_001) }, 'owner', 'at most 1000 values'],
  ])('refuses %j', (query, parameter, problem) => {
    const refusal = refused(query);
    expect(refusal.code).toBe('invalidArgument');
    expect(refusal.details.parameter).toBe(parameter);
    expect(refusal.message).toContain(`parameter ${parameter}: `);
    expect(refusal.message).toContain(problem);
  });
});

function refused(query: Query): ShardError {
  try {
    parseShardFilter(query);
  } catch (error) {
    if (error instanceof ShardError) return error;
    throw error;
  }
  throw new Error('was accepted');
}
