import { ExplainRequest, ExplainResponse } from '@meshkit/proto/v1/explain';
import type { ShardExplanation } from '@meshkit/shards/explain';
import type { z } from 'zod';
import { ACTORS } from './grpc-encoding.ts';
import { checked, decoded, present } from './grpc-request.ts';
import { basisMessage } from './grpc-simulate.ts';
import { PHASES, STATES, time } from './grpc-views.ts';
import { explainQuery, shardParams } from './parameters.ts';

export function explainRequest(
  bytes: Uint8Array,
): z.output<typeof shardParams> & z.output<typeof explainQuery> {
  const { namespace, name, minVersion, maxItems } = decoded(ExplainRequest, bytes);
  return {
    ...checked(shardParams, 'params', { namespace, name }),
    ...checked(explainQuery, 'querystring', {
      minVersion: present(minVersion),
      maxItems: maxItems === 0 ? undefined : maxItems,
    }),
  };
}

export function explanationBytes(explanation: ShardExplanation): Uint8Array {
  const { phase, state, move, budget, transitions = [], withheld = [], basis, ...rest } = explanation;
  return ExplainResponse.encode({
    ...rest,
    phase: PHASES[phase],
    state: STATES[state],
    move: move && { to: move.to, startedAt: time(move.startedAt), deadline: time(move.deadline) },
    budget: budget && { ...budget, drainTimeoutMs: BigInt(budget.drainTimeoutMs) },
    transitions: transitions.map(({ version, epoch, phase, actor, at, ...transition }) => ({
      ...transition,
      version: BigInt(version),
      epoch: epoch === undefined ? undefined : BigInt(epoch),
      phase: PHASES[phase],
      actor: { name: actor.name, kind: ACTORS[actor.kind] },
      at: time(at),
    })),
    withheld,
    basis: basisMessage(basis),
  }).finish();
}
