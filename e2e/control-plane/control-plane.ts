/** Who a kubeconfig is for: becomes CN and O of a client certificate. */
export interface User {
  name: string;
  groups?: readonly string[];
}

/** One completed request as kube-apiserver's audit log (or the embedded server's own count) saw it. */
export interface AuditEntry {
  /** User name, e.g. `system:serviceaccount:meshkit-system:meshkit-operator`. */
  user: string;
  /** Kubernetes verb: get, list, watch, create, update, patch, delete, deletecollection. */
  verb: string;
  /** API group, empty for the core group. */
  group: string;
  /** Plural, empty for non-resource requests such as `/version`. */
  resource: string;
  subresource?: string;
  namespace?: string;
  name?: string;
  /** `dryRun=All`, the only value that is not refused. */
  dryRun: boolean;
  /** HTTP status of the answer. */
  code: number;
  /** When the request arrived, milliseconds since the Unix epoch. */
  at: number;
}

export interface ServerCertificate {
  /** PEM: the leaf alone; `ca` is what clients have to trust. */
  cert: string;
  key: string;
  ca: string;
}

export type ControlPlaneKind = 'real' | 'embedded';

/** The store below kube-apiserver, for those who have to look at it behind its back: gRPC, and JSON at `/v3/…`. */
export interface EtcdAccess {
  /** `https://127.0.0.1:<port>` */
  readonly url: string;
  /** PEM: whom to trust, and who we are. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface RestartOptions {
  downMs?: number;
  whileDown?: () => Promise<void>;
  /** Only `real`: called before etcd stops and after it was started, while nothing else runs that could write. */
  etcdAlone?: EtcdAlone;
}

export type EtcdAlone = (when: 'before' | 'after') => Promise<void>;

/**
 * A running control plane on loopback that belongs to its starter: `stop()` ends every process and removes
 * the folder, and the same happens when the starter dies without calling it.
 */
export interface ControlPlane {
  readonly kind: ControlPlaneKind;
  /** As `/version` reports it, e.g. `v1.37.2`. */
  readonly version: string;
  /** `https://127.0.0.1:<port>`; the port survives `restart()`. */
  readonly url: string;
  /** Data, logs and the files named by `planeFiles`. */
  readonly folder: string;
  /** Path of a kubectl of this version; only `real` has one. */
  readonly kubectl?: string;
  /** Only `real` has one. */
  readonly etcd?: EtcdAccess;
  /** YAML text. `admin` (the default) is in `system:masters` with a static bearer token; anybody else gets a client certificate. */
  kubeconfig(user?: User | 'admin'): Promise<string>;
  /** YAML text with a token of the TokenRequest API. Rejects when the ServiceAccount does not exist. */
  serviceAccountKubeconfig(namespace: string, name: string, options?: TokenOptions): Promise<string>;
  /** A certificate of the plane's CA for a development server; `hosts` are DNS names or IP addresses. */
  serverCertificate(options: { commonName: string; hosts: readonly string[] }): Promise<ServerCertificate>;
  /**
   * Forgets all history up to now, so that a watch from any older resourceVersion answers 410. Cuts open
   * watches on `real`: kube-apiserver remembers history of its own and forgets it only by a restart.
   */
  compactEtcd(): Promise<void>;
  /**
   * Ends the servers without ceremony and starts them on the same data and ports; resolves when ready again.
   * `downMs`: how long nobody listens in between, for tests of an outage (default 0); `whileDown` runs when every server
   * has ended, and may exchange etcd's data (`planeFiles`).
   */
  restart(options?: RestartOptions): Promise<void>;
  /** Idempotent. */
  stop(): Promise<void>;
  /** Requests completed so far, oldest first, except those that arrived before `since` (ms since the Unix epoch). */
  audit(since?: number): Promise<AuditEntry[]>;
}

export interface TokenOptions {
  audiences?: readonly string[];
  /** At least 600, which is the least that kube-apiserver grants. */
  expirationSeconds?: number;
}

export interface StartOptions {
  /** One progress line per step, without a newline. */
  log?: (line: string) => void;
  /** e.g. `v1.37.2`; absent means the newest that this project supports. */
  version?: string;
  /** Must be absent or empty; is kept on stop, for a look at logs. Absent: a temporary folder that `stop()` removes. */
  folder?: string;
  /** Aborts the start; a plane that runs is ended by `stop()` only. */
  signal?: AbortSignal;
}

/** Paths inside `ControlPlane.folder` that both kinds write before `start` resolves. */
export function planeFiles(folder: string) {
  return {
    /** A folder; only `real` has one. */
    etcdData: `${folder}/etcd`,
    caCert: `${folder}/ca.crt`,
    caKey: `${folder}/ca.key`,
    adminKubeconfig: `${folder}/admin.kubeconfig`,
  };
}

/** What tests get by `inject('controlPlane')`: plain data, since it crosses from vitest's main process to its workers. */
export interface ProvidedControlPlane {
  kind: ControlPlaneKind;
  version: string;
  url: string;
  folder: string;
  /** Path. */
  adminKubeconfig: string;
  /** Path of the CA certificate, PEM. */
  caCert: string;
  /** Path of the CA's private key, PEM: a test may mint client certificates with `issueClient` of certificates.ts. */
  caKey: string;
  /** Path of a kubectl of this version; absent when no binaries are at hand. */
  kubectl?: string;
}
