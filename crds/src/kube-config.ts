import type { KubeClient } from './kube-client.ts';

export interface KubeConfigOptions {
  /** Path of a kubeconfig file. Absent: `KUBECONFIG`, `~/.kube/config`, then the pod's service account. */
  kubeconfig?: string;
  /** Name of a context; absent: the file's current one. */
  context?: string;
}

/** A client for the given or default kubeconfig. Throws ShardError `invalidArgument` with one clear line. */
export function loadKube(_options: KubeConfigOptions): KubeClient {
  throw new Error('not written yet');
}

/** A client for kubeconfig YAML (or JSON) at hand; relative paths in it are relative to the working directory. */
export function kubeFromString(_yaml: string): KubeClient {
  throw new Error('not written yet');
}
