import type { Outlook } from './decide-plan.ts';
import type { Plan } from './placement.ts';
import type { SimulatedBalance, SimulatedChurn, SimulatedNode, SimulatedZone } from './simulate.ts';

/** A set at one moment: what is planned from, and who holds what. */
export interface Moment {
  outlook: Outlook;
  plan: Plan;
  /** Capacity by node. */
  loads: ReadonlyMap<string, number>;
}

/** Before any of the plan's moves; those under way count at their target. */
export function beforeMoves(outlook: Outlook, plan: Plan): Moment {
  const loads = new Map<string, number>();
  for (const { owner, capacity } of outlook.input.shards) add(loads, owner, capacity);
  return { outlook, plan, loads };
}

export function afterMoves(outlook: Outlook, plan: Plan): Moment {
  const loads = new Map<string, number>();
  for (const { id, owner, capacity } of outlook.input.shards) {
    // What has no place stays where it is while its node lives; a dead one holds nothing.
    const stays = outlook.around.standings.get(owner ?? '') === 'notReady' ? undefined : owner;
    add(loads, plan.targets.get(id) ?? stays, capacity);
  }
  return { outlook, plan, loads };
}

/** Nodes that hold shards, or may get some, at either moment: so that rows can be compared. */
export function shownNodes(moments: readonly Moment[]): ReadonlySet<string> {
  const shown = new Set<string>();
  for (const { outlook, loads } of moments) {
    for (const { name, standing } of outlook.nodes) {
      if (standing === 'eligible' || loads.has(name)) shown.add(name);
    }
  }
  return shown;
}

export function balanceOf({ outlook, plan, loads }: Moment, shown: ReadonlySet<string>): SimulatedBalance {
  const shares = new Map(plan.loads.map((load) => [load.name, load]));
  const nodes: SimulatedNode[] = [];
  for (const { name, region, zone, weight, standing } of outlook.nodes) {
    if (!shown.has(name)) continue;
    const own = shares.get(name);
    const share = own && rounded(own.mean);
    nodes.push({
      node: name,
      region,
      zone,
      weight,
      standing,
      load: loads.get(name) ?? 0,
      share,
      cap: own?.cap,
    });
  }
  nodes.sort((a, b) => (a.node < b.node ? -1 : 1));
  const ratios = plan.loads
    .filter(({ mean }) => mean > 0)
    .map(({ name, mean }) => (loads.get(name) ?? 0) / mean);
  return {
    maxOverMean: ratios.length > 0 ? rounded(ratios.reduce((a, b) => Math.max(a, b))) : undefined,
    minOverMean: ratios.length > 0 ? rounded(ratios.reduce((a, b) => Math.min(a, b))) : undefined,
    nodes,
    zones: zonesOf(nodes, shares),
  };
}

function zonesOf(
  nodes: readonly SimulatedNode[],
  shares: ReadonlyMap<string, { mean: number }>,
): SimulatedZone[] {
  const zones = new Map<string, SimulatedZone>();
  for (const { node, zone = '', standing, load } of nodes) {
    const sum = zones.get(zone) ?? { zone, nodes: 0, load: 0, share: 0 };
    if (standing === 'eligible') sum.nodes += 1;
    sum.load += load;
    sum.share += shares.get(node)?.mean ?? 0;
    zones.set(zone, sum);
  }
  return [...zones.values()]
    .map((sum) => ({ ...sum, share: rounded(sum.share) }))
    .sort((a, b) => (a.zone < b.zone ? -1 : 1));
}

function add(loads: Map<string, number>, node: string | undefined, capacity: number): void {
  if (node !== undefined) loads.set(node, (loads.get(node) ?? 0) + capacity);
}

/** Four decimals: what people and programs compare, not the noise behind it. */
function rounded(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}

/** The share of shards that leave their node. Six decimals: one shard in a million still counts; 0 of nothing. */
export function fractionOf(
  { moves, placements, shards }: Pick<SimulatedChurn, 'moves' | 'placements' | 'shards'>,
  retired: number,
): number {
  const whole = shards + retired;
  return whole === 0 ? 0 : Math.round(((moves - placements + retired) / whole) * 1_000_000) / 1_000_000;
}
