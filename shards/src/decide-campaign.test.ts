import fc from 'fast-check';
import { expect, it } from 'vitest';
import { assignment, NOW, node, stamped } from '../test/mesh-fixture.ts';
import { type Decision, decide, EMPTY_MEMORY, type SetMemory } from './decide.ts';
import { releaseToken } from './epoch.ts';
import { plan } from './placement.ts';
import {
  type Freeze,
  type HandoffMode,
  type LocalityMode,
  RELEASED_ANNOTATION,
  type Scheduling,
  type ShardAssignment,
  type ShardSet,
  type ShardState,
  type Strategy,
} from './records.ts';

const BUDGET = 2;
const NODES = ['a', 'b', 'c', 'd'];
const ZONES: Record<string, string> = { a: 'x', b: 'x', c: 'y', d: 'y' };

type Event =
  | { kind: 'node'; name: string; there: boolean; ready: boolean; scheduling?: Scheduling }
  | { kind: 'pin'; shard: number; to?: string }
  | { kind: 'state'; shard: number; state: ShardState }
  | { kind: 'resize'; count: number }
  | { kind: 'freeze'; freeze: Freeze }
  | { kind: 'mode'; mode: HandoffMode }
  | { kind: 'placement'; strategy: Strategy; locality: LocalityMode }
  /** A person applies a shard, perhaps one that the set does not have. */
  | { kind: 'apply'; id: number; capacity: number; zone?: string }
  | { kind: 'delete' }
  | { kind: 'release'; shard: number }
  | { kind: 'time'; ms: number }
  | { kind: 'takeover' }
  /** The n-th write of the next pass is lost to a conflict. */
  | { kind: 'conflict'; write: number };

/** A kube-apiserver in miniature, which holds the fencing rules of the CRD against every write. */
class Cluster {
  now = NOW;
  monotonic = 0;
  memory: SetMemory = EMPTY_MEMORY;
  set: ShardSet | undefined;
  shards = new Map<string, ShardAssignment>();
  nodes = new Map(NODES.map((name) => [name, node(name, true, { zone: ZONES[name] })]));
  lose: number | undefined;
  /** Who was ever granted a shard at an epoch. */
  grants = new Map<string, string>();
  /** How often the set was created; a new one has another uid. */
  sets = 0;

  constructor(count: number) {
    this.create(count);
  }

  create(count: number): void {
    this.sets += 1;
    this.set = {
      apiVersion: 'meshkit.omnirelay.io/v1alpha1',
      kind: 'ShardSet',
      metadata: { name: 'orders', namespace: 'shop', uid: `set-${this.sets}`, generation: 1 },
      spec: { shards: { count }, churn: { maxConcurrentMoves: BUDGET }, handoff: { drainTimeout: '30s' } },
    };
  }

  apply(event: Event): void {
    const shard =
      'shard' in event ? [...this.shards.values()][event.shard % (this.shards.size || 1)] : undefined;
    switch (event.kind) {
      case 'node':
        if (event.there)
          this.nodes.set(
            event.name,
            node(event.name, event.ready, { scheduling: event.scheduling, zone: ZONES[event.name] }),
          );
        else this.nodes.delete(event.name);
        break;
      case 'pin':
        if (shard) shard.spec.owner = event.to === undefined ? undefined : { pinned: event.to };
        break;
      case 'state':
        if (shard) shard.spec.state = event.state;
        break;
      case 'resize':
        if (this.set) this.set.spec.shards.count = event.count;
        else this.create(event.count);
        break;
      case 'freeze':
        if (this.set) this.set.spec.freeze = event.freeze;
        break;
      case 'mode':
        if (this.set) this.set.spec.handoff = { mode: event.mode, drainTimeout: '30s' };
        break;
      case 'placement':
        if (this.set) Object.assign(this.set.spec, { strategy: event.strategy, locality: event.locality });
        break;
      case 'apply': {
        const id = String(event.id).padStart(4, '0');
        if (this.shards.has(id)) break;
        const spec = { capacity: event.capacity, locality: event.zone ? { zone: event.zone } : undefined };
        const fresh = assignment(id, undefined, spec);
        this.shards.set(id, { ...fresh, metadata: { ...fresh.metadata, uid: `applied-${id}` } });
        break;
      }
      case 'delete':
        this.set = undefined;
        break;
      case 'release':
        if (shard?.status?.phase === 'Draining') {
          const token = releaseToken(shard.status.owner ?? '', shard.status.epoch);
          shard.metadata.annotations = { [RELEASED_ANNOTATION]: token };
        }
        break;
      case 'time':
        this.now += event.ms;
        this.monotonic += event.ms;
        break;
      case 'takeover':
        // A real takeover takes seconds; here many grants are made in one, and only the old process knows them all.
        this.apply({ kind: 'time', ms: 60_000 });
        this.memory = EMPTY_MEMORY;
        this.monotonic = 0;
        break;
      case 'conflict':
        this.lose = event.write;
        break;
    }
  }

  pass(): Decision {
    const { set, now, monotonic, memory } = this;
    const [shards, nodes] = [[...this.shards.values()], [...this.nodes.values()]];
    const decision = decide({ set, shards, nodes, now, monotonic, memory, plan });
    this.memory = decision.memory;
    for (const id of decision.create) {
      const fresh = stamped(assignment(id), set?.metadata.uid);
      this.shards.set(id, { ...fresh, metadata: { ...fresh.metadata, uid: `${id}@${this.sets}` } });
    }
    for (const { spec, status } of decision.remove) {
      // Never what people applied, and of our own only a shard without an owner, or one whose set is gone.
      expect(this.shards.get(spec.shardId)?.metadata.ownerReferences).toBeDefined();
      if (this.shards.get(spec.shardId)?.metadata.ownerReferences?.[0]?.uid === set?.metadata.uid) {
        expect(status?.owner).toBeUndefined();
      }
      this.shards.delete(spec.shardId);
    }
    decision.writes.forEach(({ shard, status }, index) => {
      if (index === this.lose) return;
      const stored = this.shards.get(shard.spec.shardId);
      if (!stored) throw new Error('a write to a shard that was removed');
      this.checkWrite(stored, status);
      stored.status = status;
    });
    this.lose = undefined;
    if (set && decision.setStatus) set.status = decision.setStatus;
    const moving = [...this.shards.values()].filter(({ status }) => status?.move?.to !== undefined);
    expect(moving.length).toBeLessThanOrEqual(BUDGET);
    return decision;
  }

  checkWrite(stored: ShardAssignment, next: NonNullable<ShardAssignment['status']>): void {
    const before = stored.status;
    expect(next.version).toBe((before?.version ?? 0) + 1);
    expect(next.epoch).toBeGreaterThanOrEqual(before?.epoch ?? 0);
    expect(next.move !== undefined).toBe(next.phase === 'Draining');
    if (['Active', 'Draining', 'Lost'].includes(next.phase)) expect(next.owner).toBeDefined();
    if (next.owner !== undefined && next.owner !== before?.owner) {
      expect(next.epoch).toBeGreaterThan(before?.epoch ?? 0);
    }
    if (next.phase === 'Disabled') expect(next.owner).toBeUndefined();
    if (next.owner !== undefined) {
      const grant = `${stored.metadata.name}/${next.epoch}`;
      expect(this.grants.get(grant) ?? next.owner).toBe(next.owner);
      this.grants.set(grant, next.owner);
    }
  }

  /** Passes until nothing is written any more, letting deadlines come; nobody releases. */
  settle(): void {
    for (let round = 0; round < 400; round++) {
      const { create, remove, writes, setStatus, requeueAfterMs } = this.pass();
      if (requeueAfterMs !== undefined) this.apply({ kind: 'time', ms: requeueAfterMs });
      const idle = create.length + remove.length + writes.length === 0 && setStatus === undefined;
      if (idle && requeueAfterMs === undefined) return;
    }
    throw new Error('does not settle');
  }
}

const name = fc.constantFrom(...NODES);
const shard = fc.nat(9);
const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('node' as const),
      name,
      there: fc.constantFrom(true, true, true, false),
      ready: fc.boolean(),
      scheduling: fc.constantFrom<Scheduling | undefined>(undefined, undefined, 'Cordoned', 'Drain'),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('release' as const), shard }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('pin' as const),
      shard,
      to: fc.option(name, { nil: undefined }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('state' as const),
      shard,
      state: fc.constantFrom<ShardState>('Active', 'Active', 'Paused', 'Disabled'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('resize' as const), count: fc.integer({ min: 1, max: 10 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('freeze' as const),
      freeze: fc.constantFrom<Freeze>('None', 'None', 'Rebalance', 'All'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('mode' as const),
      mode: fc.constantFrom<HandoffMode>('Graceful', 'Graceful', 'Immediate'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('placement' as const),
      strategy: fc.constantFrom<Strategy>('Rendezvous', 'Rendezvous', 'Static'),
      locality: fc.constantFrom<LocalityMode>('None', 'Preferred', 'Required'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('apply' as const),
      id: fc.nat(11),
      capacity: fc.integer({ min: 1, max: 5 }),
      zone: fc.constantFrom(undefined, 'x', 'y', 'z'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('delete' as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.nat(20_000) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('takeover' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('conflict' as const), write: fc.nat(5) }) },
);

it('never grants an epoch twice, holds the budget, ends every drain, and settles on the plan without further writes', () => {
  const property = fc.property(
    fc.integer({ min: 1, max: 10 }),
    fc.array(fc.tuple(event, fc.boolean()), { maxLength: 60 }),
    (count, events) => {
      const cluster = new Cluster(count);
      cluster.pass();
      for (const [next, decides] of events) {
        cluster.apply(next);
        if (decides) cluster.pass();
      }
      cluster.settle();
      const { memory: _, ...idle } = cluster.pass();
      expect(idle).toEqual({ create: [], remove: [], writes: [] });
      // Nothing waits any more: what the plan wants is done, or cannot be.
      expect(cluster.set?.status?.conditions?.[1]?.status ?? 'False').toBe('False');
      const ready = (owner?: string) => cluster.nodes.get(owner ?? '')?.ready ?? false;
      const eligible = [...cluster.nodes.values()].some(
        ({ node: { spec }, ready }) => ready && !spec.scheduling,
      );
      for (const { spec, status } of cluster.shards.values()) {
        expect(status?.phase).not.toBe('Draining');
        if (status?.phase === 'Active') expect(ready(status.owner)).toBe(true);
        if (!cluster.set) expect(status?.owner).toBeUndefined();
        const outside = !cluster.set || Number(spec.shardId) >= (cluster.set.spec.shards.count ?? 0);
        const bound = cluster.set?.spec.strategy === 'Static' || cluster.set?.spec.locality === 'Required';
        const served =
          (spec.state ?? 'Active') === 'Active' && !outside && cluster.set?.spec.freeze !== 'All';
        if (served && eligible && !bound) {
          expect(status?.phase).toBe('Active');
          expect(cluster.nodes.get(status?.owner ?? '')?.node.spec.scheduling).not.toBe('Drain');
          const pinned = cluster.nodes.get(spec.owner?.pinned ?? '');
          if (pinned?.ready && !pinned.node.spec.scheduling) expect(status?.owner).toBe(spec.owner?.pinned);
        }
        if (outside && cluster.set?.spec.freeze !== 'All') expect(status?.owner).toBeUndefined();
      }
    },
  );
  fc.assert(property, { numRuns: 400 });
});
