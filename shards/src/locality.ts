import type { LocalityMode, ShardLocality } from './records.ts';

interface Place {
  region?: string;
  zone?: string;
}

/** How far a node is from where a shard would like to be: 0 every hint honoured, 1 its region only, 2 neither. */
export function distance(hint: ShardLocality | undefined, node: Place): 0 | 1 | 2 {
  if (!hint) return 0;
  const inRegion = hint.region === undefined || hint.region === node.region;
  const inZone = hint.zone === undefined || hint.zone === node.zone;
  if (inRegion && inZone) return 0;
  return inRegion && hint.region !== undefined ? 1 : 2;
}

/** The distances of many shards to the same nodes; shards with the same hint share one row. */
export class Distances {
  readonly #mode: LocalityMode;
  readonly #nodes: readonly Place[];
  readonly #none: Uint8Array;
  readonly #rows = new Map<string, Uint8Array>();

  constructor(mode: LocalityMode, nodes: readonly Place[]) {
    this.#mode = mode;
    this.#nodes = nodes;
    this.#none = new Uint8Array(nodes.length);
  }

  /** By node; all 0 for a shard without a hint and where locality is None. */
  row(hint: ShardLocality | undefined): Uint8Array {
    if (!hint || this.#mode === 'None') return this.#none;
    const key = JSON.stringify([hint.region, hint.zone]);
    let row = this.#rows.get(key);
    if (!row) {
      row = Uint8Array.from(this.#nodes, (node) => distance(hint, node));
      this.#rows.set(key, row);
    }
    return row;
  }
}
