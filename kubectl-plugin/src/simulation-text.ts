import type {
  SimulatedBalance,
  SimulatedChurn,
  SimulatedMove,
  SimulatedNode,
  SimulatedPhase,
  SimulatedSet,
  SimulatedUnplaceable,
  SimulatedZone,
  Simulation,
} from '@meshkit/shards/simulate';
import { NONE } from './columns.ts';
import { durationText } from './duration.ts';
import { counted, type Look, percent, styled, tableText } from './print.ts';
import type { Column } from './table.ts';

/** So many moves of a set are shown; -o wide shows all that the answer has. */
const SHOWN = 20;

/** What would happen, set by set: the sum in a line, then moves, shards without a place, and the nodes before and after. */
export function simulationText(model: Simulation, look: Look): string {
  const { sets, totals, planHash, basis, warnings, truncated } = model;
  const busy = sets.filter(
    (set) => look.wide || set.totals.moves + set.totals.unplaceable + set.totals.retired > 0,
  );
  const parts = busy.map((set) => setText(set, look));
  const quiet = sets.length - busy.length;
  if (quiet > 0) parts.push(`${counted(quiet, 'set')} with nothing to move.\n`);
  if (sets.length > 1) parts.push(`In all: ${sumText(totals)}\n`);
  const notes = [...warnings, ...(truncated ? ['lists are cut short; the sums are exact'] : [])];
  parts.push(notes.map((note) => `${styled('yellow', 'note', look)}  ${note}\n`).join(''));
  parts.push(`plan ${planHash}, on the state at ${basis.position}; nothing was written\n`);
  return parts.filter((part) => part !== '').join('\n');
}

const ESTIMATES: Record<SimulatedSet['estimateBasis'], string> = {
  observed: '(as drains went lately)',
  drainTimeout: '(if every drain takes its whole drainTimeout)',
  immediate: '(immediate handoff)',
};

function setText(set: SimulatedSet, look: Look): string {
  const { namespace, name, change, totals, retired, phases, estimatedDurationMs, estimateBasis } = set;
  const title = styled('bold', `${namespace}/${name}`, look);
  const state = change === 'none' ? '' : ` (${change === 'added' ? 'new' : change})`;
  const lines = [`${title}${state}: ${sumText({ ...set.churn, ...totals })}\n`];
  if (phases.length > 0) {
    const lasts =
      estimatedDurationMs === undefined
        ? ''
        : `, about ${durationText(estimatedDurationMs)} ${ESTIMATES[estimateBasis]}`;
    lines.push(`${counted(totals.phases, 'phase')}${lasts}\n`);
  }
  if (retired.length > 0) {
    const shown = retired.slice(0, SHOWN).join(', ');
    lines.push(
      `${counted(totals.retired, 'shard')} retired: ${shown}${totals.retired > SHOWN ? ', …' : ''}\n`,
    );
  }
  for (const warning of set.warnings) lines.push(`${styled('yellow', 'note', look)}  ${warning}\n`);
  const moves = look.wide ? set.moves : set.moves.slice(0, SHOWN);
  const more = totals.moves - moves.length;
  const tables = [
    tableText(moves, moveColumns, look) + (more > 0 ? `… and ${more} more: -o wide, or -o json\n` : ''),
    unplaceableText(set, look),
    tableText(balanceRows(set.balance), balanceColumns, look),
    look.wide ? tableText(zoneRows(set.balance), zoneColumns, look) : '',
    look.wide ? tableText(phases, phaseColumns, look) : '',
  ];
  return [lines.join(''), ...tables.filter((table) => table !== '')].join('\n');
}

function sumText(sums: SimulatedChurn & Pick<SimulatedSet['totals'], 'unplaceable' | 'retired'>): string {
  const { moves, placements, lowerBound, fraction, shards, pending, unplaceable, retired } = sums;
  const leaving = moves - placements;
  const least =
    lowerBound === undefined
      ? ''
      : moves === lowerBound
        ? ', the fewest possible'
        : `, at least ${lowerBound} needed`;
  const parts = [
    `${counted(moves, 'move')} of ${counted(shards, 'shard')} (churn ${percent(fraction)})${least}`,
    ...(placements > 0 ? [`${leaving} from a node, ${placements} of shards that nobody owns`] : []),
    ...(pending > 0 ? [`${pending} would be made anyway`] : []),
    ...(retired > 0 ? [`${retired} retired`] : []),
    ...(unplaceable > 0 ? [`${unplaceable} without a place`] : []),
  ];
  return parts.join('; ');
}

const moveColumns: Column<SimulatedMove>[] = [
  { header: 'SHARD', cell: ({ shard }) => shard },
  { header: 'FROM', cell: ({ from = NONE }) => from },
  { header: 'TO', cell: ({ to }) => to },
  { header: 'REASON', cell: ({ reason }) => reason },
];

/** Shards that the same thing stands in the way of are one paragraph; of a list that is cut short, it has not all. */
function unplaceableText({ unplaceable, totals }: SimulatedSet, look: Look): string {
  const missing = totals.unplaceable - unplaceable.length;
  const least = missing > 0 ? 'at least ' : '';
  const groups = Map.groupBy(unplaceable, ({ constraint, knob }) => `${constraint}\0${knob}`);
  const paragraphs = [...groups.values()].map((shards) => {
    const { constraint, knob } = shards[0] as SimulatedUnplaceable;
    const names = shards.map(({ shard, owner }) =>
      owner === undefined ? shard : `${shard} (kept by ${owner})`,
    );
    const shown = look.wide ? names : names.slice(0, SHOWN);
    const rest = names.length > shown.length ? ` and ${names.length - shown.length} more` : '';
    const head = styled('red', `${least}${counted(names.length, 'shard')} without a place`, look);
    return `${head}: ${shown.join(', ')}${rest}\n  ${constraint}\n  what would help: ${knob}\n`;
  });
  if (missing > 0) paragraphs.push(`… and ${missing} more without a place: -o wide, or -o json\n`);
  return paragraphs.join('');
}

interface BalanceRow {
  node: string;
  zone: string;
  before?: SimulatedNode;
  after?: SimulatedNode;
}

function balanceRows({ before, after }: { before: SimulatedBalance; after: SimulatedBalance }): BalanceRow[] {
  const nodes = new Map<string, BalanceRow>();
  for (const [when, balance] of [
    ['before', before],
    ['after', after],
  ] as const) {
    for (const node of balance.nodes) {
      const row = nodes.get(node.node) ?? { node: node.node, zone: node.zone ?? NONE };
      nodes.set(node.node, { ...row, [when]: node });
    }
  }
  return [...nodes.values()].sort((a, b) => (a.node < b.node ? -1 : 1));
}

const balanceColumns: Column<BalanceRow>[] = [
  { header: 'NODE', cell: ({ node }) => node },
  {
    header: 'STANDING',
    cell: ({ before, after }) => (after ?? before)?.standing ?? NONE,
    style: ({ after }) => (after?.standing === 'eligible' ? undefined : 'yellow'),
  },
  { header: 'ZONE', cell: ({ zone }) => zone, spare: 2 },
  { header: 'WEIGHT', cell: ({ before, after }) => String((after ?? before)?.weight ?? NONE), spare: 3 },
  { header: 'LOAD', cell: ({ before }) => String(before?.load ?? 0) },
  { header: 'AFTER', cell: ({ after }) => String(after?.load ?? 0) },
  { header: 'SHARE', cell: ({ after }) => after?.share?.toFixed(1) ?? NONE, spare: 1 },
  { header: 'CAP', cell: ({ after }) => String(after?.cap ?? NONE), spare: 1 },
];

interface ZoneRow {
  zone: string;
  before?: SimulatedZone;
  after?: SimulatedZone;
}

function zoneRows({ before, after }: { before: SimulatedBalance; after: SimulatedBalance }): ZoneRow[] {
  const names = new Set([...before.zones, ...after.zones].map(({ zone }) => zone));
  const of = ({ zones }: SimulatedBalance, name: string) => zones.find(({ zone }) => zone === name);
  return [...names].sort().map((zone) => ({ zone, before: of(before, zone), after: of(after, zone) }));
}

const zoneColumns: Column<ZoneRow>[] = [
  { header: 'ZONE', cell: ({ zone }) => zone || NONE },
  { header: 'NODES', cell: ({ after }) => String(after?.nodes ?? 0) },
  { header: 'LOAD', cell: ({ before }) => String(before?.load ?? 0) },
  { header: 'AFTER', cell: ({ after }) => String(after?.load ?? 0) },
  { header: 'SHARE', cell: ({ after }) => after?.share.toFixed(1) ?? NONE },
];

const phaseColumns: Column<SimulatedPhase>[] = [
  { header: 'PHASE', cell: ({ phase }) => String(phase) },
  { header: 'KIND', cell: ({ kind }) => kind },
  { header: 'MOVES', cell: ({ moves }) => String(moves) },
  { header: 'ABOUT', cell: ({ estimatedMs }) => durationText(estimatedMs) },
];
