/** Encoded messages. */
export interface Writes {
  /** To be written one after the other; one may hold several messages. */
  readonly parts: readonly Uint8Array[];
  readonly messages: number;
}

/**
 * What was encoded lately, so that streams which are told the same share it; the oldest makes room. Losing something
 * from it costs time, never correctness.
 */
export class ByteCache {
  readonly #limit: number;
  readonly #kept = new Map<string, Writes>();
  #bytes = 0;

  /** `limit` in bytes. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** What is kept under the key, made when there is nothing. */
  get(key: string, make: () => Writes): Writes {
    const kept = this.#kept.get(key);
    if (kept) return kept;
    const made = make();
    const size = sizeOf(made);
    if (size > this.#limit) return made;
    this.#kept.set(key, made);
    this.#bytes += size;
    for (const [oldest, writes] of this.#kept) {
      if (this.#bytes <= this.#limit) break;
      this.#kept.delete(oldest);
      this.#bytes -= sizeOf(writes);
    }
    return made;
  }
}

/** With what the map and the array take. */
function sizeOf({ parts }: Writes): number {
  return parts.reduce((sum, { length }) => sum + length + 100, 200);
}
