import { ShardError } from '@meshkit/shards/errors';
import { GROUP } from '@meshkit/shards/records';
import {
  type Access,
  SCOPE_RESOURCE,
  SCOPES,
  type Scope,
  scopeAccess,
  scopeMissing,
} from '@meshkit/shards/scope';
import { limitsOf } from '../connected.ts';
import { connectApi, connectKube, findApi, sameFlags } from '../connection.ts';
import { type Flags, namespaceOf } from '../flags.ts';
import { fieldsText, printAnswer, styled } from '../print.ts';
import { withProgress } from '../progress.ts';
import type { CallLimits } from '../shard-source.ts';
import type { Kube, Surroundings } from '../surroundings.ts';
import type { Work } from '../verb.ts';

/** Says what a caller may do, and who the caller is. */
interface Judge {
  /** Who decided, and where. */
  by: 'kubernetes' | 'api';
  server: string;
  /** Of the kubeconfig's context. */
  namespace: string;
  access(namespace: string | undefined): Promise<Access>;
  close(): Promise<void>;
}

interface Permission {
  allowed: boolean;
  scope: string;
  /** Absent: in all namespaces. */
  namespace?: string;
  user: string;
  decidedBy: 'kubernetes' | 'api';
  /** When not allowed: the command that grants it. */
  grant?: string;
}

export const canI: Work<object> = async ({ flags, format, around }, asked) =>
  judged(flags, around, async (judge) => {
    const namespace = namespaceOf(flags, judge.namespace);
    const { user, scopes } = await judge.access(namespace);
    const scope = `mesh.${asked}`;
    const { allowed = false, grant: command } = scopes.find((one) => one.scope === scope) ?? {};
    const grant = command && command + sameFlags(flags).cluster;
    const model: Permission = { allowed, scope, namespace, user, decidedBy: judge.by, grant };
    const text = ({ allowed }: Permission, look: { color: boolean }) =>
      `${styled(allowed ? 'green' : 'red', allowed ? 'yes' : 'no', look)}\n`;
    await printAnswer(model, { format, text }, flags, around.stdout);
    if (grant !== undefined) await around.stderr.write(`  grant it:     ${grant}\n`);
    return allowed ? 0 : 1;
  });

interface Identity {
  user: string;
  groups: readonly string[];
  server: string;
  decidedBy: 'kubernetes' | 'api';
  namespace?: string;
  scopes: Partial<Record<Scope, boolean>>;
}

export const whoAmI: Work<object> = async ({ flags, format, around }) =>
  judged(flags, around, async (judge) => {
    const { by: decidedBy, server } = judge;
    const namespace = namespaceOf(flags, judge.namespace);
    const { user, groups, scopes } = await judge.access(namespace);
    const may = scopes.map(({ scope, allowed }) => [scope.replace('mesh.', ''), allowed]);
    const model: Identity = { user, groups, server, decidedBy, namespace, scopes: Object.fromEntries(may) };
    await printAnswer(model, { format, text: identityText }, flags, around.stdout);
    return 0;
  });

function identityText(model: Identity, look: Parameters<typeof fieldsText>[1]): string {
  const { user, groups, server, namespace, scopes, decidedBy } = model;
  const has = SCOPES.filter((scope) => scopes[scope]);
  const lacks = SCOPES.filter((scope) => !scopes[scope]);
  return fieldsText(
    [
      ['USER', user],
      ['GROUPS', groups.length > 0 ? groups.join(', ') : undefined],
      ['SAID BY', `${decidedBy === 'api' ? 'the MeshKit API server' : 'Kubernetes'} at ${server}`],
      ['IN', namespace === undefined ? 'all namespaces' : `namespace ${namespace}`],
      ['MAY', has.length > 0 ? has.join(', ') : 'nothing', has.length > 0 ? 'green' : 'red'],
      ['MAY NOT', lacks.length > 0 ? lacks.join(', ') : undefined, 'yellow'],
    ],
    look,
  );
}

async function judged(
  flags: Flags,
  around: Surroundings,
  use: (judge: Judge) => Promise<number>,
): Promise<number> {
  const judge = await judgeOf(flags, around);
  try {
    return await withProgress(`waiting for ${judge.server}`, around, use(judge));
  } finally {
    await judge.close();
  }
}

/** Kubernetes decides in the end; only who has nothing but a token for the API server has to ask that. */
async function judgeOf(flags: Flags, around: Surroundings): Promise<Judge> {
  const { mode, token, as } = flags;
  const limits = limitsOf(flags, around);
  if (mode === 'direct' || (mode === 'auto' && (token === undefined || as !== undefined))) {
    return kubernetesJudge(await connectKube(flags, around), limits);
  }
  const api = await findApi(flags, around);
  if (api instanceof ShardError) throw api;
  const { server } = api;
  const context = await around.loadContext(flags).catch(() => undefined);
  const client = await connectApi(api, flags, around);
  return {
    by: 'api',
    server,
    namespace: context?.namespace ?? 'default',
    access: (namespace) =>
      client.access(namespace, limits).catch((error: unknown) => {
        throw error instanceof ShardError && error.code === 'notFound' ? tooOld(server, error) : error;
      }),
    close: () => client.close(),
  };
}

function tooOld(server: string, cause: ShardError): ShardError {
  const how = 'ask Kubernetes instead: --mode direct, with a kubeconfig';
  const text = `${server} is older than this program and does not say what you may do: ${how}`;
  return new ShardError('notFound', text, {}, cause);
}

function kubernetesJudge(kube: Kube, limits: CallLimits): Judge {
  const review = async (area: string, kind: string, asked: object): Promise<unknown> => {
    const group = `${area}.k8s.io/v1`;
    const body = { apiVersion: group, kind, ...asked };
    const path = `/apis/${group}/${kind.toLowerCase()}s`;
    return ((await kube.raw('POST', path, { body, ...limits })) as { status: unknown }).status;
  };
  return {
    by: 'kubernetes',
    server: kube.server,
    namespace: kube.namespace,
    async access(namespace) {
      const { userInfo } = (await review('authentication', 'SelfSubjectReview', {})) as {
        userInfo: { username: string; groups?: string[] };
      };
      const { username: user, groups = [] } = userInfo;
      const one = async (verb: Scope) => {
        const where = { group: GROUP, resource: SCOPE_RESOURCE, verb, namespace: namespace ?? '' };
        const asked = { spec: { resourceAttributes: where } };
        const answer = await review('authorization', 'SelfSubjectAccessReview', asked);
        const { allowed } = answer as { allowed: boolean };
        return scopeAccess(verb, allowed ? undefined : scopeMissing(user, verb, { namespace }));
      };
      return { user, groups, namespace, scopes: await Promise.all(SCOPES.map(one)) };
    },
    close: () => kube.close(),
  };
}
