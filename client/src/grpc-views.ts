import { type Node, NodeScheduling } from '@meshkit/proto/v1/node';
import { type Condition, ConditionStatus, Phase, type Shard, ShardState } from '@meshkit/proto/v1/shard';
import {
  Actor_Kind,
  type ChangeHistory,
  ResetReason,
  type ShardEvent,
  ShardEvent_Cause,
  ShardEvent_Type,
  Source,
  type Transport,
  type WatchResponse,
} from '@meshkit/proto/v1/watch';
import type { ConditionView, NodeView, ShardView } from '@meshkit/shards/shard-view';
import type { ChangeHistoryView, ShardMessage, TransportView, WatchMessage } from './watch-message.ts';

/** Messages of gRPC as the views that REST gives. */

const PHASES: Record<string, ShardView['phase']> = {
  [Phase.PENDING]: 'Pending',
  [Phase.ACTIVE]: 'Active',
  [Phase.DRAINING]: 'Draining',
  [Phase.PAUSED]: 'Paused',
  [Phase.DISABLED]: 'Disabled',
  [Phase.LOST]: 'Lost',
};
const STATES: Record<string, ShardView['state']> = {
  [ShardState.ACTIVE]: 'Active',
  [ShardState.PAUSED]: 'Paused',
  [ShardState.DISABLED]: 'Disabled',
};
const CONDITION_STATUSES: Record<string, ConditionView['status']> = {
  [ConditionStatus.TRUE]: 'True',
  [ConditionStatus.FALSE]: 'False',
};
const SCHEDULING: Record<string, NodeView['scheduling']> = {
  [NodeScheduling.ACTIVE]: 'Active',
  [NodeScheduling.CORDONED]: 'Cordoned',
  [NodeScheduling.DRAIN]: 'Drain',
};
export const EVENTS: Record<string, ShardMessage['event']> = {
  [ShardEvent_Type.ADDED]: 'ADDED',
  [ShardEvent_Type.MODIFIED]: 'MODIFIED',
  [ShardEvent_Type.DELETED]: 'DELETED',
};
const ACTORS: Record<string, string> = {
  [Actor_Kind.USER]: 'User',
  [Actor_Kind.FIELD_MANAGER]: 'FieldManager',
  [Actor_Kind.OPERATOR]: 'Operator',
};
const RESETS: Record<string, string> = {
  [ResetReason.EXPIRED]: 'expired',
  [ResetReason.LINEAGE_CHANGED]: 'lineageChanged',
  [ResetReason.SNAPSHOT_INTERRUPTED]: 'snapshotInterrupted',
  [ResetReason.UNSETTLED]: 'unsettled',
};

export function shardView(message: Shard): ShardView {
  const { epoch, version, generation, observedGeneration, move, since, conditions } = message;
  return {
    ...message,
    // Of a newer server; whoever does not know a phase must not take the shard for owned.
    phase: PHASES[message.phase] ?? 'Pending',
    state: STATES[message.state] ?? 'Active',
    epoch: Number(epoch),
    version: Number(version),
    generation: Number(generation),
    observedGeneration: Number(observedGeneration),
    move: move && { to: move.to, startedAt: time(move.startedAt) ?? '', deadline: time(move.deadline) ?? '' },
    since: time(since),
    conditions: conditions.length > 0 ? conditions.map(conditionView) : undefined,
  };
}

function conditionView({ type, status, reason, message }: Condition): ConditionView {
  return { type, status: CONDITION_STATUSES[status] ?? 'Unknown', reason, message };
}

export function time(date: Date | undefined): string | undefined {
  return date?.toISOString();
}

export function nodeView(message: Node): NodeView {
  return { ...message, scheduling: SCHEDULING[message.scheduling] ?? 'Active' };
}

/** Undefined for what a newer server may say. */
export function watchMessage(response: WatchResponse): WatchMessage | undefined {
  const { resumeToken: token, position, message } = response;
  const transport = response.transport && transportView(response.transport);
  switch (message?.$case) {
    case 'snapshotBegin': {
      const { lineage, delta } = message.value;
      const reason = RESETS[message.value.reason];
      const begin = { position, token, lineage, reason, delta: delta || undefined, transport };
      return { type: 'snapshot-begin', ...begin };
    }
    case 'shard':
      return shardEvent(message.value, position, token);
    case 'snapshotEnd':
      return { type: 'snapshot-end', position, token };
    case 'bookmark':
      return { type: 'bookmark', position, token, transport };
    case 'reset':
      return { type: 'reset', reason: RESETS[message.value.reason] ?? 'unknown', token };
    case 'goaway': {
      const { seconds = 0n, nanos = 0 } = message.value.reconnectAfter ?? {};
      return { type: 'goaway', reconnectAfterMs: Number(seconds) * 1_000 + nanos / 1_000_000, token };
    }
    default:
      return undefined;
  }
}

function shardEvent(value: ShardEvent, position: string, token: string): ShardMessage | undefined {
  const event = EVENTS[value.type];
  if (event === undefined) return undefined;
  return {
    type: 'shard',
    event,
    cause: value.cause === ShardEvent_Cause.FILTER ? 'filter' : undefined,
    position,
    current: value.current && shardView(value.current),
    previous: value.previous && shardView(value.previous),
    history: value.history && historyView(value.history),
    token,
    coalesced: value.coalesced > 1 ? value.coalesced : undefined,
    source: value.source === Source.RECONCILE ? 'reconcile' : undefined,
  };
}

export function historyView({
  actor,
  reason,
  changeTicket,
  previousOwner,
}: ChangeHistory): ChangeHistoryView {
  return {
    actor: actor && { kind: ACTORS[actor.kind] ?? 'Unknown', name: actor.name },
    reason,
    changeTicket,
    previousOwner,
  };
}

function transportView({ negotiated, requested, downgraded, reason }: Transport): TransportView {
  return { negotiated, requested: requested || undefined, downgraded, reason: reason || undefined };
}
