import type { KubeObject } from '@meshkit/shards/records';
import { CRDS } from './crd.ts';
import { CHANGED_BY_POLICY, VALIDATING_POLICIES } from './policies.ts';
import { ACCESS } from './roles.ts';

/** One file of `crds/manifests`. */
export interface Manifest {
  file: string;
  objects: readonly KubeObject[];
}

/** In the order in which they can be applied. */
export const MANIFESTS: readonly Manifest[] = [
  ...CRDS.map((definition) => ({ file: `${definition.spec.names.plural}.yaml`, objects: [definition] })),
  { file: 'roles.yaml', objects: ACCESS },
  { file: 'policies.yaml', objects: VALIDATING_POLICIES },
  // By itself, because Kubernetes before 1.36 does not serve its kind.
  { file: 'policy-changed-by.yaml', objects: CHANGED_BY_POLICY },
];
