import type { LogItem, NetItem } from '@meshkit/shards/diff';
import type { DiffPage, HistoryPoint } from '@meshkit/shards/repository';
import { NONE } from './columns.ts';
import { logText } from './log-text.ts';
import { counted, type Look, percent, tableText } from './print.ts';
import type { Column, Style } from './table.ts';

/** What has changed between two moments: the sum, then a line for each shard or each change, then who gave to whom. */
export function diffText(model: DiffPage, look: Look, namespace: string | undefined): string {
  const { mode, items, summary, coalesced, next } = model;
  const table =
    mode === 'log'
      ? logText(items as LogItem[], { namespace, names: true, dates: true }, look)
      : tableText(items as NetItem[], netColumns(namespace === undefined, look.wide), look);
  const notes = [
    ...(coalesced > 0
      ? [`${counted(coalesced, 'change')} in between could not be told apart from others\n`]
      : []),
    ...(next === undefined ? [] : ['there is more: raise --limit\n']),
  ];
  return [sumText(model), table, tableText(summary.matrix, MATRIX, look), notes.join('')]
    .filter((part) => part !== '')
    .join('\n');
}

function sumText({ summary, from, to }: DiffPage): string {
  const { shards, moved, added, removed, statusChanged, churn } = summary;
  const counts = [
    `${moved} of ${counted(shards, 'shard')} moved (churn ${percent(churn)})`,
    `${added} added`,
    `${removed} removed`,
    `${statusChanged} changed otherwise`,
  ];
  return `${counts.join(', ')}\nfrom ${momentText(from)} to ${momentText(to)}\n`;
}

function momentText({ position, at }: HistoryPoint): string {
  return at === undefined ? `position ${position}` : `${at} (position ${position})`;
}

const STYLES: Record<NetItem['change'], Style | undefined> = {
  Added: 'green',
  Removed: 'red',
  Moved: 'yellow',
  Changed: undefined,
};

function netColumns(allNamespaces: boolean, wide: boolean): Column<NetItem>[] {
  const namespace: Column<NetItem> = { header: 'NAMESPACE', cell: (item) => item.namespace };
  const epoch = ({ before, after }: NetItem) => `${before?.epoch ?? NONE} -> ${after?.epoch ?? NONE}`;
  return [
    ...(allNamespaces ? [namespace] : []),
    { header: 'CHANGE', cell: ({ change }) => change, style: ({ change }) => STYLES[change] },
    { header: 'NAME', cell: ({ name }) => name },
    { header: 'BEFORE', cell: ({ before }) => before?.owner ?? NONE },
    { header: 'AFTER', cell: ({ after }) => after?.owner ?? NONE },
    { header: 'PHASE', cell: phasesOf },
    { header: 'CHANGES', cell: ({ hops }) => String(hops), spare: 1 },
    ...(wide
      ? [
          { header: 'EPOCH', cell: epoch },
          { header: 'TICKET', cell: ({ after }: NetItem) => after?.changeTicket ?? NONE },
        ]
      : []),
  ];
}

function phasesOf({ before, after }: NetItem): string {
  const [was, is] = [before?.phase ?? NONE, after?.phase ?? NONE];
  return was === is ? is : `${was} -> ${is}`;
}

const MATRIX: Column<DiffPage['summary']['matrix'][number]>[] = [
  { header: 'FROM', cell: ({ from }) => from || NONE },
  { header: 'TO', cell: ({ to }) => to || NONE },
  { header: 'SHARDS', cell: ({ shards }) => String(shards) },
];
