import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { NAMESPACES, SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE } from '@meshkit/crds/roles';
import { ShardError } from '@meshkit/shards/errors';
import {
  API_VERSION,
  assignmentName,
  type ShardAssignment,
  type ShardAssignmentSpec,
  type ShardAssignmentStatus,
} from '@meshkit/shards/records';
import { inject } from 'vitest';
import { parse, stringify } from 'yaml';

/** What the resource tests need of the control plane under test: identities, a namespace of their own, kubectl. */
export class Plane {
  readonly admin: KubeClient;
  readonly namespace = `t-${randomBytes(4).toString('hex')}`;
  readonly #kubeconfig: string;
  readonly #clients: KubeClient[] = [];

  private constructor() {
    this.#kubeconfig = readFileSync(inject('controlPlane').adminKubeconfig, 'utf8');
    this.admin = this.#client(this.#kubeconfig);
  }

  /** With a new namespace; `close` removes it. */
  static async open(): Promise<Plane> {
    const plane = new Plane();
    await plane.admin.create(NAMESPACES, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: plane.namespace },
    });
    return plane;
  }

  async close(): Promise<void> {
    await this.admin.delete(NAMESPACES, { name: this.namespace });
    await Promise.all(this.#clients.map((client) => client.close()));
  }

  /** Acts as somebody else: kube-apiserver authorises and admits as if they had come themselves. */
  as(user: string): KubeClient {
    const config = parse(this.#kubeconfig);
    const groups = user.startsWith('system:serviceaccount:') ? ['system:serviceaccounts'] : [];
    Object.assign(config.users[0].user, { as: user, 'as-groups': ['system:authenticated', ...groups] });
    return this.#client(stringify(config));
  }

  /** With a token of the ServiceAccount, as its pods have one. */
  async serviceAccount(namespace: string, name: string): Promise<KubeClient> {
    const answer = await this.admin.raw(
      'POST',
      `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`,
      { body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} } },
    );
    const { token } = (answer as { status: { token: string } }).status;
    const config = parse(this.#kubeconfig);
    config.users[0].user = { token };
    return this.#client(stringify(config));
  }

  operator(): Promise<KubeClient> {
    return this.serviceAccount(SYSTEM_NAMESPACE, OPERATOR_SERVICE_ACCOUNT);
  }

  /** Binds a ClusterRole to a user in the namespace of this plane. */
  async bind(role: string, user: string): Promise<void> {
    await this.admin.raw(
      'POST',
      `/apis/rbac.authorization.k8s.io/v1/namespaces/${this.namespace}/rolebindings`,
      {
        body: {
          apiVersion: 'rbac.authorization.k8s.io/v1',
          kind: 'RoleBinding',
          metadata: { name: `${role}-${randomBytes(3).toString('hex')}` },
          roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
          subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }],
        },
      },
    );
  }

  shard(shardId: string, spec: Partial<ShardAssignmentSpec> = {}, shardSet = 'orders'): ShardAssignment {
    return {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: { name: assignmentName(shardSet, shardId), namespace: this.namespace },
      spec: { shardSet, shardId, ...spec },
    };
  }

  /** Creates the shard as administrator and writes its status as the operator. */
  async owned(
    operator: KubeClient,
    shard: ShardAssignment,
    status: ShardAssignmentStatus,
  ): Promise<ShardAssignment> {
    const created = await this.admin.create(SHARD_ASSIGNMENTS, shard);
    return operator.updateStatus(SHARD_ASSIGNMENTS, { ...created, status });
  }

  /** Runs kubectl in the namespace as administrator; rejects with what it said. */
  kubectl(args: readonly string[], input = ''): Promise<string> {
    const { kubectl, adminKubeconfig, folder } = inject('controlPlane');
    if (kubectl === undefined) throw new Error('this control plane came without kubectl');
    return new Promise((resolve, reject) => {
      const child = execFile(
        kubectl,
        ['--kubeconfig', adminKubeconfig, '--namespace', this.namespace, ...args],
        // HOME, or kubectl puts its discovery cache into the working directory.
        { timeout: 20_000, env: { HOME: folder } },
        (error, stdout, stderr) => (error ? reject(new Error(`${stdout}${stderr}`)) : resolve(stdout)),
      );
      child.stdin?.end(input);
    });
  }

  #client(kubeconfig: string): KubeClient {
    const client = kubeFromString(kubeconfig);
    this.#clients.push(client);
    return client;
  }
}

/** The server's own words for why it refused; fails when it did not refuse. */
export async function refusal(call: Promise<unknown>): Promise<{ status: number; message: string }> {
  const answer = await call.then(
    (value) => ({ value }),
    (error: unknown) => error,
  );
  if (answer instanceof ShardError && typeof answer.details.status === 'number') {
    return { status: answer.details.status, message: String(answer.details.message) };
  }
  if (answer instanceof Error) throw answer;
  throw new Error(`not refused: ${JSON.stringify(answer)}`);
}
