import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@meshkit/crds/clock';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { type Log, silentLog } from '@meshkit/crds/log';
import { NAMESPACES, type Resource, SERVICE_ACCOUNTS, SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import {
  type API_SERVER_SERVICE_ACCOUNT,
  OPERATOR_SERVICE_ACCOUNT,
  SYSTEM_NAMESPACE,
} from '@meshkit/crds/roles';
import { API_VERSION, type KubeObject, type ShardAssignment } from '@meshkit/shards/records';
import { Registry } from 'prom-client';
import { inject } from 'vitest';
import { ApiServer, type ApiServerOptions } from '../src/server.ts';

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));
export const TLS = { cert: fixture('tls.crt'), key: fixture('tls.key') };
export const CA = readFileSync(TLS.cert, 'utf8');
export const AUDIENCE = 'meshkit-shards';

interface RoleBinding extends KubeObject {
  roleRef: { apiGroup: string; kind: string; name: string };
  subjects: { kind: string; name: string; namespace?: string; apiGroup?: string }[];
}

const RBAC = 'rbac.authorization.k8s.io';
const ROLE_BINDINGS: Resource<RoleBinding> = {
  group: RBAC,
  version: 'v1',
  plural: 'rolebindings',
  kind: 'RoleBinding',
  namespaced: true,
};
const CLUSTER_ROLE_BINDINGS: Resource<RoleBinding> = {
  ...ROLE_BINDINGS,
  plural: 'clusterrolebindings',
  kind: 'ClusterRoleBinding',
  namespaced: false,
};

/** A control plane's people: an administrator, the product's own accounts, and accounts made for a test. */
export class Cast {
  readonly admin: KubeClient;
  readonly namespace = `t-${randomBytes(4).toString('hex')}`;
  readonly #clients: KubeClient[] = [];
  readonly #clusterBindings: string[] = [];

  constructor() {
    this.admin = this.#withToken(this.adminToken);
  }

  /** What the administrator's kubeconfig logs in with. */
  get adminToken(): string {
    const kubeconfig = readFileSync(inject('controlPlane').adminKubeconfig, 'utf8');
    return /token: "?([^\s"]+)/.exec(kubeconfig)?.[1] ?? '';
  }

  async open(): Promise<this> {
    const metadata = { name: this.namespace };
    await this.admin.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata });
    return this;
  }

  async close(): Promise<void> {
    for (const name of this.#clusterBindings) await this.admin.delete(CLUSTER_ROLE_BINDINGS, { name });
    await this.admin.delete(NAMESPACES, { name: this.namespace });
    await Promise.all(this.#clients.map((client) => client.close()));
  }

  /** A new service account of the test's namespace; `role` is bound in it, or in all namespaces. */
  async account(name: string, role?: string, where: 'here' | 'everywhere' = 'here'): Promise<void> {
    const { namespace } = this;
    const metadata = { name, namespace };
    await this.admin.create(SERVICE_ACCOUNTS, { apiVersion: 'v1', kind: 'ServiceAccount', metadata });
    if (role === undefined) return;
    const binding = {
      apiVersion: `${RBAC}/v1`,
      roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: role },
      subjects: [{ kind: 'ServiceAccount', name, namespace }],
    };
    if (where === 'here') {
      await this.admin.create(ROLE_BINDINGS, { ...binding, kind: 'RoleBinding', metadata });
    } else {
      const everywhere = { name: `${namespace}-${name}` };
      await this.admin.create(CLUSTER_ROLE_BINDINGS, {
        ...binding,
        kind: 'ClusterRoleBinding',
        metadata: everywhere,
      });
      this.#clusterBindings.push(everywhere.name);
    }
  }

  /** Where kube-apiserver is. */
  get kubeUrl(): string {
    return inject('controlPlane').url;
  }

  /** Deletes a service account, and with it every token of it. */
  async dismiss(name: string): Promise<void> {
    await this.admin.delete(SERVICE_ACCOUNTS, { namespace: this.namespace, name });
  }

  async unbind(name: string): Promise<void> {
    await this.admin.delete(ROLE_BINDINGS, { namespace: this.namespace, name });
  }

  /** By TokenRequest; `audience` absent: kube-apiserver's own. */
  async token(namespace: string, name: string, audience?: string): Promise<string> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
    const spec = audience === undefined ? {} : { audiences: [audience] };
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec };
    const answer = (await this.admin.raw('POST', path, { body })) as { status: { token: string } };
    return answer.status.token;
  }

  /** A client that is the product's API server, or operator, towards Kubernetes; `by`: through another address. */
  async process(
    name: typeof API_SERVER_SERVICE_ACCOUNT | typeof OPERATOR_SERVICE_ACCOUNT,
    by?: string,
  ): Promise<KubeClient> {
    return this.#withToken(await this.token(SYSTEM_NAMESPACE, name), by);
  }

  /** A shard with status, as the operator would have written it. */
  async shard(id: string, status: Partial<ShardAssignment['status']> = {}): Promise<ShardAssignment> {
    const operator = await this.process(OPERATOR_SERVICE_ACCOUNT);
    const created = await this.admin.create(SHARD_ASSIGNMENTS, {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: { namespace: this.namespace, name: `orders.${id}` },
      spec: { shardSet: 'orders', shardId: id },
    });
    const full = { phase: 'Active' as const, owner: 'node-1', epoch: 1_795_000_000, version: 1, ...status };
    return operator.updateStatus(SHARD_ASSIGNMENTS, { ...created, status: full });
  }

  #withToken(token: string, by?: string): KubeClient {
    const { url, caCert } = inject('controlPlane');
    const client = kubeFromString(
      JSON.stringify({
        clusters: [{ name: 'test', cluster: { server: by ?? url, 'certificate-authority': caCert } }],
        users: [{ name: 'test', user: { token } }],
        contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
        'current-context': 'test',
      }),
    );
    this.#clients.push(client);
    return client;
  }
}

export interface RunningServer {
  url: string;
  healthUrl: string;
  /** `host:port` */
  grpcAddress: string;
  /** Access log lines so far. */
  lines: Record<string, unknown>[];
  server: ApiServer;
}

/** On free ports of loopback; not yet synced. */
export async function startServer(
  client: KubeClient,
  options: Partial<ApiServerOptions> = {},
): Promise<RunningServer> {
  const lines: Record<string, unknown>[] = [];
  const keep = (fields: Record<string, unknown>, message: string) => {
    if (message === 'access') lines.push(fields);
  };
  const log: Log = { ...silentLog, info: keep, warn: keep };
  const server = new ApiServer({
    client,
    listen: { host: '127.0.0.1', port: 0 },
    healthListen: { host: '127.0.0.1', port: 0 },
    grpcListen: { host: '127.0.0.1', port: 0 },
    tls: TLS,
    audience: AUDIENCE,
    acceptClusterAudience: false,
    requestsPerSecond: 0,
    clock: systemClock,
    random: Math.random,
    log,
    registry: new Registry(),
    ...options,
  });
  const { grpcAddress = '', ...addresses } = await server.start();
  return { ...addresses, grpcAddress, lines, server };
}

/** Polls until the check holds; what is waited for happens within milliseconds. */
export async function eventually<T>(
  check: () => Promise<T | undefined> | T | undefined,
  what: string,
): Promise<T> {
  const deadline = performance.now() + 15_000;
  for (;;) {
    const found = await check();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`not within 15 s: ${what}`);
    await systemClock.sleep(20);
  }
}
