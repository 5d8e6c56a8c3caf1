import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import { poolNamespace } from '@meshkit/shards/candidates';
import { judged } from '@meshkit/shards/judged-node';
import type { MeshNode } from '@meshkit/shards/records';
import type { MeshState } from '@meshkit/shards/simulate';
import type { CallLimits } from './shard-source.ts';
import type { Kube } from './surroundings.ts';

/** What the operator plans on, as Kubernetes has it now. `namespace` absent: all. */
export async function readState(
  client: Pick<Kube, 'listAll'>,
  namespace: string | undefined,
  limits: CallLimits,
): Promise<MeshState> {
  const where = { namespace, ...limits };
  const [sets, shards] = await Promise.all([
    client.listAll(SHARD_SETS, where),
    client.listAll(SHARD_ASSIGNMENTS, where),
  ]);
  const pools =
    namespace === undefined ? [undefined] : [...new Set([namespace, ...sets.items.map(poolNamespace)])];
  const lists = await Promise.all(
    pools.map((pool) => client.listAll(MESH_NODES, { namespace: pool, ...limits })),
  );
  const nodes: MeshNode[] = lists.flatMap(({ items }) => items);
  return {
    sets: sets.items,
    shards: shards.items,
    nodes: nodes.map(judged),
    basis: {
      position: shards.resourceVersion,
      shardSets: sets.resourceVersion,
      nodes: lists[0]?.resourceVersion,
    },
  };
}
