import { apiVersionOf, type Kind } from './kinds.ts';
import type { Json } from './schema.ts';

/** Reviews are answered, not stored. */
export const REVIEWS = [
  { group: 'authentication.k8s.io', plural: 'tokenreviews', kind: 'TokenReview' },
  { group: 'authentication.k8s.io', plural: 'selfsubjectreviews', kind: 'SelfSubjectReview' },
  { group: 'authorization.k8s.io', plural: 'subjectaccessreviews', kind: 'SubjectAccessReview' },
  { group: 'authorization.k8s.io', plural: 'selfsubjectaccessreviews', kind: 'SelfSubjectAccessReview' },
] as const;

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const TOKEN = { kind: 'TokenRequest', group: 'authentication.k8s.io', version: 'v1', verbs: ['create'] };

/** The unaggregated discovery documents and the least of `/openapi/v3`; undefined for any other path. */
export function discover(path: string, kinds: readonly Kind[]): Json | undefined {
  const reviews = REVIEWS.map(({ group }) => `${group}/v1`);
  const versions = [...new Set([...kinds.map(apiVersionOf), ...reviews])];
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
  if (path === '/apis')
    return { kind: 'APIGroupList', apiVersion: 'v1', groups: versions.slice(1).map(apiGroup) };
  if (path === '/openapi/v3') return { paths: Object.fromEntries(versions.map(openApiLink)) };
  for (const version of versions) {
    if (path === `/${pathOf(version)}`) return resourceList(version, kinds);
    if (path === `/openapi/v3/${pathOf(version)}`) return openApi(version, kinds);
    if (path === `/apis/${version.split('/')[0]}`)
      return { kind: 'APIGroup', apiVersion: 'v1', ...apiGroup(version) };
  }
  return undefined;
}

function pathOf(groupVersion: string): string {
  return groupVersion.includes('/') ? `apis/${groupVersion}` : `api/${groupVersion}`;
}

function openApiLink(groupVersion: string): [string, Json] {
  return [pathOf(groupVersion), { serverRelativeURL: `/openapi/v3/${pathOf(groupVersion)}` }];
}

function apiGroup(groupVersion: string): Json {
  const [name, version] = groupVersion.split('/');
  const served = { groupVersion, version };
  return { name, versions: [served], preferredVersion: served };
}

function resourceList(groupVersion: string, kinds: readonly Kind[]): Json {
  const resources: Json[] = [];
  for (const one of kinds.filter((kind) => apiVersionOf(kind) === groupVersion)) {
    const { plural: name, singular: singularName, namespaced, kind, shortNames, categories } = one;
    resources.push({ name, singularName, namespaced, kind, verbs: VERBS, shortNames, categories });
    const part = { singularName: '', namespaced, kind };
    if (one.status) resources.push({ name: `${name}/status`, ...part, verbs: ['get', 'patch', 'update'] });
    if (name === 'serviceaccounts') resources.push({ name: `${name}/token`, ...part, ...TOKEN });
  }
  for (const { plural: name, kind } of REVIEWS.filter(({ group }) => `${group}/v1` === groupVersion)) {
    resources.push({ name, singularName: kind.toLowerCase(), namespaced: false, kind, verbs: ['create'] });
  }
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources };
}

/** Tells kubectl that this server validates fields itself; without it, kubectl refuses to apply. */
function openApi(groupVersion: string, kinds: readonly Kind[]): Json {
  const names = ['dryRun', 'fieldManager', 'fieldValidation'];
  const parameters = names.map((name) => ({ name, in: 'query', schema: { type: 'string' } }));
  const here = kinds.filter((kind) => apiVersionOf(kind) === groupVersion);
  const paths = here.map(({ group, version, kind, plural, namespaced }) => {
    const scope = namespaced ? '/namespaces/{namespace}' : '';
    const patch = { parameters, responses: {}, 'x-kubernetes-group-version-kind': { group, version, kind } };
    return [`/${pathOf(groupVersion)}${scope}/${plural}/{name}`, { patch }];
  });
  const info = { title: 'Kubernetes', version: 'embedded' };
  return { openapi: '3.0.0', info, paths: Object.fromEntries(paths) };
}
