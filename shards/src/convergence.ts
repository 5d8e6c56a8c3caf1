import { type Board, NOWHERE } from './board.ts';
import { compareFullness } from './fair-share.ts';

/** One step of rule 3. */
export interface Transfer {
  shard: number;
  from: number;
  to: number;
}

/**
 * Rule 3: while a node is above its cap or below floor(m), the relatively fullest giver hands a shard to the
 * relatively emptiest receiver. Each transfer is yielded before it is made on the board. What comes next depends
 * on the board alone, never on how it came about: planning again after any number of transfers yields the rest.
 *
 * It ends, because every transfer makes the board smaller in one order: first compare the fullness of the nodes
 * above their caps, sorted downwards (a transfer out of such a node lowers it, see `admits`); where that is equal,
 * the fullness of all nodes, sorted downwards (a transfer that fills a floor lowers it).
 */
export function* converge(board: Board, isMovable: (shard: number) => boolean): Generator<Transfer> {
  const fullest = new Ranking(board, -1);
  const emptiest = new Ranking(board, 1);
  const movables = new Movables(board, isMovable);
  for (;;) {
    const transfer = nextTransfer(board, fullest.order, emptiest.order, movables);
    if (!transfer) return;
    yield transfer;
    board.put(transfer.shard, transfer.to);
    movables.arrive(transfer.shard, transfer.to);
    for (const node of [transfer.from, transfer.to]) {
      fullest.update(node);
      emptiest.update(node);
    }
  }
}

function nextTransfer(
  board: Board,
  fullest: readonly number[],
  emptiest: readonly number[],
  movables: Movables,
): Transfer | undefined {
  const firstTo = (receivers: readonly number[], from: number): Transfer | undefined => {
    for (const to of receivers) {
      const shard = movables.best(from, to);
      if (shard !== NOWHERE) return { shard, from, to };
    }
    return undefined;
  };
  const belowFloor = emptiest.filter((node) => bandOf(board, node) === 'belowFloor');
  const aboveCap = fullest.filter((node) => bandOf(board, node) === 'aboveCap');
  if (aboveCap.length > 0) {
    const belowCeil = emptiest.filter((node) => bandOf(board, node) === 'belowCeil');
    const belowCap = emptiest.filter((node) => bandOf(board, node) === 'belowCap');
    for (const from of aboveCap) {
      const transfer = firstTo(belowFloor, from) ?? firstTo(belowCeil, from) ?? firstTo(belowCap, from);
      if (transfer) return transfer;
    }
  }
  if (belowFloor.length === 0) return undefined;
  for (const from of fullest) {
    const canGive = board.loads[from]! > board.shares.floor[from]! && bandOf(board, from) !== 'aboveCap';
    const transfer = canGive ? firstTo(belowFloor, from) : undefined;
    if (transfer) return transfer;
  }
  return undefined;
}

type Band = 'belowFloor' | 'belowCeil' | 'belowCap' | 'atCap' | 'aboveCap';

/** The first bound that the node's load is below; a node below none is at its cap or above it. */
function bandOf({ loads, shares }: Board, node: number): Band {
  const load = loads[node]!;
  if (load < shares.floor[node]!) return 'belowFloor';
  if (load < shares.ceil[node]!) return 'belowCeil';
  if (load < shares.cap[node]!) return 'belowCap';
  return load === shares.cap[node]! ? 'atCap' : 'aboveCap';
}

/**
 * Whether the transfer is a gain. A node above its cap may give to one that stays within its own, or to one that
 * ends relatively less full than the giver was. A node within its cap gives only to fill a floor, and then keeps
 * its own floor, to one that stays within its cap and ends relatively less full than the giver was.
 */
function admits({ loads, shares, weights }: Board, from: number, to: number, capacity: number): boolean {
  const before = loads[from]!;
  const after = loads[to]! + capacity;
  const fits = after <= shares.cap[to]!;
  if (before > shares.cap[from]!) {
    // Even where the receiver is so small that it ends relatively fuller: caps are promises, fullness is not.
    if (fits) return true;
  } else if (!fits || before - capacity < shares.floor[from]!) {
    return false;
  }
  return compareFullness(after, weights[to]!, before, weights[from]!) < 0;
}

/** Nodes by load / m, ties by name, kept in order while single loads change. */
class Ranking {
  readonly order: number[];
  readonly #board: Board;
  readonly #sign: 1 | -1;

  constructor(board: Board, sign: 1 | -1) {
    this.#board = board;
    this.#sign = sign;
    this.order = board.nodes.map((_, node) => node).sort((a, b) => this.#compare(a, b));
  }

  update(node: number): void {
    const { order } = this;
    let at = order.indexOf(node);
    for (; at > 0 && this.#compare(order[at - 1]!, node) > 0; at--) order[at] = order[at - 1]!;
    for (; at + 1 < order.length && this.#compare(node, order[at + 1]!) > 0; at++) order[at] = order[at + 1]!;
    order[at] = node;
  }

  #compare(a: number, b: number): number {
    const { loads, weights } = this.#board;
    return this.#sign * compareFullness(loads[a]!, weights[a]!, loads[b]!, weights[b]!) || a - b;
  }
}

/** Indexes fit beside a 32-bit draw in the 53 bits of a double. */
const INDEXES = 2 ** 21;

/** The shards that rule 3 may move, by giver, and their order for each receiver once somebody asks for it. */
class Movables {
  readonly #board: Board;
  readonly #byNode: number[][];
  readonly #ranked = new Map<number, { arrivals: number; keys: Float64Array; size: number }>();

  constructor(board: Board, isMovable: (shard: number) => boolean) {
    this.#board = board;
    this.#byNode = board.nodes.map(() => []);
    board.places.forEach((node, shard) => {
      if (node !== NOWHERE && isMovable(shard)) this.#byNode[node]!.push(shard);
    });
  }

  arrive(shard: number, node: number): void {
    this.#byNode[node]!.push(shard);
  }

  /** The giver's shard with the best score on the receiver among those whose transfer is a gain, or NOWHERE. */
  best(from: number, to: number): number {
    const ranked = this.#rank(from, to);
    const { places, capacities } = this.#board;
    // What does not fit makes everything larger not fit either.
    let refused = Number.POSITIVE_INFINITY;
    for (let at = ranked.size - 1; at >= 0; at--) {
      const shard = INDEXES - 1 - (ranked.keys[at]! % INDEXES);
      if (places[shard] !== from) {
        if (at === ranked.size - 1) ranked.size--;
        continue;
      }
      const capacity = capacities[shard]!;
      if (capacity >= refused) continue;
      if (admits(this.#board, from, to, capacity)) return shard;
      refused = capacity;
    }
    return NOWHERE;
  }

  /** Best last. No shard goes to a node that is farther from where it would like to be. */
  #rank(from: number, to: number) {
    const { draws, places, distances, nodes } = this.#board;
    const pair = from * nodes.length + to;
    const held = this.#byNode[from]!;
    let ranked = this.#ranked.get(pair);
    // A list is good until the giver receives something; what it gives away is skipped when it is met.
    if (ranked?.arrivals !== held.length) {
      const keys = new Float64Array(held.length);
      let size = 0;
      for (const shard of held) {
        const distance = distances[shard]!;
        if (places[shard] !== from || distance[to]! > distance[from]!) continue;
        keys[size++] = draws.of(shard, to) * INDEXES + INDEXES - 1 - shard;
      }
      ranked = { arrivals: held.length, keys: keys.subarray(0, size).sort(), size };
      this.#ranked.set(pair, ranked);
    }
    return ranked;
  }
}
