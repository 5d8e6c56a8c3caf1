import { createPrivateKey, X509Certificate } from 'node:crypto';
import { expect, test } from 'vitest';
import { createAuthority, issueClient, issueServer } from './certificates.ts';

const authority = await createAuthority('test authority');
const ca = new X509Certificate(authority.cert);

test('an authority signs itself and may sign others', async () => {
  expect(ca.ca).toBe(true);
  expect(ca.verify(ca.publicKey)).toBe(true);
  expect(ca.checkIssued(ca)).toBe(true);
});

test('a server certificate names its hosts, whatever kind they are', async () => {
  const hosts = ['localhost', 'api.example.org', '127.0.0.1', '::1', '2001:db8::ff00:42:8329'];
  const issued = await issueServer(authority, { commonName: 'server', hosts });
  const certificate = new X509Certificate(issued.cert);
  expect(certificate.checkIssued(ca)).toBe(true);
  expect(certificate.verify(ca.publicKey)).toBe(true);
  expect(certificate.checkPrivateKey(createPrivateKey(issued.key))).toBe(true);
  expect(certificate.checkHost('api.example.org')).toBe('api.example.org');
  expect(certificate.checkHost('example.org')).toBeUndefined();
  expect(certificate.checkIP('127.0.0.1')).toBe('127.0.0.1');
  expect(certificate.checkIP('::1')).toBe('::1');
  expect(certificate.checkIP('2001:db8::ff00:42:8329')).toBe('2001:db8::ff00:42:8329');
  expect(certificate.checkIP('127.0.0.2')).toBeUndefined();
});

test('a client certificate carries user and groups as kube-apiserver reads them', async () => {
  const issued = await issueClient(authority, { name: 'jörg@example.org', groups: ['ops', 'devs, all'] });
  const certificate = new X509Certificate(issued.cert);
  expect(certificate.subject.split('\n')).toEqual(['O=ops', 'O=devs\\, all', 'CN=jörg@example.org']);
  expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
  expect(certificate.ca).toBe(false);
  expect(certificate.verify(ca.publicKey)).toBe(true);
});

test('certificates are valid now, and have serial numbers of their own', async () => {
  const issued = await Promise.all([1, 2].map(() => issueClient(authority, { name: 'jane' }, 2)));
  const [first, second] = issued.map(({ cert }) => new X509Certificate(cert));
  expect(first!.validFromDate.getTime()).toBeLessThan(Date.now());
  expect(first!.validToDate.getTime()).toBeGreaterThan(Date.now() + 47 * 3_600_000);
  expect(first!.validToDate.getTime()).toBeLessThan(Date.now() + 49 * 3_600_000);
  expect(first!.serialNumber).not.toBe(second!.serialNumber);
});

test('a long life crosses the year 2050, where the encoding of dates changes', async () => {
  const certificate = new X509Certificate((await createAuthority('old age', 40 * 365)).cert);
  expect(certificate.validToDate.getUTCFullYear()).toBe(
    new Date(Date.now() + 40 * 365 * 86_400_000).getUTCFullYear(),
  );
});
