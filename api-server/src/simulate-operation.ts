import { setImmediate } from 'node:timers/promises';
import { ShardError } from '@meshkit/shards/errors';
import type { ShardRepository } from '@meshkit/shards/repository';
import { boundedSimulation, type Simulation, simulate } from '@meshkit/shards/simulate';
import type { z } from 'zod';
import type { AnsweringOperation } from './operation.ts';
import { noParams, noQuery } from './parameters.ts';
import { EXAMPLE_SIMULATION, EXAMPLE_SIMULATION_REQUEST } from './simulate-examples.ts';
import { MAX_BODY_BYTES, simulationBody, simulationSchema } from './simulate-schemas.ts';

/** A plan is worked out in one go, so others wait behind it; more than this many are refused. */
const MAX_WAITING = 32;

/** Simulations one after the other, with room for everything else between them. Shared by REST and gRPC. */
export class Simulator {
  readonly #repository: Pick<ShardRepository, 'meshState'>;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(repository: Pick<ShardRepository, 'meshState'>) {
    this.#repository = repository;
  }

  /** Reads memory only: nothing here could write. The lists are complete. */
  async run(request: z.output<typeof simulationBody>, signal: AbortSignal): Promise<Simulation> {
    if (this.#waiting >= MAX_WAITING) {
      const message = 'too many simulations are under way; try again in a moment';
      throw new ShardError('rateLimited', message, { reason: 'simulations' });
    }
    this.#waiting += 1;
    const before = this.#last;
    const turn = Promise.withResolvers<void>();
    this.#last = turn.promise;
    try {
      await before;
      await setImmediate();
      signal.throwIfAborted();
      return simulate(await this.#repository.meshState(request.namespace), request);
    } finally {
      this.#waiting -= 1;
      turn.resolve();
    }
  }
}

export function simulateShards(simulator: Simulator): AnsweringOperation<unknown, unknown> {
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
      const simulation = boundedSimulation(await simulator.run(request, signal), request.maxItems);
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
