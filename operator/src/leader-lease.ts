import type { KubeClient } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { LEASES, type Lease } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { VERSION_ANNOTATION } from '@meshkit/shards/records';
import { microTime } from './micro-time.ts';

export interface LeaderLeaseOptions {
  client: Pick<KubeClient, 'get' | 'create' | 'update'>;
  namespace: string;
  name: string;
  /** Unique to this process. */
  identity: string;
  /** Written on the Lease, so that people see what leads. */
  version?: string;
  /** Whole seconds. A standby takes over this long after it last saw the Lease change. */
  durationMs: number;
  /** How often the leader renews and a standby looks. Default: a fifth of the duration, at most 2 s. */
  retryMs?: number;
  clock: Clock;
  random: () => number;
  log: Log;
  onChange?: (leading: boolean) => void;
  /** This process has just written the Lease. */
  onHold?: () => void;
}

/** How often a leader renews, unless it is told otherwise. */
export function renewEveryMs(durationMs: number): number {
  return Math.min(durationMs / 5, 2000);
}

interface Sight {
  lease: Lease;
  /** Monotonic milliseconds at which it was first seen like this. */
  at: number;
}

/**
 * Leadership by one coordination.k8s.io Lease, as client-go does it: the holder renews; it stops leading when it could
 * not renew for two thirds of the duration, so that it has stopped before anybody else may begin; expiry is judged by the
 * local monotonic clock since the Lease last changed.
 */
export class LeaderLease {
  readonly #options: LeaderLeaseOptions;
  readonly #retryMs: number;
  #seen: Sight | undefined;
  /** Monotonic milliseconds until which this process may act as leader. */
  #until = Number.NEGATIVE_INFINITY;
  #wake: () => void = () => undefined;

  constructor(options: LeaderLeaseOptions) {
    this.#options = options;
    this.#retryMs = options.retryMs ?? renewEveryMs(options.durationMs);
  }

  /** Asked before every write: also true to the clock after the process was suspended. */
  leads(): boolean {
    return this.#options.clock.monotonic() < this.#until;
  }

  /** Who held the Lease when this process last saw it. */
  get holder(): string | undefined {
    return this.#seen?.lease.spec?.holderIdentity || undefined;
  }

  /** What a watch tells of the Lease; lets a standby begin at once when the leader gives up. */
  observe(lease: Lease): void {
    const { namespace, name } = this.#options;
    if (lease.metadata.name !== name || lease.metadata.namespace !== namespace || this.leads()) return;
    this.#see(lease);
    if (isFree(lease)) this.#wake();
  }

  /**
   * Takes part until aborted. `lead` runs while this process leads; its signal aborts as soon as leadership is lost or the
   * process should stop, and it resolves when nothing of it is under way any more. Only then is the Lease given back.
   * Rejects when `lead` does.
   */
  async run(signal: AbortSignal, lead: (term: AbortSignal) => Promise<void>): Promise<void> {
    const { log, identity, onChange } = this.#options;
    onChange?.(false);
    while (!signal.aborted) {
      if (!(await this.#acquire(signal))) continue;
      log.info({ identity }, 'leading');
      onChange?.(true);
      const term = new AbortController();
      const stop = () => term.abort(signal.reason);
      signal.addEventListener('abort', stop, { once: true });
      if (signal.aborted) stop();
      try {
        const work = lead(term.signal).finally(() => term.abort());
        await Promise.all([work, this.#renew(term)]);
      } finally {
        term.abort();
        signal.removeEventListener('abort', stop);
        onChange?.(false);
        await this.#release();
      }
    }
  }

  /** One try; waits before it returns false. */
  async #acquire(signal: AbortSignal): Promise<boolean> {
    try {
      if (await this.#tryOnce(signal)) return true;
    } catch (error) {
      if (signal.aborted) return false;
      const level = error instanceof ShardError && error.code === 'conflict' ? 'debug' : 'warn';
      this.#options.log[level]({ err: error }, 'leader lease not acquired');
    }
    await this.#pause(this.#waitMs(), signal);
    return false;
  }

  async #tryOnce(signal: AbortSignal): Promise<boolean> {
    const { client, clock, identity } = this.#options;
    const lease = await this.#read(signal);
    const started = clock.monotonic();
    const call = { signal, timeoutMs: this.#retryMs };
    if (!lease) {
      this.#hold(await client.create(LEASES, this.#record(undefined), call), started);
      return true;
    }
    this.#see(lease);
    if (!isFree(lease) && lease.spec?.holderIdentity !== identity && started < this.#expiresAt())
      return false;
    this.#hold(await client.update(LEASES, this.#record(lease), call), started);
    return true;
  }

  /** Renews until the term ends; ends it when the Lease is lost. */
  async #renew(term: AbortController): Promise<void> {
    const { client, clock, log, identity } = this.#options;
    while (!term.signal.aborted) {
      await this.#pause(Math.min(this.#retryMs, this.#until - clock.monotonic()), term.signal);
      if (term.signal.aborted) return;
      const started = clock.monotonic();
      const leftMs = this.#until - started;
      if (leftMs <= 0) {
        log.error({ identity }, 'leadership lost: the lease could not be renewed in time');
        term.abort();
        return;
      }
      try {
        const lease = (this.#seen as Sight).lease;
        const call = { signal: term.signal, timeoutMs: Math.min(leftMs, this.#retryMs * 2) };
        this.#hold(await client.update(LEASES, this.#record(lease), call), started);
      } catch (error) {
        if (term.signal.aborted) return;
        log.warn({ err: error }, 'leader lease not renewed');
        if (error instanceof ShardError && (error.code === 'conflict' || error.code === 'notFound')) {
          await this.#lookAgain(term);
        }
      }
    }
  }

  /** A conflict: perhaps our own write whose answer was lost, perhaps somebody else leads. */
  async #lookAgain(term: AbortController): Promise<void> {
    const { identity, log } = this.#options;
    try {
      const lease = await this.#read(term.signal);
      if (lease) this.#see(lease);
      if (lease?.spec?.holderIdentity === identity) return;
      log.error(
        { identity, holder: lease?.spec?.holderIdentity },
        'leadership lost: another holds the lease',
      );
      this.#until = Number.NEGATIVE_INFINITY;
      term.abort();
    } catch (error) {
      if (!term.signal.aborted) this.#options.log.warn({ err: error }, 'leader lease not read');
    }
  }

  /** So that a standby need not wait for the expiry; best effort, the Lease expires anyway. */
  async #release(): Promise<void> {
    const held = this.leads();
    this.#until = Number.NEGATIVE_INFINITY;
    const lease = this.#seen?.lease;
    if (!held || !lease) return;
    const { client, clock, log, identity } = this.#options;
    const { holderIdentity: _, ...spec } = { ...lease.spec, leaseDurationSeconds: 1 };
    try {
      const freed = { ...lease, spec: { ...spec, renewTime: microTime(clock.now()) } };
      this.#see(await client.update(LEASES, freed, { timeoutMs: this.#retryMs }));
      log.info({ identity }, 'leadership released');
    } catch (error) {
      log.warn({ err: error }, 'leader lease not released, it will expire');
    }
  }

  async #read(signal: AbortSignal): Promise<Lease | undefined> {
    const { client, namespace, name } = this.#options;
    try {
      return await client.get(LEASES, { namespace, name }, { signal, timeoutMs: this.#retryMs });
    } catch (error) {
      if (error instanceof ShardError && error.code === 'notFound') return undefined;
      throw error;
    }
  }

  #record(previous: Lease | undefined): Lease {
    const { namespace, name, identity, version, durationMs, clock } = this.#options;
    const annotations = { ...previous?.metadata.annotations };
    if (version !== undefined) annotations[VERSION_ANNOTATION] = version;
    const now = microTime(clock.now());
    const mine = previous?.spec?.holderIdentity === identity;
    const transitions = previous?.spec?.leaseTransitions ?? 0;
    return {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: previous
        ? { ...previous.metadata, annotations, managedFields: undefined }
        : { namespace, name, annotations },
      spec: {
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(durationMs / 1000),
        acquireTime: mine ? previous?.spec?.acquireTime : now,
        renewTime: now,
        leaseTransitions: previous && !mine ? transitions + 1 : transitions,
      },
    };
  }

  #hold(lease: Lease, requestedAt: number): void {
    this.#see(lease);
    // Counted from before the request: the server cannot have stored it earlier than that.
    this.#until = requestedAt + (this.#options.durationMs * 2) / 3;
    this.#options.onHold?.();
  }

  #see(lease: Lease): void {
    const known = this.#seen?.lease;
    const same =
      known?.spec?.renewTime === lease.spec?.renewTime &&
      known?.spec?.holderIdentity === lease.spec?.holderIdentity;
    const at = same && this.#seen ? this.#seen.at : this.#options.clock.monotonic();
    this.#seen = { lease, at };
  }

  #expiresAt(): number {
    if (!this.#seen) return Number.NEGATIVE_INFINITY;
    const seconds = this.#seen.lease.spec?.leaseDurationSeconds;
    return this.#seen.at + (seconds ? seconds * 1000 : this.#options.durationMs);
  }

  /** Until the next look: with jitter against standbys in step, and not past the expiry. */
  #waitMs(): number {
    const { clock, random } = this.#options;
    const untilExpiry = this.#expiresAt() - clock.monotonic();
    const wait = this.#retryMs * (1 + random() * 0.2);
    return untilExpiry > 0 ? Math.min(wait, untilExpiry + 1) : wait;
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    try {
      await this.#options.clock.sleep(ms, AbortSignal.any([signal, woken.signal]));
    } catch (error) {
      // Being woken is the ordinary end of this wait.
      if (!signal.aborted && !woken.signal.aborted) throw error;
    } finally {
      this.#wake = () => undefined;
    }
  }
}

function isFree(lease: Lease): boolean {
  return !lease.spec?.holderIdentity;
}
