import { type DiffResponse, type NetChange, NetChange_Kind } from '@meshkit/proto/v1/diff';
import type { HistoryResponse, LoggedChange, HistoryPoint as PointMessage } from '@meshkit/proto/v1/history';
import { Source } from '@meshkit/proto/v1/watch';
import type { LogItem, NetItem } from '@meshkit/shards/diff';
import type { DiffPage, HistoryPage, HistoryPoint } from '@meshkit/shards/repository';
import { EVENTS, historyView, shardView, time } from './grpc-views.ts';

/** Answers about the past as the pages that REST gives. */

const KINDS: Record<string, NetItem['change']> = {
  [NetChange_Kind.ADDED]: 'Added',
  [NetChange_Kind.REMOVED]: 'Removed',
  [NetChange_Kind.MOVED]: 'Moved',
};
const NO_SUMMARY = { shards: 0, moved: 0, added: 0, removed: 0, statusChanged: 0, churn: 0, matrix: [] };

export function diffPage(answer: DiffResponse, mode: DiffPage['mode']): DiffPage {
  const { lineage, from, to, summary, net, log, nextPageToken, coalesced } = answer;
  return {
    mode,
    lineage,
    from: point(from),
    to: point(to),
    summary: summary ?? NO_SUMMARY,
    items: mode === 'log' ? log.map(logItem) : net.map(netItem),
    next: nextPageToken || undefined,
    coalesced,
  };
}

export function historyPage(answer: HistoryResponse): HistoryPage {
  const { namespace, name, floor, changes, nextPageToken } = answer;
  return {
    namespace,
    name,
    floor: point(floor),
    items: changes.map(logItem),
    next: nextPageToken || undefined,
  };
}

export function point(message: PointMessage | undefined): HistoryPoint {
  return { position: message?.position ?? '', at: time(message?.at) };
}

function netItem({ change, before, after, ...rest }: NetChange): NetItem {
  return {
    ...rest,
    change: KINDS[change] ?? 'Changed',
    before: before && shardView(before),
    after: after && shardView(after),
  };
}

function logItem({ type, at, before, after, history, source, coalesced, ...rest }: LoggedChange): LogItem {
  return {
    ...rest,
    ...((history && historyView(history)) as Pick<
      LogItem,
      'actor' | 'reason' | 'changeTicket' | 'previousOwner'
    >),
    at: time(at) ?? '',
    type: EVENTS[type] ?? 'MODIFIED',
    before: before && shardView(before),
    after: after && shardView(after),
    source: source === Source.RECONCILE ? 'reconcile' : 'watch',
    coalesced: coalesced > 1 ? coalesced : undefined,
  };
}
