import {
  Actor_Kind,
  ResetReason,
  ShardEvent_Cause,
  ShardEvent_Type,
  Source,
  WatchResponse,
} from '@meshkit/proto/v1/watch';
import type { ChangeHistory } from '@meshkit/shards/change';
import type { Actor } from '@meshkit/shards/records';
import { served } from '@meshkit/shards/shard-view';
import type { Encoding, ResetReason as Reason, ShardMessage, WatchMessage } from '@meshkit/shards/watch';
import { bufferOf, shardMessage } from './grpc-views.ts';
import type { Transport } from './operation.ts';

export const EVENTS: Record<ShardMessage['event'], ShardEvent_Type> = {
  ADDED: ShardEvent_Type.ADDED,
  MODIFIED: ShardEvent_Type.MODIFIED,
  DELETED: ShardEvent_Type.DELETED,
};
export const ACTORS: Record<Actor['kind'], Actor_Kind> = {
  User: Actor_Kind.USER,
  FieldManager: Actor_Kind.FIELD_MANAGER,
  Operator: Actor_Kind.OPERATOR,
};
const RESETS: Record<Reason, ResetReason> = {
  expired: ResetReason.EXPIRED,
  lineageChanged: ResetReason.LINEAGE_CHANGED,
  snapshotInterrupted: ResetReason.SNAPSHOT_INTERRUPTED,
  unsettled: ResetReason.UNSETTLED,
};

/** How watch messages become bytes of WatchResponse: one encoding for each way in which streams are carried, which are few. */
export class GrpcEncodings {
  readonly #encodings = new Map<string, Encoding>();

  for(transport: Transport): Encoding {
    const key = JSON.stringify(transport);
    const known = this.#encodings.get(key);
    if (known) return known;
    const encode = (message: WatchMessage) =>
      bufferOf(WatchResponse.encode(response(message, transport)).finish());
    const encoding: Encoding = { name: 'grpc', encode };
    this.#encodings.set(key, encoding);
    return encoding;
  }
}

function response(message: WatchMessage, { reason = '', ...carried }: Transport): WatchResponse {
  const { type, token: resumeToken } = message;
  const transport = { ...carried, reason };
  switch (type) {
    case 'snapshot-begin': {
      const { position, lineage } = message;
      const reason = resetReason(message.reason);
      const value = { lineage, reason, delta: message.delta ?? false };
      return { resumeToken, position, message: { $case: 'snapshotBegin', value }, transport };
    }
    case 'shard':
      return { resumeToken, position: message.position, message: { $case: 'shard', value: event(message) } };
    case 'snapshot-end':
      return { resumeToken, position: message.position, message: { $case: 'snapshotEnd', value: {} } };
    case 'bookmark': {
      const { position } = message;
      return { resumeToken, position, message: { $case: 'bookmark', value: {} }, transport };
    }
    case 'reset': {
      const value = { reason: resetReason(message.reason) };
      return { resumeToken, position: '', message: { $case: 'reset', value }, transport };
    }
    case 'goaway': {
      const { reconnectAfterMs } = message;
      const seconds = Math.floor(reconnectAfterMs / 1_000);
      const nanos = Math.floor((reconnectAfterMs - seconds * 1_000) * 1_000_000);
      const value = { reconnectAfter: { seconds: BigInt(seconds), nanos } };
      return { resumeToken, position: '', message: { $case: 'goaway', value } };
    }
  }
}

function event({ event, cause, current, previous, history, coalesced, source }: ShardMessage) {
  return {
    type: EVENTS[event],
    cause: cause === 'filter' ? ShardEvent_Cause.FILTER : ShardEvent_Cause.UNSPECIFIED,
    current: current && shardMessage(served(current)),
    previous: previous && shardMessage(served(previous)),
    history: history && historyMessage(history),
    coalesced: coalesced ?? 0,
    source: source === 'reconcile' ? Source.RECONCILE : Source.UNSPECIFIED,
  };
}

export function historyMessage({ actor, ...rest }: ChangeHistory) {
  return {
    ...rest,
    actor: actor && { name: actor.name, kind: ACTORS[actor.kind] ?? Actor_Kind.UNSPECIFIED },
  };
}

function resetReason(reason: Reason | undefined): ResetReason {
  return reason === undefined ? ResetReason.UNSPECIFIED : RESETS[reason];
}
