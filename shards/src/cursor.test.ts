import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openCursor, sealCursor } from './cursor.ts';
import { ShardError } from './errors.ts';
import type { ShardFilter } from './repository.ts';
import { openToken, sealToken } from './token.ts';

const filter: ShardFilter = { namespace: 'payments', owners: ['node-1', 'node-2'], phases: ['Active'] };

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof ShardError) return error.code;
    throw error;
  }
  return 'none';
}

describe('cursor', () => {
  it('gives back where the list stopped', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (after) => {
        const cut = { lineage: 'l', position: '918273' };
        expect(openCursor(filter, sealCursor(filter, { after, cut, keyset: false }))).toEqual({
          after,
          cut,
          keyset: false,
        });
        const newest = { after, cut: undefined, keyset: true };
        expect(openCursor(filter, sealCursor(filter, newest))).toEqual(newest);
      }),
    );
  });

  it('holds for the same filter in another order', () => {
    const cursor = sealCursor(filter, { after: 'a', keyset: false });
    expect(
      openCursor({ phases: ['Active'], owners: ['node-2', 'node-1'], namespace: 'payments' }, cursor).after,
    ).toBe('a');
  });

  it.each<ShardFilter>([
    {},
    { ...filter, namespace: 'other' },
    { ...filter, owners: ['node-1'] },
    { ...filter, search: '7' },
    { ...filter, zones: ['a'] },
  ])('is refused under other filters: %j', (other) => {
    expect(codeOf(() => openCursor(other, sealCursor(filter, { after: 'a', keyset: false })))).toBe(
      'filterMismatch',
    );
  });

  it('is refused when a single character differs, whatever is put there', () => {
    const cursor = sealCursor(filter, { after: 'payments/orders.0042', keyset: false });
    fc.assert(
      fc.property(fc.nat(cursor.length - 1), fc.constantFrom(...'abzAZ059_-=+/ é'), (at, character) => {
        fc.pre(cursor[at] !== character);
        const edited = cursor.slice(0, at) + character + cursor.slice(at + 1);
        expect(codeOf(() => openCursor(filter, edited))).toBe('tokenInvalid');
      }),
    );
  });

  it.each(['', 'x', 'AAAA', 'not a cursor', 'A'.repeat(5_000), sealToken('resume', ['a', 'b'])])(
    'refuses what is not a cursor: %.20s',
    (text) => {
      expect(codeOf(() => openCursor(filter, text))).toBe('tokenInvalid');
    },
  );
});

describe('token', () => {
  it('says which parameter is wrong and what to do', () => {
    expect(() => openToken('list', 'AAAA', '/query/cursor')).toThrow(/^cursor .*start again without it/);
  });

  it('uses characters that need no escaping in a URL', () => {
    fc.assert(
      fc.property(fc.array(fc.string()), (fields) => {
        fc.pre(JSON.stringify(fields).length < 1_000);
        const token = sealToken('k', fields);
        expect(encodeURIComponent(token)).toBe(token);
        expect(openToken('k', token, '/query/cursor')).toEqual(fields);
      }),
    );
  });
});
