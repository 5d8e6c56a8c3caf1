import { type FairShares, fairShares } from './fair-share.ts';
import { Distances } from './locality.ts';
import type { PlacementInput, PlacementNode, PlacementShard } from './placement.ts';
import { Draws } from './score.ts';

/** No node, in `places`. */
export const NOWHERE = -1;

/**
 * What a plan is worked out on: the shards, the eligible nodes, and who holds what. Shards and nodes are known by
 * their index in ascending order of id and name, so that no result depends on the order of the input and
 * "ties by name" means the lower index.
 */
export class Board {
  readonly shards: readonly PlacementShard[];
  readonly nodes: readonly PlacementNode[];
  readonly weights: Float64Array;
  readonly capacities: Float64Array;
  /** Of the eligible nodes, over the capacity that they will carry together. */
  readonly shares: FairShares;
  /** Capacity that each node holds now. */
  readonly loads: Float64Array;
  /** The node that holds each shard now, or NOWHERE (also when a node that is not eligible holds it). */
  readonly places: Int32Array;
  /** Per shard, how far each node is from where the shard would like to be. */
  readonly distances: readonly Uint8Array[];
  readonly draws: Draws;

  /** `counted` tells by shard index whether the shard will be on an eligible node after the plan. */
  constructor(
    input: PlacementInput,
    shards: readonly PlacementShard[],
    nodes: readonly PlacementNode[],
    counted: (shard: number) => boolean,
  ) {
    this.shards = shards;
    this.nodes = nodes;
    this.weights = Float64Array.from(nodes, (node) => node.weight);
    this.capacities = Float64Array.from(shards, (shard) => shard.capacity);
    const total = shards.reduce((sum, { capacity }, shard) => sum + (counted(shard) ? capacity : 0), 0);
    this.shares = fairShares(
      total,
      nodes.map((node) => node.weight),
      input.loadBound,
    );
    this.loads = new Float64Array(nodes.length);
    this.places = new Int32Array(shards.length).fill(NOWHERE);
    const distances = new Distances(input.locality, nodes);
    this.distances = shards.map((shard) => distances.row(shard.locality));
    this.draws = new Draws(shardNames(input, shards), nodes.map(nameOf));
  }

  /** Gives the shard to the node, taking it from where it was. */
  put(shard: number, node: number): void {
    const capacity = this.capacities[shard]!;
    const before = this.places[shard]!;
    if (before !== NOWHERE) this.loads[before]! -= capacity;
    this.loads[node]! += capacity;
    this.places[shard] = node;
  }
}

/** The names that shards are hashed by: with the set's, so that small sets over one pool do not pile up alike. */
export function shardNames(input: PlacementInput, shards: readonly PlacementShard[]): string[] {
  const prefix = input.seed === undefined ? '' : `${input.seed}/`;
  return shards.map((shard) => prefix + shard.id);
}

function nameOf(node: PlacementNode): string {
  return node.name;
}
