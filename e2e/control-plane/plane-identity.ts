import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createAuthority,
  createKeys,
  issueClient,
  issueServer,
  type KeyedCertificate,
} from './certificates.ts';
import { planeFiles } from './control-plane.ts';
import { kubeconfigYaml } from './kubeconfig.ts';
import { AUDIT_POLICY, FILES } from './server-flags.ts';

/** The secrets of one control plane; they live as long as its folder. */
export interface PlaneSecrets {
  ca: KeyedCertificate;
  /** Of kube-apiserver, or of what stands in for it. */
  server: KeyedCertificate;
  adminToken: string;
}

/** Those of a real one. */
export interface PlaneIdentity extends PlaneSecrets {
  /** Of an authority of its own: whoever the plane's CA certifies must not get past RBAC straight into etcd. */
  etcdCa: KeyedCertificate;
  etcdClient: KeyedCertificate;
}

/** Makes what every kind has, and writes the files of `planeFiles`. */
export async function writeSecrets(folder: string, url: string): Promise<PlaneSecrets> {
  const ca = await createAuthority('meshkit control plane');
  const server = await issueServer(ca, {
    commonName: 'kube-apiserver',
    hosts: ['127.0.0.1', 'localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'],
  });
  const adminToken = randomBytes(24).toString('hex');
  const { caCert, caKey, adminKubeconfig } = planeFiles(folder);
  const admin = kubeconfigYaml({
    server: url,
    ca: ca.cert,
    user: 'admin',
    credentials: { token: adminToken },
  });
  await writeAll({ [caCert]: ca.cert, [caKey]: ca.key, [adminKubeconfig]: admin });
  return { ca, server, adminToken };
}

/** Makes the certificates, keys and tokens of a real one, and writes every file that the servers' flags name. */
export async function writeIdentity(folder: string, url: string): Promise<PlaneIdentity> {
  const secrets = await writeSecrets(folder, url);
  const { ca, server, adminToken } = secrets;
  const etcdCa = await createAuthority('meshkit etcd');
  const etcd = await issueServer(etcdCa, { commonName: 'etcd', hosts: ['127.0.0.1', 'localhost'] });
  const etcdClient = await issueClient(etcdCa, { name: 'kube-apiserver' });
  const user = 'system:kube-controller-manager';
  const controllers = await issueClient(ca, { name: user, groups: ['system:masters'] });
  const tokenKeys = createKeys();
  const files: Record<string, string> = {
    [FILES.etcdCa]: etcdCa.cert,
    [FILES.etcdCert]: etcd.cert,
    [FILES.etcdKey]: etcd.key,
    [FILES.etcdClientCert]: etcdClient.cert,
    [FILES.etcdClientKey]: etcdClient.key,
    [FILES.serverCert]: server.cert,
    [FILES.serverKey]: server.key,
    [FILES.tokenKey]: tokenKeys.privateKey,
    [FILES.tokenPublicKey]: tokenKeys.publicKey,
    [FILES.tokens]: `${adminToken},admin,admin,system:masters\n`,
    [FILES.auditPolicy]: AUDIT_POLICY,
    [FILES.controllerKubeconfig]: kubeconfigYaml({
      server: url,
      ca: ca.cert,
      user,
      credentials: controllers,
    }),
  };
  await writeAll(Object.fromEntries(Object.entries(files).map(([name, text]) => [join(folder, name), text])));
  return { ...secrets, etcdCa, etcdClient };
}

async function writeAll(files: Record<string, string>): Promise<void> {
  await Promise.all(Object.entries(files).map(([path, text]) => writeFile(path, text, { mode: 0o600 })));
}
