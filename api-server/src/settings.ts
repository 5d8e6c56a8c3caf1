import { parseArgs } from 'node:util';
import { ShardError } from '@meshkit/shards/errors';
import type { Fault } from '@meshkit/shards/problem';
import { z } from 'zod';

/**
 * Reads an executable's settings: each key of the schema is a flag (`tlsCert` -> `--tls-cert`) and an environment
 * variable (`MESHKIT_TLS_CERT`); flags win. Throws one `invalidArgument` that lists every problem.
 */
export function readSettings<S extends z.ZodObject>(
  schema: S,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): z.output<S> {
  const keys = Object.keys(schema.shape);
  const faults: Fault[] = [];
  const given: Record<string, unknown> = {};
  for (const key of keys) {
    const value = env[variableOf(key)];
    if (value !== undefined && value !== '') given[key] = isSwitch(schema, key) ? switchOf(value) : value;
  }
  const options = Object.fromEntries(
    keys.map((key) => [flagOf(key), { type: isSwitch(schema, key) ? 'boolean' : 'string' } as const]),
  );
  const { tokens } = parseArgs({ args: [...argv], options, strict: false, tokens: true });
  for (const token of tokens) {
    if (token.kind === 'positional') faults.push({ pointer: token.value, detail: 'unexpected argument' });
    if (token.kind !== 'option') continue;
    const key = keys.find((known) => flagOf(known) === token.name);
    if (key === undefined) faults.push({ pointer: token.rawName, detail: 'unknown flag' });
    else if (isSwitch(schema, key)) given[key] = switchOf(token.value ?? 'true');
    else if (token.value === undefined) faults.push({ pointer: token.rawName, detail: 'needs a value' });
    else given[key] = token.value;
  }
  const result = schema.safeParse(given);
  for (const { path, message } of result.error?.issues ?? []) {
    const flag = `--${flagOf(String(path[0]))}`;
    if (!faults.some(({ pointer }) => pointer === flag)) faults.push({ pointer: flag, detail: message });
  }
  if (result.success && faults.length === 0) return result.data;
  const lines = faults.map(({ pointer, detail }) => `${pointer}: ${detail}`);
  throw new ShardError('invalidArgument', lines.join('\n'), { errors: faults });
}

interface SettingRow {
  flag: string;
  variable: string;
  /** Empty when there is none. */
  standard: string;
  description: string;
}

/** One row for each setting: how it is written, and what it is for. */
export function settingsRows(schema: z.ZodObject): SettingRow[] {
  return Object.entries(schema.shape).map(([key, field]) => ({
    flag: `--${flagOf(key)}`,
    variable: variableOf(key),
    standard: standardOf(field as z.ZodType),
    description: (field as z.ZodType).description ?? '',
  }));
}

export function settingsHelp(schema: z.ZodObject): string {
  return settingsRows(schema)
    .map(({ flag, variable, standard, description }) => {
      const unless = standard === '' ? '' : ` Default: ${standard}.`;
      return `  ${flag.padEnd(28)} ${description}${unless} (${variable})`;
    })
    .join('\n');
}

/** A `prefault` is written as the user would write it, a `default` as what comes of it. */
function standardOf(field: z.ZodType): string {
  const standard = field instanceof z.ZodDefault || field instanceof z.ZodPrefault;
  return standard ? String(field.def.defaultValue) : '';
}

function flagOf(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function variableOf(key: string): string {
  return `MESHKIT_${flagOf(key).replaceAll('-', '_').toUpperCase()}`;
}

/** A boolean setting is a flag without a value. */
function isSwitch(schema: z.ZodObject, key: string): boolean {
  const field = schema.shape[key];
  return field instanceof z.ZodDefault && field.unwrap() instanceof z.ZodBoolean;
}

function switchOf(value: string): unknown {
  return value === 'true' || value === '1' ? true : value === 'false' || value === '0' ? false : value;
}
