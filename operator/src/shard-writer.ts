import type { Informer } from '@meshkit/crds/informer';
import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import type { Decision, StatusWrite } from '@meshkit/shards/decide';
import { ShardError } from '@meshkit/shards/errors';
import {
  API_VERSION,
  assignmentName,
  SHARD_SET_LABEL,
  type ShardAssignment,
  type ShardSet,
} from '@meshkit/shards/records';
import type { EventRecorder } from './event-recorder.ts';
import type { Readiness } from './liveness.ts';
import type { OperatorMetrics } from './metrics.ts';
import { parallel } from './parallel.ts';
import { shardEvent } from './shard-event.ts';

/** So that news (a second failure, a release) waits for one batch, not for the move of a whole large set. */
const MAX_WRITES_A_PASS = 512;

export interface ShardWriterOptions {
  client: Pick<KubeClient, 'create' | 'delete' | 'updateStatus'>;
  shards: Pick<Informer<ShardAssignment>, 'observe' | 'observeDeleted'>;
  readiness: (key: string) => Readiness;
  leads: () => boolean;
  events: Pick<EventRecorder, 'record'>;
  metrics: OperatorMetrics;
  clock: Clock;
  log: Log;
  parallelWrites: number;
}

export interface Applied {
  /** Writes refused because the object had changed: decide again. */
  conflicts: number;
  /** Writes of the decision that were not begun. */
  left: number;
}

type Task = { what: string; run: (signal: AbortSignal) => Promise<void> };

/** Applies a decision: each status by a PUT that carries the resourceVersion it was decided on, many at once. */
export class ShardWriter {
  readonly #options: ShardWriterOptions;
  /** By uid: monotonic time at which a release was seen, until its grant. */
  readonly #releases = new Map<string, number>();

  constructor(options: ShardWriterOptions) {
    this.#options = options;
  }

  released(shard: ShardAssignment): void {
    const { uid } = shard.metadata;
    if (uid !== undefined && !this.#releases.has(uid))
      this.#releases.set(uid, this.#options.clock.monotonic());
  }

  /** Rejects with the first failure that is no conflict, after everything else was tried. */
  async apply(
    key: string,
    set: ShardSet | undefined,
    decision: Decision,
    signal: AbortSignal,
  ): Promise<Applied> {
    const tasks: Task[] = [
      ...decision.writes.map((write) => this.#statusTask(write, set)),
      ...decision.remove.map((shard) => this.#removeTask(shard)),
      ...(set ? decision.create.map((id) => this.#createTask(set, id)) : []),
    ];
    const batch = tasks.slice(0, MAX_WRITES_A_PASS);
    const { log, leads, parallelWrites, metrics } = this.#options;
    const resource = SHARD_ASSIGNMENTS.plural;
    let conflicts = 0;
    let failure: unknown;
    let failures = 0;
    await parallel(batch, parallelWrites, signal, async ({ what, run }) => {
      // Leadership may end between two writes; what was decided under it must not be written any more.
      if (!leads()) return;
      try {
        await run(signal);
        metrics.writes.inc({ resource, result: 'written' });
      } catch (error) {
        if (signal.aborted) return;
        const code = error instanceof ShardError ? error.code : undefined;
        // Not found: deleted meanwhile. Either way the newer state is on its way to us.
        if (code === 'conflict' || code === 'notFound') {
          conflicts += 1;
          metrics.writes.inc({ resource, result: 'conflict' });
          log.debug({ set: key, what, err: error }, 'write lost to a newer one');
          return;
        }
        failures += 1;
        failure ??= error;
        metrics.writes.inc({ resource, result: 'failed' });
      }
    });
    if (failures > 1) log.warn({ set: key, failures }, 'several writes failed, the first is reported');
    if (failure !== undefined) throw failure;
    return { conflicts, left: tasks.length - batch.length };
  }

  #statusTask(write: StatusWrite, set: ShardSet | undefined): Task {
    const { client, shards } = this.#options;
    const { shard, status } = write;
    const { managedFields: _, ...metadata } = shard.metadata;
    return {
      what: `status of ${metadata.name}`,
      run: async (signal) => {
        const stored = await client.updateStatus(
          SHARD_ASSIGNMENTS,
          { ...shard, metadata, status },
          { signal },
        );
        shards.observe(stored);
        this.#written(write, stored, set);
      },
    };
  }

  #removeTask(shard: ShardAssignment): Task {
    const { client, shards } = this.#options;
    const { namespace, name, uid, resourceVersion } = shard.metadata;
    return {
      what: `deletion of ${name}`,
      run: async (signal) => {
        await client.delete(SHARD_ASSIGNMENTS, { namespace, name }, { uid, resourceVersion, signal });
        // With finalizers it lives on for a while; its events tell.
        if (!shard.metadata.finalizers?.length) shards.observeDeleted(shard);
      },
    };
  }

  #createTask(set: ShardSet, id: string): Task {
    const { client, shards } = this.#options;
    const { name, namespace, uid = '' } = set.metadata;
    const owner = {
      apiVersion: API_VERSION,
      kind: 'ShardSet',
      name,
      uid,
      controller: true,
      blockOwnerDeletion: true,
    };
    const shard: ShardAssignment = {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: {
        name: assignmentName(name, id),
        namespace,
        labels: { [SHARD_SET_LABEL]: name },
        ownerReferences: [owner],
      },
      spec: { shardSet: name, shardId: id },
    };
    return {
      what: `creation of ${shard.metadata.name}`,
      run: async (signal) => shards.observe(await client.create(SHARD_ASSIGNMENTS, shard, { signal })),
    };
  }

  #written(write: StatusWrite, stored: ShardAssignment, set: ShardSet | undefined): void {
    const { events, metrics, log } = this.#options;
    const { kind, cause = '', status, transition, shard } = write;
    if (!transition) return;
    const before = shard.status;
    const granted = status.epoch !== before?.epoch && status.owner !== undefined;
    if (
      kind === 'MoveStarted' ||
      kind === 'FailedOver' ||
      (kind === 'Moved' && before?.phase !== 'Draining')
    ) {
      metrics.moves.inc({ cause });
    }
    if (granted) {
      metrics.grants.inc({ kind, cause });
      this.#measure(write, set);
    }
    log.debug(
      { shard: shard.metadata.name, kind, cause, owner: status.owner, epoch: status.epoch },
      'shard changed',
    );
    if (before?.phase === 'Draining') this.#releases.delete(shard.metadata.uid ?? '');
    const text = shardEvent(write);
    if (text) events.record(stored, text);
  }

  #measure({ kind, shard }: StatusWrite, set: ShardSet | undefined): void {
    const { clock, metrics, readiness } = this.#options;
    const { uid = '', namespace } = shard.metadata;
    const releasedAt = this.#releases.get(uid);
    if (kind === 'Moved' && releasedAt !== undefined) {
      metrics.grantSeconds.observe({ kind: 'planned' }, (clock.monotonic() - releasedAt) / 1000);
    }
    const owner = shard.status?.owner;
    if (kind !== 'FailedOver' || owner === undefined) return;
    const { ready, since } = readiness(`${set?.spec.nodes?.namespace ?? namespace}/${owner}`);
    if (!ready && since > 0) {
      metrics.grantSeconds.observe({ kind: 'failover' }, (clock.monotonic() - since) / 1000);
    }
  }
}
