import { GetAccessResponse } from '@meshkit/proto/v1/access';
import {
  CacheStatus_State as CacheState,
  GetStatusResponse,
  JournalStatus_State as JournalState,
} from '@meshkit/proto/v1/status';
import type { RepositoryStatus } from '@meshkit/shards/repository';
import type { Access } from '@meshkit/shards/scope';
import { point } from './grpc-history.ts';

const CACHE = { fresh: CacheState.FRESH, stale: CacheState.STALE };
const JOURNAL = {
  current: JournalState.CURRENT,
  behind: JournalState.BEHIND,
  absent: JournalState.ABSENT,
  unreadable: JournalState.UNREADABLE,
};

/** What a caller may do, as bytes of a GetAccessResponse. */
export function accessBytes({ groups, scopes, ...rest }: Access): Uint8Array {
  return GetAccessResponse.encode({ ...rest, groups: [...groups], scopes: [...scopes] }).finish();
}

/** How the server is, as bytes of a GetStatusResponse. */
export function statusBytes({
  cache,
  journal: { state, head, floor, behindMs, ...journal },
  ...rest
}: RepositoryStatus & { api: string; version: string }): Uint8Array {
  return GetStatusResponse.encode({
    ...rest,
    cache: { ...cache, state: CACHE[cache.state] },
    journal: {
      ...journal,
      state: JOURNAL[state],
      head: head && point(head),
      floor: floor && point(floor),
      behindMs: behindMs === undefined ? undefined : BigInt(behindMs),
    },
  }).finish();
}
