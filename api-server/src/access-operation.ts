import { type Access, SCOPES, scopeAccess } from '@meshkit/shards/scope';
import type { z } from 'zod';
import { accessSchema } from './answer-schemas.ts';
import { EXAMPLE_ACCESS } from './examples.ts';
import type { AnsweringOperation, Asked } from './operation.ts';
import { accessQuery, noParams } from './parameters.ts';

/** What the caller may do, by the same reviews as everything else. Rejects when nobody can say. */
export async function accessOf(
  { identity: { user, groups }, refusal }: Pick<Asked, 'identity' | 'refusal'>,
  namespace: string | undefined,
): Promise<Access> {
  const scopes = await Promise.all(SCOPES.map(async (scope) => scopeAccess(scope, await refusal(scope))));
  return { user, groups, namespace, scopes };
}

export function accessOperation(): AnsweringOperation<unknown, z.output<typeof accessQuery>> {
  return {
    op: 'access',
    method: 'GET',
    url: '/meshkit/access',
    params: noParams,
    query: accessQuery,
    target: (_params, { namespace }) => ({ namespace }),
    async answer(_params, { namespace }, _signal, asked) {
      const access = await accessOf(asked, namespace);
      return { encode: () => Buffer.from(JSON.stringify(access)), count: access.scopes.length };
    },
    document: {
      operationId: 'getAccess',
      summary: 'Who you are, and what you may do',
      description:
        'The user and groups that the token stands for, and for each scope whether it is there, in a namespace or in all; where it is not, the command that grants it.',
      schema: accessSchema,
      example: EXAMPLE_ACCESS,
      errors: [],
      momentary: true,
    },
  };
}
