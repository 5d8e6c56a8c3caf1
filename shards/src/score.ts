import { type Digests, digests } from './hash.ts';

/*
 * Weighted rendezvous: a shard prefers the node with the largest -weight / ln(h), h in (0,1) drawn from both names.
 * The planner compares the reciprocal, the *cost* -log2(h) / weight, smallest first: the same order. It is computed
 * from integers and one IEEE 754 division, which rounds the same everywhere; Math.log need not and is not used.
 */

const INDEX_BITS = 11;
const REST_BITS = 31 - INDEX_BITS;
const TABLE_BITS = 26;
/** Costs of weight 1 are integers below 2^52 in this unit of log2. */
const UNIT = 2 ** (TABLE_BITS + REST_BITS);

/** log2(1 + i / 2^11) in units of 2^-26, i = 0 … 2^11; between two entries the logarithm is interpolated. */
const LOG2 = Float64Array.from({ length: 2 ** INDEX_BITS + 1 }, (_, index) =>
  fixedPointLog2(1 + index / 2 ** INDEX_BITS),
);

/** Of 1 <= x <= 2 in units of 2^-26, by repeated squaring: only multiplications, so the same on every engine. */
function fixedPointLog2(x: number): number {
  if (x === 2) return 2 ** TABLE_BITS;
  let rest = x;
  let bits = 0;
  // One bit more than is kept, to round by.
  for (let bit = 0; bit <= TABLE_BITS; bit++) {
    rest *= rest;
    bits *= 2;
    if (rest >= 2) {
      rest /= 2;
      bits += 1;
    }
  }
  return Math.floor((bits + 1) / 2);
}

/** -log2(h / 2^32) / weight in a fixed unit, for a draw h in 0 … 2^32 - 1: smaller is better, never 0. */
export function cost(draw: number, weight: number): number {
  // An odd draw keeps h strictly between 0 and 1.
  const odd = draw | 1;
  const zeros = Math.clz32(odd);
  const mantissa = odd << zeros;
  const index = (mantissa >>> REST_BITS) & (2 ** INDEX_BITS - 1);
  const rest = mantissa & (2 ** REST_BITS - 1);
  const low = LOG2[index]!;
  const log2 = low * 2 ** REST_BITS + (LOG2[index + 1]! - low) * rest;
  return ((zeros + 1) * UNIT - log2) / weight;
}

/** The score of the literature, -weight / ln(h), for people to read; larger is better. */
export function score(draw: number, weight: number): number {
  return UNIT / (cost(draw, weight) * Math.LN2);
}

/** The draws of shards on nodes: one xxh64 for each name, then 32-bit mixing for each pair. */
export class Draws {
  readonly #shards: Digests;
  readonly #nodes: Digests;

  constructor(shards: readonly string[], nodes: readonly string[]) {
    this.#shards = digests(shards);
    this.#nodes = digests(nodes);
  }

  /** An unsigned 32-bit integer; for one node, the larger it is the better the shard's score there. */
  of(shard: number, node: number): number {
    const a = this.#shards;
    const b = this.#nodes;
    let x = Math.imul(a.lo[shard]! ^ b.lo[node]!, 0x85ebca6b);
    x = ((x ^ (x >>> 15)) + (a.hi[shard]! ^ b.hi[node]!)) | 0;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
    return (x ^ (x >>> 16)) >>> 0;
  }
}
