import type { LogItem } from '@meshkit/shards/diff';
import { changeColumns } from './change-columns.ts';
import { type Look, tableText } from './print.ts';

/** Changes as audits read them, each a line; like those of `watch`, but with the times at which they happened. */
export function logText(
  items: readonly LogItem[],
  o: { namespace?: string; names: boolean; dates: boolean },
  look: Look,
): string {
  const { wide } = look;
  const columns = changeColumns({ ...o, allNamespaces: o.namespace === undefined, wide, stream: false });
  const rows = items.map(
    ({ type, position, before, after, actor, reason, changeTicket, previousOwner, coalesced, at }) => ({
      event: {
        type,
        position,
        current: after,
        previous: before,
        history: { actor, reason, changeTicket, previousOwner },
        coalesced,
        token: '',
      },
      at: Date.parse(at),
    }),
  );
  return tableText(rows, columns, look);
}
