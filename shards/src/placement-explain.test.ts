import { describe, expect, test } from 'vitest';
import { type PlacementInput, type PlacementNode, plan, type Standing } from './placement.ts';
import { explainPlacement } from './placement-explain.ts';

function node(name: string, weight = 1, zone = 'a', standing: Standing = 'eligible'): PlacementNode {
  return { name, weight, zone, standing };
}

function input(parts: Partial<PlacementInput>): PlacementInput {
  return {
    strategy: 'Rendezvous',
    locality: 'Preferred',
    loadBound: '1.05',
    rebalance: true,
    nodes: [node('n1'), node('n2'), node('n3')],
    shards: Array.from({ length: 9 }, (_, id) => ({ id: `${id}`, capacity: 1 })),
    ...parts,
  };
}

function verdicts(of: PlacementInput, shard: string): Record<string, string> {
  return Object.fromEntries(explainPlacement(of, shard).nodes.map((row) => [row.node, row.verdict]));
}

describe('explain', () => {
  test('agrees with the plan about every shard', () => {
    const nodes = [
      node('n1', 2),
      node('n2', 1, 'b'),
      node('n3', 4, 'b', 'draining'),
      node('n4', 3, 'c', 'cordoned'),
    ];
    const owners = [undefined, 'n1', 'n2', 'n3', 'n4', 'gone'];
    const shards = Array.from({ length: 30 }, (_, id) => ({
      id: `${id}`,
      capacity: 1,
      owner: owners[id % 6],
      pinned: id % 11 === 0 ? 'n2' : undefined,
      locality: id % 7 === 0 ? { zone: 'b' } : undefined,
    }));
    const whole = input({ nodes, shards });
    const { targets, moves } = plan(whole);
    for (const { id } of shards) {
      const explained = explainPlacement(whole, id);
      expect(explained.target).toBe(targets.get(id));
      expect(explained.cause).toBe(moves.find(({ shard }) => shard === id)?.cause);
      expect(explained.nodes.map((row) => row.node).sort()).toEqual(['n1', 'n2', 'n3', 'n4']);
      expect(explained.nodes[0]?.node).toBe(explained.target);
    }
  });

  test('shows for a shard that is placed every node with score, rank, load, bounds, verdict and knob', () => {
    const nodes = [node('n1'), node('n2'), node('n3', 1, 'a', 'notReady'), node('n4', 1, 'a', 'cordoned')];
    const shards = [
      { id: 'new', capacity: 1 },
      ...Array.from({ length: 3 }, (_, id) => ({ id: `${id}`, capacity: 1, owner: 'n1' })),
    ];
    const explained = explainPlacement(input({ nodes, shards }), 'new');
    expect(explained.summary).toBe(
      'goes to n2: nobody serves it; n2 has the best score among the nodes within floor(m), their fair share',
    );
    const rows = new Map(explained.nodes.map((row) => [row.node, row]));
    expect(rows.get('n2')).toMatchObject({ load: 0, mean: 2, cap: 2, level: 'floor', verdict: 'target' });
    expect(rows.get('n2')?.knob).toBeUndefined();
    expect(rows.get('n1')).toMatchObject({
      load: 3,
      level: 'overCap',
      verdict: 'full',
      filters: { room: false },
    });
    expect(rows.get('n3')).toMatchObject({ verdict: 'notReady', filters: { standing: false } });
    expect(rows.get('n3')?.knob).toContain('Lease meshnode-n3');
    expect(rows.get('n4')).toMatchObject({
      verdict: 'cordoned',
      knob: 'spec.scheduling: Active on MeshNode n4',
    });
    expect([...rows.values()].map(({ rank }) => rank).sort()).toEqual([1, 2, 3, 4]);
    for (const [better, worse] of [
      [1, 2],
      [2, 3],
      [3, 4],
    ]) {
      const at = (rank?: number) => [...rows.values()].find((row) => row.rank === rank)?.score ?? 0;
      expect(at(better)).toBeGreaterThan(at(worse));
    }
  });

  test('says why a settled shard stays and what would move it', () => {
    const settled = input({ shards: [{ id: '0', capacity: 1, owner: 'n1' }] });
    expect(explainPlacement(settled, '0').summary).toBe(
      'stays on n1: its node may keep it and nothing calls for a move',
    );
    expect(verdicts(settled, '0')).toEqual({ n1: 'owner', n2: 'notNeeded', n3: 'notNeeded' });
    expect(explainPlacement(settled, '0').nodes[1]?.knob).toContain('spec.owner.pinned: n');
  });

  test('shows giver and receiver of a rebalancing move', () => {
    const shards = Array.from({ length: 9 }, (_, id) => ({
      id: `${id}`,
      capacity: 1,
      owner: id < 6 ? 'n1' : 'n2',
    }));
    const lopsided = input({ shards });
    const moved = plan(lopsided).moves[0]!;
    const explained = explainPlacement(lopsided, moved.shard);
    expect(explained.cause).toBe('Rebalance');
    expect(verdicts(lopsided, moved.shard)).toEqual({ n1: 'giver', n2: 'fuller', n3: 'target' });
  });

  test('names the pin', () => {
    const pinned = input({ shards: [{ id: '0', capacity: 1, owner: 'n1', pinned: 'n3' }] });
    expect(explainPlacement(pinned, '0').summary).toBe('moves from n1 to n3: it is pinned there');
    expect(verdicts(pinned, '0')).toEqual({ n3: 'target', n1: 'notPinned', n2: 'notPinned' });
  });

  test('names the locality that excludes a node or makes it second choice', () => {
    const nodes = [node('n1', 1, 'a'), node('n2', 1, 'b')];
    const shards = [{ id: '0', capacity: 1, locality: { zone: 'b' } }];
    expect(verdicts(input({ nodes, shards, locality: 'Required' }), '0')).toEqual({
      n2: 'target',
      n1: 'outsideLocality',
    });
    expect(verdicts(input({ nodes, shards }), '0')).toEqual({ n2: 'target', n1: 'farther' });
  });

  test('notes a shard that goes above a cap because nobody has room', () => {
    const explained = explainPlacement(
      input({
        shards: [
          { id: '0', capacity: 9 },
          { id: '1', capacity: 1 },
        ],
      }),
      '0',
    );
    expect(explained.overCap).toBe(true);
    expect(explained.summary).toContain('is the relatively least loaded node; none had room within its cap');
  });

  test('says why a shard has no place', () => {
    const explained = explainPlacement(input({ strategy: 'Static' }), '0');
    expect(explained).toMatchObject({ target: undefined, unplaceable: 'NoPin', overCap: false });
    expect(explained.summary).toBe('has no place: the strategy is Static and the shard is not pinned');
    expect(new Set(Object.values(verdicts(input({ strategy: 'Static' }), '0')))).toEqual(
      new Set(['notPinned']),
    );
  });

  test('says that a paused shard goes nowhere', () => {
    const paused = input({ shards: [{ id: '0', capacity: 1, owner: 'n1', fixed: true }] });
    expect(explainPlacement(paused, '0').summary).toBe('is paused on n1');
    expect(verdicts(paused, '0')).toEqual({ n1: 'owner', n2: 'paused', n3: 'paused' });
  });

  test('knows no other shards', () => {
    expect(() => explainPlacement(input({}), 'nobody')).toThrow('no shard nobody in this set');
  });
});
