import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { act, perform, ShardHistory } from '../test/shard-history.ts';
import type { ShardAssignment } from './records.ts';
import { API_VERSION } from './records.ts';
import { recordOf, type ShardView, served, servedNode } from './shard-view.ts';

const fresh: ShardAssignment = {
  apiVersion: API_VERSION,
  kind: 'ShardAssignment',
  metadata: { name: 'orders.0042', namespace: 'payments', uid: 'u1', generation: 1 },
  spec: { shardSet: 'orders', shardId: '0042' },
};

describe('served', () => {
  it('shows a shard that nobody has placed yet as Pending at epoch 0', () => {
    expect(JSON.parse(JSON.stringify(served(fresh)))).toEqual({
      namespace: 'payments',
      name: 'orders.0042',
      uid: 'u1',
      shardSet: 'orders',
      shardId: '0042',
      phase: 'Pending',
      state: 'Active',
      epoch: 0,
      version: 0,
      generation: 1,
      observedGeneration: 0,
      capacity: 1,
    });
  });

  it('shows intent and truth side by side, with the time of the newest transition but not the transitions', () => {
    const actor = { kind: 'Operator', name: 'Drain' } as const;
    const view = served({
      ...fresh,
      spec: {
        ...fresh.spec,
        owner: { pinned: 'node-9' },
        locality: { zone: 'a' },
        changeTicket: 'CHG-1',
        reason: 'swap',
      },
      status: {
        phase: 'Draining',
        owner: 'node-1',
        ownerEndpoint: 'https://node-1',
        epoch: 17,
        version: 3,
        effective: { strategy: 'Rendezvous', capacity: 2 },
        move: { to: 'node-9', startedAt: '2026-11-01T00:00:00Z', deadline: '2026-11-01T00:00:30Z' },
        recentTransitions: [
          { version: 2, phase: 'Active', actor, reason: 'Placed', at: '2026-10-01T00:00:00Z' },
          { version: 3, phase: 'Draining', actor, reason: 'Drain', at: '2026-11-01T00:00:00Z' },
        ],
      },
    });
    expect(view).toMatchObject({
      phase: 'Draining',
      owner: 'node-1',
      pinned: 'node-9',
      capacity: 2,
      move: { to: 'node-9' },
      since: '2026-11-01T00:00:00Z',
      changeTicket: 'CHG-1',
    });
    expect(view).not.toHaveProperty('recentTransitions');
  });

  it('keeps only the conditions that need attention', () => {
    const at = { lastTransitionTime: '2026-11-01T00:00:00Z', message: 'm', reason: 'R' };
    const view = served({
      ...fresh,
      status: {
        phase: 'Pending',
        epoch: 0,
        version: 1,
        conditions: [
          { type: 'Ready', status: 'False', ...at },
          { type: 'Reconciling', status: 'False', ...at },
          { type: 'Stalled', status: 'True', ...at },
        ],
      },
    });
    expect(view.conditions?.map(({ type }) => type)).toEqual(['Ready', 'Stalled']);
  });
});

const text = fc.string({ maxLength: 8 });
const some = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const number = fc.nat(1_000_000);
/** As JSON has it, in the order of `served`: nothing else reaches a journal. */
const anyView: fc.Arbitrary<ShardView> = fc.record({
  namespace: text,
  name: text,
  uid: text,
  shardSet: text,
  shardId: text,
  phase: fc.constantFrom('Pending', 'Active', 'Draining', 'Paused', 'Disabled', 'Lost'),
  state: fc.constantFrom('Active', 'Paused', 'Disabled'),
  owner: some(text),
  ownerEndpoint: some(text),
  previousOwner: some(text),
  epoch: number,
  version: number,
  generation: number,
  observedGeneration: number,
  capacity: number,
  locality: some(fc.record({ region: some(text), zone: some(text) })),
  pinned: some(text),
  move: some(fc.record({ to: some(text), startedAt: text, deadline: text })),
  since: some(text),
  changeTicket: some(text),
  reason: some(text),
  conditions: some(
    fc.array(
      fc.record({
        type: fc.constant('Ready'),
        status: fc.constantFrom('False', 'Unknown'),
        reason: text,
        message: text,
      }),
      { minLength: 1, maxLength: 3 },
    ),
  ),
});

describe('recordOf', () => {
  it('makes a record of which the same is served, to the letter', () => {
    fc.assert(
      fc.property(anyView, (view) => {
        expect(JSON.stringify(served(recordOf(view)))).toBe(JSON.stringify(view));
      }),
    );
  });

  it('is the inverse for every record that there is', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 30 }), (acts) => {
        const shards = new ShardHistory();
        perform(shards, acts);
        for (const { after } of shards.watched) {
          if (!after) continue;
          const view = JSON.parse(JSON.stringify(served(after)));
          expect(JSON.stringify(served(recordOf(view)))).toBe(JSON.stringify(served(after)));
        }
      }),
    );
  });
});

describe('servedNode', () => {
  it('counts a node that never reported as not ready, with weight 1', () => {
    const node = {
      apiVersion: API_VERSION,
      kind: 'MeshNode' as const,
      metadata: { name: 'node-1', namespace: 'payments' },
      spec: {},
    };
    expect(servedNode({ node, shards: 4 })).toMatchObject({
      weight: 1,
      ready: false,
      scheduling: 'Active',
      shards: 4,
    });
  });
});
