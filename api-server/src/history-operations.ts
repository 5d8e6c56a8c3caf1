import { weakEtag } from '@meshkit/shards/etag';
import { parseShardFilter } from '@meshkit/shards/filter';
import type { ShardRepository } from '@meshkit/shards/repository';
import type { z } from 'zod';
import { diffSchema, historySchema } from './answer-schemas.ts';
import { EXAMPLE_DIFF, EXAMPLE_HISTORY } from './examples.ts';
import type { Answer, AnsweringOperation, Operation } from './operation.ts';
import { diffQuery, historyQuery, noParams, shardParams } from './parameters.ts';

export interface HistorySource {
  repository: Pick<ShardRepository, 'diff' | 'history'>;
}

/** What changed between two moments, and what happened to one shard. */
export function historyOperations(source: HistorySource): Operation[] {
  return [diffShards(source), shardHistory(source)] as Operation[];
}

function diffShards({ repository }: HistorySource): AnsweringOperation<unknown, z.output<typeof diffQuery>> {
  return {
    op: 'diff',
    method: 'GET',
    url: '/meshkit/shards/diff',
    scope: 'observe',
    params: noParams,
    query: diffQuery,
    target: (_params, { namespace }) => ({ namespace }),
    async answer(_params, { from, to, mode, pageSize, cursor, ...conditions }, signal) {
      const filter = parseShardFilter(conditions);
      const page = await repository.diff(filter, { mode, from, to, cursor, limit: pageSize }, signal);
      return answerOf(page, page.items.length);
    },
    document: {
      operationId: 'diffShards',
      summary: 'What changed between two moments',
      description:
        'Changes after `from`, up to and including `to`: a row for each shard (`mode=net`), or every change with who, why and under which ticket (`mode=log`), and the whole range in numbers. Shards pass the filter before or after.',
      schema: diffSchema,
      example: EXAMPLE_DIFF,
      errors: ['tokenExpired', 'tokenInvalid', 'filterMismatch', 'lineageChanged'],
    },
  };
}

function shardHistory({
  repository,
}: HistorySource): AnsweringOperation<z.output<typeof shardParams>, z.output<typeof historyQuery>> {
  return {
    op: 'history',
    method: 'GET',
    url: '/meshkit/shards/:namespace/:name/history',
    scope: 'observe',
    params: shardParams,
    query: historyQuery,
    target: ({ namespace, name }) => ({ namespace, name }),
    async answer({ namespace, name }, { pageSize, cursor, since }, signal) {
      const page = await repository.history({ namespace, name, limit: pageSize, cursor, since }, signal);
      return answerOf(page, page.items.length);
    },
    document: {
      operationId: 'getShardHistory',
      summary: 'What happened to one shard',
      description: 'Newest first, also of a shard that is gone: who, why, under which ticket.',
      schema: historySchema,
      example: EXAMPLE_HISTORY,
      errors: ['notFound', 'tokenExpired', 'tokenInvalid', 'filterMismatch', 'lineageChanged'],
    },
  };
}

function answerOf(page: object, count: number): Answer {
  const text = JSON.stringify(page);
  return { etag: weakEtag(text), encode: () => Buffer.from(text), count };
}
