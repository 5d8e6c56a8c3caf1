import { filterText } from '@meshkit/shards/cursor';
import { ShardError } from '@meshkit/shards/errors';
import { listEtag, shardEtag, weakEtag } from '@meshkit/shards/etag';
import { parseShardFilter } from '@meshkit/shards/filter';
import type { ShardRepository } from '@meshkit/shards/repository';
import { servedNode } from '@meshkit/shards/shard-view';
import type { z } from 'zod';
import { accessOperation } from './access-operation.ts';
import { listSchema, nodesSchema, shardSchema } from './answer-schemas.ts';
import { EncodedViews } from './encoded-views.ts';
import { EXAMPLE_LIST, EXAMPLE_NODES, EXAMPLE_SHARD } from './examples.ts';
import { explainOperation } from './explain-operation.ts';
import { type ListSource, listPage, reach } from './list-page.ts';
import type { AnsweringOperation, Operation } from './operation.ts';
import { listQuery, nodesQuery, noParams, shardParams, shardQuery } from './parameters.ts';
import { PLANS, simulateShards } from './simulate-operation.ts';
import { statusOperation } from './status-operation.ts';
import { Turns } from './turns.ts';

export interface ReadSource extends ListSource {
  repository: ListSource['repository'] &
    Pick<ShardRepository, 'asOf' | 'get' | 'nodes' | 'meshState' | 'status'>;
  /** Absent: not shared with gRPC. */
  plans?: Turns;
  /** Absent: not shared with anybody else who serves the same shards as JSON. */
  views?: EncodedViews;
}

/** Which representation a tag is of: there is only one so far. */
const REPRESENTATION = 'json';
const SHARDS_PATH = '/meshkit/shards';
const WATCH_PATH = `${SHARDS_PATH}/watch`;

/** The read operations. Watch joins them in its own file; the acting verbs will. */
export function shardOperations(source: ReadSource): Operation[] {
  const { views = new EncodedViews(), plans = new Turns(PLANS) } = source;
  return [
    listShards(source, views),
    getShard(source, views),
    explainOperation({ ...source, plans }),
    listNodes(source),
    simulateShards({ ...source, plans }),
    statusOperation(source),
    accessOperation(),
  ] as Operation[];
}

type ListQuery = z.output<typeof listQuery>;

function listShards(source: ReadSource, views: EncodedViews): AnsweringOperation<unknown, ListQuery> {
  return {
    op: 'list',
    method: 'GET',
    url: SHARDS_PATH,
    scope: 'read',
    params: noParams,
    query: listQuery,
    target: (_params, { namespace }) => ({ namespace }),
    async answer(_params, query, signal) {
      const { pageSize, cursor, minVersion, ...conditions } = query;
      const filter = parseShardFilter(conditions);
      const page = await listPage(source, filter, { pageSize, cursor, minVersion }, signal);
      const { items, nextCursor, consistency, versionVector } = page;
      // Not the cursor itself: it names a position, and the same content has the same tag at every position.
      const shapedBy = [
        filterText(filter),
        `${pageSize}`,
        nextCursor ? 'more' : '',
        consistency,
        REPRESENTATION,
      ];
      // What only a body and its links say is not worked out for those who have the answer already.
      let sealed: string | undefined;
      const token = () => {
        sealed ??= page.resumeToken?.();
        return sealed;
      };
      return {
        etag: listEtag(items, shapedBy),
        encode: () => views.list(items, { nextCursor, consistency, resumeToken: token(), versionVector }),
        count: items.length,
        asOf: versionVector,
        links: () => {
          const links: Record<string, string> = {};
          const size = `${pageSize}`;
          if (nextCursor)
            links.next = link(SHARDS_PATH, { ...conditions, pageSize: size, cursor: nextCursor });
          const resumeToken = token();
          if (resumeToken) links.monitor = link(WATCH_PATH, { ...conditions, resumeToken });
          return links;
        },
      };
    },
    document: {
      operationId: 'listShards',
      summary: 'List shards',
      description:
        'Shards of one namespace, or of all, ordered by namespace, then name. All pages of a list show the state of one position. `Link` leads to the next page (`next`) and to the watch that goes on from here (`monitor`).',
      schema: listSchema,
      example: EXAMPLE_LIST,
      errors: ['tokenInvalid', 'filterMismatch', 'cursorExpired'],
      versioned: true,
    },
  };
}

function getShard(
  source: ReadSource,
  views: EncodedViews,
): AnsweringOperation<z.output<typeof shardParams>, z.output<typeof shardQuery>> {
  return {
    op: 'get',
    method: 'GET',
    url: '/meshkit/shards/:namespace/:name',
    scope: 'read',
    params: shardParams,
    query: shardQuery,
    target: ({ namespace, name }) => ({ namespace, name }),
    async answer({ namespace, name }, { minVersion }, signal) {
      if (minVersion !== undefined) await reach(source, minVersion, signal, '/query/minVersion');
      const asOf = source.repository.asOf();
      const record = await source.repository.get(namespace, name);
      if (record) {
        return { etag: shardEtag(record, REPRESENTATION), encode: () => views.of(record), count: 1, asOf };
      }
      throw new ShardError('notFound', `there is no shard ${name} in namespace ${namespace}`, {
        errors: [{ pointer: '/path/name', detail: 'no such shard' }],
      });
    },
    document: {
      operationId: 'getShard',
      summary: 'Get one shard',
      description: 'Its strong `ETag` names the exact state of the shard.',
      schema: shardSchema,
      example: EXAMPLE_SHARD,
      errors: ['notFound'],
      versioned: true,
    },
  };
}

function listNodes(source: ReadSource): AnsweringOperation<unknown, z.output<typeof nodesQuery>> {
  return {
    op: 'nodes',
    method: 'GET',
    url: '/meshkit/nodes',
    scope: 'read',
    params: noParams,
    query: nodesQuery,
    target: (_params, { namespace }) => ({ namespace }),
    async answer(_params, { namespace }) {
      const asOf = source.repository.asOf();
      const items = (await source.repository.nodes(namespace)).map(servedNode);
      const text = JSON.stringify({ items });
      return { etag: weakEtag(text), encode: () => Buffer.from(text), count: items.length, asOf };
    },
    document: {
      operationId: 'listNodes',
      summary: 'List mesh nodes',
      description: 'Nodes of one namespace, or of all, with the number of shards that each owns.',
      schema: nodesSchema,
      example: EXAMPLE_NODES,
      errors: [],
      versioned: true,
    },
  };
}

/** A reference relative to the origin; several values of a parameter are repeated. */
function link(path: string, query: Readonly<Record<string, string | readonly string[] | undefined>>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of value === undefined ? [] : [value].flat()) search.append(name, one);
  }
  return `${path}?${search}`;
}
