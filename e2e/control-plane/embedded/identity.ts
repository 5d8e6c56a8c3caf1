import { randomUUID, sign, verify } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { createKeys } from '../certificates.ts';
import type { UserInfo } from './rbac.ts';
import type { Json } from './schema.ts';
import { badRequest, invalid, invalidValue, notImplemented, quote, StatusError } from './status.ts';
import type { Store, Stored } from './store.ts';
import { timestamp } from './validate.ts';

const ISSUER = 'https://kubernetes.default.svc.cluster.local';
const CREDENTIAL = 'authentication.kubernetes.io/credential-id';
const MOST_VERIFIED = 1_000;

interface Claims {
  aud: string[];
  exp: number;
  jti: string;
  'kubernetes.io': { namespace: string; serviceaccount: { name: string; uid: string } };
}

type Verdict = { user: UserInfo; audiences: string[] } | { error: string };

/** Who is asking: client certificates of the plane's CA, the administrator's token, and ServiceAccount tokens (ES256). */
export class Identities {
  readonly #store: Store;
  readonly #adminToken: string;
  readonly #keys = createKeys();
  readonly #certified = new WeakMap<TLSSocket, UserInfo>();
  /** Tokens whose signature was right, so that it is checked once. */
  readonly #verified = new Map<string, Claims>();

  constructor(store: Store, adminToken: string) {
    this.#store = store;
    this.#adminToken = adminToken;
  }

  /** Throws 401 for credentials that are wrong; without any, the user is anonymous. */
  authenticate(request: IncomingMessage): UserInfo {
    const socket = request.socket as TLSSocket;
    const certified = this.#certified.get(socket) ?? fromCertificate(socket);
    if (certified) {
      this.#certified.set(socket, certified);
      return certified;
    }
    const token = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (!token) return { username: 'system:anonymous', groups: ['system:unauthenticated'] };
    const verdict = this.#check(token, [ISSUER]);
    if ('error' in verdict) throw new StatusError(401, 'Unauthorized', 'Unauthorized');
    return verdict.user;
  }

  /** Answers an authentication.k8s.io/v1 TokenReview. */
  review(body: Json): Json {
    const { token, audiences } = (body.spec ?? {}) as { token?: string; audiences?: string[] };
    if (!token) throw badRequest('token is required for TokenReview in authentication');
    const verdict = this.#check(token, audiences?.length ? audiences : [ISSUER]);
    const status = 'error' in verdict ? { user: {}, ...verdict } : { authenticated: true, ...verdict };
    return { metadata: {}, ...body, kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', status };
  }

  /** Answers an authentication.k8s.io/v1 TokenRequest for a ServiceAccount. */
  issue({ metadata }: Stored, body: Json): Json {
    const spec = (body.spec ?? {}) as {
      audiences?: string[];
      expirationSeconds?: number;
      boundObjectRef?: object;
    };
    if (spec.boundObjectRef) throw notImplemented('tokens that are bound to an object');
    const audiences = spec.audiences?.length ? spec.audiences : [ISSUER];
    const { expirationSeconds = 3600 } = spec;
    if (expirationSeconds < 600 || expirationSeconds > 2 ** 32) {
      const limit = expirationSeconds < 600 ? 'less than 10 minutes' : 'larger than 2^32 seconds';
      const cause = invalidValue(
        'spec.expirationSeconds',
        expirationSeconds,
        `may not specify a duration ${limit}`,
      );
      throw invalid('authentication.k8s.io', 'TokenRequest', '', [cause]);
    }
    const { name, namespace = '', uid, creationTimestamp } = metadata;
    const iat = Math.floor(Date.now() / 1000);
    const exp = iat + expirationSeconds;
    const bound = { 'kubernetes.io': { namespace, serviceaccount: { name, uid } } };
    const sub = usernameOf(namespace, name);
    const claims = { iss: ISSUER, sub, aud: audiences, iat, nbf: iat, exp, jti: randomUUID(), ...bound };
    const parts = [{ alg: 'ES256' }, claims].map((part) =>
      Buffer.from(JSON.stringify(part)).toString('base64url'),
    );
    const key = { key: this.#keys.privateKey, dsaEncoding: 'ieee-p1363' } as const;
    const token = [...parts, sign('sha256', Buffer.from(parts.join('.')), key).toString('base64url')].join(
      '.',
    );
    return {
      kind: 'TokenRequest',
      apiVersion: 'authentication.k8s.io/v1',
      metadata: { name, namespace, uid, creationTimestamp },
      spec: { audiences, expirationSeconds, boundObjectRef: null },
      status: { token, expirationTimestamp: timestamp(exp * 1000) },
    };
  }

  #check(token: string, targets: string[]): Verdict {
    const error = 'invalid bearer token';
    if (token === this.#adminToken) {
      // A static token knows no audience, so it is good for the API server's own only.
      if (!targets.includes(ISSUER)) return { error };
      const groups = ['system:masters', 'system:authenticated'];
      return { user: { username: 'admin', uid: 'admin', groups }, audiences: [ISSUER] };
    }
    const claims = this.#verified.get(token) ?? this.#verify(token);
    if (!claims) return { error };
    const audiences = targets.filter((target) => claims.aud.includes(target));
    if (audiences.length === 0) {
      const [own, wanted] = [claims.aud, targets].map((list) => `[${list.map(quote).join(' ')}]`);
      return { error: `[${error}, token audiences ${own} is invalid for the target audiences ${wanted}]` };
    }
    if (claims.exp * 1000 <= Date.now()) return { error: `[${error}, service account token has expired]` };
    const { namespace, serviceaccount } = claims['kubernetes.io'];
    const account = this.#store.get('serviceaccounts.', `${namespace}/${serviceaccount.name}`);
    if (account?.object.metadata.uid !== serviceaccount.uid) {
      return { error: `[${error}, service account token has been invalidated]` };
    }
    const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'];
    const extra = { [CREDENTIAL]: [`JTI=${claims.jti}`] };
    const username = usernameOf(namespace, serviceaccount.name);
    return { user: { username, uid: serviceaccount.uid, groups, extra }, audiences };
  }

  #verify(token: string): Claims | undefined {
    const [header = '', payload = '', signature = ''] = token.split('.');
    const key = { key: this.#keys.publicKey, dsaEncoding: 'ieee-p1363' } as const;
    const signed = Buffer.from(`${header}.${payload}`);
    if (!verify('sha256', signed, key, Buffer.from(signature, 'base64url'))) return undefined;
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Claims;
    if (this.#verified.size >= MOST_VERIFIED) this.#verified.clear();
    this.#verified.set(token, claims);
    return claims;
  }
}

/** CN is the user, every O a group. */
function fromCertificate(socket: TLSSocket): UserInfo | undefined {
  const { subject, fingerprint256 = '' } = socket.getPeerCertificate() ?? {};
  if (!subject) return undefined;
  if (!socket.authorized) throw new StatusError(401, 'Unauthorized', 'Unauthorized');
  const groups = [...[subject.O ?? []].flat(), 'system:authenticated'];
  const extra = { [CREDENTIAL]: [`X509SHA256=${fingerprint256.replaceAll(':', '').toLowerCase()}`] };
  return { username: String(subject.CN), groups, extra };
}

function usernameOf(namespace: string, name: string): string {
  return `system:serviceaccount:${namespace}:${name}`;
}
