import { LEASES } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { compareVersions, VERSION_ANNOTATION } from '@meshkit/shards/records';
import { age } from './age.ts';
import type { CallLimits, ShardSource } from './shard-source.ts';
import type { ApiClient, Kube } from './surroundings.ts';

/** A part of the product, or of what it stands on, as far as it can be seen from here. */
export interface Component {
  name: 'api' | 'operator' | 'kubernetes' | 'journal';
  /** `unknown`: nobody here can say; `absent`: there is none, and none is needed. */
  state: 'ok' | 'bad' | 'unknown' | 'absent';
  /** For people. */
  detail: string;
  server?: string;
  version?: string;
  /** Bad: how the program would end, were it about this alone. */
  error?: ShardError;
}

/** Clocks differ; and a takeover takes a moment more than the Lease lasts. */
const LEASE_GRACE_MS = 5_000;
const DEFAULT_LEASE_S = 15;
/** Longer than a change waits for others to be written down with. */
const BATCH_MS = 2_000;

export async function probeApi(
  server: string,
  client: Pick<ApiClient, 'about'>,
  limits: CallLimits,
): Promise<Component> {
  return attempt('api', server, async () => {
    const { version = 'unknown', api } = await client.about(limits);
    return { version, detail: `${version}, contract ${api}, at ${server}` };
  });
}

export async function probeKubernetes(
  kube: Pick<Kube, 'raw' | 'server'>,
  limits: CallLimits,
): Promise<Component> {
  return attempt('kubernetes', kube.server, async () => {
    const { gitVersion = 'unknown' } = (await kube.raw('GET', '/version', limits)) as { gitVersion?: string };
    return { version: gitVersion, detail: `${gitVersion} at ${kube.server}` };
  });
}

/** By its leader Lease, which not everybody may read. */
export async function probeOperator(
  kube: Pick<Kube, 'get' | 'server'>,
  { namespace, name }: { namespace: string; name: string },
  clock: Clock,
  limits: CallLimits,
): Promise<Component> {
  const what = `Lease ${name} in namespace ${namespace}`;
  try {
    const { metadata, spec = {} } = await kube.get(LEASES, { namespace, name }, limits);
    const { holderIdentity: holder, renewTime, leaseDurationSeconds = DEFAULT_LEASE_S } = spec;
    const version = metadata.annotations?.[VERSION_ANNOTATION];
    if (!holder || renewTime === undefined) {
      return { name: 'operator', state: 'bad', detail: `nobody holds ${what}: no operator runs`, version };
    }
    const renewed = `${holder} leads, last heard of ${age(renewTime, clock.now())} ago`;
    const deadAt = Date.parse(renewTime) + leaseDurationSeconds * 1_000 + LEASE_GRACE_MS;
    if (clock.now() <= deadAt) return { name: 'operator', state: 'ok', detail: renewed, version };
    return { name: 'operator', state: 'bad', detail: `${renewed}: no operator runs`, version };
  } catch (error) {
    if (!(error instanceof ShardError)) throw error;
    const { code } = error;
    if (code === 'notFound') {
      return {
        name: 'operator',
        state: 'bad',
        detail: `there is no ${what}: no operator ever ran, or it has another`,
      };
    }
    const why = code === 'scopeMissing' ? `you may not read ${what}` : error.message;
    return { name: 'operator', state: 'unknown', detail: why };
  }
}

/**
 * Whether every change that the server has seen is written down. `newest`: of the changes. Asking for what lies before all
 * history is refused with how far it reaches.
 */
export async function probeJournal(
  source: Pick<ShardSource, 'diff'>,
  { namespace, newest }: { namespace: string | undefined; newest: string },
  clock: Clock,
  limits: CallLimits,
): Promise<Component> {
  const name = 'journal';
  const range = { mode: 'net', from: '1' } as const;
  for (let look = 1; ; look++) {
    let error: unknown;
    try {
      for await (const _ of source.diff({ namespace }, range, { ...limits, pageSize: 1, limit: 1 })) break;
      return { name, state: 'ok', detail: 'has everything since the beginning' };
    } catch (caught) {
      error = caught;
    }
    if (!(error instanceof ShardError)) throw error;
    const { code, details } = error;
    if (code === 'scopeMissing')
      return { name, state: 'unknown', detail: 'you may not observe, so it does not tell' };
    if (details.reason === 'noJournal')
      return { name, state: 'absent', detail: 'there is none: no diff, no history' };
    const head = (details.head as { position?: unknown } | undefined)?.position ?? details.head;
    if (code !== 'tokenExpired' || typeof head !== 'string') {
      return { name, state: 'bad', detail: error.message, error };
    }
    if (compareVersions(head, newest) >= 0) {
      return { name, state: 'ok', detail: `everything up to ${head} is written down` };
    }
    if (look > 1) {
      const detail = `written down up to ${head} only, the newest change is ${newest}: resume tokens and history end there`;
      return { name, state: 'bad', detail };
    }
    // Changes are written down in batches.
    await clock.sleep(BATCH_MS, limits.signal);
  }
}

async function attempt(
  name: Component['name'],
  server: string,
  ask: () => Promise<{ version: string; detail: string }>,
): Promise<Component> {
  try {
    return { name, state: 'ok', server, ...(await ask()) };
  } catch (error) {
    if (!(error instanceof ShardError)) throw error;
    return { name, state: 'bad', server, detail: error.message, error };
  }
}
