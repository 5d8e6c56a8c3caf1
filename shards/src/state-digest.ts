import { xxh64 } from './hash.ts';
import type { ShardAssignment } from './records.ts';
import { type ShardView, served } from './shard-view.ts';

/** What is served of a record, as one number and its size: equal numbers, nothing to tell. */
export interface Fingerprint {
  hash: bigint;
  /** Characters of its JSON. */
  size: number;
}

/** Records are replaced, never altered: each is looked at once. */
const known = new WeakMap<ShardAssignment, Fingerprint>();

export function fingerprint(record: ShardAssignment): Fingerprint {
  const found = known.get(record);
  if (found) return found;
  const made = fingerprintOf(served(record));
  known.set(record, made);
  return made;
}

/** Of a view as `served` makes it: the order of its members counts. */
export function fingerprintOf(view: ShardView): Fingerprint {
  const text = JSON.stringify(view);
  return { hash: xxh64(text), size: text.length };
}

/**
 * A digest of a set of records that follows each change in constant time: the sum of their fingerprints modulo 2^64.
 * Whoever holds the same records has the same digest, however they came by them: by a list, by a watch, after a
 * restart. That makes it the anchor of resume tokens.
 */
export class StateDigest {
  #sum = 0n;

  /** The digest that wrote itself down as this text. */
  static of(text: string): StateDigest {
    const digest = new StateDigest();
    for (const character of text) digest.#sum = digest.#sum * 36n + BigInt(Number.parseInt(character, 36));
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
