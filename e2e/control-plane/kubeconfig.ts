import { stringify } from 'yaml';

export type Credentials = { token: string } | { cert: string; key: string };

/** A kubeconfig (YAML text) with one cluster, one user and one context named `meshkit`. Certificates are PEM. */
export function kubeconfigYaml(options: {
  server: string;
  ca: string;
  user: string;
  credentials: Credentials;
  namespace?: string;
}): string {
  const { server, ca, user, credentials, namespace = 'default' } = options;
  const identity =
    'token' in credentials
      ? { token: credentials.token }
      : {
          'client-certificate-data': base64(credentials.cert),
          'client-key-data': base64(credentials.key),
        };
  return stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'meshkit', cluster: { server, 'certificate-authority-data': base64(ca) } }],
      users: [{ name: user, user: identity }],
      contexts: [{ name: 'meshkit', context: { cluster: 'meshkit', user, namespace } }],
      'current-context': 'meshkit',
    },
    { lineWidth: 0 },
  );
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
