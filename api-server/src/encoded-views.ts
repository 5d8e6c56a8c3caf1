import type { ShardAssignment } from '@meshkit/shards/records';
import { served } from '@meshkit/shards/shard-view';

const COMMA = Buffer.from(',');

/**
 * JSON of shards, encoded once for each change: records are replaced, never altered, so a record's bytes
 * live exactly as long as the record, and an answer is a concatenation.
 */
export class EncodedViews {
  readonly #bytes = new WeakMap<ShardAssignment, Buffer>();

  of(record: ShardAssignment): Buffer {
    const known = this.#bytes.get(record);
    if (known) return known;
    const bytes = Buffer.from(JSON.stringify(served(record)));
    this.#bytes.set(record, bytes);
    return bytes;
  }

  /** `{items, nextCursor?, consistency, resumeToken?, versionVector}`; `rest` is everything but the items. */
  list(records: readonly ShardAssignment[], rest: Record<string, unknown>): Buffer {
    const parts: Buffer[] = [Buffer.from('{"items":[')];
    for (const record of records) {
      if (parts.length > 1) parts.push(COMMA);
      parts.push(this.of(record));
    }
    parts.push(Buffer.from(`],${JSON.stringify(rest).slice(1)}`));
    return Buffer.concat(parts);
  }
}
