import { delimiter, join, relative } from 'node:path';
import { SHARD_SETS } from '@meshkit/crds/resource';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { planeChoice, startControlPlane } from '../control-plane/start.ts';
import { projectRoot } from './child.ts';
import { flagsOf, stopSignal } from './command.ts';
import { Product } from './product.ts';

/** `npm start`: the whole product on real input, until Ctrl-C. */
const NAMESPACE = 'payments';
const NODES = ['node-1', 'node-2', 'node-3', 'node-4', 'node-5'];
const PREFERRED_PORT = 8443;
const OWNED_WITHIN_MS = 60_000;

const USAGE = 'npm start -- [--control-plane auto|real|embedded]';
const values = flagsOf(USAGE, { 'control-plane': { type: 'string', default: 'auto' } });
const kind = planeChoice(values['control-plane']);

const began = performance.now();
const elapsed = () => `${((performance.now() - began) / 1000).toFixed(1)} s`;
const say = (line: string) => void process.stderr.write(`${elapsed().padStart(7)}  ${line}\n`);

const signal = stopSignal();

/** Resolves once every shard of the quickstart has an owner. */
async function allOwned(product: Product): Promise<number> {
  const deadline = performance.now() + OWNED_WITHIN_MS;
  while (true) {
    const { status } = await product.kube.get(
      SHARD_SETS,
      { namespace: NAMESPACE, name: 'orders' },
      { signal },
    );
    const { shards = 0, owned = 0 } = status ?? {};
    if (shards > 0 && owned === shards) return shards;
    const crashed = product.crashed()[0];
    if (crashed) throw new Error(`${crashed.name} ended by itself:\n${crashed.tail()}`);
    if (performance.now() > deadline)
      throw new Error(`only ${owned} of ${shards} shards are owned; see ${product.logs}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function tour(product: Product, shards: number): string {
  const { kind, version, kubectl } = product.controlPlane;
  const bin = join(projectRoot, 'kubectl-plugin', 'bin');
  const path = kubectl ? `${bin}${delimiter}${join(kubectl, '..')}` : bin;
  const { kubeconfig, ca, token } = product.files;
  return `
MeshKit Shards runs, after ${elapsed()}: ${shards} shards of ShardSet ${NAMESPACE}/orders on ${NODES.length} nodes in 3 zones.

  control plane  ${kind} Kubernetes ${version}, ${product.controlPlane.url}
  API server     ${product.apiUrl}/meshkit/shards
  gRPC           ${product.grpcAddress}, see docs/grpc.md
  logs           ${relative(process.cwd(), product.logs).startsWith('..') ? product.logs : relative(process.cwd(), product.logs)}

In another terminal:

  export KUBECONFIG=${kubeconfig}
  export PATH="${path}:$PATH"
  export CA=${ca} TOKEN="$(cat ${token})"

then try

  1. kubectl get shards -n ${NAMESPACE}
  2. kubectl mesh shards list -n ${NAMESPACE} --owner node-1
  3. kubectl patch meshnode node-2 -n ${NAMESPACE} --type merge -p '{"spec":{"scheduling":"Drain"}}'
  4. kubectl get shards -n ${NAMESPACE} --field-selector status.owner=node-2 --watch
  5. curl --cacert $CA -H "Authorization: Bearer $TOKEN" \\
       '${product.apiUrl}/meshkit/shards?namespace=${NAMESPACE}&status=Active&pageSize=2'

Ctrl-C stops everything and removes its data.
`;
}

let controlPlane: ControlPlane | undefined;
let product: Product | undefined;
try {
  controlPlane = await startControlPlane({ kind, env: process.env, log: say, signal });
  product = await Product.start({ controlPlane, say, signal, port: PREFERRED_PORT });
  say('Applying samples/01-quickstart: a ShardSet of 64 shards, 5 weighted nodes …');
  await product.apply('samples/01-quickstart/00-namespace.yaml');
  await product.apply('samples/01-quickstart/10-nodes.yaml');
  await product.startNodes(NAMESPACE, NODES);
  await product.nodesReady(NAMESPACE, NODES);
  await product.apply('samples/01-quickstart/20-shardset.yaml');
  process.stdout.write(tour(product, await allOwned(product)));
  const crashed = await product.firstCrash(signal);
  if (crashed) throw new Error(`${crashed.name} ended by itself:\n${crashed.tail()}`);
  // Stopping what runs is no failure; stopping what only starts is.
  process.exitCode = 0;
} catch (error) {
  if (!signal.aborted) {
    process.stderr.write(`npm start: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
} finally {
  say('Stopping …');
  await product?.stop();
  await controlPlane?.stop();
}
