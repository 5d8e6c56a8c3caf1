import { ShardError } from './errors.ts';
import type { PlacementInput } from './placement.ts';

/** What any planner has to move, whatever it is, told from the state before the step alone. */
export interface LowerBound {
  /** Shards that have to change node in any case: on a node that is not theirs to keep, or not where they are pinned. */
  orphans: number;
  /** Sum over the nodes above their cap of what is above it. */
  excess: number;
  /** Sum over the nodes below floor(m) of what is missing. */
  deficit: number;
  /** max(orphans + excess, deficit): each move can take away one excess or place one orphan, and fill one deficit. */
  moves: number;
  /** False where shards that are pinned or paused keep some node from its bounds, whatever moves: nothing is needed then. */
  attainable: boolean;
}

/** Whether `lowerBound` has an answer. */
export function hasLowerBound({ shards, strategy, locality, rebalance }: PlacementInput): boolean {
  const hasHints = locality !== 'None' && shards.some((shard) => shard.locality !== undefined);
  return strategy === 'Rendezvous' && rebalance && !hasHints && shards.every((shard) => shard.capacity === 1);
}

/**
 * The fewest moves after which every eligible node holds between floor(m) and its cap: a closed form in exact
 * arithmetic, on purpose without a line of the planner's, so that it can judge it.
 * For Rendezvous, unit capacities, rebalancing allowed and no locality hints; throws `invalidArgument` otherwise.
 */
export function lowerBound(input: PlacementInput): LowerBound {
  const { shards, nodes, loadBound } = input;
  if (!hasLowerBound(input)) {
    throw new ShardError(
      'invalidArgument',
      'the lower bound is defined for Rendezvous, unit capacities, rebalancing allowed and no locality hints',
    );
  }
  const weights = new Map<string, bigint>();
  const cordoned = new Set<string>();
  for (const { name, weight, standing } of nodes) {
    if (standing === 'eligible') weights.set(name, BigInt(weight));
    if (standing === 'cordoned') cordoned.add(name);
  }
  const loads = new Map([...weights.keys()].map((name) => [name, 0n]));
  const add = (name: string) => loads.set(name, loads.get(name)! + 1n);
  /** Of the loads, shards that may not move. */
  const held = new Map(loads);
  const hold = (name: string) => held.set(name, held.get(name)! + 1n);
  let orphans = 0;
  let placeless = 0;
  for (const { owner, pinned, fixed } of shards) {
    if (!fixed && pinned !== undefined && weights.has(pinned)) {
      add(pinned);
      hold(pinned);
      if (owner !== pinned) orphans++;
    } else if (owner !== undefined && weights.has(owner)) {
      add(owner);
      if (fixed) hold(owner);
    } else if (!fixed && !(owner !== undefined && cordoned.has(owner))) {
      orphans++;
      placeless++;
    }
  }
  if (weights.size === 0) return { orphans: 0, excess: 0, deficit: 0, moves: 0, attainable: true };

  const [whole = '', decimals = ''] = loadBound.split('.');
  const c = { numerator: BigInt(whole + decimals), denominator: 10n ** BigInt(decimals.length) };
  const total = [...loads.values()].reduce((sum, load) => sum + load, BigInt(placeless));
  const weightSum = [...weights.values()].reduce((sum, weight) => sum + weight, 0n);
  let excess = 0n;
  let deficit = 0n;
  /** What the nodes together hold at the least. */
  let least = 0n;
  let attainable = true;
  for (const [name, load] of loads) {
    const share = total * weights.get(name)!;
    const floor = share / weightSum;
    const ceil = (share + weightSum - 1n) / weightSum;
    const bounded = (share * c.numerator) / (weightSum * c.denominator);
    const cap = bounded > ceil ? bounded : ceil;
    if (load > cap) excess += load - cap;
    if (load < floor) deficit += floor - load;
    const stuck = held.get(name)!;
    if (stuck > cap) attainable = false;
    least += floor;
    if (stuck > floor) least += stuck - floor;
  }
  // Shards that are pinned go where they must, so only the others can serve to fill a deficit.
  const pins = BigInt(orphans - placeless);
  const others = BigInt(placeless) + excess;
  const moves = pins + (others > deficit ? others : deficit);
  attainable &&= least <= total;
  return { orphans, excess: Number(excess), deficit: Number(deficit), moves: Number(moves), attainable };
}
