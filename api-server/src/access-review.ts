import type { KubeClient } from '@meshkit/crds/kube-client';
import { ShardError } from '@meshkit/shards/errors';
import { GROUP } from '@meshkit/shards/records';
import { SCOPE_RESOURCE, type Scope, scopeMissing, type Target } from '@meshkit/shards/scope';
import { type ReviewCache, reviewFailed } from './review-cache.ts';
import type { Identity } from './token-review.ts';

export interface AuthorizerOptions {
  client: Pick<KubeClient, 'raw'>;
  cache: ReviewCache<boolean>;
}

const ACCESS_REVIEWS = '/apis/authorization.k8s.io/v1/subjectaccessreviews';
const REVIEW_TIMEOUT_MS = 5_000;

/** Asks kube-apiserver whether an identity has a scope (SubjectAccessReview); Kubernetes RBAC is the only policy. */
export class Authorizer {
  readonly #options: AuthorizerOptions;

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  /** Throws `scopeMissing` (403) with the remedy, or `unavailable` when nobody can say (503). */
  async require(identity: Identity, scope: Scope, target: Target): Promise<void> {
    if (await this.#may(identity, scope, { namespace: target.namespace })) return;
    // Asked second, because the answer for the whole namespace serves every shard in it from the cache.
    if (target.name !== undefined && (await this.#may(identity, scope, target))) return;
    throw scopeMissing(identity.user, scope, target);
  }

  #may(identity: Identity, scope: Scope, target: Target): Promise<boolean> {
    const key = JSON.stringify([identity.key, scope, target.namespace, target.name]);
    return this.#options.cache.get(key, () => this.#ask(identity, scope, target));
  }

  async #ask(identity: Identity, scope: Scope, { namespace = '', name }: Target): Promise<boolean> {
    const { user, uid, groups, extra } = identity;
    const body = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: {
        user,
        uid,
        groups,
        extra,
        resourceAttributes: { group: GROUP, resource: SCOPE_RESOURCE, verb: scope, namespace, name },
      },
    };
    const review = (await this.#options.client
      .raw('POST', ACCESS_REVIEWS, { body, timeoutMs: REVIEW_TIMEOUT_MS })
      .catch((error: unknown) => {
        throw reviewFailed('SubjectAccessReview', error);
      })) as { status?: { allowed?: boolean } };
    return review.status?.allowed === true;
  }
}

/** The refusal when the identity does not have this scope; rejects when nobody can say. */
export async function refusalOf(
  authorizer: Pick<Authorizer, 'require'>,
  identity: Identity,
  scope: Scope,
  target: Target,
): Promise<ShardError | undefined> {
  try {
    await authorizer.require(identity, scope, target);
    return undefined;
  } catch (error) {
    if (error instanceof ShardError && error.code === 'scopeMissing') return error;
    throw error;
  }
}
