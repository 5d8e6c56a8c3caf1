import { request } from 'node:https';
import { text } from 'node:stream/consumers';
import { systemClock } from '@meshkit/crds/clock';
import { installManifests } from '@meshkit/crds/install';
import { SHARD_JOURNAL_HEADS, SHARD_JOURNAL_SEGMENTS } from '@meshkit/crds/journal-objects';
import { JournalStore } from '@meshkit/crds/journal-store';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { silentLog } from '@meshkit/crds/log';
import type { JournalEntry } from '@meshkit/shards/journal';
import { entryOf, JournalFold } from '@meshkit/shards/journal-fold';
import { API_VERSION, type ShardAssignment, type ShardAssignmentStatus } from '@meshkit/shards/records';
import { appendTransition, operatorActor } from '@meshkit/shards/transition';
import type { EtcdAccess } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { type Benchmark, distribution, machine, type Row, round } from './report.ts';
import { SeededRandom } from './seeded-random.ts';

const SHARDS = 1_000;
const NODES = 20;
/** By changes in a batch: how many are written. A batch is what a second brings, 256 changes at most. */
const FULL = new Map([
  [256, 10_240],
  [100, 6_000],
  [10, 3_000],
  [2, 1_600],
]);
const QUICK = new Map([
  [256, 1_024],
  [10, 200],
]);
const WEEK_S = 7 * 86_400;
/** `--journal-size`, by default. */
const DEFAULT_BYTES = 64 << 20;

type Kind = 'moves' | 'edits';
const KINDS: Record<Kind, string> = {
  moves: 'planned moves',
  edits: 'pins with a ticket and a reason each, and the moves that they cause',
};

/** What the journal costs in etcd, and how fast one writer is that never pauses: its store alone, on a control plane of its own. */
export const benchmarkJournal: Benchmark = async ({ progress, quick, seed }) => {
  const signal = AbortSignal.timeout(900_000);
  const plane = await startControlPlane({ kind: 'real', env: process.env, log: progress, signal });
  const kube = kubeFromString(await plane.kubeconfig('admin'));
  try {
    await installManifests(kube, { signal, log: silentLog });
    const measured: Measured[] = [];
    for (const kind of Object.keys(KINDS) as Kind[]) {
      for (const [batch, changes] of quick ? QUICK : FULL) {
        const one = await measure({ kube, etcd: plane.etcd!, kind, batch, changes, seed, signal });
        measured.push(one);
        const { bytesAtRest, bytesWritten, writesPer1000, changesPerSecond } = one.columns;
        progress(
          `${kind}, ${batch} in a batch: ${bytesAtRest} bytes a change at rest, ${bytesWritten} written, ${writesPer1000} writes per 1,000, ${changesPerSecond} changes/s`,
        );
      }
    }
    const of = (kind: Kind, batch: number) =>
      measured.find((one) => one.kind === kind && one.batch === batch)!.columns;
    const [moves, edits] = [of('moves', 10), of('edits', 10)];
    const figures = {
      etcdBytesPerChange: edits.bytesAtRest,
      etcdBytesPerChangeOfMoves: moves.bytesAtRest,
      etcdBytesPer1000Changes: edits.bytesWritten * 1_000,
      etcdWritesPer1000Changes: edits.writesPer1000,
      changesPerSecond: of('edits', 256).changesPerSecond,
      changesPerSecondInSmallBatches: edits.changesPerSecond,
      /** Changes a second, on average, of which 7 days fit into the default of `--journal-size`. */
      weekHoldsChangesPerSecond: round(DEFAULT_BYTES / WEEK_S / edits.bytesCounted),
      weekHoldsMovesPerSecond: round(DEFAULT_BYTES / WEEK_S / moves.bytesCounted),
    };
    const ok = Math.max(...measured.map(({ columns }) => columns.bytesAtRest)) <= 200;
    return { bench: 'journal', ok, machine: machine(), figures, rows: measured.map(rowOf) };
  } finally {
    await kube.close();
    await plane.stop();
  }
};

interface Case {
  kube: KubeClient;
  etcd: EtcdAccess;
  kind: Kind;
  batch: number;
  changes: number;
  seed: number;
  signal: AbortSignal;
}

interface Measured {
  kind: Kind;
  batch: number;
  appendMs: number[];
  columns: {
    /** What its objects have grown by, as etcd keeps them (JSON), a change. */
    bytesAtRest: number;
    /** The same as retention counts it. */
    bytesCounted: number;
    /** By etcd's own counters; a few writes are kube-apiserver's. */
    bytesWritten: number;
    writesPer1000: number;
    changesPerSecond: number;
  };
}

/** A journal of its own, from the first change to the last. */
async function measure({ kube, etcd, kind, batch, changes, seed, signal }: Case): Promise<Measured> {
  const name = `bench-${kind}-${batch}`;
  const world = new World(seed);
  const store = await JournalStore.takeOver(
    {
      client: kube,
      name,
      cluster: 'bench',
      retention: { ms: WEEK_S * 1_000, bytes: DEFAULT_BYTES },
      clock: systemClock,
      log: silentLog,
    },
    {
      list: async () => ({ items: [...world.shards], resourceVersion: world.position }),
      renews: () => false,
      highestEpoch: 0,
    },
    signal,
  );
  const before = { stored: await storedBytes(kube, name), ...(await countersOf(etcd)) };
  const appendMs: number[] = [];
  let spentMs = 0;
  for (let left = changes; left > 0; left -= batch) {
    const entries = Array.from({ length: Math.min(batch, left) }, () => world.change(kind));
    const began = performance.now();
    await store.append(entries, {}, signal);
    appendMs.push(performance.now() - began);
    await store.maintain(signal);
    spentMs += performance.now() - began;
  }
  const after = { stored: await storedBytes(kube, name), ...(await countersOf(etcd)) };
  const columns = {
    bytesAtRest: Math.round((after.stored - before.stored) / changes),
    bytesCounted: Math.round(store.spec.bytes / changes),
    bytesWritten: Math.round((after.bytes - before.bytes) / changes),
    writesPer1000: Math.round(((after.writes - before.writes) * 1_000) / changes),
    changesPerSecond: Math.round((changes * 1_000) / spentMs),
  };
  return { kind, batch, appendMs, columns };
}

function rowOf({ kind, batch, appendMs, columns }: Measured): Row {
  return {
    subject: `${batch} changes in a batch`,
    case: KINDS[kind],
    unit: 'ms an append',
    ...distribution(appendMs),
    ...columns,
  };
}

async function storedBytes(kube: KubeClient, name: string): Promise<number> {
  const { items: segments } = await kube.listAll(SHARD_JOURNAL_SEGMENTS, {});
  const { items: heads } = await kube.listAll(SHARD_JOURNAL_HEADS, {});
  const ours = [...segments, ...heads].filter(({ metadata }) => `${metadata.name}.`.startsWith(`${name}.`));
  return ours.reduce((sum, object) => sum + JSON.stringify(object).length, 0);
}

/** What etcd says of itself: keys put and deleted, and the bytes of what was put. */
async function countersOf({ url, ca, cert, key }: EtcdAccess): Promise<{ writes: number; bytes: number }> {
  const answer = Promise.withResolvers<string>();
  const call = request(new URL('/metrics', url), { ca, cert, key }, (response) => {
    text(response).then(answer.resolve, answer.reject);
  });
  call.on('error', answer.reject);
  call.end();
  const metrics = await answer.promise;
  const of = (metric: string) => {
    const value = new RegExp(`^${metric} (\\S+)$`, 'm').exec(metrics)?.[1];
    if (value === undefined) throw new Error(`etcd does not tell ${metric}`);
    return Number(value);
  };
  return {
    writes: of('etcd_mvcc_put_total') + of('etcd_mvcc_delete_total'),
    bytes: of('etcd_debugging_mvcc_total_put_size_in_bytes'),
  };
}

/** Shards that move about, as a watch of them would tell it. */
class World {
  readonly #random: SeededRandom;
  readonly #records: ShardAssignment[];
  readonly #fold: JournalFold;
  #position = 100_000;
  #now = Date.parse('2026-11-23T12:00:00Z');
  /** What the change before has begun. */
  #begun: ShardAssignment | undefined;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#records = Array.from({ length: SHARDS }, (_, at) => this.#owned(at));
    this.#fold = JournalFold.listed(this.#records, this.position);
  }

  get position(): string {
    return String(this.#position);
  }

  get shards(): readonly ShardAssignment[] {
    return this.#records;
  }

  /** The next one: a move is begun by one, and ended by the next. */
  change(kind: Kind): JournalEntry {
    const before = this.#begun ?? this.#records[this.#random.below(SHARDS)]!;
    const isEnd = this.#begun !== undefined;
    this.#position += 2 + this.#random.below(8);
    this.#now += 20 + this.#random.below(400);
    const after = isEnd
      ? this.#granted(before, kind)
      : kind === 'edits'
        ? this.#pinned(before)
        : this.#drained(before);
    const resourceVersion = this.position;
    const record = { ...after, metadata: { ...after.metadata, resourceVersion } };
    this.#records[Number(record.spec.shardId)] = record;
    this.#begun = isEnd ? undefined : record;
    const [change] = this.#fold.changesTo(record, false);
    const entry = entryOf(change!, new Date(this.#now).toISOString());
    this.#fold.apply(entry);
    return entry;
  }

  #pinned(shard: ShardAssignment): ShardAssignment {
    const anything = () => this.#random.below(2 ** 32).toString(36);
    const spec = {
      ...shard.spec,
      owner: { pinned: this.#anotherThan(shard.status?.owner) },
      changeTicket: `CHG-${this.#random.below(100_000)}`,
      reason: `asked for by ${anything()} after ${anything()}`,
    };
    const generation = (shard.metadata.generation ?? 0) + 1;
    return { ...shard, metadata: { ...shard.metadata, generation }, spec };
  }

  #drained(shard: ShardAssignment): ShardAssignment {
    const status = shard.status!;
    const to = this.#anotherThan(status.owner);
    const startedAt = new Date(this.#now).toISOString();
    const move = { to, startedAt, deadline: new Date(this.#now + 30_000).toISOString() };
    return this.#hop(
      shard,
      { ...status, phase: 'Draining', move },
      to,
      'Rebalance',
      `${to} is below its share`,
    );
  }

  #granted(shard: ShardAssignment, kind: Kind): ShardAssignment {
    const { move, ...status } = shard.status!;
    const owner = move?.to ?? shard.spec.owner?.pinned ?? '';
    const next: ShardAssignmentStatus = {
      ...status,
      phase: 'Active',
      owner,
      ownerEndpoint: endpointOf(owner),
      previousOwner: status.owner,
      epoch: Math.max(status.epoch + 1, Math.floor(this.#now / 1_000)),
      observedGeneration: shard.metadata.generation,
    };
    const released = `${status.owner} released it`;
    return kind === 'edits'
      ? this.#hop(shard, next, owner, 'Pin', shard.spec.reason ?? '', shard.spec.changeTicket)
      : this.#hop(shard, next, owner, 'Released', released);
  }

  #hop(
    shard: ShardAssignment,
    next: ShardAssignmentStatus,
    to: string,
    cause: string,
    reason: string,
    changeTicket?: string,
  ): ShardAssignment {
    const version = next.version + 1;
    const { phase, epoch } = next;
    const from = shard.status?.owner;
    const at = new Date(this.#now).toISOString();
    const actor = operatorActor(cause);
    const hop = { version, from, to, phase, epoch, actor, reason, changeTicket, at };
    const recentTransitions = appendTransition(shard.status?.recentTransitions, hop);
    return { ...shard, status: { ...next, version, recentTransitions } };
  }

  #owned(at: number): ShardAssignment {
    const shardId = String(at).padStart(4, '0');
    const owner = `node-${at % NODES}`;
    const hex = (digits: number) =>
      Array.from({ length: digits }, () => this.#random.below(16).toString(16)).join('');
    return {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: {
        namespace: 'default',
        name: `bench.${shardId}`,
        uid: `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}`,
        generation: 1,
      },
      spec: { shardSet: 'bench', shardId },
      status: {
        observedGeneration: 1,
        phase: 'Active',
        owner,
        ownerEndpoint: endpointOf(owner),
        epoch: Math.floor(this.#now / 1_000),
        version: 1,
      },
    };
  }

  #anotherThan(owner: string | undefined): string {
    const other = `node-${this.#random.below(NODES)}`;
    return other === owner ? this.#anotherThan(owner) : other;
  }
}

function endpointOf(node: string): string {
  return `https://${node}.workers.bench.svc:8443`;
}
