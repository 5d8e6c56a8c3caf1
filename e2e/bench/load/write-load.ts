import { type ClientHttp2Session, connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { API_VERSION } from '@meshkit/shards/records';
import { machineMicros } from './raw-http2.ts';

export interface WriteLoad {
  /** kube-apiserver's origin. */
  url: string;
  ca: string;
  /** Of whoever may write status. */
  token: string;
  /** Shards to write in turn: how their statuses go on is told by what was written last. */
  shards: ShardState[];
  /** Node names to move shards to, in turn; a shard moves to the one after its own. */
  nodes: string[];
  perSecond: number;
  forMs: number;
}

export interface ShardState {
  namespace: string;
  name: string;
  /** Index into `nodes`. */
  owner: number;
  version: number;
  epoch: number;
  /** Of the newest write. */
  resourceVersion: string;
}

export interface WriteResult {
  /** Position of each change, and the machine's microseconds at which its writer had the answer. */
  written: [position: number, at: number][];
  /** Milliseconds that each write took. */
  ms: number[];
  /** Where the shards stand now. */
  shards: ShardState[];
}

const MOST_IN_FLIGHT = 200;

/** Moves shards at a steady pace: one after another is given to the next node, as the operator would. */
export async function runWrites(load: WriteLoad): Promise<WriteResult> {
  const session = connect(load.url, { ca: load.ca });
  const failed = Promise.withResolvers<never>();
  session.on('error', failed.reject);
  const result: WriteResult = { written: [], ms: [], shards: load.shards };
  const flying = new Set<Promise<void>>();
  const started = performance.now();
  try {
    for (let at = 0; performance.now() - started < load.forMs; at++) {
      const wait = started + (at * 1_000) / load.perSecond - performance.now();
      if (wait > 0) await sleep(wait);
      if (flying.size >= MOST_IN_FLIGHT) await Promise.race(flying);
      const shard = load.shards[at % load.shards.length]!;
      const write = move(session, load, shard, result).catch(failed.reject);
      flying.add(write);
      void write.finally(() => flying.delete(write));
    }
    await Promise.race([Promise.all(flying), failed.promise]);
  } finally {
    session.destroy();
  }
  return result;
}

async function move(
  session: ClientHttp2Session,
  { token, nodes }: WriteLoad,
  shard: ShardState,
  result: WriteResult,
): Promise<void> {
  const previous = shard.owner;
  shard.owner = (previous + 1) % nodes.length;
  shard.version += 1;
  shard.epoch += 1;
  const status = statusOf(nodes, shard, previous);
  const started = performance.now();
  const answer = await put(session, token, shard, status);
  const at = machineMicros();
  result.ms.push(performance.now() - started);
  const found = /"resourceVersion":"(\d+)"/.exec(answer);
  if (!found) throw new Error(`a write was refused: ${answer.slice(0, 500)}`);
  shard.resourceVersion = found[1]!;
  result.written.push([Number(found[1]), at]);
}

/** As the operator writes it. */
export function statusOf(nodes: readonly string[], { owner, version, epoch }: ShardState, previous?: number) {
  const at = '2026-11-23T12:00:00Z';
  const node = nodes[owner]!;
  const from = previous === undefined ? undefined : nodes[previous];
  const actor = { kind: 'Operator', name: 'meshkit-operator' };
  const reason = 'rebalance: the plan wants it there';
  return {
    observedGeneration: 1,
    phase: 'Active',
    owner: node,
    ownerEndpoint: `https://${node}.workers.bench.svc:8443`,
    ...(from === undefined ? {} : { previousOwner: from }),
    epoch,
    version,
    effective: { strategy: 'Rendezvous', capacity: 1 },
    recentTransitions: [
      { version, ...(from === undefined ? {} : { from }), to: node, phase: 'Active', actor, reason, at },
    ],
    conditions: [
      { type: 'Ready', status: 'True', reason: 'Owned', message: `owned by ${node}`, lastTransitionTime: at },
      { type: 'Reconciling', status: 'False', reason: 'Settled', message: '', lastTransitionTime: at },
      { type: 'Stalled', status: 'False', reason: 'Settled', message: '', lastTransitionTime: at },
    ],
  };
}

/** As the operator does: against the version that it knows. */
function put(session: ClientHttp2Session, token: string, shard: ShardState, status: object): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const { namespace, name, resourceVersion } = shard;
  const stream = session.request({
    ':method': 'PUT',
    ':path': `/apis/meshkit.omnirelay.io/v1alpha1/namespaces/${namespace}/shardassignments/${name}/status`,
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
  });
  let answer = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    answer += chunk;
  });
  stream.on('error', reject);
  stream.on('end', () => resolve(answer));
  const spec = specOf(name);
  const metadata = { namespace, name, resourceVersion };
  stream.end(JSON.stringify({ apiVersion: API_VERSION, kind: 'ShardAssignment', metadata, spec, status }));
  return promise;
}

export const BENCH_SET = 'bench';

/** The spec of the shard of that name. */
export function specOf(name: string) {
  const shardId = name.slice(BENCH_SET.length + 1);
  return {
    shardSet: BENCH_SET,
    shardId,
    capacity: 1,
    locality: { region: 'eu-central', zone: 'eu-central-1a' },
  };
}
