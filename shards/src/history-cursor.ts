import { ShardError } from './errors.ts';
import type { HistoryPoint } from './repository.ts';
import { openToken, sealToken, tokenInvalid } from './token.ts';

const KIND = 'history';
const POINTER = '/query/cursor';

/** Where a diff or a history goes on. */
export interface HistoryPlace {
  lineage: string;
  from: HistoryPoint;
  to: HistoryPoint;
  /** Of the last item of the page before. */
  after: string;
}

/** `about`: what the answer is about (filter, mode, shard); the cursor fits nothing else. */
export function sealPlace(about: string, { lineage, from, to, after }: HistoryPlace): string {
  return sealToken(KIND, [about, lineage, from.position, from.at ?? '', to.position, to.at ?? '', after]);
}

/** Throws `tokenInvalid`, or `filterMismatch` for a cursor about something else. */
export function openPlace(about: string, cursor: string): HistoryPlace {
  const [bound, lineage = '', from = '', fromAt, to = '', toAt, after = ''] = openToken(
    KIND,
    cursor,
    POINTER,
  );
  if (![from, to].every((position) => /^\d{1,40}$/.test(position))) throw tokenInvalid(POINTER, 'is damaged');
  if (bound !== about) {
    const detail = 'belongs to another question: other filters, another mode or another shard';
    throw new ShardError('filterMismatch', `cursor ${detail}; repeat those, or start again without it`, {
      errors: [{ pointer: POINTER, detail }],
    });
  }
  const point = (position: string, at: string | undefined) => (at ? { position, at } : { position });
  return { lineage, from: point(from, fromAt), to: point(to, toAt), after };
}
