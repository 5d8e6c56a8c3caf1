import { array, assert, constantFrom, integer, property, string } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type SseBlock, SseParser } from './sse-parser.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

function parse(text: string, cuts: readonly number[] = []): SseBlock[] {
  const parser = new SseParser();
  const whole = bytes(text);
  const places = [...new Set(cuts.map((cut) => cut % (whole.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].flatMap((from, at) => parser.push(whole.subarray(from, places[at] ?? whole.length)));
}

describe('SseParser', () => {
  it('reads blocks as the standard says', () => {
    const text = [
      '\ufeff: a comment\n',
      'event: shard\nid: t1\ndata: {"a":\ndata: 1}\n\n',
      'data:no space\n\n',
      'id\nevent: nothing without data\n\n',
      'data\n\n',
    ];
    expect(parse(text.join(''))).toEqual([
      { event: 'shard', data: '{"a":\n1}', id: 't1' },
      { event: 'message', data: 'no space', id: 't1' },
      { event: 'message', data: '', id: '' },
    ]);
  });

  it('tells what the server asks for, and passes over what it does not know', () => {
    const parser = new SseParser();
    expect(parser.push(bytes('retry: 1500\nretry: soon\nunknown: 1\nid: a\0b\n\n'))).toEqual([]);
    expect(parser.retryMs).toBe(1_500);
  });

  it('gives the same blocks wherever the chunks end and lines are ended', () => {
    const field = constantFrom('event', 'id', 'data', 'retry', '', 'other');
    const line = constantFrom('\n', '\r', '\r\n');
    const value = string({ unit: 'binary', maxLength: 12 }).map((text) => text.replaceAll(/[\r\n]/g, '€'));
    const block = array(
      field.chain((name) => value.map((text) => `${name}: ${text}`)),
      { maxLength: 5 },
    );
    assert(
      property(
        array(block, { maxLength: 6 }),
        line,
        array(integer({ min: 0, max: 2_000 })),
        (blocks, end, cuts) => {
          const lines = blocks.flatMap((fields) => [...fields, '']);
          const expected = parse(lines.map((text) => `${text}\n`).join(''));
          expect(parse(lines.map((text) => text + end).join(''), cuts)).toEqual(expected);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('keeps no more than its bound, in one line or in many', () => {
    const long = new SseParser(100);
    expect(() => long.push(bytes('x'.repeat(101)))).toThrow('more than 100 characters');
    const many = new SseParser(100);
    expect(() => many.push(bytes('data: 12345\n'.repeat(30)))).toThrow('more than 100 characters');
  });
});
