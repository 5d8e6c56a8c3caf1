import type { ShardRepository } from '@meshkit/shards/repository';
import { boundedSimulation, type Simulation, simulate } from '@meshkit/shards/simulate';
import type { z } from 'zod';
import type { AnsweringOperation } from './operation.ts';
import { noParams, noQuery } from './parameters.ts';
import { EXAMPLE_SIMULATION, EXAMPLE_SIMULATION_REQUEST } from './simulate-examples.ts';
import { MAX_BODY_BYTES, simulationBody, simulationSchema } from './simulate-schemas.ts';
import type { Turns } from './turns.ts';

/** A plan is worked out in one go, while the process does nothing else. Shared by simulate and explain, REST and gRPC. */
export const PLANS = { what: 'plans', atOnce: 1, waiting: 32 };

export interface SimulateSource {
  repository: Pick<ShardRepository, 'meshState'>;
  plans: Turns;
}

/** Reads memory only: nothing here could write. The lists are complete. */
export function simulated(
  { repository, plans }: SimulateSource,
  request: z.output<typeof simulationBody>,
  signal: AbortSignal,
): Promise<Simulation> {
  return plans.run(async () => simulate(await repository.meshState(request.namespace), request), signal);
}

export function simulateShards(source: SimulateSource): AnsweringOperation<unknown, unknown> {
  return {
    op: 'simulate',
    method: 'POST',
    url: '/meshkit/shards/simulate',
    scope: 'observe',
    params: noParams,
    query: noQuery,
    body: { schema: simulationBody, maxBytes: MAX_BODY_BYTES, example: EXAMPLE_SIMULATION_REQUEST },
    target: (_params, _query, body) => ({ namespace: (body as z.output<typeof simulationBody>).namespace }),
    async answer(_params, _query, signal, { body }) {
      const request = body as z.output<typeof simulationBody>;
      const simulation = boundedSimulation(await simulated(source, request, signal), request.maxItems);
      return {
        encode: () => Buffer.from(JSON.stringify(simulation)),
        count: simulation.sets.reduce((sum, { moves }) => sum + moves.length, 0),
      };
    },
    document: {
      operationId: 'simulateShards',
      summary: 'Simulate a change',
      description:
        'What the operator would do if the manifests were applied and the changes made: the same planner on the same state. Nothing is written.',
      schema: simulationSchema,
      example: EXAMPLE_SIMULATION,
      errors: ['notFound', 'unsupportedMediaType'],
    },
  };
}
