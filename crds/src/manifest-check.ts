import { API_VERSION } from '@meshkit/shards/records';
import type { SimulatedManifest } from '@meshkit/shards/simulate';
import { z } from 'zod';
import { DNS_LABEL, formed, type Rule, SHARD_ID } from './schema.ts';
import { meshNodeRules, meshNodeSpec } from './schema-mesh-node.ts';
import { shardAssignmentRules, shardAssignmentSpec } from './schema-shard-assignment.ts';
import { shardSetRules, shardSetSpec } from './schema-shard-set.ts';

/** One thing that is wrong with an object; `path` leads to it from the object's root. */
export interface ManifestFault {
  path: readonly (string | number)[];
  detail: string;
}

/** `other`: a kind that is none of ours. */
export type CheckedManifest =
  | { manifest: SimulatedManifest }
  | { faults: readonly ManifestFault[] }
  | { other: string };

const KINDS: Record<string, { spec: z.ZodType; rules: readonly Rule<never>[] }> = {
  ShardSet: { spec: shardSetSpec, rules: shardSetRules },
  ShardAssignment: { spec: shardAssignmentSpec, rules: shardAssignmentRules },
  MeshNode: { spec: meshNodeSpec, rules: meshNodeRules },
};

/** What we read of an object's metadata; the rest (of a dry run's answer, say) is passed over. */
const metadata = z.object({
  // The longest form; each kind's rules say the rest.
  name: formed({ ...SHARD_ID, max: 253 }, 'The name.'),
  namespace: formed(DNS_LABEL, 'The namespace.').optional(),
  labels: z.record(z.string().max(317), z.string('labels are strings: put it in quotes').max(63)).optional(),
});

/**
 * What a document says, as one of our kinds: checked by the schemas that the CRDs are made of, and, as kube-apiserver does for
 * kubectl, refused where it has a field that there is not. Status and other metadata are left out. CEL rules that compare
 * with the object as it was, and admission policies, are kube-apiserver's to check.
 */
export function checkManifest(document: unknown): CheckedManifest {
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    return { faults: [{ path: [], detail: 'not an object with apiVersion, kind, metadata and spec' }] };
  }
  const { apiVersion, kind, metadata: given, spec } = document as Record<string, unknown>;
  if (typeof apiVersion !== 'string' || typeof kind !== 'string') {
    const missing = typeof kind !== 'string' ? 'kind' : 'apiVersion';
    return { faults: [{ path: [missing], detail: 'is missing, or is not a string' }] };
  }
  const known = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
  if (!known || !apiVersion.startsWith(`${API_VERSION.split('/')[0]}/`)) return { other: kind };
  if (apiVersion !== API_VERSION) {
    return { faults: [{ path: ['apiVersion'], detail: `use ${API_VERSION}` }] };
  }
  const named = metadata.safeParse(given ?? {});
  const specified = known.spec.safeParse(spec ?? {});
  const faults = [
    ...faultsOf('metadata', named.error),
    ...faultsOf('spec', specified.error),
    ...(specified.success ? unknownFields(['spec'], spec ?? {}, specified.data) : []),
  ];
  if (named.success && specified.success && faults.length === 0) {
    const object = { metadata: named.data, spec: specified.data };
    for (const { holds, message, fieldPath = '' } of known.rules) {
      if (holds && !holds(object as never))
        faults.push({ path: fieldPath.split('.').slice(1), detail: message });
    }
    if (faults.length === 0) return { manifest: { apiVersion, kind, ...object } as SimulatedManifest };
  }
  return { faults };
}

function faultsOf(part: string, error: z.ZodError | undefined): ManifestFault[] {
  return (error?.issues ?? []).map(({ path, message }) => ({
    path: [part, ...path.map((step) => (typeof step === 'number' ? step : String(step)))],
    detail: message,
  }));
}

/** zod leaves out what it does not know; what is in the document and not in its output is a misspelt field. */
function unknownFields(path: readonly (string | number)[], given: unknown, read: unknown): ManifestFault[] {
  if (Array.isArray(given) && Array.isArray(read)) {
    return given.flatMap((item, index) => unknownFields([...path, index], item, read[index]));
  }
  if (typeof given !== 'object' || given === null || typeof read !== 'object' || read === null) return [];
  return Object.entries(given).flatMap(([key, value]) =>
    Object.hasOwn(read, key)
      ? unknownFields([...path, key], value, (read as Record<string, unknown>)[key])
      : [{ path: [...path, key], detail: `there is no field ${[...path, key].join('.')}` }],
  );
}
