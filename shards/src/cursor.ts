import { ShardError } from './errors.ts';
import type { ShardFilter } from './repository.ts';
import { digest, openToken, sealToken, tokenInvalid } from './token.ts';

const KIND = 'list';
const POINTER = '/query/cursor';

/** Where a list goes on. */
export interface ListPlace {
  /** Of the last shard of the page before. */
  after: string;
  /** What all pages of the list are cut at; absent: the newest state there is when the cursor is used. */
  cut?: { lineage: string; position: string };
  /** Some page was cut at another position than the ones before, and so are all that follow. */
  keyset: boolean;
}

/** For the same filter only. Page sizes may change from page to page (AIP-158). */
export function sealCursor(filter: ShardFilter, { after, cut, keyset }: ListPlace): string {
  return sealToken(KIND, [
    filterDigest(filter),
    after,
    cut?.lineage ?? '',
    cut?.position ?? '',
    keyset ? '1' : '',
  ]);
}

/** The place of `sealCursor`. Throws `tokenInvalid`, or `filterMismatch` for a cursor of another filter. */
export function openCursor(filter: ShardFilter, cursor: string): ListPlace {
  const [bound, after = '', lineage = '', position = '', keyset] = openToken(KIND, cursor, POINTER);
  if (!/^\d{0,40}$/.test(position)) throw tokenInvalid(POINTER, 'is damaged');
  if (bound !== filterDigest(filter)) {
    const detail = 'belongs to a list with other filters';
    throw new ShardError(
      'filterMismatch',
      `cursor ${detail}; repeat the filters of its list, or start again without it`,
      {
        errors: [{ pointer: POINTER, detail }],
      },
    );
  }
  return { after, cut: position === '' ? undefined : { lineage, position }, keyset: keyset === '1' };
}

/** Equal for filters that let the same shards pass: the order of values and of parameters does not matter. */
export function filterDigest(filter: ShardFilter): string {
  return digest(filterText(filter));
}

/** The same at full length, for where it costs less than its digest. */
export function filterText({ namespace, shardSet, owners, phases, zones, search }: ShardFilter): string {
  const sorted = (values?: readonly string[]) => values && [...values].sort();
  return JSON.stringify([namespace, shardSet, sorted(owners), sorted(phases), sorted(zones), search]);
}
