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
export interface PlaneIdentity {
  ca: KeyedCertificate;
  /** Of an authority of its own: whoever the plane's CA certifies must not get past RBAC straight into etcd. */
  etcdCa: KeyedCertificate;
  etcdClient: KeyedCertificate;
  adminToken: string;
}

/** Makes the certificates, keys and tokens, and writes every file that the servers' flags name. */
export async function writeIdentity(folder: string, url: string): Promise<PlaneIdentity> {
  const ca = await createAuthority('meshkit control plane');
  const etcdCa = await createAuthority('meshkit etcd');
  const etcd = await issueServer(etcdCa, { commonName: 'etcd', hosts: ['127.0.0.1', 'localhost'] });
  const etcdClient = await issueClient(etcdCa, { name: 'kube-apiserver' });
  const server = await issueServer(ca, {
    commonName: 'kube-apiserver',
    hosts: ['127.0.0.1', 'localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'],
  });
  const controllers = await issueClient(ca, {
    name: 'system:kube-controller-manager',
    groups: ['system:masters'],
  });
  const tokenKeys = createKeys();
  const adminToken = randomBytes(24).toString('hex');
  const admin = { server: url, ca: ca.cert, user: 'admin', credentials: { token: adminToken } };
  const files: Record<string, string> = {
    [FILES.ca]: ca.cert,
    [FILES.caKey]: ca.key,
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
      ...admin,
      user: 'system:kube-controller-manager',
      credentials: controllers,
    }),
  };
  await Promise.all([
    ...Object.entries(files).map(([name, text]) => writeFile(join(folder, name), text, { mode: 0o600 })),
    writeFile(planeFiles(folder).adminKubeconfig, kubeconfigYaml(admin), { mode: 0o600 }),
  ]);
  return { ca, etcdCa, etcdClient, adminToken };
}
