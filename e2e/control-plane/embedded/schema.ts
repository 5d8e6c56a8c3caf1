import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { type Cause, cause, invalidValue, quote, unsupportedValue } from './status.ts';

/** A structural OpenAPI v3 schema; ajv reads what is not named here. CEL rules (`x-kubernetes-validations`) are not evaluated. */
export interface Schema {
  type?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  nullable?: boolean;
  default?: unknown;
  [keyword: string]: unknown;
}

export type Json = Record<string, unknown>;

/** What bootstrap.yaml says of texts, and of how kube-apiserver complains. */
export interface Catalogue {
  formats: Record<string, { pattern: string; why?: string }>;
  words: Record<string, [reason: string, message: string]>;
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value at the end of a path; undefined where it leads nowhere. */
export function at(object: unknown, ...path: string[]): unknown {
  return path.reduce((value, step) => (value as Json | undefined | null)?.[step], object);
}

/** What the real server does on decoding, in place: prunes unknown fields (returns their paths) and nulls, sets defaults. */
export function complete(schema: Schema, value: unknown, path = ''): string[] {
  if (Array.isArray(value))
    return value.flatMap((item, index) => complete(schema.items ?? {}, item, `${path}[${index}]`));
  if (!isObject(value)) return [];
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    if (value[name] === null && !field.nullable) delete value[name];
    if (value[name] === undefined && field.default !== undefined)
      value[name] = structuredClone(field.default);
  }
  const open = schema.type !== 'object' || schema['x-kubernetes-preserve-unknown-fields'];
  return Object.entries(value).flatMap(([name, field]) => {
    const known = schema.properties?.[name] ?? schema.additionalProperties;
    if (isObject(known)) return complete(known, field, join(path, name));
    if (known === true || open) return [];
    delete value[name];
    return [join(path, name)];
  });
}

/** Finds everything that is wrong with a value, in the words of kube-apiserver. */
export function validator(schema: Schema, catalogue: Catalogue): (value: unknown) => Cause[] {
  let validate: ValidateFunction | undefined;
  return (value) => {
    validate ??= compile(schema, catalogue);
    const errors = validate(value) ? [] : (validate.errors ?? []);
    return errors
      .filter(({ keyword }) => keyword !== 'propertyNames')
      .map((error) => causeOf(error, catalogue));
  };
}

function compile(schema: Schema, { formats }: Catalogue): ValidateFunction {
  const lax = { strict: false, validateSchema: false, meta: false, logger: false } as const;
  const patterns = Object.entries(formats).map(([name, { pattern }]) => [name, new RegExp(pattern)]);
  const ajv = new Ajv({ ...lax, allErrors: true, verbose: true, formats: Object.fromEntries(patterns) });
  // OpenAPI 3.0 has flags where JSON Schema has numbers.
  ajv.removeKeyword('exclusiveMinimum').removeKeyword('exclusiveMaximum');
  const rules: Record<string, (given: unknown, value: unknown, parent?: Schema) => boolean> = {
    exclusiveMinimum: (on, value, parent) => !on || value !== parent?.minimum,
    exclusiveMaximum: (on, value, parent) => !on || value !== parent?.maximum,
    'x-kubernetes-int-or-string': (_, value) => typeof value === 'string' || Number.isInteger(value),
    'x-kubernetes-list-type': (_, value, parent) => duplicate(value, parent) < 0,
  };
  for (const [keyword, validate] of Object.entries(rules)) ajv.addKeyword({ keyword, validate });
  return ajv.compile(schema);
}

/** What must differ among the items of a set or map. */
function identity(item: unknown, list?: Schema): string {
  const keys = (list?.['x-kubernetes-list-map-keys'] ?? []) as string[];
  return JSON.stringify(keys.length > 0 ? Object.fromEntries(keys.map((key) => [key, at(item, key)])) : item);
}

/** Index of the first item that was there before; -1 without one. */
function duplicate(items: unknown, list?: Schema): number {
  if (list?.['x-kubernetes-list-type'] === 'atomic' || !Array.isArray(items)) return -1;
  const all = items.map((item) => identity(item, list));
  return all.findIndex((one, index) => all.indexOf(one) < index);
}

function causeOf(error: ErrorObject, { formats, words }: Catalogue): Cause {
  const { keyword, instancePath, params, data, schema } = error;
  const parent = (error.parentSchema ?? {}) as Schema;
  const steps = instancePath.slice(1).replaceAll(/\/(\d+)(?=\/|$)/g, '[$1]');
  // The real server does not say which label.
  const field = steps.replaceAll('/', '.').replace(/^(metadata\.labels).*/, '$1');
  const { why } = (keyword === 'format' && formats[String(schema)]) || {};
  if (why) return invalidValue(field, data, why);
  if (keyword === 'enum') return unsupportedValue(field, data, schema as unknown[]);
  const exclusive = keyword.replace('m', 'exclusiveM');
  const [reason, message] = words[parent[exclusive] ? exclusive : keyword] ?? ['Invalid', '%field: %keyword'];
  const items = Array.isArray(data) ? data : [];
  const index = duplicate(items, parent);
  const size = isObject(data) ? Object.keys(data).length : items.length;
  const shown = {
    data: JSON.stringify(data),
    type: quote(typeOf(data)),
    item: identity(items[index], parent),
  };
  const facts: Json = { ...parent, ...shown, keyword, schema, field, size };
  const own: Record<string, string | undefined> = {
    required: join(field, String(params.missingProperty)),
    'x-kubernetes-list-type': `${field}[${index}]`,
  };
  const text = message.replaceAll(/%(\w+)/g, (_, fact: string) => String(facts[fact]));
  return cause(reason, own[keyword] ?? field, text);
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

function join(path: string, name: string): string {
  return path ? `${path}.${name}` : name;
}
