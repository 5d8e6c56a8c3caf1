import type { RepositoryStatus, ShardRepository } from '@meshkit/shards/repository';
import type { z } from 'zod';
import manifest from '../package.json' with { type: 'json' };
import { statusSchema } from './answer-schemas.ts';
import { EXAMPLE_STATUS } from './examples.ts';
import type { AnsweringOperation } from './operation.ts';
import { noParams, statusQuery } from './parameters.ts';

interface StatusSource {
  repository: Pick<ShardRepository, 'status'>;
}

/** Which contract and program answers, and how its cache and its journal are. */
export async function serverStatus(
  { repository }: StatusSource,
  signal: AbortSignal,
): Promise<RepositoryStatus & { api: string; version: string }> {
  return { api: 'v1', version: manifest.version, ...(await repository.status(signal)) };
}

export function statusOperation(
  source: StatusSource,
): AnsweringOperation<unknown, z.output<typeof statusQuery>> {
  return {
    op: 'status',
    method: 'GET',
    url: '/meshkit/status',
    scope: 'read',
    params: noParams,
    query: statusQuery,
    target: (_params, { namespace }) => ({ namespace }),
    async answer(_params, _query, signal) {
      const status = await serverStatus(source, signal);
      return { encode: () => Buffer.from(JSON.stringify(status)), count: 1 };
    },
    document: {
      operationId: 'getStatus',
      summary: 'How this server is',
      description:
        'How new what this replica serves is, and whether the journal keeps up with it: what a person on call or a probe has to know. It is the same for every namespace; one only has to be named by those who may not read all.',
      schema: statusSchema,
      example: { api: 'v1', version: '0.1.0', ...EXAMPLE_STATUS },
      errors: [],
      momentary: true,
    },
  };
}
