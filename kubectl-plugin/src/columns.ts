import { GROUP } from '@meshkit/shards/records';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import { age } from './age.ts';
import type { Column, Style } from './table.ts';

export const NONE = '-';

export const PHASE_STYLES: Partial<Record<ShardView['phase'], Style>> = {
  Pending: 'yellow',
  Draining: 'yellow',
  Paused: 'dim',
  Disabled: 'dim',
  Lost: 'red',
};

/** `KIND/NAME`, as kubectl prints for `-o name`. */
export function shardName({ name }: { name: string }): string {
  return `shardassignment.${GROUP}/${name}`;
}

/** What `-o name` and kubectl's short names for the kind write before the name. */
const KIND_OF_SHARD = new RegExp(`^shard(assignment)?s?(\\.${GROUP.replaceAll('.', '\\.')})?/`);

/** The name alone, as an argument gave it: `orders.0042`, or with its kind, as `-o name` prints it. */
export function bareName(argument = ''): string {
  return argument.replace(KIND_OF_SHARD, '');
}

/** `now`: milliseconds since the Unix epoch. */
export function shardColumns(o: { allNamespaces: boolean; wide: boolean; now: number }): Column<ShardView>[] {
  const namespace: Column<ShardView> = { header: 'NAMESPACE', cell: ({ namespace: name }) => name };
  const usual: Column<ShardView>[] = [
    { header: 'NAME', cell: ({ name }) => name },
    { header: 'OWNER', cell: ({ owner }) => owner ?? NONE },
    { header: 'PHASE', cell: ({ phase }) => phase, style: ({ phase }) => PHASE_STYLES[phase] },
    { header: 'MOVE', cell: moveOf, spare: 1 },
    { header: 'EPOCH', cell: ({ epoch }) => String(epoch), spare: 3 },
    { header: 'SINCE', cell: ({ since }) => age(since, o.now), spare: 2 },
  ];
  const more: Column<ShardView>[] = [
    { header: 'VERSION', cell: ({ version }) => String(version) },
    { header: 'STATE', cell: ({ state }) => state },
    { header: 'PIN', cell: ({ pinned }) => pinned ?? NONE },
    { header: 'ZONE', cell: ({ locality }) => locality?.zone ?? NONE },
    { header: 'ENDPOINT', cell: ({ ownerEndpoint }) => ownerEndpoint ?? NONE },
    { header: 'TICKET', cell: ({ changeTicket }) => changeTicket ?? NONE },
  ];
  const columns = o.wide ? [...usual.map(({ spare: _, ...column }) => column), ...more] : usual;
  return o.allNamespaces ? [namespace, ...columns] : columns;
}

/** Where a draining shard goes: to a node, or to nobody when it is being retired. */
export function moveOf({ move }: ShardView): string {
  return move === undefined ? NONE : (move.to ?? 'nobody');
}

export function nodeColumns(o: { allNamespaces: boolean; wide: boolean }): Column<NodeView>[] {
  const namespace: Column<NodeView> = { header: 'NAMESPACE', cell: ({ namespace: name }) => name };
  const usual: Column<NodeView>[] = [
    { header: 'NAME', cell: ({ name }) => name },
    {
      header: 'READY',
      cell: ({ ready }) => (ready ? 'True' : 'False'),
      style: ({ ready }) => (ready ? undefined : 'red'),
    },
    {
      header: 'SCHEDULING',
      cell: ({ scheduling }) => scheduling,
      style: ({ scheduling }) => (scheduling === 'Active' ? undefined : 'yellow'),
    },
    { header: 'SHARDS', cell: ({ shards }) => String(shards) },
    { header: 'WEIGHT', cell: ({ weight }) => String(weight), spare: 1 },
    { header: 'ZONE', cell: ({ zone }) => zone ?? NONE, spare: 2 },
  ];
  const more: Column<NodeView>[] = [
    { header: 'REGION', cell: ({ region }) => region ?? NONE },
    { header: 'ENDPOINT', cell: ({ endpoint }) => endpoint ?? NONE },
  ];
  const columns = o.wide ? [...usual.map(({ spare: _, ...column }) => column), ...more] : usual;
  return o.allNamespaces ? [namespace, ...columns] : columns;
}
