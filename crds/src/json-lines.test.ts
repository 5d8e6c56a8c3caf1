import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lines } from './json-lines.ts';

async function* cut(bytes: Uint8Array, at: readonly number[]): AsyncGenerator<Uint8Array> {
  let start = 0;
  for (const end of [...at, bytes.length]) {
    yield bytes.subarray(start, Math.max(start, end));
    start = Math.max(start, end);
  }
}

const tooLong = () => new Error('too long');

test('lines are the same however the bytes are cut into chunks', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: 'binary', minLength: 1 })),
      fc.array(fc.nat(200)),
      async (texts, at) => {
        const events = texts.map((text) => JSON.stringify({ text }));
        const bytes = Buffer.from(events.map((event) => `${event}\n`).join(''));
        const cuts = at.map((n) => n % (bytes.length + 1)).sort((a, b) => a - b);
        expect(await Array.fromAsync(lines(cut(bytes, cuts), 10_000, tooLong))).toEqual(events);
      },
    ),
  );
});

test('a character whose bytes arrive in two chunks stays whole', async () => {
  const bytes = Buffer.from('"€ 😀"\n');
  for (let at = 0; at <= bytes.length; at += 1)
    expect(await Array.fromAsync(lines(cut(bytes, [at]), 100, tooLong))).toEqual(['"€ 😀"']);
});

test('a line that the peer cut off is not taken for a line; empty lines are skipped', async () => {
  const bytes = Buffer.from('{"a":1}\r\n\n\n{"b":');
  expect(await Array.fromAsync(lines(cut(bytes, []), 100, tooLong))).toEqual(['{"a":1}\r']);
});

test('a line larger than the bound is refused, in one chunk or in many', async () => {
  const bytes = Buffer.from(`${'x'.repeat(101)}\n`);
  await expect(Array.fromAsync(lines(cut(bytes, []), 100, tooLong))).rejects.toThrow('too long');
  await expect(Array.fromAsync(lines(cut(bytes, [30, 60, 90]), 100, tooLong))).rejects.toThrow('too long');
  expect(await Array.fromAsync(lines(cut(bytes, [50]), 101, tooLong))).toHaveLength(1);
});

test('a line without end is refused before it is complete', async () => {
  async function* endless() {
    for (;;) yield Buffer.alloc(10, 'x');
  }
  await expect(Array.fromAsync(lines(endless(), 100, tooLong))).rejects.toThrow('too long');
});
