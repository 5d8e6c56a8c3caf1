import { distance } from './locality.ts';
import type {
  MoveCause,
  PlacementInput,
  PlacementNode,
  PlacementShard,
  UnplaceableReason,
} from './placement.ts';

/** Rule 1, what becomes of a shard before any balancing. */
export type Tenure =
  /** Paused: not moved and not placed, whatever happens. */
  | { kind: 'fixed' }
  /** Keeps its owner. */
  | { kind: 'stays' }
  /** Belongs on the node it is pinned to: is there, or (with a cause) goes there. */
  | { kind: 'pinned'; to: PlacementNode; cause?: MoveCause }
  /** Has no eligible owner and needs one. */
  | { kind: 'orphan'; cause: MoveCause }
  | { kind: 'unplaceable'; reason: UnplaceableReason };

const FIXED: Tenure = { kind: 'fixed' };
const STAYS: Tenure = { kind: 'stays' };

/** Answers rule 1 for the shards of one input. */
export class Tenures {
  readonly #input: PlacementInput;
  readonly #byName: ReadonlyMap<string, PlacementNode>;
  readonly #eligible: readonly PlacementNode[];

  constructor(input: PlacementInput, eligible: readonly PlacementNode[]) {
    this.#input = input;
    this.#byName = new Map(input.nodes.map((node) => [node.name, node]));
    this.#eligible = eligible;
  }

  of(shard: PlacementShard): Tenure {
    if (shard.fixed) return FIXED;
    const owner = this.#node(shard.owner);
    const pin = this.#node(shard.pinned);
    if (pin?.standing === 'eligible' && this.#allows(shard, pin)) {
      if (pin === owner) return { kind: 'pinned', to: pin };
      return { kind: 'pinned', to: pin, cause: isAlive(owner) ? 'Pin' : 'Unowned' };
    }
    if (owner && keeps(owner) && this.#allows(shard, owner)) return STAYS;
    const reason = this.#unplaceable(shard);
    return reason ? { kind: 'unplaceable', reason } : { kind: 'orphan', cause: orphanCause(owner) };
  }

  #unplaceable(shard: PlacementShard): UnplaceableReason | undefined {
    if (this.#input.nodes.length === 0) return 'NoNodes';
    if (this.#input.strategy === 'Static') {
      return shard.pinned === undefined ? 'NoPin' : 'PinnedNodeNotEligible';
    }
    if (this.#eligible.length === 0) return 'NoEligibleNode';
    // Shards without a hint are allowed on the very first node, so this rarely looks further.
    return this.#eligible.some((node) => this.#allows(shard, node)) ? undefined : 'NoNodeInLocality';
  }

  /** Only Required locality forbids; a pin does not override it. */
  #allows(shard: PlacementShard, node: PlacementNode): boolean {
    return this.#input.locality !== 'Required' || distance(shard.locality, node) === 0;
  }

  #node(name: string | undefined): PlacementNode | undefined {
    return name === undefined ? undefined : this.#byName.get(name);
  }
}

/** A cordoned node keeps what it has, as kubectl users expect. */
function keeps(node: PlacementNode): boolean {
  return node.standing === 'eligible' || node.standing === 'cordoned';
}

function isAlive(owner: PlacementNode | undefined): boolean {
  return owner !== undefined && owner.standing !== 'notReady';
}

function orphanCause(owner: PlacementNode | undefined): MoveCause {
  if (!owner || !isAlive(owner)) return 'Unowned';
  return keeps(owner) ? 'Locality' : 'Drain';
}
