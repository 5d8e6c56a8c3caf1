import type { ServerStatus } from '@meshkit/client/backend';
import { LEASES } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { VERSION_ANNOTATION } from '@meshkit/shards/records';
import type { JournalStatus } from '@meshkit/shards/repository';
import { quoted } from '@meshkit/shards/scope';
import { age } from './age.ts';
import type { SameFlags } from './connection.ts';
import { durationText } from './duration.ts';
import type { CallLimits } from './shard-source.ts';
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
  /** Bad: what is wrong, in a few words, where it is not that the component does not work. */
  finding?: string;
  /** Bad or unknown: how the program would end, were it about this alone. */
  error?: ShardError;
}

/** Clocks differ; and a takeover takes a moment more than the Lease lasts. */
const LEASE_GRACE_MS = 5_000;
const DEFAULT_LEASE_S = 15;

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

interface LeaseKey {
  namespace: string;
  name: string;
}

/** By its leader Lease, which everybody may read, unless it is another one than the roles of the product know. */
export async function probeOperator(
  kube: Pick<Kube, 'get' | 'server'>,
  { namespace, name }: LeaseKey,
  { cluster }: SameFlags,
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
    const remedy = leaseGrant({ namespace, name }, cluster);
    const why = code === 'scopeMissing' ? `you may not read ${what}; grant it: ${remedy}` : error.message;
    return { name: 'operator', state: 'unknown', detail: why, error };
  }
}

/** As `meshkit-operator-health` in crds/src/roles.ts does, for this Lease. */
function leaseGrant({ namespace, name }: LeaseKey, cluster: string): string {
  const [lease, where] = [quoted(name), ` -n ${quoted(namespace)}${cluster}`];
  const role = `lease-${lease}`;
  const create = `kubectl create role ${role} --verb=get --resource=leases.coordination.k8s.io`;
  const bind = `kubectl create rolebinding ${role} --role=${role} --group=system:authenticated`;
  return `${create} --resource-name=${lease}${where} && ${bind}${where}`;
}

/** The API server and its journal, as the server itself says, or why it does not. */
export function serverComponents(server: string, status: ServerStatus | ShardError): Component[] {
  const api = { name: 'api', state: 'ok', server, detail: `answers at ${server}` } as const;
  if (status instanceof ShardError) {
    const tooOld = `${server} is older than this program and does not tell`;
    const detail = status.code === 'notFound' ? tooOld : status.message;
    return [api, { name: 'journal', state: 'unknown', detail }];
  }
  const { version, cache, journal } = status;
  if (cache.state === 'fresh') return [{ ...api, version }, journalComponent(journal)];
  const finding = 'the MeshKit API server does not see what happens now';
  const detail = `${api.detail}, from memory: ${cache.detail}`;
  return [{ ...api, version, state: 'bad', finding, detail }, journalComponent(journal)];
}

function journalComponent({ state, head, newest, behindMs = 0, detail }: JournalStatus): Component {
  const name = 'journal';
  if (state === 'absent') return { name, state: 'absent', detail: 'there is none: no diff, no history' };
  if (state === 'current') {
    return { name, state: 'ok', detail: `everything up to ${head?.position} is written down` };
  }
  if (state === 'behind') {
    const waits = `a change has been waiting for ${durationText(behindMs)}, the newest is ${newest}`;
    const why = `written down up to ${head?.position} only, ${waits}: resume tokens and history end there`;
    return { name, state: 'bad', detail: why };
  }
  return { name, state: 'bad', finding: 'the journal cannot be read', detail: detail ?? state };
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
