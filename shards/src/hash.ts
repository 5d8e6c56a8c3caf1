import xxhash from 'xxhash-wasm';

// The only asynchronous step of this package: compiling 3 kB of WebAssembly, after which hashing is synchronous.
const { h64, h64Raw } = await xxhash();

/** xxh64 of the text's UTF-8 bytes with seed 0, the same on every platform. */
export function xxh64(text: string): bigint {
  return h64(text);
}

/** xxh64 of other digests, in the order given. */
export function xxh64Of(hashes: readonly bigint[]): bigint {
  const bytes = new DataView(new ArrayBuffer(hashes.length * 8));
  for (const [at, hash] of hashes.entries()) bytes.setBigUint64(at * 8, hash);
  return h64Raw(new Uint8Array(bytes.buffer));
}

/** 64-bit digests as two 32-bit columns, the form in which arithmetic on them is cheap. */
export interface Digests {
  hi: Int32Array;
  lo: Int32Array;
}

/** One xxh64 (seed 0) per text, in the order given. */
export function digests(texts: readonly string[]): Digests {
  const hi = new Int32Array(texts.length);
  const lo = new Int32Array(texts.length);
  const word = new DataView(new ArrayBuffer(8));
  texts.forEach((text, index) => {
    word.setBigUint64(0, h64(text));
    hi[index] = word.getInt32(0);
    lo[index] = word.getInt32(4);
  });
  return { hi, lo };
}
