import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { LEASES, NAMESPACES, SERVICE_ACCOUNTS, SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { API_SERVER_SERVICE_ACCOUNT, OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE } from '@meshkit/crds/roles';
import { API_VERSION, type Phase } from '@meshkit/shards/records';
import { inject } from 'vitest';
import { parse, stringify } from 'yaml';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FIXTURES = join(ROOT, 'api-server/test/fixtures');
const PROGRAM = join(ROOT, 'kubectl-plugin/bin/kubectl-mesh');
/** What `npm run build:cli` makes. */
export const BUNDLE = join(ROOT, 'kubectl-plugin/dist/kubectl-mesh');

export interface Ended {
  code: number | string;
  stdout: string;
  stderr: string;
}

/** The program, the API server and the control plane as real processes, with a folder of files in between. */
export class Stage {
  readonly namespace = `t-${randomBytes(4).toString('hex')}`;
  readonly folder = mkdtempSync(join(tmpdir(), 'meshkit-cli-'));
  readonly adminKubeconfig = inject('controlPlane').adminKubeconfig;
  readonly #admin: KubeClient;
  readonly #kubeconfig = readFileSync(this.adminKubeconfig, 'utf8');
  #api: ChildProcess | undefined;
  /** Of the API server; set by `startApi`. */
  server = '';

  /** `program`: that of the sources unless another one is named. */
  constructor(program = PROGRAM) {
    this.#admin = kubeFromString(this.#kubeconfig);
    // The names under which kubectl, and people, find the program.
    for (const name of ['kubectl-mesh', 'kubectl_complete-mesh', 'omnirelay']) {
      symlinkSync(program, join(this.folder, name));
    }
  }

  async open(): Promise<void> {
    const metadata = { name: this.namespace };
    await this.#admin.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata });
  }

  async close(): Promise<void> {
    await this.stopApi();
    await this.#admin.delete(NAMESPACES, { name: this.namespace });
    await this.#admin.close();
    rmSync(this.folder, { recursive: true });
  }

  async shard(id: string, phase: Phase, owner?: string): Promise<void> {
    const operator = kubeFromString(
      this.#withToken(await this.#token(SYSTEM_NAMESPACE, OPERATOR_SERVICE_ACCOUNT)),
    );
    const created = await this.#admin.create(SHARD_ASSIGNMENTS, {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: { namespace: this.namespace, name: `orders.${id}` },
      spec: { shardSet: 'orders', shardId: id },
    });
    const status = { phase, owner, epoch: owner === undefined ? 0 : 1_795_000_000, version: 1 };
    await operator.updateStatus(SHARD_ASSIGNMENTS, { ...created, status });
    await operator.close();
  }

  /**
   * Path of a kubeconfig for a new service account, bound to `role` in the namespace; its cluster names the API
   * server in the extension when that was started.
   */
  async kubeconfig(account: string, role?: string): Promise<string> {
    const { namespace } = this;
    const metadata = { namespace, name: account };
    await this.#admin.create(SERVICE_ACCOUNTS, { apiVersion: 'v1', kind: 'ServiceAccount', metadata });
    if (role !== undefined) {
      await this.#admin.raw(
        'POST',
        `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/rolebindings`,
        {
          body: {
            apiVersion: 'rbac.authorization.k8s.io/v1',
            kind: 'RoleBinding',
            metadata,
            roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
            subjects: [{ kind: 'ServiceAccount', name: account, namespace }],
          },
        },
      );
    }
    const config = parse(this.#withToken(await this.#token(namespace, account)));
    config.contexts[0].context.namespace = namespace;
    if (this.server !== '') {
      const certificateAuthorityData = readFileSync(join(FIXTURES, 'tls.crt')).toString('base64');
      const extension = { server: this.server, certificateAuthorityData };
      config.clusters[0].cluster.extensions = [{ name: 'meshkit.omnirelay.io', extension }];
    }
    return this.file(`${account}.kubeconfig`, stringify(config));
  }

  /** While `during` runs there is an operator, by its Lease, last heard of at `renewed`. */
  async led(renewed: Date, during: () => Promise<void>): Promise<void> {
    const metadata = { namespace: SYSTEM_NAMESPACE, name: 'meshkit-operator' };
    const renewTime = renewed.toISOString().replace('Z', '000Z');
    const spec = { holderIdentity: 'operator-of-a-test', leaseDurationSeconds: 15, renewTime };
    await this.#admin.create(LEASES, { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec });
    try {
      await during();
    } finally {
      await this.#admin.delete(LEASES, metadata);
    }
  }

  /** A change that is an event: another reason. */
  async touch(name: string): Promise<void> {
    const key = { namespace: this.namespace, name };
    await this.#admin.patch(SHARD_ASSIGNMENTS, key, { spec: { reason: randomBytes(4).toString('hex') } });
  }

  /** Lets a service account do more, in the namespace. */
  async allow(account: string, rules: object[]): Promise<void> {
    const { namespace } = this;
    const api = '/apis/rbac.authorization.k8s.io/v1/namespaces';
    const metadata = { namespace, name: `${account}-more` };
    const apiVersion = 'rbac.authorization.k8s.io/v1';
    await this.#admin.raw('POST', `${api}/${namespace}/roles`, {
      body: { apiVersion, kind: 'Role', metadata, rules },
    });
    await this.#admin.raw('POST', `${api}/${namespace}/rolebindings`, {
      body: {
        apiVersion,
        kind: 'RoleBinding',
        metadata,
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: metadata.name },
        subjects: [{ kind: 'ServiceAccount', name: account, namespace }],
      },
    });
  }

  file(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  /** The API server as its own process, ready. */
  async startApi(): Promise<void> {
    const kubeconfig = this.file(
      'api-server.kubeconfig',
      this.#withToken(await this.#token(SYSTEM_NAMESPACE, API_SERVER_SERVICE_ACCOUNT)),
    );
    const tls = ['--tls-cert', join(FIXTURES, 'tls.crt'), '--tls-key', join(FIXTURES, 'tls.key')];
    const ports = ['--listen', '127.0.0.1:0', '--health-listen', '127.0.0.1:0', '--accept-cluster-audience'];
    const child = spawn(
      process.execPath,
      [join(ROOT, 'api-server/src/main.ts'), '--kubeconfig', kubeconfig, ...tls, ...ports],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    this.#api = child;
    const { promise, resolve, reject } = Promise.withResolvers<{ url: string; healthUrl: string }>();
    let log = '';
    child.stderr.on('data', (chunk) => {
      log += chunk;
      const line = log.split('\n').find((text) => text.includes('"listening"'));
      if (line) resolve(JSON.parse(line));
    });
    child.once('exit', (code) => reject(new Error(`the API server ended with ${code}: ${log}`)));
    const { url, healthUrl } = await promise;
    while ((await fetch(`${healthUrl}/readyz`)).status !== 200)
      await new Promise((later) => setTimeout(later, 20));
    this.server = url;
  }

  async stopApi(): Promise<void> {
    const child = this.#api;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
  }

  /** One run of the program by a shell, so that a test can use pipes; it is on PATH under both names. */
  async run(line: string, env: Record<string, string> = {}): Promise<Ended> {
    return this.start(line, env).ended;
  }

  start(line: string, env: Record<string, string> = {}): { child: ChildProcess; ended: Promise<Ended> } {
    const { promise, resolve } = Promise.withResolvers<Ended>();
    const { kubectl } = inject('controlPlane');
    const path = [this.folder, ...(kubectl ? [join(kubectl, '..')] : []), process.env.PATH].join(':');
    const child = execFile(
      'sh',
      ['-c', line],
      { env: { PATH: path, HOME: this.folder, ...env } },
      (error, stdout, stderr) => {
        resolve({ code: error ? (error.code ?? error.signal ?? 'error') : 0, stdout, stderr });
      },
    );
    return { child, ended: promise };
  }

  async #token(namespace: string, name: string): Promise<string> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} };
    return ((await this.#admin.raw('POST', path, { body })) as { status: { token: string } }).status.token;
  }

  #withToken(token: string): string {
    const config = parse(this.#kubeconfig);
    config.users[0].user = { token };
    return stringify(config);
  }
}
