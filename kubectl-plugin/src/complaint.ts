import { ShardError } from '@meshkit/shards/errors';

/** What is wrong, and what to do, ready to be copied: for a missing scope the two commands on lines of their own. */
export function complaint(error: unknown, debug: boolean): string {
  if (!(error instanceof ShardError)) {
    const text = error instanceof Error ? (debug ? error.stack : error.message) : String(error);
    return `error: ${text} (this is a mistake in the program; MESHKIT_DEBUG=1 shows where)\n`;
  }
  const { scope, user, namespace, check, grant } = error.details;
  if (error.code !== 'scopeMissing' || typeof check !== 'string') return `error: ${error.message}\n`;
  const where = namespace === '' ? 'all namespaces' : `namespace ${namespace}`;
  const lines = [`error: missing scope ${scope} in ${where} for user ${user}`];
  if (namespace === '') lines.push('  narrow it:    -n NAMESPACE, one that you may read');
  lines.push(`  check it:     ${check}`, `  grant it:     ${grant}`);
  return `${lines.join('\n')}\n`;
}
