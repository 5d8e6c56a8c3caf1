import { filterDigest } from './cursor.ts';
import { ShardError } from './errors.ts';
import { nameOf } from './problem.ts';
import type { ShardFilter } from './repository.ts';
import { openToken, sealToken, tokenInvalid } from './token.ts';

const KIND = 'resume';
const SNAPSHOT = 's';
const BEYOND = 'b';

/** What a watcher knows: everything at or before a settled state (see `Mark`), in that lineage. */
export interface ResumePoint {
  lineage: string;
  position: string;
  /**
   * Digest of the whole state at the position (see `StateDigest`). A server that knows another state there shares no
   * history with the token, whatever the positions say.
   */
  anchor: string;
  /** The token was handed out inside a snapshot, which has to start again. */
  snapshot: boolean;
  /** Handed out inside a reconstructed stretch: whoever has it may know some of what came after the position, up to this one. */
  beyond?: string;
}

/** `filter` as text: `filterDigest` of the stream's or list's filter. */
export function sealResumeToken(filter: string, point: ResumePoint): string {
  const { lineage, position, anchor, snapshot, beyond } = point;
  const mode = snapshot ? SNAPSHOT : beyond === undefined ? '' : `${BEYOND}${beyond}`;
  return sealToken(KIND, [filter, lineage, position, anchor, mode]);
}

/** `pointer`: where the token came in. Throws `tokenInvalid`, or `filterMismatch` for a token of another filter. */
export function openResumeToken(
  filter: ShardFilter,
  token: string,
  pointer = '/query/resumeToken',
): ResumePoint {
  const { bound, ...point } = openAnyResumeToken(token, pointer);
  if (bound !== filterDigest(filter)) {
    const detail = 'belongs to a list or watch with other filters';
    throw new ShardError(
      'filterMismatch',
      `${nameOf(pointer)} ${detail}; repeat those filters, or start again without it`,
      { errors: [{ pointer, detail }] },
    );
  }
  return point;
}

/** A token of whatever filter; `bound` is that filter's digest, `pointer` where it came in. Throws `tokenInvalid`. */
export function openAnyResumeToken(token: string, pointer: string): ResumePoint & { bound: string } {
  const [bound = '', lineage = '', position = '', anchor = '', mode = ''] = openToken(KIND, token, pointer);
  if (!/^\d{1,40}$/.test(position)) throw tokenInvalid(pointer, 'is damaged');
  const [, beyond] = new RegExp(`^${BEYOND}(\\d{1,40})$`).exec(mode) ?? [];
  return { bound, lineage, position, anchor, snapshot: mode === SNAPSHOT, beyond };
}
