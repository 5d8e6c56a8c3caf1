import { ERRORS, ShardError } from '@meshkit/shards/errors';
import manifest from '../../package.json' with { type: 'json' };
import { type Component, probeApi, probeKubernetes, probeOperator } from '../components.ts';
import { limitsOf } from '../connected.ts';
import { connectApi, connectKube, findApi, sameFlags } from '../connection.ts';
import type { Flags } from '../flags.ts';
import { fieldsText, type Look, printAnswer } from '../print.ts';
import { withProgress } from '../progress.ts';
import type { Surroundings } from '../surroundings.ts';
import type { Work } from '../verb.ts';

interface Versions {
  client: { version: string };
  /** Absent with `--client`. */
  components?: Omit<Component, 'error'>[];
}

/** Where the operator's leader Lease lives unless somebody changed it. */
const LEASE = { namespace: 'meshkit-system', name: 'meshkit-operator' };

export const version: Work<{ client?: boolean }> = async ({ flags, format, around }) => {
  const components = flags.client
    ? undefined
    : await withProgress('asking for versions', around, componentsOf(flags, around));
  const model: Versions = {
    client: { version: manifest.version },
    components: components?.map(({ error: _, ...component }) => component),
  };
  await printAnswer(model, { format, text: versionsText }, flags, around.stdout);
  const failed = components?.find(({ state, error }) => state === 'bad' && error);
  return failed?.error ? ERRORS[failed.error.code].exit : 0;
};

function versionsText({ client, components = [] }: Versions, look: Look): string {
  const titles = { api: 'SERVER', kubernetes: 'KUBERNETES', operator: 'OPERATOR', journal: 'JOURNAL' };
  return fieldsText(
    [
      ['CLIENT', client.version],
      ...components.map(({ name, state, detail, version }) => {
        const text = name === 'operator' && version !== undefined ? `${version}, ${detail}` : detail;
        return [titles[name], text, state === 'bad' ? ('red' as const) : undefined] as const;
      }),
    ],
    look,
  );
}

async function componentsOf(flags: Flags, around: Surroundings): Promise<Component[]> {
  const [api, others] = await Promise.all([apiOf(flags, around), clusterOf(flags, around)]);
  return [api, ...others];
}

async function apiOf(flags: Flags, around: Surroundings): Promise<Component> {
  const absent = (detail: string): Component => ({ name: 'api', state: 'absent', detail });
  if (flags.mode === 'direct') return absent('not asked in direct mode');
  const api = await findApi(flags, around);
  if (api instanceof ShardError) {
    if (flags.mode === 'api') throw api;
    return absent(api.code === 'unauthenticated' ? api.message : 'none is configured');
  }
  const client = await connectApi(api, flags, around);
  try {
    return await probeApi(api.server, client, limitsOf(flags, around));
  } finally {
    await client.close();
  }
}

/** Kubernetes and the operator; nothing where there is no kubeconfig. */
async function clusterOf(flags: Flags, around: Surroundings): Promise<Component[]> {
  if (flags.mode === 'api') {
    const notAsked = { state: 'absent', detail: 'not asked in api mode' } as const;
    return [
      { name: 'kubernetes', ...notAsked },
      { name: 'operator', ...notAsked },
    ];
  }
  let kube: Awaited<ReturnType<typeof connectKube>>;
  try {
    kube = await connectKube(flags, around);
  } catch (error) {
    if (!(error instanceof ShardError) || flags.mode === 'direct' || flags.kubeconfig !== undefined)
      throw error;
    return [{ name: 'kubernetes', state: 'absent', detail: error.message }];
  }
  try {
    const limits = limitsOf(flags, around);
    const [kubernetes, operator] = await Promise.all([
      probeKubernetes(kube, limits),
      probeOperator(kube, LEASE, sameFlags(flags), around.clock, limits),
    ]);
    return [kubernetes, operator];
  } finally {
    await kube.close();
  }
}
