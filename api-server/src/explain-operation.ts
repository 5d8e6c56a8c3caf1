import type { ShardError } from '@meshkit/shards/errors';
import { weakEtag } from '@meshkit/shards/etag';
import { explain, type ShardExplanation } from '@meshkit/shards/explain';
import type { ShardRepository } from '@meshkit/shards/repository';
import type { z } from 'zod';
import { explanationSchema } from './explain-schemas.ts';
import { type ListSource, reach } from './list-page.ts';
import type { AnsweringOperation } from './operation.ts';
import { explainQuery, shardParams } from './parameters.ts';
import { EXAMPLE_EXPLANATION } from './simulate-examples.ts';
import type { Turns } from './turns.ts';

export interface ExplainSource extends ListSource {
  repository: ListSource['repository'] & Pick<ShardRepository, 'meshState'>;
  plans: Turns;
}

type ExplainRequest = z.output<typeof shardParams> & z.output<typeof explainQuery>;

/** `refusal`: of the scope observe, without which the transitions are left out; the answer says so. */
export async function explainShard(
  source: ExplainSource,
  { namespace, name, minVersion, maxItems }: ExplainRequest,
  refusal: ShardError | undefined,
  signal: AbortSignal,
): Promise<ShardExplanation> {
  if (minVersion !== undefined) await reach(source, minVersion, signal, '/query/minVersion');
  const { repository, plans } = source;
  const explanation = await plans.run(
    async () => explain(await repository.meshState(namespace), { namespace, name }, maxItems),
    signal,
  );
  if (!refusal) return explanation;
  const { transitions: _, ...rest } = explanation;
  const { scope, check, grant } = refusal.details as { scope: string; check: string; grant: string };
  return { ...rest, withheld: [{ member: 'transitions', scope, check, grant }] };
}

export function explainOperation(
  source: ExplainSource,
): AnsweringOperation<z.output<typeof shardParams>, z.output<typeof explainQuery>> {
  return {
    op: 'explain',
    method: 'GET',
    url: '/meshkit/shards/:namespace/:name/explain',
    scope: 'read',
    params: shardParams,
    query: explainQuery,
    target: ({ namespace, name }) => ({ namespace, name }),
    async answer(params, query, signal, { refusal }) {
      const refused = await refusal('observe');
      const explanation = await explainShard(source, { ...params, ...query }, refused, signal);
      const { basis, ...content } = explanation;
      return {
        // Not the basis: the same explanation holds at many positions.
        etag: weakEtag(JSON.stringify(content)),
        encode: () => Buffer.from(JSON.stringify({ ...content, basis })),
        count: explanation.nodes.length,
        asOf: basis,
      };
    },
    document: {
      operationId: 'explainShard',
      summary: 'Explain a shard',
      description:
        'Why it is where it is, why not elsewhere, what holds it, and what would move it. `transitions` are only for those who may observe it as well; for others `withheld` says so.',
      schema: explanationSchema,
      example: EXAMPLE_EXPLANATION,
      errors: ['notFound'],
      versioned: true,
    },
  };
}
