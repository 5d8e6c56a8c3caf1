import { allocate } from './allocation.ts';
import { Board, NOWHERE } from './board.ts';
import { converge } from './convergence.ts';
import type {
  MoveCause,
  NodeLoad,
  PlacementInput,
  PlacementShard,
  Plan,
  PlannedMove,
  UnplaceableReason,
} from './placement.ts';
import { type Tenure, Tenures } from './tenure.ts';

/** A decision to give a shard to a node, in terms of the board's indexes. */
export interface Decision {
  shard: number;
  to: number;
  cause: MoveCause;
}

/** One run of the three rules over one input. `plan` reads it to the end; explain stops where its shard is decided. */
export class Planner {
  readonly board: Board;
  /** Rule 1's answers, by shard. */
  readonly tenures: readonly Tenure[];
  readonly #input: PlacementInput;
  readonly #eligible: ReadonlyMap<string, number>;

  constructor(input: PlacementInput) {
    const shards = input.shards.toSorted((a, b) => ascending(a.id, b.id));
    const nodes = input.nodes
      .filter((node) => node.standing === 'eligible')
      .sort((a, b) => ascending(a.name, b.name));
    const rule1 = new Tenures(input, nodes);
    const tenures = shards.map((shard) => rule1.of(shard));
    const eligible = new Map(nodes.map((node, index) => [node.name, index]));
    this.#input = input;
    this.#eligible = eligible;
    this.tenures = tenures;
    this.board = new Board(input, shards, nodes, (shard) =>
      willBeCarried(shards[shard]!, tenures[shard]!, eligible),
    );
    this.#seat();
  }

  /** Each decision of rules 2 and 3, yielded before it is made on the board. */
  *decisions(): Generator<Decision> {
    const { board, tenures } = this;
    const causes = this.#orphans();
    for (const { shard, to } of allocate(board, causes.keys(), this.#input.locality === 'Required')) {
      yield { shard, to, cause: causes.get(shard)! };
    }
    if (!this.#input.rebalance || this.#input.strategy === 'Static') return;
    const isMovable = (shard: number) =>
      tenures[shard]!.kind === 'stays' || tenures[shard]!.kind === 'orphan';
    for (const { shard, to } of converge(board, isMovable)) yield { shard, to, cause: 'Rebalance' };
  }

  plan(): Plan {
    const { shards, nodes } = this.board;
    const moves = this.#pins();
    const moved = new Map<number, string>();
    for (const { shard, to, cause } of this.decisions()) {
      const from = moved.get(shard) ?? shards[shard]!.owner;
      moves.push({ shard: shards[shard]!.id, from, to: nodes[to]!.name, cause });
      moved.set(shard, nodes[to]!.name);
    }
    const targets = new Map<string, string>();
    const unplaceable = new Map<string, UnplaceableReason>();
    shards.forEach((shard, index) => {
      const tenure = this.tenures[index]!;
      const place = this.board.places[index]!;
      const target = place === NOWHERE ? shard.owner : nodes[place]!.name;
      if (tenure.kind === 'unplaceable') unplaceable.set(shard.id, tenure.reason);
      else if (target !== undefined) targets.set(shard.id, target);
    });
    return { targets, moves, unplaceable, loads: this.#loads() };
  }

  /** Puts on the board what needs no decision: shards that stay, pinned ones where they belong. */
  #seat(): void {
    this.tenures.forEach((tenure, shard) => {
      const owner = tenure.kind === 'pinned' ? tenure.to.name : this.board.shards[shard]!.owner;
      const node = owner === undefined ? undefined : this.#eligible.get(owner);
      const isSeated = tenure.kind === 'stays' || tenure.kind === 'pinned' || tenure.kind === 'fixed';
      if (isSeated && node !== undefined) this.board.put(shard, node);
    });
  }

  #pins(): PlannedMove[] {
    return this.tenures.flatMap((tenure, shard) => {
      if (tenure.kind !== 'pinned' || !tenure.cause) return [];
      const { id, owner } = this.board.shards[shard]!;
      return [{ shard: id, from: owner, to: tenure.to.name, cause: tenure.cause }];
    });
  }

  /**
   * First the shards that nobody serves, which no budget may hold back, then those that have to leave: so making
   * the failures alone, or some of the drains too, leaves the rest of the plan as it was. Within each the hardest to
   * place come first, those with a locality, then the larger, then by id, so that rule 3 has nothing to put right.
   */
  #orphans(): Map<number, MoveCause> {
    const { shards, capacities } = this.board;
    const causes = new Map<number, MoveCause>();
    this.tenures.forEach((tenure, shard) => {
      if (tenure.kind === 'orphan') causes.set(shard, tenure.cause);
    });
    const rank = (shard: number) => {
      const hasHint = this.#input.locality !== 'None' && shards[shard]!.locality !== undefined;
      return (causes.get(shard) === 'Unowned' ? 0 : 2) + (hasHint ? 0 : 1);
    };
    const order = [...causes.keys()].sort(
      (a, b) => rank(a) - rank(b) || capacities[b]! - capacities[a]! || a - b,
    );
    return new Map(order.map((shard) => [shard, causes.get(shard)!]));
  }

  #loads(): NodeLoad[] {
    const { nodes, loads, shares } = this.board;
    return nodes.map(({ name }, node) => ({
      name,
      load: loads[node]!,
      mean: shares.mean[node]!,
      cap: shares.cap[node]!,
    }));
  }
}

/** Whether the shard is on an eligible node after the plan, and so counts in what those nodes share. */
function willBeCarried(
  shard: PlacementShard,
  tenure: Tenure,
  eligible: ReadonlyMap<string, number>,
): boolean {
  switch (tenure.kind) {
    case 'fixed':
    case 'stays':
      return shard.owner !== undefined && eligible.has(shard.owner);
    case 'pinned':
    case 'orphan':
      return true;
    case 'unplaceable':
      return false;
  }
}

function ascending(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
