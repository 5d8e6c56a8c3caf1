import { ShardError } from '@meshkit/shards/errors';
import { GROUP } from '@meshkit/shards/records';
import { SCOPE_RESOURCE, SCOPES, type Scope, scopeMissing } from '@meshkit/shards/scope';
import { limitsOf } from '../connected.ts';
import { connectApi, connectKube, findApi } from '../connection.ts';
import { type Flags, namespaceOf } from '../flags.ts';
import { fieldsText, printAnswer, styled } from '../print.ts';
import { withProgress } from '../progress.ts';
import type { ApiClient, Kube, Surroundings } from '../surroundings.ts';
import type { Work } from '../verb.ts';

/** Says what a caller may do, and who the caller is. */
interface Judge {
  /** Who decided, and where. */
  by: 'kubernetes' | 'api';
  server: string;
  /** Of the kubeconfig's context. */
  namespace: string;
  /** Undefined: nobody says it. */
  user(): Promise<{ name: string; groups: readonly string[]; verified: boolean } | undefined>;
  /** The refusal, with the command that would grant it; undefined when allowed. */
  refusal(scope: Scope, namespace: string | undefined): Promise<ShardError | undefined>;
  close(): Promise<void>;
}

interface Permission {
  allowed: boolean;
  scope: string;
  /** Absent: in all namespaces. */
  namespace?: string;
  user?: string;
  decidedBy: 'kubernetes' | 'api';
  /** When not allowed: the command that grants it. */
  grant?: string;
}

export const canI: Work<object> = async ({ flags, format, around }, scope) =>
  judged(flags, around, async (judge) => {
    const namespace = namespaceOf(flags, judge.namespace);
    const refusal = await judge.refusal(scope as Scope, namespace);
    const model: Permission = {
      allowed: refusal === undefined,
      scope: `mesh.${scope}`,
      namespace,
      user: refusal?.details.user as string | undefined,
      decidedBy: judge.by,
      grant: refusal?.details.grant as string | undefined,
    };
    const text = ({ allowed }: Permission, look: { color: boolean }) =>
      `${styled(allowed ? 'green' : 'red', allowed ? 'yes' : 'no', look)}\n`;
    await printAnswer(model, { format, text }, flags, around.stdout);
    if (model.grant !== undefined) await around.stderr.write(`  grant it:     ${model.grant}\n`);
    return model.allowed ? 0 : 1;
  });

interface Identity {
  /** Absent: the server did not say. */
  user?: string;
  groups?: readonly string[];
  /** False: as the token says of itself, checked by nobody. */
  verified?: boolean;
  server: string;
  decidedBy: 'kubernetes' | 'api';
  namespace?: string;
  scopes: Partial<Record<Scope, boolean>>;
}

export const whoAmI: Work<object> = async ({ flags, format, around }) =>
  judged(flags, around, async (judge) => {
    const namespace = namespaceOf(flags, judge.namespace);
    const scopes: Identity['scopes'] = {};
    let named: string | undefined;
    for (const scope of SCOPES) {
      if (judge.by === 'api' && scope === 'operate') continue;
      const refusal = await judge.refusal(scope, namespace);
      scopes[scope] = refusal === undefined;
      named ??= refusal?.details.user as string | undefined;
    }
    const user = await judge.user();
    const model: Identity = {
      user: named ?? user?.name,
      groups: user?.groups,
      verified: named !== undefined || user?.verified,
      server: judge.server,
      decidedBy: judge.by,
      namespace,
      scopes,
    };
    await printAnswer(model, { format, text: identityText }, flags, around.stdout);
    return 0;
  });

function identityText(model: Identity, look: Parameters<typeof fieldsText>[1]): string {
  const { user = 'unknown', verified, groups = [], server, namespace, scopes, decidedBy } = model;
  const asked = SCOPES.filter((scope) => scopes[scope] !== undefined);
  const has = asked.filter((scope) => scopes[scope]);
  const lacks = asked.filter((scope) => !scopes[scope]);
  return fieldsText(
    [
      ['USER', verified === false ? `${user} (as the token says)` : user],
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
  const { mode, token } = flags;
  if (mode === 'direct' || (mode === 'auto' && token === undefined)) {
    return new KubernetesJudge(await connectKube(flags, around), flags, around);
  }
  const api = await findApi(flags, around);
  if (api instanceof ShardError) throw api;
  const fallback = (await around.loadContext(flags).catch(() => undefined))?.namespace ?? 'default';
  return new ApiJudge(api, await connectApi(api, around), fallback, flags, around);
}

class KubernetesJudge implements Judge {
  readonly by = 'kubernetes';
  readonly #kube: Kube;
  readonly #flags: Flags;
  readonly #around: Surroundings;
  #user: ReturnType<Judge['user']> | undefined;

  constructor(kube: Kube, flags: Flags, around: Surroundings) {
    this.#kube = kube;
    this.#flags = flags;
    this.#around = around;
  }

  get server() {
    return this.#kube.server;
  }

  get namespace() {
    return this.#kube.namespace;
  }

  user() {
    this.#user ??= this.#review();
    return this.#user;
  }

  async refusal(verb: Scope, namespace: string | undefined): Promise<ShardError | undefined> {
    const resourceAttributes = { group: GROUP, resource: SCOPE_RESOURCE, verb, namespace: namespace ?? '' };
    const { allowed } = (await this.#create('authorization', 'SelfSubjectAccessReview', {
      resourceAttributes,
    })) as { allowed: boolean };
    return allowed ? undefined : scopeMissing((await this.user())?.name ?? 'you', verb, { namespace });
  }

  close() {
    return this.#kube.close();
  }

  async #review() {
    const { userInfo } = (await this.#create('authentication', 'SelfSubjectReview', {})) as {
      userInfo: { username: string; groups?: string[] };
    };
    return { name: userInfo.username, groups: userInfo.groups ?? [], verified: true };
  }

  async #create(area: string, kind: string, spec: object): Promise<unknown> {
    const group = `${area}.k8s.io/v1`;
    const body = { apiVersion: group, kind, ...(kind === 'SelfSubjectReview' ? {} : { spec }) };
    const path = `/apis/${group}/${kind.toLowerCase()}s`;
    const answer = await this.#kube.raw('POST', path, { body, ...limitsOf(this.#flags, this.#around) });
    return (answer as { status: unknown }).status;
  }
}

/** Finds out by asking for as little as possible that needs the scope. */
class ApiJudge implements Judge {
  readonly by = 'api';
  readonly server: string;
  readonly namespace: string;
  readonly #token: string;
  readonly #client: ApiClient;
  readonly #flags: Flags;
  readonly #around: Surroundings;

  constructor(
    { server, token }: { server: string; token: string },
    client: ApiClient,
    namespace: string,
    flags: Flags,
    around: Surroundings,
  ) {
    this.server = server;
    this.namespace = namespace;
    this.#token = token;
    this.#client = client;
    this.#flags = flags;
    this.#around = around;
  }

  async user() {
    const [, payload = ''] = this.#token.split('.');
    const { sub } = claimsOf(payload);
    return typeof sub === 'string' ? { name: sub, groups: [], verified: false } : undefined;
  }

  async refusal(scope: Scope, namespace: string | undefined): Promise<ShardError | undefined> {
    if (scope === 'operate') {
      const how = 'ask Kubernetes instead: --mode direct, with a kubeconfig';
      throw new ShardError(
        'invalidArgument',
        `nothing of the API server needs operate, so it cannot be tried: ${how}`,
      );
    }
    const limits = limitsOf(this.#flags, this.#around);
    // A watch tries for ever; here the first answer is the answer.
    const failed = new AbortController();
    const once = AbortSignal.any([limits.signal, failed.signal]);
    const onDisconnect = (error: ShardError) => failed.abort(error);
    const tried =
      scope === 'read'
        ? this.#client.pages({ namespace }, { ...limits, pageSize: 1, limit: 1 })
        : this.#client.watch({ namespace }, { signal: once, onDisconnect });
    try {
      for await (const _ of tried) return undefined;
      limits.signal.throwIfAborted();
      throw failed.signal.reason;
    } catch (error) {
      if (error instanceof ShardError && error.code === 'scopeMissing') return error;
      throw error;
    }
  }

  close() {
    return this.#client.close();
  }
}

/** Of a JWT, unverified; nothing of a token of another kind. */
function claimsOf(payload: string): { sub?: unknown } {
  try {
    return JSON.parse(Buffer.from(payload, 'base64url').toString()) ?? {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}
