import type { Clock } from '@meshkit/shards/clock';
import { type ListPlace, openCursor, sealCursor } from '@meshkit/shards/cursor';
import { ShardError } from '@meshkit/shards/errors';
import { compareVersions } from '@meshkit/shards/records';
import type { ShardFilter, ShardPage, ShardRepository } from '@meshkit/shards/repository';

/** How long a request waits for a position that this replica has not reached. */
const WAIT_MS = 3_000;

export interface ListRequest {
  pageSize: number;
  /** `nextCursor` of the page before. */
  cursor?: string;
  /** Do not answer from a state older than this position: read your own write. */
  minVersion?: string;
}

/** One page of a list as REST and gRPC answer it. */
export interface ListPage {
  items: ShardPage['items'];
  versionVector: ShardPage['versionVector'];
  /** Absent after the last item, also when the page is full. */
  nextCursor?: string;
  /** Absent on `keyset` pages: no position stands for all pages together, so a watch starts with a snapshot. */
  resumeToken?(): string;
  consistency: ShardPage['consistency'];
}

/** A repository, and the clock that its waiting goes by. */
export interface ListSource {
  repository: Pick<ShardRepository, 'list' | 'waitFor'>;
  clock: Pick<Clock, 'sleep'>;
}

/**
 * All pages of a list show the state of one position, which the cursor names. Throws `tokenInvalid`, `filterMismatch`;
 * `cursorExpired` when that state is not known any more, with `resume: {cursor, consistency: 'keyset'}` to go on at
 * the newest; `unavailable` when this replica has not caught up with `minVersion` or with the cursor in time.
 */
export async function listPage(
  source: ListSource,
  filter: ShardFilter,
  { pageSize, cursor, minVersion }: ListRequest,
  signal: AbortSignal,
): Promise<ListPage> {
  const place = cursor === undefined ? undefined : openCursor(filter, cursor);
  if (minVersion !== undefined) await reach(source, minVersion, signal, '/query/minVersion');
  const page = await pageAt(source, filter, pageSize, place, signal);
  const { items, next, versionVector, resumeToken } = page;
  const keyset = place?.keyset === true || page.consistency === 'keyset';
  const { position, lineage = '' } = versionVector;
  const nextPlace = next === undefined ? undefined : { after: next, cut: { lineage, position }, keyset };
  return {
    items,
    versionVector,
    nextCursor: nextPlace && sealCursor(filter, nextPlace),
    resumeToken: keyset ? undefined : resumeToken,
    consistency: keyset ? 'keyset' : 'snapshot',
  };
}

async function pageAt(
  source: ListSource,
  filter: ShardFilter,
  limit: number,
  place: ListPlace | undefined,
  signal: AbortSignal,
): Promise<ShardPage> {
  const { repository } = source;
  const { after, cut } = place ?? {};
  const exact = { limit, after, at: cut?.position };
  const page = await repository.list(filter, exact).catch(async (error: unknown) => {
    if (!(error instanceof ShardError) || error.code !== 'cursorExpired' || !cut) throw error;
    const { versionVector } = await repository.list(filter, { limit: 1 });
    const ahead = compareVersions(cut.position, versionVector.position) > 0;
    if ((versionVector.lineage ?? '') !== cut.lineage || !ahead) throw expired(filter, place, error);
    // Another replica cut the list at a position that has not arrived here.
    await reach(source, cut.position, signal, '/query/cursor');
    return repository.list(filter, exact);
  });
  if (cut && (page.versionVector.lineage ?? '') !== cut.lineage) throw expired(filter, place);
  return page;
}

/** Throws `unavailable` after `WAIT_MS`. */
export async function reach(
  { repository, clock }: ListSource,
  position: string,
  signal: AbortSignal,
  pointer: string,
): Promise<void> {
  const done = new AbortController();
  const late = new AbortController();
  const timer = clock.sleep(WAIT_MS, AbortSignal.any([done.signal, signal])).then(
    () => late.abort(),
    () => undefined,
  );
  const reached = await repository.waitFor(position, AbortSignal.any([late.signal, signal]));
  done.abort();
  await timer;
  if (reached) return;
  const detail = `this replica has not seen position ${position} within ${WAIT_MS / 1_000} s`;
  throw new ShardError('unavailable', `${detail}; try again, or ask without it`, {
    reason: 'notReached',
    errors: [{ pointer, detail }],
  });
}

function expired(filter: ShardFilter, place: ListPlace | undefined, cause?: unknown): ShardError {
  const detail = 'the state that this list was cut at is no longer known';
  const cursor = sealCursor(filter, { after: place?.after ?? '', keyset: true });
  return new ShardError(
    'cursorExpired',
    `${detail}; start again without the cursor, or go on at the newest state with the one in "resume"`,
    { resume: { cursor, consistency: 'keyset' }, errors: [{ pointer: '/query/cursor', detail }] },
    cause,
  );
}
