import type { Informer } from '@meshkit/crds/informer';
import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { SHARD_SETS } from '@meshkit/crds/resource';
import { poolNamespace } from '@meshkit/shards/candidates';
import type { Clock } from '@meshkit/shards/clock';
import { type Decision, decide, EMPTY_MEMORY, type NodeState, type SetMemory } from '@meshkit/shards/decide';
import { createdForAnother } from '@meshkit/shards/decide-situation';
import { ShardError } from '@meshkit/shards/errors';
import type { Remembered } from '@meshkit/shards/journal-fold';
import type {
  KubeObject,
  MeshNode,
  ShardAssignment,
  ShardSet,
  ShardSetStatus,
} from '@meshkit/shards/records';
import type { EventRecorder } from './event-recorder.ts';
import type { Readiness } from './liveness.ts';
import type { OperatorMetrics } from './metrics.ts';
import { PlanMemo } from './plan-memo.ts';
import { ShardWriter } from './shard-writer.ts';

/** A ShardSet's own status is written at most this often, however fast its shards change. */
const STATUS_EVERY_MS = 1000;
/** After a conflict the newer object is usually on its way; this is for when it is not. */
const CONFLICT_RETRY_MS = 200;

export interface SetReconcilerOptions {
  client: Pick<KubeClient, 'get' | 'create' | 'delete' | 'updateStatus'>;
  sets: Pick<Informer<ShardSet>, 'get' | 'observe'>;
  /** Needs the index `set`: `namespace/shardSet`. */
  shards: Pick<Informer<ShardAssignment>, 'byIndex' | 'observe' | 'observeDeleted'>;
  /** Needs the index `namespace`. */
  nodes: Pick<Informer<MeshNode>, 'byIndex'>;
  readiness: (key: string) => Readiness;
  /** What the journal knows of shards that are here, or were; by `namespace/name`. Absent: there is no journal. */
  remembered?: (key: string) => Remembered | undefined;
  /** See DecideInput. */
  epochFloor?: () => number;
  /** An object without a stamp that is not to be believed. */
  believed: <T extends KubeObject>(object: T) => T;
  awaitsJournal?: () => boolean;
  /** Asked before every write. */
  leads: () => boolean;
  events: Pick<EventRecorder, 'record'>;
  metrics: OperatorMetrics;
  clock: Clock;
  log: Log;
  /** How many requests of one set may be under way at once. */
  parallelWrites: number;
}

interface SetState {
  memory: SetMemory;
  memo: PlanMemo;
  /** Monotonic; when the ShardSet's status was last written. */
  statusAt: number;
}

/**
 * gather -> decide -> apply for one ShardSet and its ShardAssignments. The unit is the set, since budget and plan are the
 * set's; the work queue never runs one key twice at once. One instance serves one term of leadership: what it remembers
 * (deadlines, pacing) must not outlive the term.
 */
export class SetReconciler {
  readonly #options: SetReconcilerOptions;
  readonly #writer: ShardWriter;
  readonly #states = new Map<string, SetState>();

  constructor(options: SetReconcilerOptions) {
    this.#options = options;
    this.#writer = new ShardWriter(options);
  }

  /** A shard's owner has just released it: the grant's latency counts from here. */
  released(shard: ShardAssignment): void {
    this.#writer.released(shard);
  }

  async reconcile(key: string, signal: AbortSignal): Promise<{ requeueAfterMs?: number }> {
    const { sets, shards, believed, clock, metrics } = this.#options;
    let set = sets.get(key);
    const assignments = shards.byIndex('set', key);
    if (assignments.some((shard) => createdForAnother(shard, set)) || (!set && assignments.length > 0)) {
      set = await this.#confirm(key, signal);
    }
    const state = this.#state(key);
    const started = clock.monotonic();
    const decision = decide({
      set: set && believed(set),
      shards: assignments.map(believed),
      nodes: set ? this.#nodes(set) : [],
      now: clock.now(),
      monotonic: started,
      memory: state.memory,
      plan: (input) => state.memo.plan(input),
      remembered: this.#remembered(assignments),
      epochFloor: this.#options.epochFloor?.(),
      awaitsJournal: this.#options.awaitsJournal?.(),
    });
    metrics.decideSeconds.observe((clock.monotonic() - started) / 1000);
    state.memory = decision.memory;
    this.#countShards(key, set, assignments);

    // Side by side: a release that comes meanwhile should wait for one round trip, not for two.
    const [applied, status] = await Promise.allSettled([
      this.#writer.apply(key, set, decision, signal),
      this.#writeStatus(set, decision.setStatus, state, signal),
    ]);
    if (applied.status === 'rejected') throw applied.reason;
    if (status.status === 'rejected') throw status.reason;
    const { conflicts, left } = applied.value;
    const waits = [decision.requeueAfterMs, status.value];
    if (conflicts > 0) waits.push(CONFLICT_RETRY_MS);
    if (left > 0) waits.push(0);
    if (!set && assignments.length === 0) this.#forget(key, decision);
    const known = waits.filter((wait) => wait !== undefined);
    return known.length > 0 ? { requeueAfterMs: Math.min(...known) } : {};
  }

  /**
   * A set may be missing, or another one, only because its watch is behind that of the shards. Ending ownership cannot
   * be undone, so kube-apiserver has the last word.
   */
  async #confirm(key: string, signal: AbortSignal): Promise<ShardSet | undefined> {
    const [namespace, name = ''] = key.split('/');
    try {
      const set = await this.#options.client.get(SHARD_SETS, { namespace, name }, { signal });
      this.#options.sets.observe(set);
      return set;
    } catch (error) {
      if (error instanceof ShardError && error.code === 'notFound') return undefined;
      throw error;
    }
  }

  /** Only what their status does not say itself. */
  #remembered(shards: readonly ShardAssignment[]): Map<string, Remembered> {
    const found = new Map<string, Remembered>();
    const { remembered } = this.#options;
    if (!remembered) return found;
    for (const { metadata, status } of shards) {
      const known = remembered(`${metadata.namespace}/${metadata.name}`);
      if (known && (!status || known.epoch > status.epoch)) found.set(metadata.name, known);
    }
    return found;
  }

  #nodes(set: ShardSet): NodeState[] {
    const { nodes, readiness, believed } = this.#options;
    return nodes.byIndex('namespace', poolNamespace(set) ?? '').map((node) => {
      const { ready, reason } = readiness(`${node.metadata.namespace}/${node.metadata.name}`);
      return { node: believed(node), ready, reason: ready ? undefined : reason };
    });
  }

  /** Milliseconds until a status that had to wait may be written; undefined when nothing waits. */
  async #writeStatus(
    set: ShardSet | undefined,
    status: ShardSetStatus | undefined,
    state: SetState,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { client, sets, clock, leads, metrics } = this.#options;
    if (!set || !status) return undefined;
    const waitMs = state.statusAt + STATUS_EVERY_MS - clock.monotonic();
    if (waitMs > 0) return waitMs;
    if (signal.aborted || !leads()) return undefined;
    const { managedFields: _, ...metadata } = set.metadata;
    const resource = SHARD_SETS.plural;
    try {
      sets.observe(await client.updateStatus(SHARD_SETS, { ...set, metadata, status }, { signal }));
      state.statusAt = clock.monotonic();
      metrics.writes.inc({ resource, result: 'written' });
      return undefined;
    } catch (error) {
      const code = error instanceof ShardError ? error.code : undefined;
      metrics.writes.inc({ resource, result: code === 'conflict' ? 'conflict' : 'failed' });
      if (code === 'conflict') return CONFLICT_RETRY_MS;
      // Deleted meanwhile: its event brings the key back.
      if (code === 'notFound') return undefined;
      throw error;
    }
  }

  #state(key: string): SetState {
    const known = this.#states.get(key);
    if (known) return known;
    const { clock, metrics } = this.#options;
    const memo = new PlanMemo(
      () => clock.monotonic(),
      (seconds) => metrics.planSeconds.observe(seconds),
    );
    const state: SetState = { memory: EMPTY_MEMORY, memo, statusAt: Number.NEGATIVE_INFINITY };
    this.#states.set(key, state);
    return state;
  }

  #forget(key: string, decision: Decision): void {
    // Until the clock has passed its epochs, a set that comes back must not hand them out again.
    if (decision.memory.epochs.size === 0) this.#states.delete(key);
  }

  #countShards(key: string, set: ShardSet | undefined, shards: readonly ShardAssignment[]): void {
    const [namespace = '', shard_set = ''] = key.split('/');
    const counts = { Pending: 0, Active: 0, Draining: 0, Paused: 0, Disabled: 0, Lost: 0 };
    for (const { status } of shards) counts[status?.phase ?? 'Pending'] += 1;
    for (const [phase, count] of Object.entries(counts)) {
      const labels = { namespace, shard_set, phase };
      if (!set && shards.length === 0) this.#options.metrics.shards.remove(labels);
      else this.#options.metrics.shards.set(labels, count);
    }
  }
}
