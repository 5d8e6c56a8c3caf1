import type { Log } from '@meshkit/crds/log';
import type { Lease } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { leaseName, type MeshNode } from '@meshkit/shards/records';
import { parallel } from './parallel.ts';

export type LivenessReason =
  | 'Always'
  | 'LeaseRenewed'
  | 'LeaseExpired'
  /** The holder gave its Lease back (`holderIdentity: ""`). */
  | 'LeaseReleased'
  | 'NoLease';

export interface Readiness {
  ready: boolean;
  reason: LivenessReason;
  /** Monotonic milliseconds: when the Lease expired, or the judgement changed otherwise. */
  since: number;
}

interface Beat {
  renewTime: string;
  holder: string | undefined;
  durationMs: number;
  /** Monotonic milliseconds of the last change that this process saw. */
  changedAt: number;
  /** It changed, or appeared, while this process was watching; else only its first sight is known. */
  proven: boolean;
  /** At first sight its renewTime lay within its duration, by the wall clock. */
  fresh: boolean;
  /** Judged dead; only a further change makes it count again. */
  expired: boolean;
}

interface Entry {
  /** Absent while only a Lease is known. */
  always?: boolean;
  /** What the MeshNode's status said when this process first saw it. */
  before?: 'ready' | 'notReady';
  beat?: Beat;
  readiness?: Readiness;
}

export interface LivenessOptions {
  clock: Clock;
  log: Log;
  /**
   * Reads a Lease from kube-apiserver before its node is declared dead, so that a watch that lags, or a process
   * that was suspended, kills nobody. Resolves undefined when there is none; rejects when the server cannot say.
   */
  confirm: (key: { namespace: string; name: string }, signal: AbortSignal) => Promise<Lease | undefined>;
  /** The readiness of this node (`namespace/name`) is another one now. */
  onChange: (key: string) => void;
  defaultDurationMs: number;
  /** When no Lease was written for so long, not even the leader's, none can be: etcd is full, say. */
  silenceMs: number;
}

const PREFIX = leaseName('');
const CONFIRM_AT_ONCE = 32;
const RETRY_CONFIRM_MS = 250;
const LONGEST_WAIT_MS = 60_000;
const NOT_SEEN: Readiness = { ready: false, reason: 'NoLease', since: 0 };

/** The key of the node whose heartbeat this Lease is; undefined for every other Lease. */
function nodeOfLease(lease: Lease): string | undefined {
  const { name, namespace } = lease.metadata;
  return name.startsWith(PREFIX) ? `${namespace}/${name.slice(PREFIX.length)}` : undefined;
}

/**
 * Which MeshNodes are alive. Expiry is judged by local monotonic time since a Lease last changed, never by comparing
 * clocks. While kube-apiserver cannot be reached, or stores nothing, nobody can renew, so nobody is declared dead;
 * afterwards every living node has its whole lease duration again. A renewal costs one map update.
 */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly #entries = new Map<string, Entry>();
  /** Nothing is judged before the first list of Leases: without it every node would look dead. */
  #listed = false;
  #connected = true;
  #unsure = false;
  /** Monotonic time of the newest sign that Leases can be written. */
  #heardAt: number;
  /** When the pending wait ends, monotonic; what is due earlier ends it. */
  #plannedAt = Number.POSITIVE_INFINITY;
  #wake: () => void = () => undefined;

  constructor(options: LivenessOptions) {
    this.#options = options;
    this.#heardAt = options.clock.monotonic();
  }

  readiness(key: string): Readiness {
    return this.#entries.get(key)?.readiness ?? NOT_SEEN;
  }

  nodeChanged(node: MeshNode): void {
    const key = `${node.metadata.namespace}/${node.metadata.name}`;
    const entry = this.#entry(key);
    if (entry.always === undefined) entry.before = statusOf(node);
    entry.always = node.spec.liveness === 'Always';
    this.#judge(key, entry);
  }

  nodeDeleted(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    if (entry.beat) this.#entries.set(key, { beat: entry.beat });
    else this.#entries.delete(key);
    this.#options.onChange(key);
  }

  /** A list of all Leases: what is not in it is gone, what is new in it is seen for the first time. */
  leasesReplaced(leases: readonly Lease[]): void {
    // Proof of nothing, but whoever was out of sight until now has its time again.
    this.heard();
    const listed = new Set<string>();
    for (const lease of leases) {
      const key = nodeOfLease(lease);
      if (key === undefined) continue;
      listed.add(key);
      this.#beat(key, lease, false);
    }
    for (const key of this.#entries.keys()) if (!listed.has(key)) this.#silent(key);
    if (this.#listed) return;
    this.#listed = true;
    for (const [key, entry] of this.#entries) if (entry.always !== undefined) this.#judge(key, entry);
  }

  leaseChanged(lease: Lease): void {
    this.heard();
    const key = nodeOfLease(lease);
    if (key !== undefined) this.#beat(key, lease, true);
  }

  leaseDeleted(lease: Lease): void {
    const key = nodeOfLease(lease);
    if (key !== undefined) this.#silent(key);
  }

  /** A Lease was written, whosever it is, as far as can be told. */
  heard(): void {
    if (this.#isSilent) this.#startAnew();
    this.#heardAt = this.#options.clock.monotonic();
  }

  /** Whether the watch of the Leases is open. */
  connection(connected: boolean): void {
    if (connected && !this.#connected) this.#startAnew();
    this.#connected = connected;
  }

  counts(): { ready: number; notReady: number } {
    const counts = { ready: 0, notReady: 0 };
    for (const { readiness } of this.#entries.values()) {
      if (readiness) counts[readiness.ready ? 'ready' : 'notReady'] += 1;
    }
    return counts;
  }

  /** Declares nodes dead on time, until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      const now = clock.monotonic();
      const due: string[] = [];
      this.#plannedAt = now + LONGEST_WAIT_MS;
      for (const [key, entry] of this.#entries) {
        const deadline = deadlineOf(entry);
        if (deadline <= now) due.push(key);
        else this.#plannedAt = Math.min(this.#plannedAt, deadline);
      }
      if (due.length > 0 && this.#isSilent) this.#doubt(due[0]!, new Error('no Lease is written any more'));
      else if (due.length > 0 && this.#connected) await this.#expire(due, signal);
      // Not connected, or nobody can say: they stay due.
      if (due.some((key) => deadlineOf(this.#entries.get(key)) <= now))
        this.#plannedAt = now + RETRY_CONFIRM_MS;
      else if (due.length > 0) continue;
      await this.#wait(this.#plannedAt - clock.monotonic(), signal);
    }
  }

  async #expire(due: readonly string[], signal: AbortSignal): Promise<void> {
    const { confirm } = this.#options;
    await parallel(due, CONFIRM_AT_ONCE, signal, async (key) => {
      const slash = key.indexOf('/');
      const name = leaseName(key.slice(slash + 1));
      try {
        const lease = await confirm({ namespace: key.slice(0, slash), name }, signal);
        const entry = this.#entries.get(key);
        if (lease) this.#beat(key, lease, true);
        else this.#silent(key);
        if (this.#unsure) this.#startAnew();
        else if (entry?.beat && deadlineOf(entry) <= this.#options.clock.monotonic()) {
          entry.beat.expired = true;
          this.#judge(key, entry);
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#doubt(key, error);
      }
    });
  }

  #doubt(key: string, error: unknown): void {
    const { log } = this.#options;
    if (!this.#unsure) log.warn({ node: key, err: error }, 'cannot tell whether a node is dead, waiting');
    this.#unsure = true;
  }

  get #isSilent(): boolean {
    const { clock, silenceMs } = this.#options;
    return clock.monotonic() - this.#heardAt > silenceMs;
  }

  /** After an outage: nobody could renew, so everybody alive before has the whole duration again. */
  #startAnew(): void {
    this.#unsure = false;
    const now = this.#options.clock.monotonic();
    for (const { beat } of this.#entries.values()) if (beat && !beat.expired) beat.changedAt = now;
  }

  #beat(key: string, lease: Lease, live: boolean): void {
    const entry = this.#entry(key);
    const { renewTime = '', holderIdentity: holder, leaseDurationSeconds } = lease.spec ?? {};
    const { beat } = entry;
    const { clock, defaultDurationMs } = this.#options;
    const durationMs = leaseDurationSeconds ? leaseDurationSeconds * 1000 : defaultDurationMs;
    if (beat && beat.renewTime === renewTime && beat.holder === holder) {
      beat.durationMs = durationMs;
    } else {
      const fresh = beat !== undefined || clock.now() - Date.parse(renewTime) <= durationMs;
      const proven = live || beat !== undefined;
      entry.beat = {
        renewTime,
        holder,
        durationMs,
        changedAt: clock.monotonic(),
        proven,
        fresh,
        expired: false,
      };
    }
    if (entry.always !== undefined) this.#judge(key, entry);
  }

  #silent(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry?.beat) return;
    entry.beat = undefined;
    if (entry.always === undefined) this.#entries.delete(key);
    else this.#judge(key, entry);
  }

  #entry(key: string): Entry {
    const known = this.#entries.get(key);
    if (known) return known;
    const entry: Entry = {};
    this.#entries.set(key, entry);
    return entry;
  }

  #judge(key: string, entry: Entry): void {
    if (!this.#listed) return;
    const now = this.#options.clock.monotonic();
    const reason = this.#reasonOf(entry, now);
    const ready = reason === 'Always' || reason === 'LeaseRenewed';
    const { beat } = entry;
    if (reason === 'LeaseRenewed' && beat && beat.changedAt + beat.durationMs < this.#plannedAt) this.#wake();
    if (entry.readiness?.ready === ready && entry.readiness.reason === reason) return;
    const since = reason === 'LeaseExpired' && beat ? Math.min(now, beat.changedAt + beat.durationMs) : now;
    entry.readiness = { ready, reason, since };
    this.#options.onChange(key);
  }

  #reasonOf(entry: Entry, now: number): LivenessReason {
    const { beat } = entry;
    if (entry.always) return 'Always';
    if (!beat) return 'NoLease';
    if (beat.holder === '') return 'LeaseReleased';
    if (!beat.proven && !beat.expired) {
      // First sight: a node that was dead stays so until its Lease changes; an unknown one is taken by its word.
      beat.expired = entry.before === 'notReady' || (entry.before === undefined && !beat.fresh);
    }
    // A Lease that ran out before its MeshNode existed; where the node is known, only #expire may judge it.
    if (entry.readiness === undefined && now >= beat.changedAt + beat.durationMs) beat.expired = true;
    return beat.expired ? 'LeaseExpired' : 'LeaseRenewed';
  }

  async #wait(ms: number, signal: AbortSignal): Promise<void> {
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

/** When a node that counts as alive is due to be declared dead, monotonic. */
function deadlineOf(entry: Entry | undefined): number {
  if (!entry?.readiness?.ready || entry.always || !entry.beat) return Number.POSITIVE_INFINITY;
  return entry.beat.changedAt + entry.beat.durationMs;
}

function statusOf(node: MeshNode): 'ready' | 'notReady' | undefined {
  const ready = node.status?.conditions?.find(({ type }) => type === 'Ready');
  if (!ready) return undefined;
  return ready.status === 'True' ? 'ready' : 'notReady';
}
