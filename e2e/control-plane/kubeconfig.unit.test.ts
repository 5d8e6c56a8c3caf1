import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { kubeconfigYaml } from './kubeconfig.ts';

test('a token and a client certificate each become a kubeconfig with one current context', () => {
  const shared = { server: 'https://127.0.0.1:6443', ca: 'CA PEM' };
  const byToken = parse(kubeconfigYaml({ ...shared, user: 'admin', credentials: { token: '0123' } }));
  expect(byToken).toMatchObject({
    'current-context': 'meshkit',
    contexts: [{ name: 'meshkit', context: { cluster: 'meshkit', user: 'admin', namespace: 'default' } }],
    clusters: [{ name: 'meshkit', cluster: { server: 'https://127.0.0.1:6443' } }],
    users: [{ name: 'admin', user: { token: '0123' } }],
  });
  const credentials = { cert: 'CERT PEM', key: 'KEY PEM' };
  const byCertificate = parse(
    kubeconfigYaml({ ...shared, user: 'jane', credentials, namespace: 'payments' }),
  );
  const { user } = byCertificate.users[0];
  expect(Buffer.from(user['client-certificate-data'], 'base64').toString()).toBe('CERT PEM');
  expect(Buffer.from(user['client-key-data'], 'base64').toString()).toBe('KEY PEM');
  expect(byCertificate.contexts[0].context.namespace).toBe('payments');
});
