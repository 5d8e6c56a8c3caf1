import { ShardError } from '@meshkit/shards/errors';

/**
 * A review that could not be made. Whatever kube-apiserver answered to *us* must not be passed on as if it were
 * about the caller (our own 403 is not theirs): it is 503, and nobody is let in.
 */
export function reviewFailed(kind: 'TokenReview' | 'SubjectAccessReview', error: unknown): ShardError {
  if (error instanceof ShardError && error.code === 'rateLimited') return error;
  const ours =
    error instanceof ShardError && (error.code === 'scopeMissing' || error.code === 'unauthenticated');
  const why = ours
    ? `kube-apiserver refuses this server's own identity (${error.message}); bind it to ClusterRole meshkit-api-server`
    : error instanceof Error
      ? error.message
      : String(error);
  return new ShardError(
    'unavailable',
    `access cannot be checked right now, so nobody is let in: ${kind}: ${why}`,
    { reason: 'reviewUnavailable' },
    error,
  );
}
