import { ShardError } from './errors.ts';
import type { Phase, ShardAssignment } from './records.ts';
import type { ShardFilter } from './repository.ts';

/** In the order in which a shard usually meets them; also the allowed values of the `status` parameter. */
export const PHASES = [
  'Pending',
  'Active',
  'Draining',
  'Paused',
  'Disabled',
  'Lost',
] as const satisfies readonly Phase[];

/** Of namespaces and sets. */
export const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const NAME = '[A-Za-z0-9]([-_.A-Za-z0-9]{0,251}[A-Za-z0-9])?';
const IS_NAME = new RegExp(`^${NAME}$`);
/** Nodes or zones, separated by commas; generously what Kubernetes allows as a name or the value of a label. */
export const NAMES = `^${NAME}( *, *${NAME}){0,9}$`;
/** Of one parameter, however they are written. */
const MAX_VALUES = 1_000;
/** In characters, which in text of the wider world is not the same as `length`. */
export const MAX_LENGTH = 253;

/** Whether a shard passes: conditions are and-ed, the values of one condition or-ed. */
export function shardMatches(filter: ShardFilter, shard: ShardAssignment): boolean {
  const { namespace, shardSet, owners, phases, zones, search } = filter;
  if (namespace !== undefined && shard.metadata.namespace !== namespace) return false;
  if (shardSet !== undefined && shard.spec.shardSet !== shardSet) return false;
  // A shard the operator has not seen yet is Pending to everyone who asks.
  if (phases && !phases.includes(shard.status?.phase ?? 'Pending')) return false;
  if (owners && !includes(owners, shard.status?.owner)) return false;
  if (zones && !includes(zones, shard.spec.locality?.zone)) return false;
  return search === undefined || shard.spec.shardId.includes(search);
}

function includes(allowed: readonly string[], value: string | undefined): boolean {
  return value !== undefined && allowed.includes(value);
}

/** Query parameters as an HTTP framework hands them over: a repeated one is an array. */
export type Query = Readonly<Record<string, string | string[] | undefined>>;

/**
 * The filter of `namespace`, `shardSet`, `owner`, `status`, `zone` and `search`; other parameters are not looked at.
 * `owner`, `status` and `zone` take several values, repeated or separated by commas; `status` ignores case.
 * Throws `invalidArgument` with `details: {parameter, value?, allowed?, errors}`.
 */
export function parseShardFilter(query: Query): ShardFilter {
  return {
    namespace: label(query, 'namespace'),
    shardSet: label(query, 'shardSet'),
    owners: names(query, 'owner'),
    phases: list(query, 'status')?.map(phase),
    zones: names(query, 'zone'),
    search: single(query, 'search'),
  };
}

function phase(text: string): Phase {
  const found = PHASES.find((name) => name.toLowerCase() === text.toLowerCase());
  if (found) return found;
  throw invalid('status', `"${text}" is not a status; use one of ${PHASES.join(', ')}`, {
    value: text,
    allowed: PHASES,
  });
}

function names(query: Query, parameter: string): string[] | undefined {
  const values = list(query, parameter);
  const wrong = values?.find((value) => !IS_NAME.test(value));
  if (wrong === undefined) return values;
  throw invalid(parameter, `"${wrong}" is not a name: letters, digits, "-", "_" and "."`, { value: wrong });
}

function label(query: Query, parameter: string): string | undefined {
  const value = single(query, parameter);
  if (value === undefined || DNS_LABEL.test(value)) return value;
  throw invalid(
    parameter,
    `"${value}" is not a name: lower-case letters, digits and "-", at most 63 characters`,
    { value },
  );
}

function single(query: Query, parameter: string): string | undefined {
  const values = present(query, parameter);
  if (!values) return undefined;
  if (values.length > 1) throw invalid(parameter, 'give it once');
  return bounded(parameter, values[0] ?? '');
}

function list(query: Query, parameter: string): string[] | undefined {
  const values = present(query, parameter)?.flatMap((value) => value.split(','));
  if (!values) return undefined;
  if (values.length > MAX_VALUES) throw invalid(parameter, `at most ${MAX_VALUES} values`);
  return [...new Set(values.map((value) => bounded(parameter, value.trim())))];
}

function present(query: Query, parameter: string): string[] | undefined {
  const value = Object.hasOwn(query, parameter) ? query[parameter] : undefined;
  return value === undefined ? undefined : Array.isArray(value) ? value : [value];
}

/** An empty value is refused rather than read as "any": `owner=$NODE` with NODE unset must not list everything. */
function bounded(parameter: string, value: string): string {
  if (value === '') throw invalid(parameter, 'it is empty; leave it out to list everything');
  // No text has more characters than UTF-16 units.
  if (value.length > MAX_LENGTH && [...value].length > MAX_LENGTH)
    throw invalid(parameter, `at most ${MAX_LENGTH} characters`);
  return value;
}

function invalid(parameter: string, problem: string, details: Record<string, unknown> = {}): ShardError {
  return new ShardError('invalidArgument', `parameter ${parameter}: ${problem}`, {
    parameter,
    ...details,
    errors: [{ pointer: `/query/${parameter}`, detail: problem }],
  });
}
