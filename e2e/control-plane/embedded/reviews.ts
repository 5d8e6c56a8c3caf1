import { type Attributes, decide, type UserInfo } from './rbac.ts';
import { isObject, type Json } from './schema.ts';
import { invalid, invalidValue } from './status.ts';
import type { Store } from './store.ts';

interface ReviewSpec {
  resourceAttributes?: Partial<Attributes>;
  nonResourceAttributes?: { path?: string; verb?: string };
  user?: string;
  groups?: string[];
}

const NOTHING: Attributes = { verb: '', group: '', resource: '', namespace: '', name: '' };

/** Answers a SubjectAccessReview, or (`self`) a SelfSubjectAccessReview. */
export function reviewAccess(store: Store, self: UserInfo | undefined, body: Json): Json {
  const {
    resourceAttributes,
    nonResourceAttributes,
    user = '',
    groups = [],
  } = (isObject(body.spec) ? body.spec : {}) as ReviewSpec;
  const refuse = (field: string, value: unknown, why: string) =>
    invalid('authorization.k8s.io', '', '', [invalidValue(field, value, why)]);
  if (!resourceAttributes === !nonResourceAttributes) {
    const why = 'exactly one of nonResourceAttributes or resourceAttributes must be specified';
    throw refuse('spec', nonResourceAttributes ?? null, why);
  }
  if (!self && !user && groups.length === 0)
    throw refuse('spec.user', '', 'at least one of user or group must be specified');
  const wanted = { ...NOTHING, ...(resourceAttributes ?? { path: '', ...nonResourceAttributes }) };
  const kind = self ? 'SelfSubjectAccessReview' : 'SubjectAccessReview';
  const status = decide(store, self ?? { username: user, groups }, wanted);
  return { ...body, kind, apiVersion: 'authorization.k8s.io/v1', metadata: {}, status };
}
