import {
  CacheStatus_State as CacheState,
  type GetStatusResponse,
  JournalStatus_State as JournalState,
} from '@meshkit/proto/v1/status';
import type { JournalStatus } from '@meshkit/shards/repository';
import type { ServerStatus } from './backend.ts';
import { point } from './grpc-history.ts';

const JOURNAL: Record<string, JournalStatus['state']> = {
  [JournalState.CURRENT]: 'current',
  [JournalState.BEHIND]: 'behind',
  [JournalState.ABSENT]: 'absent',
};

/** How a server is, as REST says it. */
export function statusView({ cache, journal, ...rest }: GetStatusResponse): ServerStatus {
  const { state = '', head, floor, behindMs, newest, detail } = journal ?? {};
  return {
    ...rest,
    cache: { state: cache?.state === CacheState.STALE ? 'stale' : 'fresh', detail: cache?.detail },
    journal: {
      state: JOURNAL[state] ?? 'unreadable',
      head: head && point(head),
      floor: floor && point(floor),
      newest,
      behindMs: behindMs === undefined ? undefined : Number(behindMs),
      detail,
    },
  };
}
