import { setTimeout as sleep } from 'node:timers/promises';
import { ShardClient } from '@meshkit/client/shard-client';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { judged } from '@meshkit/shards/judged-node';
import { type PlacementInput, plan } from '@meshkit/shards/placement';
import { API_VERSION, assignmentName } from '@meshkit/shards/records';
import {
  type MeshState,
  type SimulatedChange,
  type SimulationRequest,
  simulate,
} from '@meshkit/shards/simulate';
import { type BenchProduct, NODES, withBenchProduct } from './bench-product.ts';
import { BENCH_SET } from './load/write-load.ts';
import { type Benchmark, distribution, machine, median, type Row, round } from './report.ts';

const NAMESPACE = 'bench-simulate';
const WARM_UPS = 3;

/**
 * Simulations of 10,000 shards on 200 nodes: through the API, and the same work in this process, of which the planner is a
 * part. CPU time beside it, since on a shared machine the time of day says more about the others.
 */
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
        planMs: slowest(PLANNER),
        explainMs: rows.find((row) => row.subject === 'meshkit' && row.case === EXPLAIN)!.p50,
      };
      const ok = figures.simulateMs <= 300 && figures.planMs <= 150;
      return { bench: 'simulate', ok, machine: machine(), figures, rows };
    } finally {
      await Promise.all([clients.rest.close(), clients.grpc.close()]);
    }
  });

const EXPLAIN = 'explain one shard';
/** Both plans of a simulation, the one of the set as it is included. */
const PLANNER = 'planner';

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

function casesOf(shards: number): Record<string, SimulationRequest> {
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
    'a new set of as many shards': { shardSet: 'other', manifests: [other] },
  };
}

async function measured(
  { rest, grpc }: Clients,
  state: MeshState,
  rounds: number,
  shards: number,
  progress: (line: string) => void,
): Promise<Row[]> {
  const taken = new Map<string, Taken>();
  const note = (subject: string, name: string, turn: number, ms: number, cpuMs?: number, moves?: number) => {
    const key = `${subject} ${name}`;
    const known = taken.get(key) ?? { subject, name, ms: [], cpuMs: [], moves };
    taken.set(key, known);
    if (turn < WARM_UPS) return;
    known.ms.push(ms);
    if (cpuMs !== undefined) known.cpuMs.push(cpuMs);
  };
  const ask = async (subject: string, name: string, turn: number, work: () => Promise<object>) => {
    const began = performance.now();
    const answer = (await work()) as { totals?: { moves: number } };
    note(subject, name, turn, performance.now() - began, undefined, answer.totals?.moves);
  };
  const shard = assignmentName(BENCH_SET, '0042');
  for (let turn = 0; turn < rounds + WARM_UPS; turn += 1) {
    for (const [name, change] of Object.entries(casesOf(shards))) {
      const request = { namespace: NAMESPACE, ...change };
      await ask('meshkit', name, turn, () => rest.simulate(request));
      await ask('meshkit-grpc', name, turn, () => grpc.simulate(request));
      let planMs = 0;
      const timed = (input: PlacementInput) => {
        const began = performance.now();
        const planned = plan(input);
        planMs += performance.now() - began;
        return planned;
      };
      const [began, cpu] = [performance.now(), process.cpuUsage()];
      const { totals } = simulate(state, request, timed);
      const { user, system } = process.cpuUsage(cpu);
      note('in process', name, turn, performance.now() - began, (user + system) / 1_000, totals.moves);
      note(PLANNER, name, turn, planMs);
    }
    await ask('meshkit', EXPLAIN, turn, () => rest.explain(NAMESPACE, shard));
    progress(`round ${turn + 1} of ${rounds + WARM_UPS}`);
  }
  return [...taken.values()].map(({ subject, name, ms, cpuMs, moves }): Row => {
    const row: Row = { subject, case: name, unit: 'ms', ...distribution(ms) };
    if (cpuMs.length > 0) row.cpuMs = round(median(cpuMs));
    if (moves !== undefined) row.moves = moves;
    return row;
  });
}

interface Taken {
  subject: string;
  name: string;
  ms: number[];
  cpuMs: number[];
  moves?: number;
}
