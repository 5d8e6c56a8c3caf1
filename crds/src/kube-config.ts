import { existsSync, readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { ShardError } from '@meshkit/shards/errors';
import { parse } from 'yaml';
import { systemClock } from './clock.ts';
import { KubeClient } from './kube-client.ts';
import { type ConnectionOptions, PooledConnection } from './kube-connection.ts';
import {
  AuthProviderCredentials,
  type Credentials,
  type Environment,
  ExecCredentials,
  type ExecPlugin,
  type Source,
  SourceReader,
  StoredCredentials,
} from './kube-credentials.ts';

/** Where the kubelet mounts a pod's service account. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface KubeConfigOptions {
  /** Path of a kubeconfig file. Absent: `KUBECONFIG`, `~/.kube/config`, then the pod's service account. */
  kubeconfig?: string;
  /** Name of a context; absent: the file's current one. */
  context?: string;
  /** Names that stand for those of the context. */
  cluster?: string;
  user?: string;
  /** KUBECONFIG, HTTPS_PROXY, and what credential plugins run with. Absent: the process's own environment. */
  env?: Environment;
  /** Log in with this bearer token, and with nothing that the kubeconfig's user has. */
  token?: string;
  /** Act as this user, as `kubectl --as` does. */
  as?: string;
  /** With `as`: the groups to act with, as `kubectl --as-group` does. */
  asGroups?: readonly string[];
  /** False: a credential plugin may not talk to a person, though standard input be a terminal. */
  interactive?: boolean;
  /** Ends a credential plugin that runs. */
  signal?: AbortSignal;
  /** `name/version`; Kubernetes takes the name as field manager of plain writes. Default `meshkit-shards`. */
  userAgent?: string;
}

interface Cluster {
  server?: string;
  'certificate-authority'?: string;
  'certificate-authority-data'?: string;
  'insecure-skip-tls-verify'?: boolean;
  'tls-server-name'?: string;
  'proxy-url'?: string;
  extensions?: { name?: string; extension?: unknown }[];
}

interface User {
  token?: string;
  tokenFile?: string;
  username?: string;
  password?: string;
  'client-certificate'?: string;
  'client-certificate-data'?: string;
  'client-key'?: string;
  'client-key-data'?: string;
  as?: string;
  'as-uid'?: string;
  'as-groups'?: string[];
  'as-user-extra'?: Record<string, string[]>;
  exec?: ExecPlugin;
  'auth-provider'?: { name?: string };
}

interface Context {
  cluster?: string;
  user?: string;
  namespace?: string;
}

/** A named entry of a kubeconfig, and the folder that its relative paths start from. */
interface Entry<T> {
  value: T;
  folder: string;
}

interface Config {
  /** Where it came from, for messages. */
  source: string;
  clusters: Map<string, Entry<Cluster>>;
  users: Map<string, Entry<User>>;
  contexts: Map<string, Entry<Context>>;
  current: string | undefined;
}

/** What a context says to those who call other servers of its cluster in its user's name. */
export interface KubeContext {
  /** `default` when it names none. */
  namespace: string;
  /** `clusters[].cluster.extensions[]`, by name. */
  extensions: ReadonlyMap<string, unknown>;
  /** Not closed by anybody else. */
  credentials: Credentials;
}

/** The context of the given or default kubeconfig; undefined when there is none at all. Throws like `loadKube`. */
export function loadKubeContext(options: KubeConfigOptions = {}): KubeContext | undefined {
  const env = options.env ?? process.env;
  const files = kubeconfigFiles(options.kubeconfig, env);
  if (files.length === 0) return undefined;
  const { context, cluster, user } = contextOf(merge(files.map(readConfig)), options);
  const extensions = (cluster.value.extensions ?? []).map(
    ({ name = '', extension }) => [name, extension] as const,
  );
  return {
    namespace: context.namespace || 'default',
    extensions: new Map(extensions),
    credentials: credentialsOf(cluster, user, options),
  };
}

/** A client for the given or default kubeconfig. Throws ShardError `invalidArgument` with one clear line. */
export function loadKube(options: KubeConfigOptions = {}): KubeClient {
  const env = options.env ?? process.env;
  const files = kubeconfigFiles(options.kubeconfig, env);
  if (files.length > 0) return clientOf(merge(files.map(readConfig)), options);
  if (existsSync(join(SERVICE_ACCOUNT, 'token'))) return clientOf(inClusterConfig(env), options);
  throw new ShardError(
    'invalidArgument',
    'no kubeconfig: there is no KUBECONFIG, no ~/.kube/config and no service account of a pod. Name one with --kubeconfig.',
  );
}

/** A client for kubeconfig YAML (or JSON) at hand; relative paths in it start from the working directory. */
export function kubeFromString(
  yaml: string,
  options: Omit<KubeConfigOptions, 'kubeconfig'> = {},
): KubeClient {
  return clientOf(parseConfig(yaml, 'the kubeconfig', '.'), options);
}

/** kubectl's rule: of several files in KUBECONFIG missing ones are skipped; one that was named must exist. */
function kubeconfigFiles(named: string | undefined, env: Environment): string[] {
  if (named !== undefined && named !== '') return [named];
  const listed = (env.KUBECONFIG ?? '').split(delimiter).filter((file) => file !== '');
  const existing = listed.filter((file) => existsSync(file));
  if (existing.length > 0) return existing;
  if (listed.length > 0) return listed.slice(0, 1);
  const standard = join(env.HOME || homedir(), '.kube', 'config');
  return existsSync(standard) ? [standard] : [];
}

function readConfig(file: string): Config {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    const problem = missing ? 'no such file' : error instanceof Error ? error.message : String(error);
    throw new ShardError('invalidArgument', `cannot read kubeconfig ${file}: ${problem}`, {}, error);
  }
  return parseConfig(text, `kubeconfig ${file}`, dirname(file));
}

function parseConfig(text: string, source: string, folder: string): Config {
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    const line = error instanceof Error ? error.message.split('\n')[0]?.replace(/:$/, '') : String(error);
    throw new ShardError('invalidArgument', `${source} is not YAML: ${line}`, {}, error);
  }
  if (
    typeof document !== 'object' ||
    document === null ||
    !('clusters' in document || 'contexts' in document)
  )
    throw new ShardError('invalidArgument', `${source} has no clusters and contexts: it is no kubeconfig`);
  const config = document as Record<string, unknown>;
  return {
    source,
    clusters: entries<Cluster>(config.clusters, 'cluster', folder),
    users: entries<User>(config.users, 'user', folder),
    contexts: entries<Context>(config.contexts, 'context', folder),
    current: typeof config['current-context'] === 'string' ? config['current-context'] : undefined,
  };
}

function entries<T extends object>(list: unknown, field: string, folder: string): Map<string, Entry<T>> {
  const found = new Map<string, Entry<T>>();
  for (const item of Array.isArray(list) ? list : [])
    if (typeof item?.name === 'string' && !found.has(item.name))
      found.set(item.name, { value: (item[field] ?? {}) as T, folder });
  return found;
}

/** kubectl's rule: whatever is said first, stands. */
function merge(configs: Config[]): Config {
  const join = <T>(pick: (config: Config) => Map<string, T>) =>
    new Map(configs.toReversed().flatMap((config) => [...pick(config)]));
  return {
    source: configs.map(({ source }) => source).join(', '),
    clusters: join((config) => config.clusters),
    users: join((config) => config.users),
    contexts: join((config) => config.contexts),
    current: configs.find(({ current }) => current)?.current,
  };
}

function inClusterConfig(env: Environment): Config {
  const host = env.KUBERNETES_SERVICE_HOST || 'kubernetes.default.svc';
  const cluster: Cluster = {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${env.KUBERNETES_SERVICE_PORT || 443}`,
    'certificate-authority': join(SERVICE_ACCOUNT, 'ca.crt'),
  };
  const namespaceFile = join(SERVICE_ACCOUNT, 'namespace');
  const context: Context = {
    cluster: 'pod',
    user: 'pod',
    namespace: existsSync(namespaceFile) ? readFileSync(namespaceFile, 'utf8').trim() : undefined,
  };
  const named = <T>(value: T) => new Map([['pod', { value, folder: SERVICE_ACCOUNT }]]);
  return {
    source: "the pod's service account",
    clusters: named(cluster),
    users: named<User>({ tokenFile: join(SERVICE_ACCOUNT, 'token') }),
    contexts: named(context),
    current: 'pod',
  };
}

function contextOf(config: Config, options: KubeConfigOptions) {
  const name = options.context ?? config.current;
  if (!name)
    throw invalid(
      config,
      `names no current context; choose one with --context: ${names(config.contexts) || 'it has none'}`,
    );
  const context = config.contexts.get(name)?.value;
  if (!context) throw invalid(config, `has no context ${name}; it has ${names(config.contexts) || 'none'}`);
  const clusterName = options.cluster ?? context.cluster ?? '';
  const cluster = config.clusters.get(clusterName);
  const why = (chosen: string | undefined) => (chosen === undefined ? `, which context ${name} names` : '');
  if (!cluster) throw invalid(config, `has no cluster ${clusterName}${why(options.cluster)}`);
  const userName = options.user ?? context.user;
  const user = userName ? config.users.get(userName) : { value: {}, folder: '.' };
  if (!user) throw invalid(config, `has no user ${userName}${why(options.user)}`);
  return { context, cluster, user: asTold(user, options) };
}

/** kubectl's flags: a token stands for the whole user, because a certificate beside it would win at the server. */
function asTold({ value, folder }: Entry<User>, { token, as, asGroups }: KubeConfigOptions): Entry<User> {
  const user: User = token === undefined ? value : { token };
  if (as === undefined) return { value: user, folder };
  // Whoever is named on the command line is not in the groups of the one in the file.
  return { value: { ...user, as, 'as-groups': asGroups?.slice() }, folder };
}

function clientOf(config: Config, options: KubeConfigOptions): KubeClient {
  const { context, cluster, user } = contextOf(config, options);
  const env = options.env ?? process.env;
  const server = serverOf(config, cluster.value);
  const ca = source(cluster, 'certificate-authority');
  return new KubeClient(
    new PooledConnection({
      server,
      namespace: context.namespace || 'default',
      credentials: credentialsOf(cluster, user, options),
      ca: ca && new SourceReader(ca, 'certificate authority', systemClock),
      verify: cluster.value['insecure-skip-tls-verify'] !== true,
      serverName: cluster.value['tls-server-name'],
      headers: { 'user-agent': options.userAgent ?? 'meshkit-shards', ...impersonation(user.value) },
      proxyEnv: proxyOf(config, cluster.value, server, env),
    }),
  );
}

function serverOf(config: Config, cluster: Cluster): string {
  const server = cluster.server ?? '';
  const url = URL.parse(server.includes('://') ? server : `https://${server}`);
  if (server === '' || !url || !['http:', 'https:'].includes(url.protocol))
    throw invalid(config, `names no valid server: ${JSON.stringify(server)}; expected https://host:port`);
  return url.href.replace(/\/$/, '');
}

function credentialsOf(
  cluster: Entry<Cluster>,
  user: Entry<User>,
  { env = process.env, interactive, signal }: KubeConfigOptions,
): Credentials {
  const { value, folder } = user;
  if (value.exec && !value.token && !value.tokenFile)
    return new ExecCredentials({
      plugin: value.exec,
      cluster: cluster.value,
      folder,
      env,
      interactive,
      signal,
      clock: systemClock,
    });
  if (value['auth-provider']) return new AuthProviderCredentials(value);
  return new StoredCredentials({
    // client-go's order: the file is followed as it changes, so it beats the literal.
    token: value.tokenFile
      ? { path: resolve(folder, value.tokenFile) }
      : value.token
        ? { text: value.token }
        : undefined,
    cert: source(user, 'client-certificate'),
    key: source(user, 'client-key'),
    basic: value.username ? `${value.username}:${value.password ?? ''}` : undefined,
    clock: systemClock,
  });
}

/** `<field>-data` (base64) beats `<field>` (a path), as in client-go. */
function source<T extends Cluster | User>({ value, folder }: Entry<T>, field: string): Source | undefined {
  const fields = value as Record<string, unknown>;
  const data = fields[`${field}-data`];
  if (typeof data === 'string' && data !== '') return { text: Buffer.from(data, 'base64').toString() };
  const path = fields[field];
  return typeof path === 'string' && path !== '' ? { path: resolve(folder, path) } : undefined;
}

function impersonation(user: User): ConnectionOptions['headers'] {
  const headers: ConnectionOptions['headers'] = {};
  if (user.as) headers['impersonate-user'] = user.as;
  if (user['as-uid']) headers['impersonate-uid'] = user['as-uid'];
  if (user['as-groups']?.length) headers['impersonate-group'] = user['as-groups'];
  for (const [key, values] of Object.entries(user['as-user-extra'] ?? {}))
    headers[`impersonate-extra-${encodeURIComponent(key.toLowerCase())}`] = values;
  return headers;
}

/** client-go's rules: `proxy-url` before the environment, which holds neither for loopback nor for NO_PROXY. */
function proxyOf(
  config: Config,
  cluster: Cluster,
  server: string,
  env: Environment,
): Environment | undefined {
  const proxy = cluster['proxy-url'];
  if (proxy) {
    if (!/^https?:/.test(proxy))
      throw invalid(config, `asks for the proxy ${proxy}, but only http and https proxies are supported`);
    return { HTTPS_PROXY: proxy, HTTP_PROXY: proxy };
  }
  const host = new URL(server).hostname.replace(/^\[|\]$/g, '');
  const direct = (env.NO_PROXY || env.no_proxy || '').split(',').map((range) => range.trim());
  if (host === 'localhost' || ['127.0.0.0/8', '::1/128', ...direct].some((range) => contains(range, host)))
    return undefined;
  return env;
}

/** Whether an address is in a CIDR range: the form of NO_PROXY that Kubernetes users need, and Node does not read. */
function contains(range: string, host: string): boolean {
  const [network = '', bits = ''] = range.split('/');
  const version = isIP(host);
  if (version === 0 || isIP(network) !== version || !/^\d{1,3}$/.test(bits)) return false;
  const block = new BlockList();
  const family = version === 4 ? 'ipv4' : 'ipv6';
  if (Number(bits) > (version === 4 ? 32 : 128)) return false;
  block.addSubnet(network, Number(bits), family);
  return block.check(host, family);
}

function names(map: Map<string, unknown>): string {
  return [...map.keys()].join(', ');
}

function invalid(config: Config, problem: string): ShardError {
  return new ShardError('invalidArgument', `${config.source} ${problem}`);
}
