import { parseShardFilter } from '@meshkit/shards/filter';
import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { listQuery, nodesQuery, shardParams, shardQuery, watchQuery } from './parameters.ts';

const faults = (schema: z.ZodType, input: unknown) =>
  schema.safeParse(input).error?.issues.map(({ path }) => path.join('.')) ?? [];

describe('the query of a list', () => {
  it('has a page size of its own when none is given', () => {
    expect(listQuery.parse({})).toEqual({ pageSize: 100 });
  });

  it.each([
    ['1', 1],
    ['007', 7],
    ['1000', 1_000],
    ['1001', 1_000],
    ['9'.repeat(300), 1_000],
    // gRPC has numbers.
    [250, 250],
  ])('takes pageSize %s as %i', (pageSize, expected) => {
    expect(listQuery.parse({ pageSize }).pageSize).toBe(expected);
  });

  it.each(['0', '-1', '1.5', '1e3', ' 1', '', 'ten', 0, -1])('refuses pageSize "%s"', (pageSize) => {
    expect(faults(listQuery, { pageSize })).toEqual(['pageSize']);
  });

  it.each([
    [{ owner: 'node-1' }, { owners: ['node-1'] }],
    [{ owner: 'node-1, node-2' }, { owners: ['node-1', 'node-2'] }],
    [{ owner: ['node-1', 'node-2,node-1'] }, { owners: ['node-1', 'node-2'] }],
    [{ status: 'active,LOST' }, { phases: ['Active', 'Lost'] }],
    [{ zone: 'eu_1.a' }, { zones: ['eu_1.a'] }],
    [{ search: 'ü%_' }, { search: 'ü%_' }],
    [
      { namespace: 'payments', shardSet: 'orders' },
      { namespace: 'payments', shardSet: 'orders' },
    ],
  ])('becomes a filter: %j', (query, filter) => {
    const { pageSize: _, cursor: __, minVersion: ___, ...conditions } = listQuery.parse(query);
    expect(parseShardFilter(conditions)).toEqual(expect.objectContaining(filter));
  });

  it.each([
    [{ nmespace: 'a' }, ''],
    [{ namespace: ['a', 'b'] }, 'namespace'],
    [{ namespace: 'UPPER' }, 'namespace'],
    [{ cursor: '' }, 'cursor'],
    [{ cursor: 'a'.repeat(3_000) }, 'cursor'],
    [{ minVersion: 'latest' }, 'minVersion'],
    [{ minVersion: '01' }, 'minVersion'],
    [{ minVersion: '-1' }, 'minVersion'],
    [{ search: ['a', 'b'] }, 'search'],
  ])('%j is refused', (query, place) => {
    expect(faults(listQuery, query)).toEqual([place]);
  });
});

describe('the query of a watch', () => {
  it.each([
    [{}, { allowCoalescing: false }],
    [{ from: 'now' }, { from: 'now', allowCoalescing: false }],
    [
      { onExpired: 'fail', allowCoalescing: 'true' },
      { onExpired: 'fail', allowCoalescing: true },
    ],
  ])('%j', (query, expected) => {
    expect(watchQuery.parse(query)).toEqual(expected);
  });

  it.each([
    [{ from: 'yesterday' }, 'from'],
    [{ onExpired: 'diff' }, 'onExpired'],
    [{ allowCoalescing: '1' }, 'allowCoalescing'],
    [{ resumeToken: '' }, 'resumeToken'],
    [{ pageSize: '1' }, ''],
  ])('%j is refused', (query, place) => {
    expect(faults(watchQuery, query)).toEqual([place]);
  });
});

it.each([
  [{ namespace: 'payments', name: 'orders.0042' }, []],
  [{ namespace: 'pay/ments', name: 'orders.0042' }, ['namespace']],
  [{ namespace: 'payments', name: 'Orders' }, ['name']],
  [{ namespace: 'payments', name: '-' }, ['name']],
])('path %j', (params, expected) => {
  expect(faults(shardParams, params)).toEqual(expected);
});

it('one shard and nodes have queries of their own', () => {
  expect(faults(shardQuery, { pageSize: '1' })).toEqual(['']);
  expect(faults(nodesQuery, { owner: 'a' })).toEqual(['']);
});
