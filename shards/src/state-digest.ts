import { xxh64 } from './hash.ts';
import type { ShardAssignment } from './records.ts';
import { served } from './shard-view.ts';

/** What is served of a record, as one number and its size: equal numbers, nothing to tell. */
export interface Fingerprint {
  hash: bigint;
  /** Characters of its JSON. */
  size: number;
}

export function fingerprint(record: ShardAssignment): Fingerprint {
  const text = JSON.stringify(served(record));
  return { hash: xxh64(text), size: text.length };
}

/**
 * A digest of a set of records that follows each change in constant time: the sum of their fingerprints modulo 2^64.
 * Whoever holds the same records has the same digest, however they came by them: by a list, by a watch, after a
 * restart. That makes it the anchor of resume tokens.
 */
export class StateDigest {
  #sum = 0n;

  /** Of the state that has this anchor; undefined when the text is none. */
  static of(anchor: string): StateDigest | undefined {
    if (!/^[0-9a-z]{1,13}$/.test(anchor)) return undefined;
    const digest = new StateDigest();
    for (const digit of anchor) digest.#sum = digest.#sum * 36n + BigInt(Number.parseInt(digit, 36));
    return digest;
  }

  add({ hash }: Fingerprint): void {
    this.#sum = BigInt.asUintN(64, this.#sum + hash);
  }

  remove({ hash }: Fingerprint): void {
    this.#sum = BigInt.asUintN(64, this.#sum - hash);
  }

  toString(): string {
    return this.#sum.toString(36);
  }
}
