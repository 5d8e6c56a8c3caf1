import {
  type SimulatedBalance as BalanceMessage,
  type StateBasis as BasisMessage,
  type SimulatedChange as ChangeMessage,
  type SimulatedChurn as ChurnMessage,
  type SimulatedSet as SetMessage,
  SimulateRequest,
  SimulateResponse,
} from '@meshkit/proto/v1/simulate';
import { invalid } from '@meshkit/shards/problem';
import type {
  SimulatedBalance,
  SimulatedChurn,
  SimulatedSet,
  Simulation,
  StateBasis,
} from '@meshkit/shards/simulate';
import type { z } from 'zod';
import { checked, decoded } from './grpc-request.ts';
import { MAX_BODY_BYTES, simulationBody } from './simulate-schemas.ts';

/** A request of gRPC as the body that REST would have got, checked by the same schema. */
export function simulateRequest(bytes: Uint8Array): z.output<typeof simulationBody> {
  const { namespace, shardSet, changes, manifestsJson, maxItems } = decoded(
    SimulateRequest,
    bytes,
    MAX_BODY_BYTES,
  );
  return checked(simulationBody, 'body', {
    namespace,
    shardSet,
    changes: changes.map(changeOf),
    manifests: manifestsJson.map((text, index) => parsed(text, `/body/manifests/${index}`)),
    maxItems: maxItems === 0 ? undefined : maxItems,
  });
}

function changeOf({ change }: ChangeMessage): unknown {
  // Of a newer client, or nothing: refused as a change without a type.
  if (!change) return {};
  if (change.$case !== 'policy') return { type: change.$case, ...change.value };
  const { handoffMode, drainTimeout, ...policy } = change.value;
  return { type: 'policy', ...policy, handoff: { mode: handoffMode, drainTimeout } };
}

function parsed(text: string, pointer: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid([{ pointer, detail: `is not JSON: ${(error as Error).message}` }]);
  }
}

export function simulationBytes({ totals, basis, sets, ...rest }: Simulation): Uint8Array {
  const { unplaceable, retired, estimatedDurationMs, sets: count, ...churn } = totals;
  return SimulateResponse.encode({
    ...rest,
    sets: sets.map(setMessage),
    totals: {
      sets: count,
      unplaceable,
      retired,
      churn: churnMessage(churn),
      estimatedDurationMs: big(estimatedDurationMs),
    },
    basis: basisMessage(basis),
  }).finish();
}

export function basisMessage({ lineage, position, shardSets, nodes }: StateBasis): BasisMessage {
  return { lineage, position, shardSets, nodes };
}

function setMessage({ churn, balance, phases, estimatedDurationMs, ...rest }: SimulatedSet): SetMessage {
  return {
    ...rest,
    churn: churnMessage(churn),
    before: balanceMessage(balance.before),
    after: balanceMessage(balance.after),
    phases: phases.map(({ estimatedMs, ...phase }) => ({ ...phase, estimatedMs: BigInt(estimatedMs) })),
    estimatedDurationMs: big(estimatedDurationMs),
  };
}

function churnMessage(churn: SimulatedChurn): ChurnMessage {
  return churn;
}

function balanceMessage({ nodes, zones, ...ratios }: SimulatedBalance): BalanceMessage {
  return {
    ...ratios,
    nodes: nodes.map(({ load, cap, ...node }) => ({ ...node, load: BigInt(load), cap: big(cap) })),
    zones: zones.map(({ load, ...zone }) => ({ ...zone, load: BigInt(load) })),
  };
}

function big(value: number | undefined): bigint | undefined {
  return value === undefined ? undefined : BigInt(value);
}
