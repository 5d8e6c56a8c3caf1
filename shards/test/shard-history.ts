import fc from 'fast-check';
import type { Change } from '../src/change.ts';
import { API_VERSION, type Phase, type ShardAssignment, type ShardAssignmentStatus } from '../src/records.ts';
import { appendTransition } from '../src/transition.ts';

export type Records = Map<string, ShardAssignment>;

/** A store of shards as kube-apiserver would keep them, and what a watcher who never sleeps would have seen. */
export class ShardHistory {
  readonly records: Records = new Map();
  readonly watched: Change[] = [];
  position = 100;
  #uids = 0;

  get version(): string {
    return String(this.position);
  }

  create(name: string): void {
    if (this.records.has(name)) return;
    this.#uids += 1;
    this.#put(name, {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: { namespace: 'a', name, uid: `u${this.#uids}`, generation: 1 },
      spec: { shardSet: 'orders', shardId: name },
    });
  }

  edit(name: string): void {
    const record = this.records.get(name);
    if (!record) return;
    const generation = (record.metadata.generation ?? 0) + 1;
    this.#put(name, {
      ...record,
      metadata: { ...record.metadata, generation },
      spec: { ...record.spec, reason: `edit ${generation}` },
    });
  }

  hop(name: string, phase: Phase, node: string, { old = false } = {}): void {
    const record = this.records.get(name);
    if (!record) return;
    const was = record.status;
    const from = was?.owner;
    if (phase === 'Draining' && from === undefined) return;
    const owner = phase === 'Draining' ? from : phase === 'Active' ? node : undefined;
    const epoch = (was?.epoch ?? 0) + (phase === 'Active' ? 1 : 0);
    const version = (was?.version ?? 0) + 1;
    const at = new Date(1_800_000_000_000 + this.position).toISOString();
    const to = phase === 'Draining' ? node : owner;
    const hop = {
      version,
      from,
      to,
      phase,
      epoch,
      actor: { kind: 'Operator', name: 'Test' },
      reason: at,
      at,
    } as const;
    const { epoch: _, ...withoutEpoch } = hop;
    const status: ShardAssignmentStatus = {
      phase,
      owner,
      epoch,
      version,
      previousOwner: from !== undefined && from !== owner ? from : was?.previousOwner,
      move: phase === 'Draining' ? { to: node, startedAt: at, deadline: at } : undefined,
      recentTransitions: appendTransition(was?.recentTransitions, old ? withoutEpoch : hop),
    };
    this.#put(name, { ...record, status });
  }

  endpoint(name: string): void {
    const record = this.records.get(name);
    if (!record?.status?.owner) return;
    const version = record.status.version + 1;
    this.#put(name, { ...record, status: { ...record.status, version, ownerEndpoint: `tcp://e${version}` } });
  }

  remove(name: string): void {
    const before = this.records.get(name);
    if (!before) return;
    this.position += 1;
    this.records.delete(name);
    this.watched.push({ position: this.version, ordinal: 0, key: `a/${name}`, before });
  }

  byKey(): Records {
    return new Map([...this.records].map(([name, record]) => [`a/${name}`, record]));
  }

  #put(name: string, record: ShardAssignment): void {
    this.position += 1;
    const after = { ...record, metadata: { ...record.metadata, resourceVersion: this.version } };
    this.watched.push({
      position: this.version,
      ordinal: 0,
      key: `a/${name}`,
      before: this.records.get(name),
      after,
    });
    this.records.set(name, after);
  }
}

const name = fc.constantFrom('x', 'y', 'z');
export const node = fc.constantFrom('n1', 'n2', 'n3');
/** Anything that happens to one of three shards. */
export const act = fc.oneof(
  fc.record({ act: fc.constant('create' as const), name }),
  fc.record({ act: fc.constant('edit' as const), name }),
  fc.record({ act: fc.constant('remove' as const), name }),
  fc.record({ act: fc.constant('endpoint' as const), name }),
  fc.record({
    act: fc.constant('hop' as const),
    name,
    phase: fc.constantFrom<Phase>('Active', 'Active', 'Draining', 'Disabled'),
    node,
    old: fc.boolean(),
  }),
);
export type Act = typeof act extends fc.Arbitrary<infer T> ? T : never;

export function perform(shards: ShardHistory, acts: readonly Act[]): void {
  for (const one of acts) {
    if (one.act === 'hop') shards.hop(one.name, one.phase, one.node, one);
    else shards[one.act](one.name);
  }
}
