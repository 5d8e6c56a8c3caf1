import type { Point } from './change.ts';
import { filterDigest } from './cursor.ts';
import { ShardError } from './errors.ts';
import type { ShardFilter } from './repository.ts';
import { openToken, sealToken, tokenInvalid } from './token.ts';

const KIND = 'resume';
const NAME = 'resumeToken';
const SNAPSHOT = 's';
const PARTIAL = 'p';

/** What a watcher knows: everything up to the point, in that lineage. */
export interface ResumePoint extends Point {
  lineage: string;
  /**
   * Digest of the whole state at the point (see `StateDigest`). A server that knows another state there shares no
   * history with the token, whatever the positions say.
   */
  anchor: string;
  /** The token was handed out inside a snapshot, which has to start again. */
  snapshot: boolean;
  /** Between changes that are one step, so that the state at the point never was. */
  partial?: boolean;
}

/** `filter` as text: `filterDigest` of the stream's or list's filter. */
export function sealResumeToken(filter: string, point: ResumePoint): string {
  const { lineage, position, ordinal, anchor, snapshot, partial } = point;
  const mode = snapshot ? SNAPSHOT : partial ? PARTIAL : '';
  return sealToken(KIND, [filter, lineage, position, String(ordinal), anchor, mode]);
}

/** Throws `tokenInvalid`, or `filterMismatch` for a token of another filter. */
export function openResumeToken(filter: ShardFilter, token: string): ResumePoint {
  const fields = openToken(KIND, token, NAME);
  const [bound, lineage = '', position = '', ordinal = '', anchor = '', mode] = fields;
  if (!/^\d{1,40}$/.test(position) || !/^\d{1,15}$/.test(ordinal)) throw tokenInvalid(NAME, 'is damaged');
  if (bound !== filterDigest(filter)) {
    const detail = 'belongs to a list or watch with other filters';
    throw new ShardError(
      'filterMismatch',
      `${NAME} ${detail}; repeat those filters, or start again without it`,
      { errors: [{ pointer: `/query/${NAME}`, detail }] },
    );
  }
  const point = { lineage, position, ordinal: Number(ordinal), anchor };
  return { ...point, snapshot: mode === SNAPSHOT, partial: mode === PARTIAL };
}
