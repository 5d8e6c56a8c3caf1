import { describe, expect, it } from 'vitest';
import { assignment, decideWith, draining, node, shardSet } from '../test/mesh-fixture.ts';

const deadA = node('a', false);
const b = node('b');

describe('after a restore', () => {
  const nodes = [node('a'), node('b')];

  it('gives a shard whose status is lost back to who owned it, with an epoch larger than any before', () => {
    const remembered = new Map([['orders.0000', { owner: 'b', epoch: 9_999_999_999 }]]);
    const { writes } = decideWith({
      shards: [assignment('0000')],
      nodes,
      remembered,
      targets: { '0000': 'a' },
    });
    expect(writes).toMatchObject([
      {
        kind: 'Rehydrated',
        cause: 'Rehydrated',
        status: { phase: 'Active', owner: 'b', epoch: 10_000_000_000 },
        transition: { to: 'b', epoch: 10_000_000_000 },
      },
    ]);
  });

  it('keeps it where it was, also where a fresh plan would not', () => {
    const remembered = new Map(
      ['0000', '0001', '0002', '0003'].map((id) => [`orders.${id}`, { owner: 'a', epoch: 5 }]),
    );
    const shards = ['0000', '0001', '0002', '0003'].map((id) => assignment(id));
    const { writes } = decideWith({ set: shardSet({ shards: { count: 4 } }), shards, nodes, remembered });
    expect(writes.map(({ status }) => status.owner)).toEqual(['a', 'a', 'a', 'a']);
  });

  it('places it like any other when its owner is dead, still with a larger epoch', () => {
    const remembered = new Map([['orders.0000', { owner: 'b', epoch: 9_999_999_999 }]]);
    const dead = [node('a'), node('b', false)];
    const { writes } = decideWith({ shards: [assignment('0000')], nodes: dead, remembered });
    expect(writes).toMatchObject([{ kind: 'Placed', status: { owner: 'a', epoch: 10_000_000_000 } }]);
  });

  it('gives it back also where a status was written before its set was there', () => {
    const remembered = new Map([['orders.0000', { owner: 'b', epoch: 9_999_999_999 }]]);
    const orphan = decideWith({ set: undefined, shards: [assignment('0000')], nodes, remembered });
    expect(orphan.writes).toMatchObject([{ status: { phase: 'Pending', epoch: 0 } }]);
    const shards = [assignment('0000', orphan.writes[0]?.status)];
    const { writes } = decideWith({ shards, nodes, remembered, targets: { '0000': 'a' } });
    expect(writes).toMatchObject([{ kind: 'Rehydrated', status: { owner: 'b', epoch: 10_000_000_000 } }]);
  });

  it('waits with first grants for the journal, and with nothing else', () => {
    const shards = [
      assignment('0000'),
      assignment('0001', { phase: 'Pending', epoch: 0, owner: undefined }),
      assignment('0002', { owner: 'a' }),
      assignment('0003', undefined, { state: 'Paused' }),
    ];
    const input = {
      set: shardSet({ shards: { count: 4 } }),
      shards,
      nodes: [deadA, b],
      awaitsJournal: true,
    };
    const { writes, setStatus } = decideWith(input);
    expect(writes.map(({ shard, kind }) => [shard.spec.shardId, kind])).toEqual([
      ['0002', 'FailedOver'],
      ['0003', 'Paused'],
    ]);
    expect(setStatus?.conditions).toMatchObject([
      { reason: 'AwaitingJournal', message: expect.stringMatching(/^2 shards were never granted/) },
      { type: 'Reconciling', status: 'True' },
      {},
    ]);
    expect(decideWith({ ...input, awaitsJournal: false }).writes).toHaveLength(4);
  });

  it('keeps a paused shard paused', () => {
    const remembered = new Map([['orders.0000', { owner: 'b', epoch: 5 }]]);
    const shards = [assignment('0000', undefined, { state: 'Paused' })];
    const { writes } = decideWith({ shards, nodes, remembered });
    expect(writes).toMatchObject([{ kind: 'Rehydrated', status: { phase: 'Paused', owner: 'b' } }]);
  });

  it('never grants an epoch again that a deleted shard of the same name had', () => {
    const remembered = new Map([['orders.0000', { epoch: 9_999_999_999 }]]);
    const { writes } = decideWith({ shards: [assignment('0000')], nodes, remembered });
    expect(writes).toMatchObject([{ kind: 'Placed', status: { epoch: 10_000_000_000 } }]);
  });

  it.each([
    ['Active', {}, 'Active'],
    ['Draining', draining('a', 'b'), 'Active'],
    ['Paused', { phase: 'Paused' as const }, 'Paused'],
  ])('grants a shard that is %s again to the same owner, once', (_, status, phase) => {
    const spec = phase === 'Paused' ? { state: 'Paused' as const } : {};
    const shards = [assignment('0000', { owner: 'a', ...status }, spec)];
    const epochFloor = 2_000_000_000;
    const { writes } = decideWith({ shards, nodes, epochFloor, targets: { '0000': 'a' } });
    expect(writes).toMatchObject([
      { kind: 'Regranted', cause: 'NewLineage', status: { phase, owner: 'a', epoch: epochFloor + 1 } },
    ]);
    expect(writes[0]?.status.move).toBeUndefined();
    const again = [assignment('0000', writes[0]?.status, spec)];
    const next = decideWith({ shards: again, nodes, epochFloor, targets: { '0000': 'a' } });
    expect(next.writes).toEqual([]);
  });

  it('fails over from a dead owner with an epoch of the new lineage', () => {
    const shards = [assignment('0000', { owner: 'a' })];
    const dead = [node('a', false), node('b')];
    const { writes } = decideWith({ shards, nodes: dead, epochFloor: 2_000_000_000 });
    expect(writes).toMatchObject([{ kind: 'FailedOver', status: { owner: 'b', epoch: 2_000_000_001 } }]);
  });
});
