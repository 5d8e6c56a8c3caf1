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

/** The unaggregated discovery documents and the least of `/openapi/v3`; undefined for any other path. */
export function discover(path: string, kinds: readonly Kind[]): Json | undefined {
  const versions = [
    ...new Set([...kinds, ...REVIEWS.map(({ group }) => ({ group, version: 'v1' }))].map(apiVersionOf)),
  ];
  const documents = new Map<string, () => Json>([
    ['/api', () => ({ kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] })],
    ['/apis', () => ({ kind: 'APIGroupList', apiVersion: 'v1', groups: versions.slice(1).map(apiGroup) })],
    [
      '/openapi/v3',
      () => ({ paths: Object.fromEntries(versions.map((one) => [pathOf(one), openApiOf(one)])) }),
    ],
  ]);
  for (const version of versions) {
    documents.set(`/${pathOf(version)}`, () => resourceList(version, kinds));
    documents.set(`/openapi/v3/${pathOf(version)}`, () => openApi(version, kinds));
    documents.set(`/apis/${version.split('/')[0]}`, () => ({
      kind: 'APIGroup',
      apiVersion: 'v1',
      ...apiGroup(version),
    }));
  }
  return documents.get(path)?.();
}

function pathOf(groupVersion: string): string {
  return groupVersion.includes('/') ? `apis/${groupVersion}` : `api/${groupVersion}`;
}

function openApiOf(groupVersion: string): Json {
  return { serverRelativeURL: `/openapi/v3/${pathOf(groupVersion)}` };
}

function apiGroup(groupVersion: string): Json {
  const [name, version] = groupVersion.split('/');
  const served = { groupVersion, version };
  return { name, versions: [served], preferredVersion: served };
}

function resourceList(groupVersion: string, kinds: readonly Kind[]): Json {
  const stored = kinds
    .filter((kind) => apiVersionOf(kind) === groupVersion)
    .flatMap(({ plural, singular, namespaced, kind, shortNames, categories, status }) => {
      const main = {
        name: plural,
        singularName: singular,
        namespaced,
        kind,
        verbs: VERBS,
        shortNames,
        categories,
      };
      const part = {
        name: `${plural}/status`,
        singularName: '',
        namespaced,
        kind,
        verbs: ['get', 'patch', 'update'],
      };
      const token = {
        group: 'authentication.k8s.io',
        version: 'v1',
        kind: 'TokenRequest',
        verbs: ['create'],
      };
      if (plural === 'serviceaccounts') return [main, { ...part, name: 'serviceaccounts/token', ...token }];
      return status ? [main, part] : [main];
    });
  const reviews = REVIEWS.filter(({ group }) => `${group}/v1` === groupVersion).map(({ plural, kind }) => {
    return { name: plural, singularName: kind.toLowerCase(), namespaced: false, kind, verbs: ['create'] };
  });
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources: [...stored, ...reviews] };
}

/** Tells kubectl that this server validates fields itself; without it, kubectl refuses to apply. */
function openApi(groupVersion: string, kinds: readonly Kind[]): Json {
  const parameters = ['dryRun', 'fieldManager', 'fieldValidation'].map((name) => ({
    name,
    in: 'query',
    schema: { type: 'string' },
  }));
  const paths = kinds
    .filter((kind) => apiVersionOf(kind) === groupVersion)
    .map(({ group, version, kind, plural, namespaced }) => {
      const scope = namespaced ? '/namespaces/{namespace}' : '';
      const identity = {
        'x-kubernetes-action': 'patch',
        'x-kubernetes-group-version-kind': { group, version, kind },
      };
      return [
        `/${pathOf(groupVersion)}${scope}/${plural}/{name}`,
        { patch: { ...identity, parameters, responses: {} } },
      ];
    });
  return {
    openapi: '3.0.0',
    info: { title: 'Kubernetes', version: 'embedded' },
    paths: Object.fromEntries(paths),
  };
}
