import { type Board, NOWHERE } from './board.ts';
import { compareFullness } from './fair-share.ts';
import { cost } from './score.ts';

/** How full the chosen node is with the shard: within floor(m), ceil(m), its cap, or beyond it. */
export type Level = 'floor' | 'ceil' | 'cap' | 'overCap';
const LEVELS = ['floor', 'ceil', 'cap', 'overCap'] as const satisfies Level[];

/** The level of a node that would hold `load` altogether. */
export function levelAt(board: Board, node: number, load: number): Level {
  return LEVELS[levelIndex(board, node, load)]!;
}

function levelIndex({ shares }: Board, node: number, load: number): number {
  return load <= shares.floor[node]! ? 0 : load <= shares.ceil[node]! ? 1 : load <= shares.cap[node]! ? 2 : 3;
}

/** One step of rule 2. */
export interface Allocation {
  shard: number;
  to: number;
}

/**
 * Rule 2: a node for each of the shards that have none, in the order given. The best score among the nodes that stay
 * within floor(m) with it; none: within ceil(m); none: within the cap; none: the node that is relatively least
 * loaded with it. Preferred locality comes before the level: the shard's zone is filled to the cap before another is
 * looked at. Each allocation is yielded before it is made on the board. Every shard has a node that it may be on.
 */
export function* allocate(board: Board, shards: Iterable<number>, required: boolean): Generator<Allocation> {
  for (const shard of shards) {
    const best = bestWithinCap(board, shard, required);
    const to = best === NOWHERE ? leastLoaded(board, shard, required) : best;
    yield { shard, to };
    board.put(shard, to);
  }
}

function bestWithinCap(board: Board, shard: number, required: boolean): number {
  const { loads, weights, draws } = board;
  const { floor, ceil, cap } = board.shares;
  const capacity = board.capacities[shard]!;
  const distances = board.distances[shard]!;
  let best = NOWHERE;
  let bestTier = Number.POSITIVE_INFINITY;
  let bestCost = Number.POSITIVE_INFINITY;
  for (let node = 0; node < loads.length; node++) {
    const nodeCost = cost(draws.of(shard, node), weights[node]!);
    // Once there is one of the first tier, a worse score settles it; a score is cheaper than a look at the bounds.
    if (bestTier === 0 && nodeCost >= bestCost) continue;
    const load = loads[node]! + capacity;
    if (load > cap[node]! || (required && distances[node] !== 0)) continue;
    const tier = distances[node]! * 3 + (load <= floor[node]! ? 0 : load <= ceil[node]! ? 1 : 2);
    if (tier < bestTier || (tier === bestTier && nodeCost < bestCost)) {
      best = node;
      bestTier = tier;
      bestCost = nodeCost;
    }
  }
  return best;
}

function leastLoaded({ loads, weights, ...board }: Board, shard: number, required: boolean): number {
  const capacity = board.capacities[shard]!;
  const distances = board.distances[shard]!;
  let best = NOWHERE;
  for (let node = 0; node < loads.length; node++) {
    if (required && distances[node] !== 0) continue;
    // Counted with the shard: a big shard on a small idle node would be the fullest of all, and move again at once.
    const isEmptier =
      best === NOWHERE ||
      compareFullness(loads[node]! + capacity, weights[node]!, loads[best]! + capacity, weights[best]!) < 0;
    if (isEmptier) best = node;
  }
  return best;
}
