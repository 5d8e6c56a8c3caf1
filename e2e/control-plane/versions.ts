/** The Kubernetes that the real control plane runs unless asked otherwise. Also settles the name of the cache folder. */
export const KUBERNETES_VERSION = 'v1.37.2';

/** Used only where etcd has to be built; an envtest archive brings the etcd that fits its Kubernetes. */
export const ETCD_VERSION = 'v3.7.3';

export const BINARY_NAMES = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kubectl'] as const;
export type BinaryName = (typeof BINARY_NAMES)[number];

/** `v1.37.2` -> `{minor: 37, patch: 2}`; throws on anything that is not a released 1.x version. */
export function parseVersion(version: string): { minor: number; patch: number } {
  const match = /^v1\.(\d+)\.(\d+)$/.exec(version);
  if (!match)
    throw new RangeError(`not a Kubernetes release: "${version}" (expected e.g. ${KUBERNETES_VERSION})`);
  return { minor: Number(match[1]), patch: Number(match[2]) };
}
