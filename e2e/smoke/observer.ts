import { systemClock } from '@meshkit/crds/clock';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { silentLog } from '@meshkit/crds/log';
import { reflect } from '@meshkit/crds/reflector';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { RELEASED_ANNOTATION, type ShardAssignment } from '@meshkit/shards/records';

/** A change of owner or epoch, as a watcher of kube-apiserver saw it. Times are wall clock, milliseconds. */
export interface Hop {
  shard: string;
  from?: string;
  to?: string;
  epoch: number;
  at: number;
  /** When the release that allowed it was seen; absent when the owner did not release. */
  releasedAt?: number;
}

/** Watches the shards of one namespace, keeps every hop, and notes each broken promise at the moment it is seen. */
export class Observer {
  readonly hops: Hop[] = [];
  readonly violations: string[] = [];
  readonly shards = new Map<string, ShardAssignment>();
  readonly #released = new Map<string, number>();
  readonly #owners = new Map<string, string>();
  #waiting: { done: () => boolean; resolve: () => void }[] = [];

  /** Runs until aborted. */
  async run(kube: KubeClient, namespace: string, signal: AbortSignal): Promise<void> {
    const events = reflect<ShardAssignment>({
      client: kube,
      resource: SHARD_ASSIGNMENTS,
      namespace,
      clock: systemClock,
      random: Math.random,
      log: silentLog,
      signal,
    });
    for await (const event of events) {
      if (event.type === 'BOOKMARK') continue;
      const now = Date.now();
      if (event.type === 'REPLACED') for (const shard of event.items) this.#see(shard, now);
      else if (event.type === 'DELETED') this.shards.delete(event.object.metadata.name);
      else this.#see(event.object, now);
      this.#waiting = this.#waiting.filter(({ done, resolve }) => {
        if (!done()) return true;
        resolve();
        return false;
      });
    }
  }

  /** Resolves once `done` holds; rejects after `deadlineMs` with `what` and the shards' present state. */
  async until(what: string, done: () => boolean, deadlineMs: number, signal: AbortSignal): Promise<void> {
    if (done()) return;
    await new Promise<void>((resolve, reject) => {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
      limit.addEventListener('abort', () => {
        reject(new Error(`${what}: not within ${deadlineMs / 1000} s; ${this.summary()}`));
      });
      this.#waiting.push({ done, resolve });
    });
  }

  all(): ShardAssignment[] {
    return [...this.shards.values()];
  }

  ownedBy(node: string): ShardAssignment[] {
    return this.all().filter((shard) => shard.status?.owner === node);
  }

  owners(): Map<string, string> {
    return new Map(
      this.all().flatMap((shard) => (shard.status?.owner ? [[shard.metadata.name, shard.status.owner]] : [])),
    );
  }

  /** Nothing in flight: every shard Active under an owner. */
  settled(): boolean {
    return this.all().every((shard) => shard.status?.phase === 'Active' && shard.status.owner !== undefined);
  }

  summary(): string {
    const counts = new Map<string, number>();
    for (const shard of this.all()) {
      const phase = shard.status?.phase ?? 'no status';
      counts.set(phase, (counts.get(phase) ?? 0) + 1);
    }
    return `${this.shards.size} shards: ${[...counts].map(([phase, count]) => `${count} ${phase}`).join(', ')}`;
  }

  #see(shard: ShardAssignment, now: number): void {
    const name = shard.metadata.name;
    const before = this.shards.get(name)?.status;
    const after = shard.status;
    this.shards.set(name, shard);
    if (
      after?.phase === 'Draining' &&
      shard.metadata.annotations?.[RELEASED_ANNOTATION] === `${after.owner}/${after.epoch}`
    ) {
      if (!this.#released.has(`${name}/${after.epoch}`)) this.#released.set(`${name}/${after.epoch}`, now);
    }
    if (after === undefined || (before?.epoch === after.epoch && before.owner === after.owner)) return;
    this.hops.push({
      shard: name,
      from: before?.owner,
      to: after.owner,
      epoch: after.epoch,
      at: now,
      releasedAt: before && this.#released.get(`${name}/${before.epoch}`),
    });
    this.#judge(name, before?.epoch ?? 0, before?.owner, after.epoch, after.owner);
  }

  #judge(
    name: string,
    epochBefore: number,
    ownerBefore: string | undefined,
    epoch: number,
    owner: string | undefined,
  ): void {
    if (epoch < epochBefore) this.violations.push(`${name}: epoch shrank from ${epochBefore} to ${epoch}`);
    if (owner === undefined) return;
    if (owner !== ownerBefore && epoch <= epochBefore) {
      this.violations.push(`${name}: granted to ${owner} without a larger epoch (${epoch})`);
    }
    const holder = this.#owners.get(`${name}/${epoch}`);
    if (holder !== undefined && holder !== owner) {
      this.violations.push(`${name}: ${holder} and ${owner} both own epoch ${epoch}`);
    }
    this.#owners.set(`${name}/${epoch}`, owner);
  }
}
