import type { ShardExplanation } from '@meshkit/shards/explain';
import type { NodeExplanation } from '@meshkit/shards/placement-explain';
import type { Transition } from '@meshkit/shards/records';
import { age } from './age.ts';
import { NONE } from './columns.ts';
import { durationText } from './duration.ts';
import { counted, fieldsText, type Look, tableText } from './print.ts';
import type { Column, Style } from './table.ts';

/** So many nodes and transitions are shown; -o wide shows all that the answer has. */
const SHOWN = 10;

/** Why it is there, why it has not moved, each node's chances, and what happened last. `cluster`: flags for kubectl. */
export function explanationText(
  model: ShardExplanation,
  look: Look,
  { now, cluster }: { now: number; cluster: string },
): string {
  const { nodes, nodesTotal, nodesElsewhere, transitions = [], withheld = [] } = model;
  const shown = look.wide ? nodes : nodes.slice(0, SHOWN);
  const more = nodesTotal - shown.length;
  const notes = [
    ...(more > 0 ? [`… and ${counted(more, 'more node')}: -o wide, or -o json`] : []),
    ...(nodesElsewhere > 0 ? [`${nodesElsewhere} nodes of the pool do not serve this namespace`] : []),
  ];
  const recent = look.wide ? transitions : transitions.slice(0, SHOWN);
  return [
    headText(model, look),
    tableText(shown, nodeColumns(look.wide), look) + notes.map((note) => `${note}\n`).join(''),
    tableText(recent, transitionColumns(now), look),
    ...withheld.map(
      ({ member, scope, grant }) => `${member} withheld: needs ${scope}; grant it: ${grant}${cluster}\n`,
    ),
  ]
    .filter((part) => part !== '')
    .join('\n');
}

function headText(model: ShardExplanation, look: Look): string {
  const { name, namespace, phase, owner, target, summary, held, unplaceable, budget, move, settings } = model;
  return fieldsText(
    [
      ['SHARD', `${name} in namespace ${namespace}`, 'bold'],
      ['NOW', owner === undefined ? phase : `${phase} on ${owner}`],
      ['BELONGS', target === undefined ? 'nowhere' : target === owner ? 'there' : `on ${target}`],
      ['WHY', summary],
      ['MOVE', move && `to ${move.to ?? 'nobody'}, at the latest at ${move.deadline}`],
      ['HELD BY', held && `${held.by}: ${held.detail}`, 'yellow'],
      ['TO LET IT', held?.knob],
      ['NO PLACE', unplaceable && `${unplaceable.reason}: ${unplaceable.constraint}`, 'red'],
      ['TO PLACE IT', unplaceable?.knob],
      ['BUDGET', budget && budgetText(budget)],
      [
        'SET',
        settings && `${settings.strategy}, locality ${settings.locality}, loadBound ${settings.loadBound}`,
      ],
    ],
    look,
  );
}

function budgetText(budget: NonNullable<ShardExplanation['budget']>): string {
  const { maxConcurrentMoves, inFlight, waiting, place, freeze, handoffMode, drainTimeoutMs } = budget;
  const queue =
    waiting > 0 ? `, ${waiting} waiting${place === undefined ? '' : ` (this one is number ${place})`}` : '';
  const handoff =
    handoffMode === 'Graceful' ? `drains of at most ${durationText(drainTimeoutMs)}` : 'immediate handoff';
  const frozen = freeze === 'None' ? '' : `, freeze ${freeze}`;
  return `${inFlight} of ${maxConcurrentMoves} moves under way${queue}; ${handoff}${frozen}`;
}

const VERDICT_STYLES: Partial<Record<NodeExplanation['verdict'], Style>> = {
  owner: 'green',
  target: 'green',
  notReady: 'red',
  draining: 'yellow',
  cordoned: 'yellow',
};

function nodeColumns(wide: boolean): Column<NodeExplanation>[] {
  const filters: Column<NodeExplanation> = {
    header: 'FAILS',
    cell: ({ filters: passed }) => {
      const failed = Object.entries(passed).filter(([, ok]) => !ok);
      return failed.map(([name]) => name).join(',') || NONE;
    },
  };
  return [
    { header: 'RANK', cell: ({ rank }) => String(rank) },
    { header: 'NODE', cell: ({ node }) => node },
    { header: 'VERDICT', cell: ({ verdict }) => verdict, style: ({ verdict }) => VERDICT_STYLES[verdict] },
    { header: 'SCORE', cell: ({ score }) => score.toFixed(3), spare: 2 },
    { header: 'LOAD/CAP', cell: ({ load, cap }) => (load === undefined ? NONE : `${load}/${cap}`) },
    { header: 'SHARE', cell: ({ mean }) => mean?.toFixed(1) ?? NONE, spare: 3 },
    ...(wide
      ? [filters, { header: 'DISTANCE', cell: ({ distance }: NodeExplanation) => String(distance) }]
      : []),
    { header: 'WHAT WOULD CHANGE IT', cell: ({ knob = NONE }) => knob, spare: 1 },
  ];
}

function transitionColumns(now: number): Column<Transition>[] {
  return [
    { header: 'AGO', cell: ({ at }) => age(at, now) },
    { header: 'FROM', cell: ({ from = NONE }) => from },
    { header: 'TO', cell: ({ to = NONE }) => to },
    { header: 'PHASE', cell: ({ phase }) => phase },
    { header: 'BY', cell: ({ actor }) => actor.name },
    { header: 'TICKET', cell: ({ changeTicket = NONE }) => changeTicket, spare: 2 },
    { header: 'REASON', cell: ({ reason }) => reason, spare: 1 },
  ];
}
