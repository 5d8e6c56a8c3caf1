import type { PlacementNode } from '@meshkit/shards/placement';
import type { SeededRandom } from './seeded-random.ts';

export type Change = 'join' | 'leave' | 'drain' | 'reweigh';

/** Draws a weight of 1 to 4. */
export function anyWeight(random: SeededRandom): number {
  return 1 + random.below(4);
}

/**
 * The cluster's life, a change at a time: nodes join, leave (crash), drain (and are gone a change later) and get
 * another weight. The sum of weights stays at or below `maxWeight`, so that fair shares stay large enough for the
 * balance that is promised, and at or above half of it.
 */
export function* clusterTrace(
  random: SeededRandom,
  first: readonly PlacementNode[],
  maxWeight: number,
): Generator<{ change: Change; nodes: readonly PlacementNode[] }> {
  let nodes = first;
  for (let step = 0; ; step++) {
    nodes = nodes.filter(({ standing }) => standing === 'eligible');
    const weightSum = nodes.reduce((sum, { weight }) => sum + weight, 0);
    const change = pickChange(random, weightSum, maxWeight);
    const hit = random.below(nodes.length);
    const weight = anyWeight(random);
    if (change === 'join') {
      nodes = [...nodes, { name: `joined-${step}`, weight, standing: 'eligible' }];
    } else if (change === 'leave') {
      nodes = nodes.filter((_, index) => index !== hit);
    } else {
      const altered = change === 'drain' ? { standing: 'draining' as const } : { weight };
      nodes = nodes.map((node, index) => (index === hit ? { ...node, ...altered } : node));
    }
    yield { change, nodes };
  }
}

/** A change adds 4 at most to the sum of weights and takes 4 at most from it. */
function pickChange(random: SeededRandom, weightSum: number, maxWeight: number): Change {
  if (weightSum + 4 > maxWeight) return random.below(2) === 0 ? 'leave' : 'drain';
  if (weightSum - 4 < maxWeight / 2) return 'join';
  // As many joins as leaves and drains together, so that the size neither shrinks nor grows for long.
  const changes = ['join', 'join', 'leave', 'drain', 'reweigh', 'reweigh'] as const;
  return changes[random.below(changes.length)]!;
}
