import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { type Catalogue, type Json, type Schema, validator } from './schema.ts';
import { notImplemented } from './status.ts';
import type { Stored } from './store.ts';

/** What a CustomResourceDefinition cannot say of a built-in kind. */
interface Traits {
  /** Is answered, not stored. */
  review?: boolean;
  generation?: boolean;
  /** PUT creates what is missing. */
  upsert?: boolean;
  /** PUT without a resourceVersion overwrites. */
  unconditional?: boolean;
  /** DELETE answers with the object instead of a Status. */
  returnsDeleted?: boolean;
  /** Fields that never change. */
  immutable?: string[];
  /** Fields that a write of the main resource leaves as they are. */
  serverFields?: string[];
}

export type Column = { name: string; type: string; priority?: number; jsonPath: string };

interface Version {
  name: string;
  served: boolean;
  schema?: { openAPIV3Schema?: Schema };
  subresources?: { status?: object };
  additionalPrinterColumns?: Column[];
  selectableFields?: { jsonPath: string }[];
}

interface Named {
  group: string;
  scope: string;
  names: { plural: string; singular?: string; kind: string; shortNames?: string[]; categories?: string[] };
}

type Definition = Named & { versions: Version[] };
type BuiltIn = Named & Version & { traits?: Traits; nameFormat?: string };
type Bootstrap = Catalogue & { metadata: Schema; kinds: BuiltIn[]; objects: Stored[] };

const BOOTSTRAP: Bootstrap = parse(readFileSync(new URL('./bootstrap.yaml', import.meta.url), 'utf8'));
const AGE: Column = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

/** One row of the closed table: a resource that this server stores. */
export type Kind = ReturnType<typeof kindOf>;

/** What is there before anybody applies anything. */
export function bootstrap(): { kinds: Kind[]; objects: Stored[] } {
  const kinds = BOOTSTRAP.kinds.map(({ traits = {}, nameFormat, ...row }) => {
    const version = { ...row, name: 'v1', served: true };
    return { ...kindOf({ ...row, versions: [version] }, traits, nameFormat), custom: false };
  });
  return { kinds, objects: structuredClone(BOOTSTRAP.objects) };
}

/** The kind that the spec of a CustomResourceDefinition adds. */
export function customKind({ spec }: Stored): Kind {
  return kindOf(spec as Definition, { generation: true });
}

function kindOf({ group, scope, names, versions }: Definition, traits: Traits, nameFormat = 'subdomain') {
  const [served, another] = versions.filter((version) => version.served);
  if (!served || another)
    throw notImplemented('CustomResourceDefinitions with other than one served version');
  const { name: version, subresources, selectableFields = [] } = served;
  const namespaced = scope === 'Namespaced';
  const status = subresources?.status !== undefined;
  const given = served.schema?.openAPIV3Schema ?? {};
  const text = { type: 'string' };
  const name = { ...text, format: nameFormat };
  const metadata = { ...BOOTSTRAP.metadata, properties: { ...BOOTSTRAP.metadata.properties, name } };
  const properties = { ...given.properties, apiVersion: text, kind: text, metadata };
  const schema: Schema = { type: 'object', ...given, properties };
  const named = ['metadata.name', ...(namespaced ? ['metadata.namespace'] : [])];
  return {
    ...{ singular: names.kind.toLowerCase(), ...names },
    ...{ group, version, namespaced, status, schema },
    apiVersion: group === '' ? version : `${group}/${version}`,
    columns: served.additionalPrinterColumns ?? [AGE],
    /** Its part of the store. */
    bucket: `${names.plural}.${group}`,
    /** From a CustomResourceDefinition. */
    custom: true,
    /** What a field selector may name. */
    selectable: [...named, ...selectableFields.map(({ jsonPath }) => jsonPath.slice(1))],
    violations: validator(schema, BOOTSTRAP),
    statusViolations: validator(given.properties?.status ?? {}, BOOTSTRAP),
    ...(status && { serverFields: ['status'] }),
    ...traits,
  };
}

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const TOKEN = { kind: 'TokenRequest', group: 'authentication.k8s.io', version: 'v1', verbs: ['create'] };

/** The unaggregated discovery documents; undefined for any other path. */
export function discover(path: string, kinds: readonly Kind[]): Json | undefined {
  const versions = [...new Set(kinds.map((kind) => kind.apiVersion))];
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
  const groups = versions.slice(1).map((groupVersion) => {
    const [name, version] = groupVersion.split('/');
    const served = { groupVersion, version };
    return { name, versions: [served], preferredVersion: served };
  });
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups };
  const group = groups.find(({ name }) => path === `/apis/${name}`);
  if (group) return { kind: 'APIGroup', apiVersion: 'v1', ...group };
  const groupVersion = versions.find((one) => path === (one === 'v1' ? '/api/v1' : `/apis/${one}`));
  const resources = kinds.filter(({ apiVersion }) => apiVersion === groupVersion).flatMap(resourcesOf);
  return groupVersion ? { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources } : undefined;
}

function resourcesOf({ plural, singular: singularName, namespaced, kind, ...more }: Kind): Json[] {
  const { shortNames, categories, review } = more;
  const verbs = review ? ['create'] : VERBS;
  const main = { name: plural, singularName, namespaced, kind, verbs, shortNames, categories };
  const part = { singularName: '', namespaced, kind };
  const status = { name: `${plural}/status`, ...part, verbs: ['get', 'patch', 'update'] };
  const token = { name: `${plural}/token`, ...part, ...TOKEN };
  return [main, ...(more.status ? [status] : []), ...(kind === 'ServiceAccount' ? [token] : [])];
}
