import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { compareVersions, type KubeObject } from '@meshkit/shards/records';
import { Backoff } from './backoff.ts';
import { type KubeClient, listAll } from './kube-client.ts';
import { retryAfterMs, statusOf } from './kube-error.ts';
import type { Log } from './log.ts';
import type { Resource } from './resource.ts';

const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 10_000;
const LONGEST_RETRY_AFTER_MS = 60_000;
const LIST_TIMEOUT_MS = 30_000;
/** The server ends each watch after 5 to 10 minutes, each its own, so that watches do not come back in one wave. */
const WATCH_SECONDS = 300;
/** A watch that was open for less than this, without an event, did not work; a longer one did. */
const SHORTEST_WATCH_MS = 1000;
/** After this many refusals in a row of a watch from one version, a list finds out what is wrong with it. */
const REFUSALS_BEFORE_LIST = 3;

export type ReflectorEvent<T> =
  | { type: 'REPLACED'; items: T[]; resourceVersion: string }
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T }
  | { type: 'BOOKMARK'; resourceVersion: string };

export interface ReflectorState {
  /** Whether a watch is open. Stays true from one watch to the next if nothing failed. */
  connected: boolean;
  /** The newest failure; absent while connected. */
  error?: Error;
}

export interface ReflectorOptions<T extends KubeObject> {
  client: Pick<KubeClient, 'list' | 'watch'>;
  resource: Resource<T>;
  /** Absent: all namespaces. */
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  clock: Clock;
  /** In [0, 1). */
  random: () => number;
  log: Log;
  signal: AbortSignal;
  /**
   * The consumer knows everything up to this version: begins with the watch from there, and with a list only where the
   * server no longer has that history, or never had it.
   */
  since?: string;
  /** Called on every connect and on every failure. */
  onState?: (state: ReflectorState) => void;
  /** What is handed on in place of each object. */
  transform?: (object: T) => T;
  /** Called just before a list is asked for: what was written before now will be in it. */
  onList?: () => void;
  /** Given the server's newest version: whether the consumer knows of something that only a list can settle. */
  doubts?: (newest: string) => boolean;
  /** Milliseconds of silence until an open watch counts as dead; see WatchOptions. */
  idleTimeoutMs?: number;
  /** Milliseconds for each request, of a watch until it is accepted. Absent: 30,000 for a page of a list, 10,000 else. */
  timeoutMs?: number;
}

/**
 * Follows one resource: REPLACED with a consistent list, then every change after it in order, and REPLACED again
 * whenever the server no longer has the history in between, or was itself restored to an older state. Never skips,
 * never repeats, never travels back by itself (lists are quorum reads). Pulls: a slow consumer slows the connection,
 * nothing is queued. Ends only when aborted, and yields nothing after that. Modelled on client-go's reflector.
 */
export async function* reflect<T extends KubeObject>(
  o: ReflectorOptions<T>,
): AsyncGenerator<ReflectorEvent<T>, void> {
  const { client, resource, namespace, labelSelector, fieldSelector, clock, signal, timeoutMs, transform } =
    o;
  const selection = { namespace, labelSelector, fieldSelector };
  const log = { resource: resource.plural, namespace };
  const backoff = new Backoff({ baseMs: FIRST_WAIT_MS, capMs: LONGEST_WAIT_MS, random: o.random });
  /** Everything up to here has been yielded; undefined: a list is due. */
  let version = o.since;
  let refusals = 0;
  /** Whether a list because of 410 has not yet been followed by a watch that worked. */
  let relisted = false;
  let openedAt: number | undefined;
  const worked = () => {
    relisted = false;
    backoff.reset();
  };
  const lasted = () => openedAt !== undefined && clock.monotonic() - openedAt >= SHORTEST_WATCH_MS;

  while (!signal.aborted) {
    openedAt = undefined;
    try {
      if (version === undefined) {
        o.onList?.();
        const patience = { signal, timeoutMs: timeoutMs ?? LIST_TIMEOUT_MS };
        const list = await listAll(client, resource, { ...selection, ...patience });
        if (signal.aborted) return;
        version = list.resourceVersion;
        const items = transform ? list.items.map(transform) : list.items;
        yield { type: 'REPLACED', items, resourceVersion: version };
      } else {
        // A watch from a version that the server has yet to reach is accepted, and stays silent (Kubernetes 1.37). So
        // before each further watch a quorum read tells whether etcd was restored to an older state.
        const one = { ...selection, signal, timeoutMs, limit: 1 };
        const { resourceVersion: newest } = await client.list(resource, one);
        if (signal.aborted) return;
        if (compareVersions(newest, version) < 0 || o.doubts?.(newest)) {
          o.log.info({ ...log, version, newest }, 'the server may have gone back in time, listing again');
          version = undefined;
          continue;
        }
      }
      const watch = client.watch(resource, {
        ...selection,
        resourceVersion: version,
        timeoutSeconds: Math.round(WATCH_SECONDS * (1 + o.random())),
        signal,
        idleTimeoutMs: o.idleTimeoutMs,
        timeoutMs,
        onOpen: () => {
          openedAt = clock.monotonic();
          o.onState?.({ connected: true });
        },
      });
      let events = 0;
      for await (const event of watch) {
        if (signal.aborted) return;
        version = event.type === 'BOOKMARK' ? event.resourceVersion : event.object.metadata.resourceVersion;
        events += 1;
        refusals = 0;
        worked();
        if (transform && event.type !== 'BOOKMARK') event.object = transform(event.object);
        yield event;
      }
      if (events === 0 && !lasted())
        throw new ShardError('unavailable', `a watch of ${resource.plural} ended at once, without an event`);
      worked();
    } catch (error) {
      if (signal.aborted) return;
      if (lasted()) worked();
      const status = statusOf(error);
      const gone = status === 410;
      if (isRefusal(error)) refusals += 1;
      // 404: the resource's definition was deleted; when it comes back, its history is another one.
      if (gone || status === 404 || refusals >= REFUSALS_BEFORE_LIST) {
        version = undefined;
        refusals = 0;
      }
      o.onState?.({ connected: false, error: error instanceof Error ? error : new Error(String(error)) });
      if (gone && !relisted) {
        // The ordinary end of a long interruption: the list may start at once.
        relisted = true;
        o.log.info({ ...log, err: error }, 'watch history is gone, listing again');
        continue;
      }
      const again = backoff.failures > 0;
      const waitMs = Math.max(backoff.next(), Math.min(retryAfterMs(error) ?? 0, LONGEST_RETRY_AFTER_MS));
      o.log[again ? 'debug' : 'warn'](
        { ...log, err: error, waitMs, failures: backoff.failures },
        'watch failed',
      );
      await pause(clock, waitMs, signal);
    }
  }
}

/** The server answered, and not with "later": asking the same again may never succeed. */
function isRefusal(error: unknown): boolean {
  const status = statusOf(error);
  if (status !== undefined) return status !== 429;
  return error instanceof ShardError && error.code === 'internal';
}

async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    // Being woken by the abort is the ordinary end; the loop sees it.
    if (!signal.aborted) throw error;
  }
}
