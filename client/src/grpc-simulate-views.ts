import type { ExplainResponse } from '@meshkit/proto/v1/explain';
import type {
  SimulatedBalance as BalanceMessage,
  SimulatedChange as ChangeMessage,
  SimulatedSet as SetMessage,
  SimulateRequest,
  SimulateResponse,
} from '@meshkit/proto/v1/simulate';
import type { ExplainedNode, ShardExplanation } from '@meshkit/shards/explain';
import type {
  SimulatedBalance,
  SimulatedChange,
  SimulatedMove,
  SimulatedNode,
  SimulatedPhase,
  SimulatedSet,
  SimulatedUnplaceable,
  Simulation,
  SimulationRequest,
  StateBasis,
} from '@meshkit/shards/simulate';
import { ACTORS, PHASES, STATES, time } from './grpc-views.ts';

/** Messages of Simulate and Explain as the views that REST gives. Words are passed on as the server says them. */

export function simulateMessage(request: SimulationRequest): SimulateRequest {
  const { namespace, shardSet, changes = [], manifests = [], maxItems = 0 } = request;
  return {
    namespace,
    shardSet,
    changes: changes.map((change) => ({ change: changeMessage(change) })),
    manifestsJson: manifests.map((manifest) => JSON.stringify(manifest)),
    maxItems,
  };
}

function changeMessage(change: SimulatedChange): ChangeMessage['change'] {
  switch (change.type) {
    case 'add':
      return { $case: 'add', value: { ...change, labels: change.labels ?? {} } };
    case 'policy': {
      const { handoff, ...policy } = change;
      const value = { ...policy, handoffMode: handoff?.mode, drainTimeout: handoff?.drainTimeout };
      return { $case: 'policy', value };
    }
    case 'weight':
      return { $case: 'weight', value: change };
    case 'strategy':
      return { $case: 'strategy', value: change };
    default:
      return { $case: change.type, value: change };
  }
}

export function simulationView({ sets, totals, basis, ...rest }: SimulateResponse): Simulation {
  const { churn, estimatedDurationMs, ...counts } = totals!;
  return {
    sets: sets.map(setView),
    totals: { ...churn!, ...counts, estimatedDurationMs: number(estimatedDurationMs) },
    basis: basis as StateBasis,
    ...rest,
  };
}

function setView(message: SetMessage): SimulatedSet {
  const { before, after, churn, totals, phases, estimatedDurationMs, ...rest } = message;
  return {
    ...rest,
    change: rest.change as SimulatedSet['change'],
    moves: rest.moves as SimulatedMove[],
    unplaceable: rest.unplaceable as SimulatedUnplaceable[],
    churn: churn!,
    totals: totals!,
    balance: { before: balanceView(before!), after: balanceView(after!) },
    phases: phases.map(({ kind, estimatedMs, ...phase }) => ({
      ...phase,
      kind: kind as SimulatedPhase['kind'],
      estimatedMs: Number(estimatedMs),
    })),
    estimatedDurationMs: number(estimatedDurationMs),
    estimateBasis: rest.estimateBasis as SimulatedSet['estimateBasis'],
  };
}

function balanceView({ nodes, zones, ...ratios }: BalanceMessage): SimulatedBalance {
  return {
    ...ratios,
    nodes: nodes.map(({ load, cap, standing, ...node }) => ({
      ...node,
      standing: standing as SimulatedNode['standing'],
      load: Number(load),
      cap: number(cap),
    })),
    zones: zones.map(({ load, ...zone }) => ({ ...zone, load: Number(load) })),
  };
}

export function explanationView(message: ExplainResponse): ShardExplanation {
  const { phase, state, move, budget, transitions, withheld, nodes, basis, ...rest } = message;
  const hidden = withheld.some(({ member }) => member === 'transitions');
  return {
    ...rest,
    phase: PHASES[phase] ?? 'Pending',
    state: STATES[state] ?? 'Active',
    move: move && { to: move.to, startedAt: time(move.startedAt) ?? '', deadline: time(move.deadline) ?? '' },
    budget: budget && { ...budget, drainTimeoutMs: Number(budget.drainTimeoutMs) },
    nodes: nodes.map((node) => ({ ...node, filters: node.filters! }) as ExplainedNode),
    transitions: hidden
      ? undefined
      : transitions.map(({ version, epoch, phase, actor, at, ...transition }) => ({
          ...transition,
          version: Number(version),
          epoch: number(epoch),
          phase: PHASES[phase] ?? 'Pending',
          actor: { kind: ACTORS[actor?.kind ?? ''] ?? 'Operator', name: actor?.name ?? '' },
          at: time(at) ?? '',
        })),
    withheld: withheld.length > 0 ? withheld : undefined,
    basis: basis as StateBasis,
  } as ShardExplanation;
}

function number(value: bigint | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}
