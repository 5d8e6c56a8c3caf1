import { AdminApi } from './admin-api.ts';
import { issueClient, issueServer, type KeyedCertificate } from './certificates.ts';
import type { ServerCertificate, TokenOptions, User } from './control-plane.ts';
import { kubeconfigYaml } from './kubeconfig.ts';

/** The part of a `ControlPlane` in which its kinds do not differ: what it gives to those who want to talk to it. */
export class PlaneAccess {
  readonly url: string;
  /** As administrator. */
  protected readonly api: AdminApi;
  readonly #ca: KeyedCertificate;
  readonly #adminToken: string;

  constructor(url: string, { ca, adminToken }: { ca: KeyedCertificate; adminToken: string }) {
    this.api = new AdminApi({ url, ca: ca.cert, token: adminToken });
    this.url = url;
    this.#ca = ca;
    this.#adminToken = adminToken;
  }

  async kubeconfig(user: User | 'admin' = 'admin'): Promise<string> {
    const admin = user === 'admin';
    const credentials = admin ? { token: this.#adminToken } : await issueClient(this.#ca, user);
    const name = admin ? user : user.name;
    return kubeconfigYaml({ server: this.url, ca: this.#ca.cert, user: name, credentials });
  }

  async serviceAccountKubeconfig(
    namespace: string,
    name: string,
    options: TokenOptions = {},
  ): Promise<string> {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/serviceaccounts/${encodeURIComponent(name)}/token`;
    const answer = await this.api.call('POST', path, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences: options.audiences, expirationSeconds: options.expirationSeconds },
    });
    if (answer.status !== 201) {
      const { message } = JSON.parse(answer.body) as { message?: string };
      throw new Error(`no token for ServiceAccount ${namespace}/${name}: ${message ?? answer.status}`);
    }
    const { token } = (JSON.parse(answer.body) as { status: { token: string } }).status;
    const user = `system:serviceaccount:${namespace}:${name}`;
    const credentials = { token };
    return kubeconfigYaml({ server: this.url, ca: this.#ca.cert, user, credentials, namespace });
  }

  async serverCertificate(options: {
    commonName: string;
    hosts: readonly string[];
  }): Promise<ServerCertificate> {
    return { ...(await issueServer(this.#ca, options)), ca: this.#ca.cert };
  }
}
