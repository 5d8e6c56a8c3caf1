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
  /** Writes that kube-apiserver had no time for (429). */
  refused: number;
  /** Where the shards stand now. */
  shards: ShardState[];
}

const MOST_IN_FLIGHT = 200;

/** Moves shards at a steady pace: one after another is given to the next node, as the operator would. */
export async function runWrites(load: WriteLoad): Promise<WriteResult> {
  const session = connect(load.url, { ca: load.ca });
  const failed = Promise.withResolvers<never>();
  session.on('error', failed.reject);
  const result: WriteResult = { written: [], ms: [], refused: 0, shards: load.shards };
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
  const next = {
    ...shard,
    owner: (shard.owner + 1) % nodes.length,
    version: shard.version + 1,
    epoch: shard.epoch + 1,
  };
  const started = performance.now();
  const { status, text } = await put(session, token, shard, statusOf(nodes, next, shard.owner));
  const at = machineMicros();
  if (status === 429) {
    result.refused += 1;
    return;
  }
  result.ms.push(performance.now() - started);
  const resourceVersion = /"resourceVersion":"(\d+)"/.exec(text)?.[1];
  if (status !== 200 || resourceVersion === undefined) {
    throw new Error(`a write was refused: ${status} ${text.slice(0, 500)}`);
  }
  Object.assign(shard, next, { resourceVersion });
  result.written.push([Number(resourceVersion), at]);
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
function put(
  session: ClientHttp2Session,
  token: string,
  shard: ShardState,
  status: object,
): Promise<{ status: number; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const { namespace, name, resourceVersion } = shard;
  const stream = session.request({
    ':method': 'PUT',
    ':path': `/apis/meshkit.omnirelay.io/v1alpha1/namespaces/${namespace}/shardassignments/${name}/status`,
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
  });
  let text = '';
  let answered = 0;
  stream.on('response', (headers) => {
    answered = Number(headers[':status']);
  });
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    text += chunk;
  });
  stream.on('error', reject);
  stream.on('end', () => resolve({ status: answered, text }));
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
