import type { ShardChange } from '@meshkit/client/shard-tracker';
import type { ShardView } from '@meshkit/shards/shard-view';
import { moveOf, NONE, PHASE_STYLES } from './columns.ts';
import type { Column, Style } from './table.ts';

/** A change, and when it was seen or happened, milliseconds since the Unix epoch. */
export interface Seen {
  event: ShardChange;
  at: number;
}

const EVENT_STYLES: Partial<Record<string, Style>> = { ADDED: 'green', DELETED: 'red', LEFT: 'dim' };

/**
 * `stream`: rows come one by one, so columns begin as wide as what usually comes. `dates`: the whole time, where rows may be
 * days apart.
 */
export function changeColumns(o: {
  allNamespaces: boolean;
  wide: boolean;
  stream: boolean;
  names?: boolean;
  dates?: boolean;
}): Column<Seen>[] {
  const of =
    (cell: (shard: ShardView, seen: Seen) => string) =>
    (seen: Seen): string =>
      cell(shardOf(seen), seen);
  const time = (at: number) => `${new Date(at).toISOString().slice(o.dates ? 0 : 11, 19)}Z`;
  const who: Column<Seen>[] = [
    { header: 'NAMESPACE', least: 12, cell: of((shard) => shard.namespace) },
    { header: 'NAME', least: 14, cell: of(({ name }) => name) },
  ];
  const [namespace, name] = who as [Column<Seen>, Column<Seen>];
  const usual: Column<Seen>[] = [
    { header: 'TIME', least: 9, cell: ({ at }) => time(at), spare: 2 },
    { header: 'EVENT', least: 8, cell: eventText, style: (seen) => EVENT_STYLES[eventOf(seen)] },
    ...(o.names === false ? [] : [name]),
    { header: 'OWNER', least: 18, cell: of(ownerOf) },
    {
      header: 'PHASE',
      least: 8,
      cell: of(({ phase }) => phase),
      style: (seen) => PHASE_STYLES[shardOf(seen).phase],
    },
    { header: 'MOVE', least: 8, cell: of(moveOf), spare: 1 },
    { header: 'EPOCH', least: 10, cell: of(({ epoch }) => String(epoch)), spare: 4 },
  ];
  const by: Column<Seen> = {
    header: 'BY',
    least: 12,
    cell: ({ event }) => event.history?.actor?.name ?? NONE,
  };
  // Audits begin with who it was.
  if (o.dates) usual.push(by);
  const more: Column<Seen>[] = [
    ...(o.dates ? [] : [by]),
    { header: 'TICKET', least: 8, cell: ({ event }) => event.history?.changeTicket ?? NONE },
    { header: 'POSITION', cell: ({ event }) => event.position },
  ];
  // Of no certain length, so it comes last.
  const reason: Column<Seen> = {
    header: 'REASON',
    cell: ({ event }) => event.history?.reason ?? NONE,
    spare: 3,
  };
  return [...(o.allNamespaces ? [namespace] : []), ...usual, ...(o.wide ? more : []), reason].map(
    (column) => ({
      ...column,
      least: o.stream ? column.least : undefined,
      spare: o.wide ? undefined : column.spare,
    }),
  );
}

/** Of a deletion its last state. */
function shardOf({ event }: Seen): ShardView {
  return (event.current ?? event.previous) as ShardView;
}

/** LEFT: it exists, but no longer passes the filter. */
function eventOf({ event: { type, cause } }: Seen): string {
  return cause === 'filter' ? 'LEFT' : type;
}

/** `MODIFIED x3`: it stands for three changes that could not be told apart any more. */
function eventText(seen: Seen): string {
  const { coalesced = 1 } = seen.event;
  return coalesced > 1 ? `${eventOf(seen)} x${coalesced}` : eventOf(seen);
}

function ownerOf({ owner = NONE }: ShardView, { event }: Seen): string {
  const before = event.previous?.owner ?? NONE;
  return event.type !== 'MODIFIED' || before === owner ? owner : `${before} -> ${owner}`;
}
