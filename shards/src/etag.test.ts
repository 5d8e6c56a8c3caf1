import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { listEtag, noneMatch, parseIfMatch, shardEtag } from './etag.ts';
import { API_VERSION, type ShardAssignment } from './records.ts';

function record(
  id: string,
  change: { version?: number; generation?: number; resourceVersion?: string; epoch?: number } = {},
) {
  const { version = 1, generation = 1, resourceVersion = '7', epoch = 1 } = change;
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace: 'payments', name: `orders.${id}`, uid: `uid-${id}`, generation, resourceVersion },
    spec: { shardSet: 'orders', shardId: id },
    status: { phase: 'Active', epoch, version },
  } satisfies ShardAssignment;
}

describe('the tag of a shard', () => {
  it('is strong, and tells state and representation apart', () => {
    const tag = shardEtag(record('0001'), 'json');
    expect(tag).toMatch(/^"uid-0001\.7\.[0-9a-z]+\.json"$/);
    expect(shardEtag(record('0001', { resourceVersion: '8' }), 'json')).not.toBe(tag);
    expect(shardEtag(record('0001'), 'yaml')).not.toBe(tag);
    // A restored cluster gives out the version a second time.
    expect(shardEtag(record('0001', { epoch: 200 }), 'json')).not.toBe(tag);
  });

  it('leads back to the state that it names', () => {
    const tag = shardEtag(record('0001'), 'json');
    expect(parseIfMatch(tag)).toEqual([{ uid: 'uid-0001', resourceVersion: '7' }]);
    expect(parseIfMatch(`"other.3.json", ${tag}`)).toHaveLength(2);
    expect(parseIfMatch('*')).toBe('*');
    expect(parseIfMatch(undefined)).toBeUndefined();
    expect(parseIfMatch(`W/${tag}`)).toEqual([]);
    expect(parseIfMatch('"of-something-else"')).toEqual([]);
    expect(() => parseIfMatch('uid-0001')).toThrow(/entity tag/);
  });
});

describe('the tag of a list', () => {
  const records = [record('0001'), record('0002')];
  const tag = listEtag(records, ['filter', 'page', 'json']);

  it('is weak, and the same for the same content wherever it is read', () => {
    expect(tag).toMatch(/^W\/"[0-9a-z]+"$/);
    const elsewhere = [record('0001', { resourceVersion: '900' }), record('0002')];
    expect(listEtag(elsewhere, ['filter', 'page', 'json'])).toBe(tag);
  });

  it.each([
    ['a new intent', [record('0001', { generation: 2 }), record('0002')], ['filter', 'page', 'json']],
    ['a new status', [record('0001', { version: 2 }), record('0002')], ['filter', 'page', 'json']],
    [
      'the same version in another history',
      [record('0001', { epoch: 200 }), record('0002')],
      ['filter', 'page', 'json'],
    ],
    ['another incarnation', [record('0003'), record('0002')], ['filter', 'page', 'json']],
    ['one less', [record('0001')], ['filter', 'page', 'json']],
    ['another order', [record('0002'), record('0001')], ['filter', 'page', 'json']],
    ['another filter', records, ['other', 'page', 'json']],
    ['another representation', records, ['filter', 'page', 'cbor']],
  ])('differs for %s', (_what, items, shapedBy) => {
    expect(listEtag(items, shapedBy)).not.toBe(tag);
  });
});

describe('If-None-Match', () => {
  it.each([
    [undefined, true],
    ['W/"a"', false],
    ['"a"', false],
    ['"b", W/"a"', false],
    ['"b","c"', true],
    ['*', false],
    ['', true],
    ['a', true],
    ['W/"A"', true],
  ])('%s: the answer is new to the caller: %s', (header, expected) => {
    expect(noneMatch(header, 'W/"a"')).toBe(expected);
  });

  it('survives any header', () => {
    fc.assert(
      fc.property(fc.string(), (header) => {
        expect(typeof noneMatch(header, '"a"')).toBe('boolean');
      }),
    );
  });
});
