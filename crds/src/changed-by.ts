import type { Clock } from '@meshkit/shards/clock';
import { Backoff } from './backoff.ts';
import type { KubeClient } from './kube-client.ts';
import { statusOf } from './kube-error.ts';
import type { Log } from './log.ts';
import { CHANGED_BY_BINDINGS } from './resource.ts';
import { CHANGED_BY_NAME } from './roles.ts';

/** Forbidden, not there, not served. */
const NO = [403, 404, 501];

/**
 * Whether the annotation `changed-by` can be believed: the binding of the policy that stamps and guards it is there.
 * Where it is not (Kubernetes before 1.36, the embedded control plane), whoever may patch an object may write the
 * annotation. Asks until kube-apiserver has answered, and logs a no; false when aborted before.
 */
export async function isChangedByGuarded(options: {
  client: Pick<KubeClient, 'get'>;
  clock: Clock;
  random: () => number;
  log: Log;
  signal: AbortSignal;
}): Promise<boolean> {
  const { client, clock, random, log, signal } = options;
  const backoff = new Backoff({ baseMs: 500, capMs: 15_000, random });
  while (!signal.aborted) {
    try {
      await client.get(CHANGED_BY_BINDINGS, { name: CHANGED_BY_NAME }, { signal });
      return true;
    } catch (error) {
      if (signal.aborted) break;
      const status = statusOf(error) ?? 0;
      if (NO.includes(status)) {
        log.info(
          { binding: CHANGED_BY_NAME, status },
          'nobody guards who changed a spec: actors are field managers',
        );
        return false;
      }
      await clock.sleep(backoff.next(), signal).catch((reason: unknown) => {
        if (!signal.aborted) throw reason;
      });
    }
  }
  return false;
}
