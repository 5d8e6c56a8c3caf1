import { lowerBound } from '@meshkit/shards/lower-bound';
import type { PlacementInput, PlacementNode, PlacementShard } from '@meshkit/shards/placement';
import type { Subject } from './placement-subjects.ts';

const LOAD_BOUND = '1.05';

export function placementInput(
  shards: readonly PlacementShard[],
  nodes: readonly PlacementNode[],
): PlacementInput {
  return {
    strategy: 'Rendezvous',
    locality: 'Preferred',
    loadBound: LOAD_BOUND,
    shards,
    nodes,
    rebalance: true,
  };
}

/** What a subject made of one change, and what any planner would have had to. */
export interface Step {
  /** With their owners afterwards. */
  shards: PlacementShard[];
  /** Shards whose owner changed. */
  moves: number;
  /** Of this change from this subject's own state. */
  lowerBound: number;
  /** Load over fair share of the fullest and the emptiest eligible node. */
  maxOverMean: number;
  minOverMean: number;
  /** Nodes above their cap. */
  capViolations: number;
  /** By eligible node. */
  loads: Map<string, { load: number; mean: number }>;
}

/** Lets the subject answer to the nodes as they are now, and carries its answer out at once. */
export function takeStep(
  subject: Subject,
  shards: readonly PlacementShard[],
  nodes: readonly PlacementNode[],
): Step {
  const input = placementInput(shards, nodes);
  const placed = subject.place(input);
  const loads = new Map<string, { load: number; mean: number }>();
  const eligible = nodes.filter(({ standing }) => standing === 'eligible');
  const weightSum = eligible.reduce((sum, { weight }) => sum + weight, 0);
  for (const { name, weight } of eligible) {
    loads.set(name, { load: 0, mean: (shards.length * weight) / weightSum });
  }
  let moves = 0;
  const after = shards.map((shard): PlacementShard => {
    const owner = placed.get(shard.id);
    if (owner !== shard.owner) moves++;
    const held = owner === undefined ? undefined : loads.get(owner);
    if (!held) throw new Error(`${subject.name} left shard ${shard.id} on ${owner}, which is not eligible`);
    held.load++;
    return { ...shard, owner };
  });
  const fullness = [...loads.values()].map(({ load, mean }) => load / mean);
  const isAboveCap = ({ load, mean }: { load: number; mean: number }) =>
    load > Math.max(Math.ceil(mean), Math.floor(Number(LOAD_BOUND) * mean));
  return {
    shards: after,
    moves,
    lowerBound: lowerBound(input).moves,
    maxOverMean: Math.max(...fullness),
    minOverMean: Math.min(...fullness),
    capViolations: [...loads.values()].filter(isAboveCap).length,
    loads,
  };
}
