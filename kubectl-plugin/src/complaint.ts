import { ShardError } from '@meshkit/shards/errors';
import type { Fault } from '@meshkit/shards/problem';
import type { ManifestFault } from './manifests.ts';

/** What is wrong, and what to do, ready to be copied: for a missing scope the two commands on lines of their own. */
export function complaint(error: unknown, debug: boolean): string {
  if (!(error instanceof ShardError)) {
    const text = error instanceof Error ? (debug ? error.stack : error.message) : String(error);
    return `error: ${text} (this is a mistake in the program; MESHKIT_DEBUG=1 shows where)\n`;
  }
  const { scope, user, namespace, check, grant, faults, errors, floor } = error.details;
  if (Array.isArray(faults)) return `error: ${error.message}\n${faults.map(faultLine).join('')}`;
  if (error.code !== 'scopeMissing' || typeof check !== 'string') {
    const earliest =
      error.code === 'tokenExpired' && typeof floor === 'string' ? `  earliest:     ${floor}\n` : '';
    return `error: ${isOfMoment(errors) ? '--' : ''}${error.message}\n${earliest}`;
  }
  const where = namespace === '' ? 'all namespaces' : `namespace ${namespace}`;
  const lines = [`error: missing scope ${scope} in ${where} for user ${user}`];
  if (namespace === '') lines.push('  narrow it:    -n NAMESPACE, one that you may read');
  lines.push(`  check it:     ${check}`, `  grant it:     ${grant}`);
  return `${lines.join('\n')}\n`;
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
