import { parseVersion } from './versions.ts';

/** Names of files inside the plane's folder; every server runs with that folder as its working directory. */
export const FILES = {
  ca: 'ca.crt',
  caKey: 'ca.key',
  etcdCa: 'etcd-ca.crt',
  etcdCert: 'etcd.crt',
  etcdKey: 'etcd.key',
  etcdClientCert: 'etcd-client.crt',
  etcdClientKey: 'etcd-client.key',
  serverCert: 'kube-apiserver.crt',
  serverKey: 'kube-apiserver.key',
  tokenKey: 'service-account.key',
  tokenPublicKey: 'service-account.pub',
  tokens: 'tokens.csv',
  auditPolicy: 'audit-policy.yaml',
  auditLog: 'audit.log',
  controllerKubeconfig: 'kube-controller-manager.kubeconfig',
  data: 'etcd',
} as const;

const ISSUER = 'https://kubernetes.default.svc.cluster.local';

/** Only what our promises rest on; none of the workload controllers, since there are no kubelets. */
const CONTROLLERS = [
  'garbage-collector-controller',
  'namespace-controller',
  'serviceaccount-controller',
  'clusterrole-aggregation-controller',
  'validatingadmissionpolicy-status-controller',
];

/** Who asks what, without bodies; the server's own traffic and probes would drown it. */
export const AUDIT_POLICY = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: None
  users: ["system:apiserver"]
- level: None
  nonResourceURLs: ["/readyz*", "/livez*", "/healthz*"]
- level: Metadata
  omitManagedFields: true
`;

/** mTLS on the client port: otherwise every user of the machine could rewrite the cluster behind RBAC's back. */
export function etcdFlags(port: number): string[] {
  return [
    '--name=meshkit',
    `--data-dir=${FILES.data}`,
    `--listen-client-urls=https://127.0.0.1:${port}`,
    `--advertise-client-urls=https://127.0.0.1:${port}`,
    '--listen-peer-urls=http://127.0.0.1:0',
    '--initial-advertise-peer-urls=http://127.0.0.1:2380',
    '--initial-cluster=meshkit=http://127.0.0.1:2380',
    `--cert-file=${FILES.etcdCert}`,
    `--key-file=${FILES.etcdKey}`,
    `--trusted-ca-file=${FILES.etcdCa}`,
    '--client-cert-auth',
    // The data does not outlive the folder, so a crash of the machine is nobody's loss.
    '--unsafe-no-fsync',
    '--quota-backend-bytes=8589934592',
    '--log-level=warn',
  ];
}

export function apiServerFlags(options: { version: string; port: number; etcdPort: number }): string[] {
  return [
    '--bind-address=127.0.0.1',
    `--secure-port=${options.port}`,
    '--advertise-address=127.0.0.1',
    '--endpoint-reconciler-type=none',
    '--service-cluster-ip-range=10.96.0.0/24',
    `--etcd-servers=https://127.0.0.1:${options.etcdPort}`,
    `--etcd-cafile=${FILES.etcdCa}`,
    `--etcd-certfile=${FILES.etcdClientCert}`,
    `--etcd-keyfile=${FILES.etcdClientKey}`,
    `--tls-cert-file=${FILES.serverCert}`,
    `--tls-private-key-file=${FILES.serverKey}`,
    `--client-ca-file=${FILES.ca}`,
    `--token-auth-file=${FILES.tokens}`,
    '--authorization-mode=RBAC',
    `--service-account-issuer=${ISSUER}`,
    `--service-account-signing-key-file=${FILES.tokenKey}`,
    `--service-account-key-file=${FILES.tokenPublicKey}`,
    `--api-audiences=${ISSUER}`,
    `--audit-policy-file=${FILES.auditPolicy}`,
    `--audit-log-path=${FILES.auditLog}`,
    '--audit-log-maxsize=200',
    '--profiling=false',
    ...mutatingPolicyFlags(options.version),
  ];
}

export function controllerManagerFlags(): string[] {
  return [
    `--kubeconfig=${FILES.controllerKubeconfig}`,
    `--controllers=${CONTROLLERS.join(',')}`,
    '--leader-elect=false',
    '--secure-port=0',
    // The defaults (20 and 30) make the deletion of a namespace with a thousand objects take most of a minute.
    '--kube-api-qps=300',
    '--kube-api-burst=600',
    '--profiling=false',
  ];
}

/** KEP-3962: mutating admission policies are beta and off in 1.34 and 1.35, and always on from 1.36. */
function mutatingPolicyFlags(version: string): string[] {
  const { minor } = parseVersion(version);
  if (minor !== 34 && minor !== 35) return [];
  return [
    '--feature-gates=MutatingAdmissionPolicy=true',
    '--runtime-config=admissionregistration.k8s.io/v1beta1=true',
  ];
}
