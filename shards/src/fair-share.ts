import { ShardError } from './errors.ts';

/** What each node should hold: m = total capacity x weight / sum of weights, and the bounds around it, all exact. */
export interface FairShares {
  floor: Float64Array;
  ceil: Float64Array;
  /** max(ceil m, floor(c x m)). */
  cap: Float64Array;
  /** m itself, rounded to a double, for display only. */
  mean: Float64Array;
}

/** In the order of `weights`; `total` and the weights are integers, `loadBound` is c as a decimal string. */
export function fairShares(total: number, weights: readonly number[], loadBound: string): FairShares {
  const c = parseLoadBound(loadBound);
  const capacity = BigInt(total);
  const weightSum = weights.reduce((sum, weight) => sum + BigInt(weight), 0n);
  const shares: FairShares = {
    floor: new Float64Array(weights.length),
    ceil: new Float64Array(weights.length),
    cap: new Float64Array(weights.length),
    mean: new Float64Array(weights.length),
  };
  weights.forEach((weight, node) => {
    // BigInt, because capacity x weight may pass 2^53; once per node it costs nothing.
    const share = capacity * BigInt(weight);
    const ceil = Number((share + weightSum - 1n) / weightSum);
    shares.floor[node] = Number(share / weightSum);
    shares.ceil[node] = ceil;
    shares.cap[node] = Math.max(ceil, Number((share * c.numerator) / (weightSum * c.denominator)));
    shares.mean[node] = Number(share) / Number(weightSum);
  });
  return shares;
}

/** "1.05" -> 105/100. Throws `invalidArgument` for anything but a decimal of at least 1 with at most 6 decimals. */
export function parseLoadBound(text: string): { numerator: bigint; denominator: bigint } {
  const [, whole, decimals = ''] = /^(\d{1,6})(?:\.(\d{1,6}))?$/.exec(text) ?? [];
  if (whole === undefined || BigInt(whole) < 1n) {
    throw new ShardError(
      'invalidArgument',
      `loadBound "${text}" is not a decimal of at least 1, such as "1.05"`,
    );
  }
  return { numerator: BigInt(whole + decimals), denominator: 10n ** BigInt(decimals.length) };
}

/**
 * The sign of loadA / weightA - loadB / weightB, exact for integers up to 2^53: relative fullness, because m is
 * proportional to the weight.
 */
export function compareFullness(loadA: number, weightA: number, loadB: number, weightB: number): number {
  const a = loadA * weightB;
  const b = loadB * weightA;
  // Rounding never swaps two products, it can only make them equal, and below 2^53 there is none.
  if (a !== b) return a - b;
  if (a <= Number.MAX_SAFE_INTEGER) return 0;
  const difference = BigInt(loadA) * BigInt(weightB) - BigInt(loadB) * BigInt(weightA);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}
