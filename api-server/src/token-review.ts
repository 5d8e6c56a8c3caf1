import { hash } from 'node:crypto';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { ShardError } from '@meshkit/shards/errors';
import { type ReviewCache, reviewFailed } from './review-cache.ts';

/** Who calls, as Kubernetes knows them. */
export interface Identity {
  user: string;
  uid?: string;
  groups: readonly string[];
  extra?: Record<string, readonly string[]>;
  /** Digest of the above: the same for two tokens of one identity. */
  key: string;
}

export type TokenVerdict = { accepted: true; identity: Identity } | { accepted: false; reason: string };

export interface AuthenticatorOptions {
  client: Pick<KubeClient, 'raw'>;
  cache: ReviewCache<TokenVerdict>;
  /** The token must be meant for this audience. */
  audience: string;
  /** Also take tokens meant for kube-apiserver itself, so that people can log in with their kubeconfig's token. */
  acceptClusterAudience: boolean;
}

interface TokenReview {
  status?: {
    authenticated?: boolean;
    user?: { username?: string; uid?: string; groups?: string[]; extra?: Record<string, string[]> };
    audiences?: string[];
    error?: string;
  };
}

const TOKEN_REVIEWS = '/apis/authentication.k8s.io/v1/tokenreviews';
const REVIEW_TIMEOUT_MS = 5_000;

/** Turns an Authorization header into an identity by asking kube-apiserver (TokenReview). Nothing else of a request is believed. */
export class Authenticator {
  readonly #options: AuthenticatorOptions;

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
  }

  /** Throws `unauthenticated` (401), `identityRefused` (403), or `unavailable` when nobody can say (503). */
  async authenticate(authorization: string | undefined): Promise<Identity> {
    const token = bearerToken(authorization, this.#options.audience);
    // The cache must not hold what would let its reader in.
    const key = hash('sha256', token, 'base64');
    const verdict = await this.#options.cache.get(key, () => this.#review(token));
    if (!verdict.accepted) {
      throw new ShardError('unauthenticated', `the bearer token was not accepted: ${verdict.reason}`, {
        reason: 'tokenRejected',
        audience: this.#options.audience,
      });
    }
    refuseMachinery(verdict.identity);
    return verdict.identity;
  }

  async #review(token: string): Promise<TokenVerdict> {
    const { audience, acceptClusterAudience } = this.#options;
    const verdict = await this.#ask(token, audience);
    if (verdict.accepted || !acceptClusterAudience) return verdict;
    const cluster = await this.#ask(token);
    return cluster.accepted ? cluster : verdict;
  }

  async #ask(token: string, audience?: string): Promise<TokenVerdict> {
    const body = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec: { token, ...(audience === undefined ? {} : { audiences: [audience] }) },
    };
    const review = (await this.#options.client
      .raw('POST', TOKEN_REVIEWS, { body, timeoutMs: REVIEW_TIMEOUT_MS })
      .catch((error: unknown) => {
        throw reviewFailed('TokenReview', error);
      })) as TokenReview;
    return verdictOf(review, audience);
  }
}

/** `audience` absent: the token was reviewed for kube-apiserver's own. */
function verdictOf(review: TokenReview, audience: string | undefined): TokenVerdict {
  const { authenticated, user, audiences = [], error } = review.status ?? {};
  if (authenticated !== true || !user?.username) {
    return { accepted: false, reason: plain(error) ?? 'kube-apiserver does not know it, or it has expired' };
  }
  // An authenticator that knows nothing of audiences answers with none: such a token is good for kube-apiserver only.
  if (audience !== undefined && !audiences.includes(audience)) {
    return { accepted: false, reason: `it is not meant for the audience ${audience}` };
  }
  const { username, uid, groups = [], extra } = user;
  const key = hash('sha256', JSON.stringify([username, uid, groups, extra]), 'base64');
  return { accepted: true, identity: { user: username, uid, groups, extra, key } };
}

function bearerToken(authorization: string | undefined, audience: string): string {
  const how = `send "Authorization: Bearer TOKEN"; kubectl create token SERVICE_ACCOUNT -n NAMESPACE --audience ${audience} makes one`;
  if (authorization === undefined) {
    throw new ShardError('unauthenticated', `no bearer token: ${how}`, { reason: 'tokenMissing', audience });
  }
  const match = /^bearer +([\w.~+/-]+=*)$/i.exec(authorization);
  if (!match?.[1]) {
    throw new ShardError('unauthenticated', `the Authorization header holds no bearer token: ${how}`, {
      reason: 'tokenMalformed',
      audience,
    });
  }
  return match[1];
}

/**
 * The cluster's own components (`system:node:…`, `system:kube-scheduler`, `system:anonymous`) have no business here,
 * and RBAC gives some of them far-reaching rights; service accounts and members of system:masters are welcome.
 */
function refuseMachinery({ user, groups }: Identity): void {
  if (!user.startsWith('system:') || user.startsWith('system:serviceaccount:')) return;
  if (groups.includes('system:masters')) return;
  throw new ShardError(
    'identityRefused',
    `${user} is a component of the cluster; use a service account or a person's identity`,
    { user },
  );
}

/** One printable line of bounded length. */
function plain(text: string | undefined): string | undefined {
  return text?.replaceAll(/[^\x20-\x7e]+/g, ' ').slice(0, 300) || undefined;
}
