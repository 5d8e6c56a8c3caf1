import { quote } from './status.ts';
import type { Store, Stored } from './store.ts';

export const RBAC_GROUP = 'rbac.authorization.k8s.io';

export interface UserInfo {
  username: string;
  uid?: string;
  groups: string[];
  extra?: Record<string, string[]>;
}

/** What a request wants: a resource, or (`path`) something else. */
export interface Attributes {
  verb: string;
  group: string;
  resource: string;
  subresource?: string;
  namespace: string;
  name: string;
  path?: string;
}

interface Rule {
  verbs: string[];
  apiGroups?: string[];
  resources?: string[];
  resourceNames?: string[];
  nonResourceURLs?: string[];
}

interface Subject {
  kind: string;
  name: string;
  namespace?: string;
}

interface Binding extends Stored {
  subjects?: Subject[];
  roleRef: { kind: string; name: string };
}

/** Whether RBAC allows it, and by which binding. */
export function decide(
  store: Store,
  user: UserInfo,
  wanted: Attributes,
): { allowed: boolean; reason?: string } {
  if (user.groups.includes('system:masters')) return { allowed: true };
  const bindings = store.list(`clusterrolebindings.${RBAC_GROUP}`, '');
  if (wanted.namespace) bindings.push(...store.list(`rolebindings.${RBAC_GROUP}`, wanted.namespace));
  for (const { object } of bindings) {
    const { kind, metadata, subjects = [], roleRef } = object as Binding;
    const subject = subjects.find((one) => isSubject(one, user));
    if (!subject || !rulesOf(store, roleRef, metadata.namespace).some((rule) => covers(rule, wanted)))
      continue;
    const full = (name: string, namespace?: string) => quote(namespace ? `${name}/${namespace}` : name);
    const by = `${kind} ${full(metadata.name, metadata.namespace)} of ${roleRef.kind} ${quote(roleRef.name)}`;
    const to = `${subject.kind} ${full(subject.name, subject.namespace)}`;
    return { allowed: true, reason: `RBAC: allowed by ${by} to ${to}` };
  }
  return { allowed: false };
}

function isSubject({ kind, name, namespace }: Subject, user: UserInfo): boolean {
  if (kind === 'User') return name === user.username;
  if (kind === 'Group') return user.groups.includes(name);
  return user.username === `system:serviceaccount:${namespace}:${name}`;
}

function rulesOf(store: Store, role: { kind: string; name: string }, namespace?: string): Rule[] {
  const key = role.kind === 'Role' ? `${namespace}/${role.name}` : role.name;
  const entry = store.get(`${role.kind.toLowerCase()}s.${RBAC_GROUP}`, key);
  return (entry?.object.rules as Rule[] | undefined) ?? [];
}

function covers(rule: Rule, { verb, path, group, resource, subresource, name }: Attributes): boolean {
  const has = (list: string[] | undefined, value: string) =>
    list?.includes('*') || list?.includes(value) || false;
  if (!has(rule.verbs, verb)) return false;
  if (path !== undefined) {
    const urls = rule.nonResourceURLs ?? [];
    return urls.some((url) => url === path || (url.endsWith('*') && path.startsWith(url.slice(0, -1))));
  }
  const resources = subresource ? [`${resource}/${subresource}`, `*/${subresource}`] : [resource];
  const named = rule.resourceNames?.length ? rule.resourceNames.includes(name) : true;
  return has(rule.apiGroups, group) && named && resources.some((one) => has(rule.resources, one));
}

/** As the message of a 403 says it. */
export function cannot({ username }: UserInfo, wanted: Attributes): string {
  const who = `User ${quote(username)} cannot ${wanted.verb}`;
  if (wanted.path !== undefined) return `${who} path ${quote(wanted.path)}`;
  const what = wanted.subresource ? `${wanted.resource}/${wanted.subresource}` : wanted.resource;
  const where = wanted.namespace ? `in the namespace ${quote(wanted.namespace)}` : 'at the cluster scope';
  return `${who} resource ${quote(what)} in API group ${quote(wanted.group)} ${where}`;
}

interface ClusterRole extends Stored {
  rules?: Rule[];
  aggregationRule?: { clusterRoleSelectors?: { matchLabels?: Record<string, string> }[] };
}

/** The ClusterRoles that aggregate others and do not have the rules of those yet, with them. */
export function aggregated(store: Store): Stored[] {
  const roles = store.list(`clusterroles.${RBAC_GROUP}`, '').map(({ object }) => object as ClusterRole);
  return roles.flatMap((role) => {
    const selectors = role.aggregationRule?.clusterRoleSelectors;
    if (!selectors) return [];
    const selected = ({ metadata }: Stored) =>
      selectors.some(({ matchLabels = {} }) =>
        Object.entries(matchLabels).every(([key, value]) => metadata.labels?.[key] === value),
      );
    const all = roles.filter((one) => one !== role && selected(one)).flatMap(({ rules = [] }) => rules);
    const rules = [...new Map(all.map((rule) => [JSON.stringify(rule), rule])).values()];
    return JSON.stringify(rules) === JSON.stringify(role.rules ?? []) ? [] : [{ ...role, rules }];
  });
}
