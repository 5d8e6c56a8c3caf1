import type { KubeConfigOptions, KubeContext } from '@meshkit/crds/kube-config';
import { ShardError } from '@meshkit/shards/errors';
import { GROUP } from '@meshkit/shards/records';
import { quoted } from '@meshkit/shards/scope';
import { ApiSource } from './api-source.ts';
import { FallbackSource } from './fallback-source.ts';
import type { ShardSource } from './shard-source.ts';
import { type ApiClient, type Kube, type Surroundings, whyUnread } from './surroundings.ts';

export const MODES = ['auto', 'api', 'direct'] as const;
type Mode = (typeof MODES)[number];

/** The flags that say whom to ask, and as whom. */
export interface ConnectionFlags {
  mode: Mode;
  server?: string;
  certificateAuthority?: string;
  insecureSkipTlsVerify?: boolean;
  token?: string;
  kubeconfig?: string;
  context?: string;
  cluster?: string;
  user?: string;
  as?: string;
  asGroup?: string[];
  verbose?: boolean;
}

/** The flags of a command as another command needs them, so that it asks the same cluster; each after a space. */
export interface SameFlags {
  /** `mesh shards`. */
  mesh: string;
  /** kubectl, as the same user. */
  kubectl: string;
  /** kubectl, as whoever may grant what this user lacks. */
  cluster: string;
}

/** For the commands that the program suggests. That there was a token is said, and never which. */
export function sameFlags(flags: ConnectionFlags): SameFlags {
  const { mode, server, certificateAuthority, insecureSkipTlsVerify, token } = flags;
  const { kubeconfig, context, user, as, asGroup } = flags;
  const secret = token === undefined ? '' : ' --token "$TOKEN"';
  const cluster = words({ kubeconfig, context, cluster: flags.cluster });
  // Kubernetes sees the token in direct mode only.
  const kubectl = cluster + words({ user, as, 'as-group': asGroup }) + (mode === 'direct' ? secret : '');
  const api =
    words({
      mode: mode === 'auto' ? undefined : mode,
      server,
      'certificate-authority': certificateAuthority,
    }) + (insecureSkipTlsVerify ? ' --insecure-skip-tls-verify' : '');
  return { mesh: api + (mode === 'direct' ? '' : secret) + kubectl, kubectl, cluster };
}

function words(flags: Record<string, string | string[] | undefined>): string {
  return Object.entries(flags)
    .flatMap(([name, value = []]) => [value].flat().map((one) => ` --${name} ${quoted(one)}`))
    .join('');
}

export interface Connection {
  source: ShardSource;
  /** Of the kubeconfig's context, `default` without one. */
  namespace: string;
}

/** The API server to ask, and as whom. */
export interface Api {
  server: string;
  token: string;
  ca?: string;
  insecureSkipTlsVerify?: boolean;
}

/** In a kubeconfig: `clusters[].cluster.extensions[]` of this name, with `{server, certificateAuthorityData?}`. */
const EXTENSION = GROUP;
const USER_AGENT = 'kubectl-mesh';

/**
 * Decides whom to ask. `api`: the MeshKit API server of --server, MESHKIT_SERVER or the kubeconfig's extension.
 * `direct`: Kubernetes. `auto`: the API server where one is configured and a token for it is at hand, else Kubernetes;
 * and Kubernetes too when the API server's port refuses the connection, but never after an answer.
 */
export async function connect(flags: ConnectionFlags, around: Surroundings): Promise<Connection> {
  const { mode, verbose } = flags;
  refuseImpersonation(flags);
  const note = async (text: string) => around.stderr.write(`note: ${text}\n`);
  const context = await loadContext(flags, around);
  const namespace = context?.namespace ?? 'default';
  const direct = async (): Promise<ShardSource> => {
    const { DirectSource } = await import('./direct-source.ts');
    const { clock, random } = around;
    return new DirectSource(await connectKube(flags, around), { note, clock, random });
  };
  if (mode === 'direct' || flags.as !== undefined) return { source: await direct(), namespace };

  const api = await apiOf(flags, context, around);
  if (api instanceof ShardError) {
    if (mode === 'api') throw api;
    // Without an API server, direct is the ordinary way and needs no words; without a token it is a surprise.
    if (verbose || api.code === 'unauthenticated') {
      await note(`reading from Kubernetes itself (--mode direct): ${api.message}`);
    }
    return { source: await direct(), namespace };
  }
  const source = new ApiSource(api.server, await connectApi(api, flags, around));
  if (mode === 'api') return { source, namespace };
  const refused = async () => {
    await note(`${api.server} refuses connections; reading from Kubernetes itself (--mode direct)`);
    return direct();
  };
  return { source: new FallbackSource(source, refused), namespace };
}

export async function connectApi(
  api: Api,
  { verbose }: ConnectionFlags,
  around: Surroundings,
): Promise<ApiClient> {
  const { clock, random, stderr } = around;
  if (verbose) await stderr.write(`note: asking the MeshKit API server at ${api.server}\n`);
  return around.connectApi({ ...api, userAgent: USER_AGENT, clock, random });
}

/** Kubernetes, as the kubeconfig's user. */
export async function connectKube(flags: ConnectionFlags, around: Surroundings): Promise<Kube> {
  refuseImpersonation(flags);
  const kube = await around.connectKube(kubeOptions(flags, around));
  if (flags.verbose) await around.stderr.write(`note: asking Kubernetes at ${kube.server}\n`);
  return kube;
}

/** The API server that would be asked, or why none can be. */
export async function findApi(flags: ConnectionFlags, around: Surroundings): Promise<Api | ShardError> {
  refuseImpersonation(flags);
  return apiOf(flags, await loadContext(flags, around), around);
}

function refuseImpersonation({ mode, as, asGroup }: ConnectionFlags): void {
  if (mode === 'api' && as !== undefined) {
    throw usage('--as works with --mode direct: the API server believes nobody who says to be somebody else');
  }
  if (asGroup !== undefined && as === undefined) throw usage('--as-group needs --as');
}

/** A token that is meant for the API server never goes to Kubernetes, unless direct mode was asked for. */
function kubeOptions(
  { mode, token, as, asGroup, kubeconfig, context, cluster, user }: ConnectionFlags,
  { env }: Surroundings,
): KubeConfigOptions {
  return {
    kubeconfig,
    context,
    cluster,
    user,
    env,
    as,
    asGroups: asGroup,
    token: mode === 'direct' ? token : undefined,
    userAgent: USER_AGENT,
  };
}

interface Extension {
  server?: string;
  certificateAuthorityData?: string;
}

/** Who names server and token needs no kubeconfig, so an unusable one that was not asked for is no obstacle. */
async function loadContext(flags: ConnectionFlags, around: Surroundings): Promise<KubeContext | undefined> {
  const { kubeconfig, context, cluster, user, mode, token } = flags;
  const server = flags.server || around.env.MESHKIT_SERVER;
  const optional = mode !== 'direct' && server && token !== undefined && !kubeconfig && !context;
  try {
    return await around.loadContext({ kubeconfig, context, cluster, user, env: around.env });
  } catch (error) {
    if (optional && error instanceof ShardError) return undefined;
    throw error;
  }
}

async function apiOf(
  flags: ConnectionFlags,
  context: KubeContext | undefined,
  around: Surroundings,
): Promise<Api | ShardError> {
  const extension = (context?.extensions.get(EXTENSION) ?? {}) as Extension;
  const server = flags.server || around.env.MESHKIT_SERVER || extension.server;
  if (!server) {
    const where = `give --server, set MESHKIT_SERVER, or put an extension ${EXTENSION} into the kubeconfig's cluster`;
    return new ShardError('invalidArgument', `no API server is configured: ${where}`);
  }
  const token = flags.token ?? (await bearerToken(context));
  if (token === undefined) {
    const create = `kubectl create token NAME --audience meshkit-shards${sameFlags(flags).cluster}`;
    const how = `give --token, e.g. --token "$(${create})"`;
    return new ShardError('unauthenticated', `the kubeconfig's user has no token for ${server}: ${how}`);
  }
  const ca =
    flags.certificateAuthority === undefined
      ? // The extension's authority vouches for its own server only.
        server === extension.server
        ? decoded(extension.certificateAuthorityData)
        : undefined
      : await readAuthority(flags.certificateAuthority, around);
  return { server, token, ca, insecureSkipTlsVerify: flags.insecureSkipTlsVerify };
}

/** What the kubeconfig's user logs in with, plugins included; undefined for certificates and passwords. */
async function bearerToken(context: KubeContext | undefined): Promise<string | undefined> {
  if (!context) return undefined;
  try {
    const { authorization } = await context.credentials.current();
    return authorization?.startsWith('Bearer ') ? authorization.slice('Bearer '.length) : undefined;
  } finally {
    context.credentials.close();
  }
}

async function readAuthority(path: string, around: Surroundings): Promise<string> {
  try {
    return await around.files.read(path);
  } catch (error) {
    throw usage(`--certificate-authority ${path}: ${whyUnread(error)}`);
  }
}

function decoded(base64: string | undefined): string | undefined {
  return base64 === undefined ? undefined : Buffer.from(base64, 'base64').toString();
}

function usage(message: string): ShardError {
  return new ShardError('invalidArgument', message);
}
