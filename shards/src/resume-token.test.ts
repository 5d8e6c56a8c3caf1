import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { filterDigest, openCursor } from './cursor.ts';
import { ShardError } from './errors.ts';
import type { ShardFilter } from './repository.ts';
import { openResumeToken, type ResumePoint, sealResumeToken } from './resume-token.ts';
import { sealToken } from './token.ts';

const filter: ShardFilter = { namespace: 'payments', phases: ['Active', 'Lost'] };
const point: ResumePoint = { lineage: 'l-1', position: '918273', anchor: 'a', snapshot: false };

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof ShardError) return error.code;
    throw error;
  }
  return 'none';
}

describe('resume token', () => {
  it('gives back every point', () => {
    fc.assert(
      fc.property(
        fc.record({
          lineage: fc.string({ maxLength: 60 }),
          position: fc.bigInt({ min: 0n, max: 10n ** 39n }).map(String),
          anchor: fc.string({ maxLength: 40 }),
          snapshot: fc.boolean(),
        }),
        (any) => {
          expect(openResumeToken(filter, sealResumeToken(filterDigest(filter), any))).toMatchObject(any);
        },
      ),
    );
  });

  it('holds for the same filter in another order, and for no other', () => {
    const token = sealResumeToken(filterDigest(filter), point);
    expect(openResumeToken({ phases: ['Lost', 'Active'], namespace: 'payments' }, token)).toMatchObject(
      point,
    );
    expect(codeOf(() => openResumeToken({ namespace: 'payments' }, token))).toBe('filterMismatch');
  });

  it('that is refused names the place that it came in', () => {
    const header = '/header/last-event-id';
    const token = sealResumeToken(filterDigest(filter), point);
    for (const open of [
      () => openResumeToken(filter, 'garbage', header),
      () => openResumeToken({}, token, header),
    ]) {
      expect(open).toThrow(/^last-event-id /);
      expect(open).toThrow(
        expect.objectContaining({ details: { errors: [expect.objectContaining({ pointer: header })] } }),
      );
    }
  });

  it('is refused when a single character differs', () => {
    const token = sealResumeToken(filterDigest(filter), point);
    fc.assert(
      fc.property(fc.nat(token.length - 1), fc.constantFrom(...'abzAZ059_-=+/ é'), (at, character) => {
        fc.pre(token[at] !== character);
        const edited = token.slice(0, at) + character + token.slice(at + 1);
        expect(codeOf(() => openResumeToken(filter, edited))).toBe('tokenInvalid');
      }),
    );
  });

  it('and cursor are not taken for one another', () => {
    const token = sealResumeToken(filterDigest(filter), point);
    expect(codeOf(() => openCursor(filter, token))).toBe('tokenInvalid');
  });

  it.each([
    ['resume', ['not a digest']],
    ['resume', [filterDigest(filter), 'l', 'not a position', 'a', '']],
    ['list', [filterDigest(filter), 'after', 'l', 'not a position', '']],
  ])('whoever makes one up gets no further: %s %j', (kind, fields) => {
    const forged = sealToken(kind, fields);
    const open = kind === 'list' ? openCursor : openResumeToken;
    expect(codeOf(() => open(filter, forged))).toBe('tokenInvalid');
  });
});
