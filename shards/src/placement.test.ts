import { describe, expect, test } from 'vitest';
import { xxh64 } from './hash.ts';
import {
  type PlacementInput,
  type PlacementNode,
  type PlacementShard,
  type Plan,
  plan,
  type Standing,
} from './placement.ts';

const ZONES = ['a', 'b', 'c'];

function nodes(weights: Record<string, number>, standings: Record<string, Standing> = {}): PlacementNode[] {
  return Object.entries(weights).map(([name, weight], index) => ({
    name,
    weight,
    region: 'eu',
    zone: ZONES[index % 3],
    standing: standings[name] ?? 'eligible',
  }));
}

function shards(
  count: number,
  more: (index: number) => Partial<PlacementShard> = () => ({}),
): PlacementShard[] {
  return Array.from({ length: count }, (_, index) => ({
    id: String(index).padStart(4, '0'),
    capacity: 1,
    ...more(index),
  }));
}

function input(parts: Partial<PlacementInput>): PlacementInput {
  return {
    strategy: 'Rendezvous',
    locality: 'Preferred',
    loadBound: '1.05',
    rebalance: true,
    shards: [],
    nodes: [],
    ...parts,
  };
}

/** The same set with the plan carried out, and what else changed meanwhile. */
function after(
  before: PlacementInput,
  { targets }: Plan,
  change: Partial<PlacementInput> = {},
): PlacementInput {
  return {
    ...before,
    shards: before.shards.map((shard) => ({ ...shard, owner: targets.get(shard.id) })),
    ...change,
  };
}

function loadsOf({ loads }: Plan): Record<string, number> {
  return Object.fromEntries(loads.map(({ name, load }) => [name, load]));
}

function causes({ moves }: Plan): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { cause } of moves) counts[cause] = (counts[cause] ?? 0) + 1;
  return counts;
}

const FIVE = { n1: 1, n2: 1, n3: 2, n4: 2, n5: 4 };

describe('placing shards', () => {
  const empty = input({ shards: shards(100), nodes: nodes(FIVE) });

  test('gives every node its fair share by weight', () => {
    expect(loadsOf(plan(empty))).toEqual({ n1: 10, n2: 10, n3: 20, n4: 20, n5: 40 });
    expect(causes(plan(empty))).toEqual({ Unowned: 100 });
  });

  test('moves nothing once it is done', () => {
    expect(plan(after(empty, plan(empty))).moves).toEqual([]);
  });

  test('moves what a dead node held, and nothing else', () => {
    const placed = plan(empty);
    const left = plan(after(empty, placed, { nodes: nodes(FIVE, { n3: 'notReady' }) }));
    expect(causes(left)).toEqual({ Unowned: 20 });
    expect(left.moves.every(({ from }) => from === 'n3')).toBe(true);
    expect(left.loads.every(({ load, cap }) => load <= cap)).toBe(true);
  });

  test('fills a new node by the fewest moves, all of them to it', () => {
    const joined = plan(after(empty, plan(empty), { nodes: nodes({ ...FIVE, n6: 2 }) }));
    expect(causes(joined)).toEqual({ Rebalance: 16 });
    expect(joined.moves.every(({ to }) => to === 'n6')).toBe(true);
  });

  test('leaves balance alone under freeze: Rebalance, and still places what is unowned', () => {
    const frozen = { rebalance: false };
    expect(plan(after(empty, plan(empty), { ...frozen, nodes: nodes({ ...FIVE, n6: 2 }) })).moves).toEqual(
      [],
    );
    expect(causes(plan(input({ ...empty, ...frozen })))).toEqual({ Unowned: 100 });
  });

  test('seeds differ between sets, so that small sets do not pile up on the same nodes', () => {
    const pool = nodes(Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`n${index}`, 1])));
    const used = new Set<string>();
    for (let set = 0; set < 30; set++) {
      const { targets } = plan(input({ seed: `payments/set-${set}`, shards: shards(2), nodes: pool }));
      for (const node of targets.values()) used.add(node);
    }
    expect(used.size).toBe(10);
  });
});

describe('maintenance', () => {
  const placed = input({ shards: shards(100), nodes: nodes(FIVE) });
  const running = after(placed, plan(placed));

  test('a drained node loses its shards', () => {
    const drained = plan({ ...running, nodes: nodes(FIVE, { n5: 'draining' }) });
    expect(causes(drained)).toEqual({ Drain: 40 });
    expect([...drained.targets.values()]).not.toContain('n5');
  });

  test('a cordoned node keeps its shards, gets none, and is left out of the shares', () => {
    const cordoned = { ...running, nodes: nodes(FIVE, { n5: 'cordoned' }) };
    expect(plan(cordoned).moves).toEqual([]);
    expect(loadsOf(plan(cordoned))).toEqual({ n1: 10, n2: 10, n3: 20, n4: 20 });
    const oneDead = plan({ ...cordoned, nodes: nodes(FIVE, { n5: 'cordoned', n4: 'notReady' }) });
    expect(oneDead.moves.map(({ to }) => to)).not.toContain('n5');
    expect(loadsOf(oneDead)).toEqual({ n1: 15, n2: 15, n3: 30 });
  });

  test('failures come first in the plan, then drains', () => {
    const both = plan({ ...running, nodes: nodes(FIVE, { n1: 'draining', n2: 'notReady' }) });
    const order = both.moves.map(({ cause }) => cause);
    expect(order.lastIndexOf('Unowned')).toBeLessThan(order.indexOf('Drain'));
  });

  test('a paused shard counts as load and is not moved, even from a drained node', () => {
    const paused = running.shards.map((shard) => ({ ...shard, fixed: shard.owner === 'n5' }));
    const drained = plan({ ...running, shards: paused, nodes: nodes(FIVE, { n5: 'draining' }) });
    expect(drained.moves).toEqual([]);
    const smaller = plan({ ...running, shards: paused, nodes: nodes({ ...FIVE, n5: 1 }) });
    expect(loadsOf(smaller).n5).toBe(40);
  });

  test('a paused shard without an owner is not placed', () => {
    const { targets, unplaceable } = plan(
      input({ shards: shards(1, () => ({ fixed: true })), nodes: nodes(FIVE) }),
    );
    expect(targets.size + unplaceable.size).toBe(0);
  });
});

describe('a pin', () => {
  const placed = input({ shards: shards(100), nodes: nodes(FIVE) });
  const running = after(placed, plan(placed));
  const pinned = (node: string) =>
    running.shards.map((shard, index) => (index < 3 ? { ...shard, pinned: node } : shard));

  test('is honoured, and what it displaces is evened out', () => {
    const shardsNow = running.shards.map((shard) =>
      shard.owner === 'n5' ? { ...shard, pinned: 'n1' } : shard,
    );
    const result = plan({ ...running, shards: shardsNow });
    expect(causes(result).Pin).toBe(40);
    expect(loadsOf(result).n1).toBe(40);
    expect(plan(after({ ...running, shards: shardsNow }, result)).moves).toEqual([]);
  });

  test('on a node that is gone or not eligible falls back to normal placement', () => {
    for (const [node, standings] of [
      ['nobody', {}],
      ['n5', { n5: 'cordoned' }],
    ] as const) {
      const result = plan({ ...running, shards: pinned(node), nodes: nodes(FIVE, standings) });
      expect(result.moves).toEqual([]);
      expect(result.unplaceable.size).toBe(0);
    }
  });

  test('of a shard whose owner died is a failure, not a wish', () => {
    const shardsNow = shards(1, () => ({ owner: 'n1', pinned: 'n2' }));
    const result = plan(input({ shards: shardsNow, nodes: nodes(FIVE, { n1: 'notReady' }) }));
    expect(result.moves).toEqual([{ shard: '0000', from: 'n1', to: 'n2', cause: 'Unowned' }]);
  });
});

describe('the strategy Static', () => {
  const base = input({ strategy: 'Static', nodes: nodes(FIVE, { n2: 'draining', n4: 'notReady' }) });
  const one = (shard: Partial<PlacementShard>) => plan({ ...base, shards: shards(1, () => shard) });

  test('places by pins alone', () => {
    expect(one({ pinned: 'n1' }).targets.get('0000')).toBe('n1');
    expect(one({}).unplaceable.get('0000')).toBe('NoPin');
    expect(one({ pinned: 'n2' }).unplaceable.get('0000')).toBe('PinnedNodeNotEligible');
    expect(one({ pinned: 'nobody', owner: 'n4' }).unplaceable.get('0000')).toBe('PinnedNodeNotEligible');
  });

  test('leaves a shard where it is while its owner is eligible', () => {
    expect(one({ owner: 'n1' })).toMatchObject({ moves: [], targets: new Map([['0000', 'n1']]) });
    expect(one({ owner: 'n1', pinned: 'n2' }).moves).toEqual([]);
    expect(one({ owner: 'n1', pinned: 'n3' }).moves).toMatchObject([{ from: 'n1', to: 'n3', cause: 'Pin' }]);
  });

  test('never balances', () => {
    expect(plan({ ...base, shards: shards(20, () => ({ owner: 'n1' })) }).moves).toEqual([]);
  });
});

describe('locality', () => {
  const inZone = (zone: string) => ({ locality: { region: 'eu', zone } });
  const three = nodes({ n1: 1, n2: 1, n3: 1 });

  test('Required keeps shards in their zone, whatever that does to the balance', () => {
    const result = plan(input({ locality: 'Required', shards: shards(12, () => inZone('a')), nodes: three }));
    expect(loadsOf(result)).toEqual({ n1: 12, n2: 0, n3: 0 });
  });

  test('Required moves a shard whose owner is elsewhere, even off a cordoned node', () => {
    const shardsNow = shards(1, () => ({ ...inZone('a'), owner: 'n2' }));
    for (const standing of ['eligible', 'cordoned'] as const) {
      const result = plan(
        input({ locality: 'Required', shards: shardsNow, nodes: nodes({ n1: 1, n2: 1 }, { n2: standing }) }),
      );
      expect(result.moves).toEqual([{ shard: '0000', from: 'n2', to: 'n1', cause: 'Locality' }]);
    }
  });

  test('Required leaves a shard without a place rather than put it elsewhere, pin or not', () => {
    const shardsNow = shards(2, (index) => ({ ...inZone('z'), pinned: index === 1 ? 'n1' : undefined }));
    const result = plan(input({ locality: 'Required', shards: shardsNow, nodes: three }));
    expect([...result.unplaceable.values()]).toEqual(['NoNodeInLocality', 'NoNodeInLocality']);
  });

  test('Preferred fills the zone to the cap, then the region, then the rest', () => {
    const far: PlacementNode = { name: 'n0', weight: 1, region: 'us', zone: 'a', standing: 'eligible' };
    const shardsNow = shards(80, (index) => (index < 30 ? inZone('a') : {}));
    const result = plan(input({ shards: shardsNow, nodes: [far, ...three] }));
    const zoneLoad = shardsNow.slice(0, 30).filter(({ id }) => result.targets.get(id) === 'n1').length;
    expect(zoneLoad).toBe(21);
    expect(shardsNow.slice(0, 30).some(({ id }) => result.targets.get(id) === 'n0')).toBe(false);
    expect(result.loads.every(({ load, cap }) => load <= cap)).toBe(true);
  });

  test('Preferred never moves a shard for locality, and never out of its zone for balance', () => {
    const home = shards(12, () => ({ ...inZone('a'), owner: 'n1' }));
    expect(plan(input({ shards: home, nodes: three })).moves).toEqual([]);
    const away = shards(4, () => ({ ...inZone('a'), owner: 'n2' }));
    expect(plan(input({ shards: away, nodes: nodes({ n1: 1, n2: 9 }) })).moves).toEqual([]);
  });

  test('None looks at no hint', () => {
    const result = plan(input({ locality: 'None', shards: shards(12, () => inZone('a')), nodes: three }));
    expect(loadsOf(result)).toEqual({ n1: 4, n2: 4, n3: 4 });
  });
});

describe('what has no place says why', () => {
  test('no nodes at all', () => {
    expect(plan(input({ shards: shards(1) })).unplaceable.get('0000')).toBe('NoNodes');
  });

  test('no eligible node', () => {
    const standings = {
      n1: 'notReady',
      n2: 'cordoned',
      n3: 'draining',
      n4: 'notSelected',
      n5: 'notServing',
    } as const;
    const result = plan(input({ shards: shards(1), nodes: nodes(FIVE, standings) }));
    expect(result.unplaceable.get('0000')).toBe('NoEligibleNode');
  });

  test('a shard on a draining node with nowhere to go is not in the targets', () => {
    const result = plan(
      input({ shards: shards(1, () => ({ owner: 'n1' })), nodes: nodes({ n1: 1 }, { n1: 'draining' }) }),
    );
    expect(result.targets.size).toBe(0);
    expect(result.unplaceable.get('0000')).toBe('NoEligibleNode');
  });
});

describe('unequal capacities', () => {
  test('nothing is left unowned for balance: a shard larger than every cap goes where it weighs least', () => {
    const big = shards(3, (index) => ({ capacity: index === 0 ? 50 : 1 }));
    const result = plan(input({ shards: big, nodes: nodes({ n1: 1, n2: 1, n3: 10 }) }));
    expect(result.targets.get('0000')).toBe('n3');
    expect(result.targets.size).toBe(3);
  });

  test('a small node above its cap gives to one within its own, even if that ends relatively fuller', () => {
    // m is 8.8, 0.6 and 0.6: n1 is above its cap of 9, and one shard alone fills a small node to 1/0.6.
    const result = plan(
      input({ shards: shards(10, () => ({ owner: 'n1' })), nodes: nodes({ n1: 88, n2: 6, n3: 6 }) }),
    );
    expect(result.moves).toHaveLength(1);
    expect(loadsOf(result).n1).toBe(9);
  });
});

test('golden vectors: the same plan on every platform and in every version', async () => {
  const first = input({ seed: 'payments/orders', shards: shards(24), nodes: nodes(FIVE) });
  const running = after(first, plan(first));
  const hinted = shards(24, (index) => ({
    capacity: 1 + (index % 4),
    locality: index % 3 === 0 ? { region: 'eu', zone: ZONES[index % 2] } : undefined,
  }));
  const scenarios: Record<string, PlacementInput> = {
    first,
    leave: { ...running, nodes: nodes(FIVE, { n3: 'notReady' }) },
    join: { ...running, nodes: nodes({ ...FIVE, n6: 3 }) },
    reweigh: { ...running, nodes: nodes({ ...FIVE, n1: 4, n5: 1 }) },
    maintenance: { ...running, nodes: nodes(FIVE, { n4: 'draining', n5: 'cordoned' }) },
    preferred: { ...first, shards: hinted },
    required: { ...first, locality: 'Required', shards: hinted },
    pinned: {
      ...running,
      shards: running.shards.map((shard, index) => ({ ...shard, pinned: `n${1 + (index % 9)}` })),
    },
    static: {
      ...first,
      strategy: 'Static',
      shards: shards(6, (index) => ({ pinned: index % 2 ? `n${index}` : undefined })),
    },
  };
  const vectors = Object.entries(scenarios).map(([name, scenario]) => {
    const { targets, moves, unplaceable, loads } = plan(scenario);
    return {
      name,
      targets: Object.fromEntries(targets),
      moves,
      unplaceable: Object.fromEntries(unplaceable),
      loads,
    };
  });
  const weights = Object.fromEntries(
    Array.from({ length: 200 }, (_, index) => [`node-${index}`, 1 + (index % 4)]),
  );
  const large = plan(input({ shards: shards(10_000), nodes: nodes(weights) }));
  const digest = xxh64(JSON.stringify(large.moves)).toString(16);
  const text = JSON.stringify({ scenarios: vectors, tenThousandShardsOnTwoHundredNodes: digest }, null, 1);
  await expect(`${text}\n`).toMatchFileSnapshot('__golden__/placement.json');
});
