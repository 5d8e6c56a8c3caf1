import { countedShardId } from './defaults.ts';
import { ShardError } from './errors.ts';
import { xxh64 } from './hash.ts';

/**
 * The shard that a key belongs to in a ShardSet with `shards: {count}`: `shardForKey('customer-42', 64)` is an id
 * such as "0017". Growing the count from n to n + 1 moves 1/(n + 1) of the keys, all of them to the new shard.
 * A jump consistent hash over xxh64 (seed 0) of the key's UTF-8 bytes, so that any language can compute it.
 */
export function shardForKey(key: string, count: number): string {
  return countedShardId(jumpHash(xxh64(key), count));
}

/**
 * Jump consistent hash (Lamping and Veach, arXiv 1406.2294, figure 1): a bucket in 0 … buckets - 1.
 * `key` counts modulo 2^64; throws `invalidArgument` unless `buckets` is an integer in 1 … 2^31 - 1.
 */
export function jumpHash(key: bigint, buckets: number): number {
  if (!Number.isInteger(buckets) || buckets < 1 || buckets > 0x7fffffff) {
    throw new ShardError(
      'invalidArgument',
      `a shard count is an integer from 1 to 2147483647, not ${buckets}`,
    );
  }
  let state = BigInt.asUintN(64, key);
  let bucket = 0;
  let jump = 0;
  while (jump < buckets) {
    bucket = jump;
    state = BigInt.asUintN(64, state * 2862933555777941757n + 1n);
    // The paper's own operations in its own order: both steps round once, as doubles do everywhere.
    jump = Math.floor((bucket + 1) * (0x80000000 / (Number(state >> 33n) + 1)));
  }
  return bucket;
}
