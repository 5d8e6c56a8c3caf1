import { openCursor, sealCursor } from '@meshkit/shards/cursor';
import { ShardError } from '@meshkit/shards/errors';
import { parseShardFilter } from '@meshkit/shards/filter';
import type { ShardRepository } from '@meshkit/shards/repository';
import { servedNode } from '@meshkit/shards/shard-view';
import type { z } from 'zod';
import { EncodedViews } from './encoded-views.ts';
import type { Operation } from './operation.ts';
import { listQuery, nodesQuery, noParams, noQuery, shardParams } from './parameters.ts';

/** The read operations. Watch, explain, history, simulate and the acting verbs join this list. */
export function shardOperations(repository: ShardRepository): Operation[] {
  const views = new EncodedViews();
  return [listShards(repository, views), getShard(repository, views), listNodes(repository)] as Operation[];
}

function listShards(
  repository: ShardRepository,
  views: EncodedViews,
): Operation<unknown, z.output<typeof listQuery>> {
  return {
    op: 'list',
    method: 'GET',
    url: '/meshkit/shards',
    scope: 'read',
    params: noParams,
    query: listQuery,
    target: (_params, { namespace }) => ({ namespace }),
    async answer(_params, { pageSize, cursor, ...conditions }) {
      const filter = parseShardFilter(conditions);
      const after = cursor === undefined ? undefined : openCursor(filter, cursor);
      const { items, next, versionVector } = await repository.list(filter, { limit: pageSize, after });
      const nextCursor = next === undefined ? undefined : sealCursor(filter, next);
      return { body: views.list(items, nextCursor, versionVector), count: items.length, versionVector };
    },
  };
}

function getShard(
  repository: ShardRepository,
  views: EncodedViews,
): Operation<z.output<typeof shardParams>, unknown> {
  return {
    op: 'get',
    method: 'GET',
    url: '/meshkit/shards/:namespace/:name',
    scope: 'read',
    params: shardParams,
    query: noQuery,
    target: ({ namespace, name }) => ({ namespace, name }),
    async answer({ namespace, name }) {
      const record = await repository.get(namespace, name);
      if (record) return { body: views.of(record), count: 1 };
      throw new ShardError('notFound', `there is no shard ${name} in namespace ${namespace}`, {
        errors: [{ pointer: '/path/name', detail: 'no such shard' }],
      });
    },
  };
}

function listNodes(repository: ShardRepository): Operation<unknown, z.output<typeof nodesQuery>> {
  return {
    op: 'nodes',
    method: 'GET',
    url: '/meshkit/nodes',
    scope: 'read',
    params: noParams,
    query: nodesQuery,
    target: (_params, { namespace }) => ({ namespace }),
    async answer(_params, { namespace }) {
      const items = (await repository.nodes(namespace)).map(servedNode);
      return { body: Buffer.from(JSON.stringify({ items })), count: items.length };
    },
  };
}
