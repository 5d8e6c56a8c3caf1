import { refusedAccess } from '@meshkit/crds/kube-error';
import { ShardError } from '@meshkit/shards/errors';
import type { Fault } from '@meshkit/shards/problem';
import { accessRemedy } from '@meshkit/shards/scope';
import { type ConnectionFlags, sameFlags } from './connection.ts';
import type { ManifestFault } from './manifests.ts';

/**
 * What is wrong, and what to do, ready to be copied: for a missing right the two commands on lines of their own, with the
 * flags of the cluster that was asked.
 */
export function complaint(error: unknown, debug: boolean, flags: ConnectionFlags = { mode: 'auto' }): string {
  if (!(error instanceof ShardError)) {
    const text = error instanceof Error ? (debug ? error.stack : error.message) : String(error);
    return `error: ${text} (this is a mistake in the program; MESHKIT_DEBUG=1 shows where)\n`;
  }
  const { faults, errors, floor } = error.details;
  if (Array.isArray(faults)) return `error: ${error.message}\n${faults.map(faultLine).join('')}`;
  const refusal = refusalOf(error);
  if (!refusal) {
    const earliest =
      error.code === 'tokenExpired' && typeof floor === 'string' ? `  earliest:     ${floor}\n` : '';
    return `error: ${isOfMoment(errors) ? '--' : ''}${error.message}\n${earliest}`;
  }
  const { what, isEverywhere, check, grant } = refusal;
  const { kubectl, cluster } = sameFlags(flags);
  const lines = [`error: ${what}`];
  if (isEverywhere) lines.push('  narrow it:    -n NAMESPACE, one that you may read');
  // Whoever checks for a service account, and whoever grants, is not the one who was refused.
  lines.push(`  check it:     ${check}${check.includes(' --as ') ? cluster : kubectl}`);
  lines.push(`  grant it:     ${grant}${cluster}`);
  return `${lines.join('\n')}\n`;
}

interface Refusal {
  what: string;
  /** It was about all namespaces. */
  isEverywhere: boolean;
  check: string;
  grant: string;
}

/** Of a scope, or by Kubernetes of a verb on our kinds; undefined where nothing that we know of grants it. */
function refusalOf(error: ShardError): Refusal | undefined {
  const { scope, user, namespace, check, grant } = error.details;
  if (error.code === 'scopeMissing' && typeof check === 'string') {
    const where = namespace === '' ? 'all namespaces' : `namespace ${namespace}`;
    const what = `missing scope ${scope} in ${where} for user ${user}`;
    return { what, isEverywhere: namespace === '', check, grant: String(grant) };
  }
  const refused = refusedAccess(error);
  const remedy = refused && accessRemedy(refused);
  return remedy && { what: error.message, isEverywhere: refused.namespace === undefined, ...remedy };
}

/** Parameters of the API that are flags of the same name here. */
const MOMENTS = ['/query/from', '/query/to', '/query/since'];

function isOfMoment(errors: unknown): boolean {
  return Array.isArray(errors) && MOMENTS.includes((errors as Fault[])[0]?.pointer ?? '');
}

/** As compilers say it, so that editors and CI find the place. */
function faultLine({ file, line, object, field, detail }: ManifestFault): string {
  return `${[`${file}:${line}`, object, field, detail].filter((part) => part !== undefined).join(': ')}\n`;
}
