import { type Level, levelAt } from './allocation.ts';
import { NOWHERE, shardNames } from './board.ts';
import { ShardError } from './errors.ts';
import { compareFullness } from './fair-share.ts';
import { distance } from './locality.ts';
import type {
  MoveCause,
  PlacementInput,
  PlacementNode,
  PlacementShard,
  Standing,
  UnplaceableReason,
} from './placement.ts';
import { type Decision, Planner } from './planner.ts';
import { Draws, score } from './score.ts';
import type { Tenure } from './tenure.ts';
import { knobFor, type NodeVerdict, summarise } from './verdict.ts';

/** Whether a node passes what stands between a shard and any node; one that fails cannot have the shard. */
export interface NodeFilters {
  /** Ready, selected, serving the namespace, not cordoned and not draining. */
  standing: boolean;
  /** False only where Required locality excludes the node. */
  locality: boolean;
  /** False where the shard is pinned to another node and the pin is honoured, or where Static has no pin here. */
  pin: boolean;
  /** False when the node would be above its cap with the shard. */
  room: boolean;
}

export interface NodeExplanation {
  node: string;
  standing: Standing;
  filters: NodeFilters;
  /** -weight / ln(h): larger is better. */
  score: number;
  /** 1 is the best score among all nodes of the pool, eligible or not. */
  rank: number;
  /** 0: where the shard would like to be (or it has no hint), 1: only in its region, 2: elsewhere. */
  distance: 0 | 1 | 2;
  /** Eligible nodes only: the capacity of the other shards here when this one was decided, and the bounds. */
  load?: number;
  mean?: number;
  cap?: number;
  /** Eligible nodes only: how full the node would be, or is, with the shard. */
  level?: Level;
  verdict: NodeVerdict;
  /** The setting whose change could bring the shard here; absent on the node that has or gets it. */
  knob?: string;
}

export interface PlacementExplanation {
  shard: string;
  owner?: string;
  /** Where the plan has it; absent when it has no place. */
  target?: string;
  /** Present when it should move. */
  cause?: MoveCause;
  /** Present when it has no place. */
  unplaceable?: UnplaceableReason;
  /** The target is above its cap with it, because no node had room. */
  overCap: boolean;
  /** One sentence: why there. */
  summary: string;
  /** The target first, then by rank. */
  nodes: NodeExplanation[];
}

/**
 * Why the shard is where it is, or goes where it goes, and why not elsewhere: the planner itself, stopped at the
 * moment it decides on this shard. Throws `notFound` for a shard that is not in the input.
 */
export function explainPlacement(input: PlacementInput, shardId: string): PlacementExplanation {
  const planner = new Planner(input);
  const { board } = planner;
  const index = board.shards.findIndex((shard) => shard.id === shardId);
  const shard = board.shards[index];
  if (!shard) throw new ShardError('notFound', `no shard ${shardId} in this set`, { shard: shardId });
  const tenure = planner.tenures[index]!;
  // The board now is as it was when the shard was decided; of a shard that stays put, as it is after the plan.
  const decision = planner.decisions().find((candidate) => candidate.shard === index);
  const target = targetOf(shard, tenure, decision, planner);
  const nodes = new NodeRows(input, planner, index, decision, target).all();
  const cause = decision?.cause ?? (tenure.kind === 'pinned' ? tenure.cause : undefined);
  const unplaceable = tenure.kind === 'unplaceable' ? tenure.reason : undefined;
  const overCap = nodes.some(({ node, level }) => node === target && level === 'overCap');
  const level = nodes.find(({ node }) => node === target)?.level;
  return {
    shard: shardId,
    owner: shard.owner,
    target,
    cause,
    unplaceable,
    overCap,
    summary: summarise({ shard, tenure, target, cause, level, unplaceable }),
    nodes,
  };
}

function targetOf(
  shard: PlacementShard,
  tenure: Tenure,
  decision: Decision | undefined,
  { board }: Planner,
): string | undefined {
  if (decision) return board.nodes[decision.to]!.name;
  if (tenure.kind === 'pinned') return tenure.to.name;
  return tenure.kind === 'unplaceable' ? undefined : shard.owner;
}

class NodeRows {
  readonly #input: PlacementInput;
  readonly #planner: Planner;
  readonly #shard: number;
  readonly #decision: Decision | undefined;
  readonly #target: string | undefined;

  constructor(
    input: PlacementInput,
    planner: Planner,
    shard: number,
    decision: Decision | undefined,
    target: string | undefined,
  ) {
    this.#input = input;
    this.#planner = planner;
    this.#shard = shard;
    this.#decision = decision;
    this.#target = target;
  }

  all(): NodeExplanation[] {
    const nodes = this.#input.nodes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const shard = this.#planner.board.shards[this.#shard]!;
    const draws = new Draws(
      shardNames(this.#input, [shard]),
      nodes.map(({ name }) => name),
    );
    return nodes
      .map((node, index) => ({ node, score: score(draws.of(0, index), node.weight) }))
      .sort((a, b) => b.score - a.score)
      .map((scored, index) => this.#row(scored.node, scored.score, index + 1))
      .sort((a, b) => Number(b.node === this.#target) - Number(a.node === this.#target));
  }

  #row(node: PlacementNode, nodeScore: number, rank: number): NodeExplanation {
    const { board } = this.#planner;
    const shard = board.shards[this.#shard]!;
    const tenure = this.#planner.tenures[this.#shard]!;
    const index = board.nodes.indexOf(node);
    const far = this.#input.locality === 'None' ? 0 : distance(shard.locality, node);
    const load = index === NOWHERE ? undefined : this.#loadOfOthers(index);
    const level = load === undefined ? undefined : levelAt(board, index, load + shard.capacity);
    const pinnedElsewhere = tenure.kind === 'pinned' ? tenure.to !== node : this.#input.strategy === 'Static';
    const filters: NodeFilters = {
      standing: node.standing === 'eligible',
      locality: this.#input.locality !== 'Required' || far === 0,
      pin: !pinnedElsewhere,
      room: level !== 'overCap',
    };
    const verdict = this.#verdict(node, filters, far, level);
    return {
      node: node.name,
      standing: node.standing,
      filters,
      score: nodeScore,
      rank,
      distance: far,
      load,
      mean: index === NOWHERE ? undefined : board.shares.mean[index],
      cap: index === NOWHERE ? undefined : board.shares.cap[index],
      level,
      verdict,
      knob: knobFor(verdict, node, shard, this.#input),
    };
  }

  #verdict(node: PlacementNode, filters: NodeFilters, far: number, level: Level | undefined): NodeVerdict {
    const { board, tenures } = this.#planner;
    const shard = board.shards[this.#shard]!;
    if (node.name === this.#target) return node.name === shard.owner ? 'owner' : 'target';
    if (node.standing !== 'eligible') return node.standing;
    if (tenures[this.#shard]!.kind === 'fixed') return 'paused';
    if (!filters.pin) return 'notPinned';
    if (!filters.locality) return 'outsideLocality';
    if (!this.#decision) return 'notNeeded';
    if (this.#decision.cause === 'Rebalance') return this.#verdictOnTransfer(node, far);
    const chosen = this.#decision.to;
    const chosenLevel = levelAt(board, chosen, this.#loadOfOthers(chosen) + shard.capacity);
    if (chosenLevel === 'overCap') return 'fuller';
    if (level === 'overCap') return 'full';
    if (far > board.distances[this.#shard]![chosen]!) return 'farther';
    return level === chosenLevel ? 'lowerScore' : 'full';
  }

  #verdictOnTransfer(node: PlacementNode, far: number): NodeVerdict {
    const { loads, weights, nodes, distances, places } = this.#planner.board;
    const index = nodes.indexOf(node);
    const giver = places[this.#shard]!;
    if (index === giver) return 'giver';
    if (far > distances[this.#shard]![giver]!) return 'farther';
    const to = this.#decision!.to;
    const isEmptier = compareFullness(loads[index]!, weights[index]!, loads[to]!, weights[to]!) < 0;
    return isEmptier ? 'noGain' : 'fuller';
  }

  #loadOfOthers(node: number): number {
    const { loads, places, capacities } = this.#planner.board;
    return loads[node]! - (places[this.#shard] === node ? capacities[this.#shard]! : 0);
  }
}
