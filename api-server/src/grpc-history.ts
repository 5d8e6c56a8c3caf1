import { DiffMode, DiffResponse, NetChange_Kind } from '@meshkit/proto/v1/diff';
import { HistoryResponse, type LoggedChange } from '@meshkit/proto/v1/history';
import { Source } from '@meshkit/proto/v1/watch';
import type { LogItem, NetItem } from '@meshkit/shards/diff';
import type { DiffPage, HistoryPage, HistoryPoint } from '@meshkit/shards/repository';
import { EVENTS, historyMessage } from './grpc-encoding.ts';
import { shardMessage, time } from './grpc-views.ts';

const KINDS: Record<NetItem['change'], NetChange_Kind> = {
  Added: NetChange_Kind.ADDED,
  Removed: NetChange_Kind.REMOVED,
  Moved: NetChange_Kind.MOVED,
  Changed: NetChange_Kind.CHANGED,
};

/** What was changed, as bytes of a DiffResponse. */
export function diffBytes({ mode, items, next = '', from, to, ...rest }: DiffPage): Uint8Array {
  return DiffResponse.encode({
    ...rest,
    mode: mode === 'log' ? DiffMode.LOG : DiffMode.NET,
    from: point(from),
    to: point(to),
    net: items.filter((item) => 'hops' in item).map(netChange),
    log: items.filter((item) => 'ordinal' in item).map(loggedChange),
    nextPageToken: next,
  }).finish();
}

/** What happened to a shard, as bytes of a HistoryResponse. */
export function historyBytes({ namespace, name, floor, items, next = '' }: HistoryPage): Uint8Array {
  const changes = items.map(loggedChange);
  return HistoryResponse.encode({
    namespace,
    name,
    floor: point(floor),
    changes,
    nextPageToken: next,
  }).finish();
}

export function point({ position, at }: HistoryPoint) {
  return { position, at: time(at) };
}

function netChange({ change, before, after, ...rest }: NetItem) {
  return {
    ...rest,
    change: KINDS[change],
    before: before && shardMessage(before),
    after: after && shardMessage(after),
  };
}

function loggedChange(item: LogItem): LoggedChange {
  const { type, at, before, after, source, coalesced = 0, ...rest } = item;
  const { actor, reason, changeTicket, previousOwner } = item;
  return {
    ...rest,
    at: time(at),
    type: EVENTS[type],
    before: before && shardMessage(before),
    after: after && shardMessage(after),
    history: historyMessage({ actor, reason, changeTicket, previousOwner }),
    source: source === 'reconcile' ? Source.RECONCILE : Source.WATCH,
    coalesced,
  };
}
