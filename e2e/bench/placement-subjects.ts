import { xxh64 } from '@meshkit/shards/hash';
import { type PlacementInput, type PlacementNode, plan } from '@meshkit/shards/placement';
import { cost, Draws } from '@meshkit/shards/score';

/** What places shards: shard id -> node. Peers are stateless: they look at names and weights, not at present owners. */
export interface Subject {
  name: string;
  place(input: PlacementInput): ReadonlyMap<string, string>;
}

export const MESHKIT: Subject = { name: 'meshkit', place: (input) => plan(input).targets };

/** Points on the ring for one unit of weight. */
const VIRTUAL_NODES = 64;

/** The classic: a shard belongs to the first virtual node clockwise from its hash. */
export function consistentHashRing(): Subject {
  const pointsOf = memoised((name: string, weight: number) =>
    Array.from({ length: VIRTUAL_NODES * weight }, (_, index) => position(`${name}#${index}`)),
  );
  const positionOf = memoised((id: string) => position(id));
  return {
    name: 'ring-64',
    place({ shards, nodes }) {
      const ring = eligible(nodes)
        .flatMap(({ name, weight }) => pointsOf(name, weight).map((at) => ({ at, name })))
        .sort((a, b) => a.at - b.at || (a.name < b.name ? -1 : 1));
      const placed = new Map<string, string>();
      for (const { id } of shards) {
        const at = positionOf(id, 0);
        let low = 0;
        let high = ring.length;
        while (low < high) {
          const middle = (low + high) >>> 1;
          if (ring[middle]!.at < at) low = middle + 1;
          else high = middle;
        }
        placed.set(id, ring[low % ring.length]!.name);
      }
      return placed;
    },
  };
}

/** Weighted rendezvous with bounded loads, from scratch each time: shards in order, each to its best node with room. */
export function statelessBoundedRendezvous(): Subject {
  return {
    name: 'bounded-rendezvous',
    place({ shards, nodes, loadBound }) {
      const candidates = eligible(nodes);
      const draws = new Draws(
        shards.map(({ id }) => id),
        candidates.map(({ name }) => name),
      );
      const weightSum = candidates.reduce((sum, { weight }) => sum + weight, 0);
      const caps = candidates.map(({ weight }) => {
        const mean = (shards.length * weight) / weightSum;
        return Math.max(Math.ceil(mean), Math.floor(Number(loadBound) * mean));
      });
      const loads = candidates.map(() => 0);
      const placed = new Map<string, string>();
      shards.forEach(({ id }, shard) => {
        let best = -1;
        let bestCost = Number.POSITIVE_INFINITY;
        for (let node = 0; node < candidates.length; node++) {
          const nodeCost = cost(draws.of(shard, node), candidates[node]!.weight);
          if (nodeCost < bestCost && loads[node]! < caps[node]!) {
            best = node;
            bestCost = nodeCost;
          }
        }
        loads[best]! += 1;
        placed.set(id, candidates[best]!.name);
      });
      return placed;
    },
  };
}

function eligible(nodes: readonly PlacementNode[]): PlacementNode[] {
  return nodes.filter(({ standing }) => standing === 'eligible');
}

/** The upper 53 bits of xxh64: a place on the ring as an exact double. */
function position(text: string): number {
  return Number(xxh64(text) >> 11n);
}

/** A ring would keep its hashes; so that it is not charged for hashing again, so does this one. */
function memoised<T>(compute: (name: string, weight: number) => T): (name: string, weight: number) => T {
  const known = new Map<string, T>();
  return (name, weight) => {
    const key = `${name}*${weight}`;
    const found = known.get(key) ?? compute(name, weight);
    known.set(key, found);
    return found;
  };
}
