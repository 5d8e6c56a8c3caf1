import { setTimeout as sleep } from 'node:timers/promises';
import { ShardClient } from '@meshkit/client/shard-client';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { judged } from '@meshkit/shards/judged-node';
import { API_VERSION, assignmentName } from '@meshkit/shards/records';
import {
  type MeshState,
  type SimulatedChange,
  type SimulationRequest,
  simulate,
} from '@meshkit/shards/simulate';
import { type BenchProduct, NODES, withBenchProduct } from './bench-product.ts';
import { BENCH_SET } from './load/write-load.ts';
import { type Benchmark, distribution, machine, type Row } from './report.ts';

const NAMESPACE = 'bench-simulate';
const WARM_UPS = 3;

/** Simulations of a set of 10,000 shards on 200 nodes: through the API, and the same work in this process. */
export const benchmarkSimulate: Benchmark = ({ progress, quick }) =>
  withBenchProduct(progress, async (product) => {
    const [shards, rounds] = quick ? [1_000, 3] : [10_000, 15];
    progress(`writing ${shards} shards and ${NODES.length} nodes`);
    await product.shards(NAMESPACE, shards);
    await product.mesh(NAMESPACE, shards);
    const clients = clientsOf(product);
    try {
      await served(clients.rest, shards);
      const rows = await measured(clients, await stateOf(product), rounds, shards, progress);
      const slowest = (subject: string) =>
        Math.max(
          ...rows.filter((row) => row.subject === subject && row.case !== EXPLAIN).map(({ p50 }) => p50),
        );
      const figures = {
        simulateMs: slowest('meshkit'),
        simulateMsGrpc: slowest('meshkit-grpc'),
        planMs: slowest('in process'),
        explainMs: rows.find((row) => row.subject === 'meshkit' && row.case === EXPLAIN)!.p50,
      };
      const ok = figures.simulateMs <= 300 && figures.planMs <= 150;
      return { bench: 'simulate', ok, machine: machine(), figures, rows };
    } finally {
      await Promise.all([clients.rest.close(), clients.grpc.close()]);
    }
  });

const EXPLAIN = 'explain one shard';

interface Clients {
  rest: ShardClient;
  grpc: ShardClient;
}

function clientsOf({ meshkit, grpc }: BenchProduct): Clients {
  const { ca, headers } = meshkit;
  const token = headers.authorization?.replace('Bearer ', '') ?? '';
  return {
    rest: new ShardClient({ server: meshkit.url, token, ca }),
    grpc: new ShardClient({ server: grpc.url, transport: 'grpc', token, ca }),
  };
}

/** Until the API server has the set and all nodes: then nothing is left to do, since the shards are spread evenly. */
async function served(client: ShardClient, shards: number): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const { totals, sets } = await client.simulate({ namespace: NAMESPACE });
    const nodes = sets[0]?.balance.after.nodes.filter(({ standing }) => standing === 'eligible').length;
    if (totals.shards === shards && totals.moves === 0 && nodes === NODES.length) return;
    if (performance.now() > deadline)
      throw new Error(`the API server has ${nodes} nodes, ${totals.moves} moves`);
    await sleep(100);
  }
}

async function stateOf({ product: { kube } }: BenchProduct): Promise<MeshState> {
  const within = { namespace: NAMESPACE };
  const [sets, shards, nodes] = await Promise.all([
    kube.listAll(SHARD_SETS, within),
    kube.listAll(SHARD_ASSIGNMENTS, within),
    kube.listAll(MESH_NODES, within),
  ]);
  const basis = { position: shards.resourceVersion };
  return { sets: sets.items, shards: shards.items, nodes: nodes.items.map(judged), basis };
}

function casesOf(shards: number): Record<string, Pick<SimulationRequest, 'changes' | 'manifests'>> {
  const zone = NODES.filter((_, at) => at % 3 === 0);
  const added = Array.from({ length: 20 }, (_, at): SimulatedChange => {
    return { type: 'add', node: `new-${at}`, zone: 'zone-0' };
  });
  const other = {
    apiVersion: API_VERSION,
    kind: 'ShardSet' as const,
    metadata: { namespace: NAMESPACE, name: 'other' },
    spec: { shards: { count: shards } },
  };
  return {
    'no change': {},
    'drain one node': { changes: [{ type: 'drain', node: NODES[0]! }] },
    'a zone dies': { changes: zone.map((node) => ({ type: 'remove', node })) },
    'add 20 nodes': { changes: added },
    'add a set of as many shards': { manifests: [other] },
  };
}

async function measured(
  { rest, grpc }: Clients,
  state: MeshState,
  rounds: number,
  shards: number,
  progress: (line: string) => void,
): Promise<Row[]> {
  const times = new Map<string, { subject: string; name: string; ms: number[]; moves: number }>();
  const time = async (subject: string, name: string, round: number, work: () => unknown) => {
    const began = performance.now();
    const answer = (await work()) as { totals?: { moves: number } };
    const ms = performance.now() - began;
    const key = `${subject} ${name}`;
    const known = times.get(key) ?? { subject, name, ms: [], moves: answer.totals?.moves ?? 0 };
    times.set(key, known);
    if (round >= WARM_UPS) known.ms.push(ms);
  };
  const shard = assignmentName(BENCH_SET, '0042');
  for (let round = 0; round < rounds + WARM_UPS; round += 1) {
    for (const [name, change] of Object.entries(casesOf(shards))) {
      const request = { namespace: NAMESPACE, ...change };
      await time('meshkit', name, round, () => rest.simulate(request));
      await time('meshkit-grpc', name, round, () => grpc.simulate(request));
      await time('in process', name, round, () => simulate(state, request));
    }
    await time('meshkit', EXPLAIN, round, () => rest.explain(NAMESPACE, shard));
    progress(`round ${round + 1} of ${rounds + WARM_UPS}`);
  }
  return [...times.values()].map(({ subject, name, ms, moves }) => {
    return { subject, case: name, unit: 'ms', ...distribution(ms), moves };
  });
}
