import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { timestamp } from './objects.ts';
import type { Json } from './schema.ts';
import { badRequest, invalid, invalidValue, notImplemented, quote, refused, StatusError } from './status.ts';
import type { Store, Stored } from './store.ts';

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

type Rule = Partial<
  Record<'verbs' | 'apiGroups' | 'resources' | 'resourceNames' | 'nonResourceURLs', string[]>
>;
type Reference = { kind: string; name: string; namespace?: string };
type Binding = Stored & { subjects?: Reference[]; roleRef: Reference };

export const RBAC = 'rbac.authorization.k8s.io';
const ISSUER = 'https://kubernetes.default.svc.cluster.local';
const CREDENTIAL = 'authentication.kubernetes.io/credential-id';
const INVALID = 'invalid bearer token';

/** Who is asking (client certificates of the plane's CA, the administrator's token, ServiceAccount tokens), and what they may. */
export class Access {
  readonly #store: Store;
  readonly #adminToken: string;
  readonly #key = randomBytes(32);

  constructor(store: Store, adminToken: string) {
    this.#store = store;
    this.#adminToken = adminToken;
  }

  /** Throws 401 for credentials that are wrong; without any, the user is anonymous. */
  authenticate(request: IncomingMessage): UserInfo {
    const socket = request.socket as TLSSocket;
    const { subject, fingerprint256 = '' } = socket.getPeerCertificate() ?? {};
    const token = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (subject && socket.authorized) {
      const groups = [...[subject.O ?? []].flat(), 'system:authenticated'];
      const extra = { [CREDENTIAL]: [`X509SHA256=${fingerprint256.replaceAll(':', '').toLowerCase()}`] };
      return { username: String(subject.CN), groups, extra };
    }
    if (!subject && !token) return { username: 'system:anonymous', groups: ['system:unauthenticated'] };
    const verdict = this.#check(subject ? '' : (token ?? ''), [ISSUER]);
    if ('error' in verdict) throw new StatusError(401, 'Unauthorized', 'Unauthorized');
    return verdict.user;
  }

  /** The status of a TokenReview. */
  reviewToken({ token, audiences }: Json): object {
    if (!token) throw badRequest('token is required for TokenReview in authentication');
    const verdict = this.#check(String(token), textsOr(audiences, ISSUER));
    return 'error' in verdict ? { user: {}, ...verdict } : { authenticated: true, ...verdict };
  }

  /** Spec and status of a TokenRequest for a ServiceAccount. */
  issueToken({ metadata }: Stored, { audiences, expirationSeconds = 3600, boundObjectRef }: Json): object {
    if (boundObjectRef) throw notImplemented('tokens that are bound to an object');
    const seconds = Number(expirationSeconds);
    if (!(seconds >= 600 && seconds <= 2 ** 32)) throw notImplemented('tokens for less than 10 minutes');
    const { name, namespace = '', uid } = metadata;
    const aud = textsOr(audiences, ISSUER);
    const iat = Math.floor(Date.now() / 1000);
    const sub = `system:serviceaccount:${namespace}:${name}`;
    const claims = { iss: ISSUER, sub, aud, iat, nbf: iat, exp: iat + seconds, jti: randomUUID() };
    const bound = { 'kubernetes.io': { namespace, serviceaccount: { name, uid } } };
    const signed = [{ alg: 'HS256' }, { ...claims, ...bound }]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    const status = {
      token: `${signed}.${this.#sign(signed)}`,
      expirationTimestamp: timestamp(claims.exp * 1000),
    };
    return { spec: { audiences: aud, expirationSeconds, boundObjectRef: null }, status };
  }

  #sign(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('base64url');
  }

  #check(token: string, targets: string[]): { user: UserInfo; audiences: string[] } | { error: string } {
    // A static token knows no audience, so it is good for the API server's own only.
    if (token === this.#adminToken && targets.includes(ISSUER)) {
      const groups = ['system:masters', 'system:authenticated'];
      return { user: { username: 'admin', uid: 'admin', groups }, audiences: [ISSUER] };
    }
    const [header, payload = '', signature] = token.split('.');
    if (signature !== this.#sign(`${header}.${payload}`)) return { error: INVALID };
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const audiences = targets.filter((target) => claims.aud.includes(target));
    const [own, wanted] = [claims.aud, targets].map((list) => `[${list.map(quote).join(' ')}]`);
    if (audiences.length === 0)
      return { error: `[${INVALID}, token audiences ${own} is invalid for the target audiences ${wanted}]` };
    const { namespace, serviceaccount } = claims['kubernetes.io'];
    const account = this.#store.get('serviceaccounts.', `${namespace}/${serviceaccount.name}`);
    const uid = account?.object.metadata.uid;
    if (claims.exp * 1000 <= Date.now()) return { error: `[${INVALID}, service account token has expired]` };
    if (uid !== serviceaccount.uid)
      return { error: `[${INVALID}, service account token has been invalidated]` };
    const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'];
    const extra = { [CREDENTIAL]: [`JTI=${claims.jti}`] };
    return { user: { username: claims.sub, uid, groups, extra }, audiences };
  }

  /** Whether RBAC allows it, and by which binding: the status of a SubjectAccessReview. */
  decide({ username, groups }: UserInfo, wanted: Attributes): { allowed: boolean; reason?: string } {
    if (groups.includes('system:masters')) return { allowed: true };
    const bindings = this.#store.list(`clusterrolebindings.${RBAC}`, '');
    if (wanted.namespace) bindings.push(...this.#store.list(`rolebindings.${RBAC}`, wanted.namespace));
    for (const { object } of bindings) {
      const { kind, metadata, subjects = [], roleRef } = object as Binding;
      const subject = subjects.find((one) => {
        if (one.kind === 'Group') return groups.includes(one.name);
        const account = `system:serviceaccount:${one.namespace}:${one.name}`;
        return username === (one.kind === 'User' ? one.name : account);
      });
      const key = roleRef.kind === 'Role' ? `${metadata.namespace}/${roleRef.name}` : roleRef.name;
      const role = this.#store.get(`${roleRef.kind.toLowerCase()}s.${RBAC}`, key)?.object;
      if (!subject || !((role?.rules ?? []) as Rule[]).some((rule) => covers(rule, wanted))) continue;
      const full = ({ name, namespace }: { name: string; namespace?: string }) =>
        quote(namespace ? `${name}/${namespace}` : name);
      const by = `${kind} ${full(metadata)} of ${roleRef.kind} ${quote(roleRef.name)}`;
      return { allowed: true, reason: `RBAC: allowed by ${by} to ${subject.kind} ${full(subject)}` };
    }
    return { allowed: false };
  }

  /** Throws 403, in the words of the real server. */
  authorize(user: UserInfo, wanted: Attributes): void {
    if (this.decide(user, wanted).allowed) return;
    const { verb, path, group, resource, subresource, namespace, name } = wanted;
    const who = `User ${quote(user.username)} cannot ${verb}`;
    const nowhere = `forbidden: ${who} path ${quote(path ?? '')}`;
    if (path !== undefined) throw new StatusError(403, 'Forbidden', nowhere, {});
    const what = quote(subresource ? `${resource}/${subresource}` : resource);
    const where = namespace ? `in the namespace ${quote(namespace)}` : 'at the cluster scope';
    const why = `%s is forbidden: ${who} resource ${what} in API group ${quote(group)} ${where}`;
    throw refused('Forbidden', { group, plural: resource }, name, why);
  }

  /** The status of a SubjectAccessReview. */
  reviewAccess(spec: Json): object {
    const { resourceAttributes: resource, nonResourceAttributes: other, ...who } = spec;
    const refuse = (field: string, value: unknown, why: string) =>
      invalid({ group: 'authorization.k8s.io', plural: '' }, '', [invalidValue(field, value, why)]);
    if (!resource === !other) {
      const why = 'exactly one of nonResourceAttributes or resourceAttributes must be specified';
      throw refuse('spec', other ?? null, why);
    }
    const user = { username: String(who.user ?? ''), groups: textsOr(who.groups) };
    if (!user.username && user.groups.length === 0)
      throw refuse('spec.user', '', 'at least one of user or group must be specified');
    const nothing = { verb: '', group: '', resource: '', namespace: '', name: '' };
    return this.decide(user, { ...nothing, ...(resource ?? { path: '', ...(other as Json) }) });
  }
}

function covers(rule: Rule, { verb, path, group, resource, subresource, name }: Attributes): boolean {
  const has = (list: string[] = [], ...values: string[]) =>
    ['*', ...values].some((value) => list.includes(value));
  if (!has(rule.verbs, verb)) return false;
  if (path !== undefined) {
    const urls = rule.nonResourceURLs ?? [];
    return urls.some((url) => url === path || (url.endsWith('*') && path.startsWith(url.slice(0, -1))));
  }
  const resources = subresource ? [`${resource}/${subresource}`, `*/${subresource}`] : [resource];
  const named = rule.resourceNames?.length ? rule.resourceNames.includes(name) : true;
  return has(rule.apiGroups, group) && named && has(rule.resources, ...resources);
}

function textsOr(given: unknown, ...otherwise: string[]): string[] {
  return Array.isArray(given) && given.length > 0 ? given.map(String) : otherwise;
}
