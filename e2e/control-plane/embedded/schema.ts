import { isDeepStrictEqual } from 'node:util';
import { type Cause, invalidValue, quote, unsupportedValue } from './status.ts';

/** A structural OpenAPI v3 schema, as far as CRDs use it here. CEL rules (`x-kubernetes-validations`) are not evaluated. */
export interface Schema {
  type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean';
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  required?: readonly string[];
  enum?: readonly unknown[];
  pattern?: string;
  format?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: boolean;
  exclusiveMaximum?: boolean;
  minItems?: number;
  maxItems?: number;
  minProperties?: number;
  maxProperties?: number;
  nullable?: boolean;
  default?: unknown;
  'x-kubernetes-preserve-unknown-fields'?: boolean;
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  'x-kubernetes-list-map-keys'?: readonly string[];
}

export type Json = Record<string, unknown>;

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const text: Schema = { type: 'string' };
const time: Schema = { type: 'string', format: 'date-time' };
const map: Schema = { type: 'object', additionalProperties: text };
const flag: Schema = { type: 'boolean' };
const whole: Schema = { type: 'integer' };
const texts = (...names: string[]) => Object.fromEntries(names.map((name) => [name, text]));
const OWNER = { ...texts('apiVersion', 'kind', 'name', 'uid'), controller: flag, blockOwnerDeletion: flag };

/** metav1.ObjectMeta. */
export const METADATA: Schema = {
  type: 'object',
  properties: {
    ...texts('name', 'generateName', 'namespace', 'selfLink', 'uid', 'resourceVersion'),
    creationTimestamp: time,
    deletionTimestamp: time,
    deletionGracePeriodSeconds: whole,
    generation: whole,
    labels: map,
    annotations: map,
    finalizers: { type: 'array', items: text },
    managedFields: { type: 'array' },
    ownerReferences: { type: 'array', items: { type: 'object', properties: OWNER } },
  },
};

/** The value at the end of a path; undefined where it leads nowhere. */
export function at(object: unknown, path: readonly string[]): unknown {
  let value = object;
  for (const step of path) value = (value as Json | undefined | null)?.[step];
  return value;
}

/** Drops fields that the schema does not name, in place, as the real server does on decoding; returns their paths. */
export function prune(schema: Schema, value: unknown, path = ''): string[] {
  if (Array.isArray(value)) {
    return value.flatMap((item, index) => prune(schema.items ?? {}, item, `${path}[${index}]`));
  }
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([name, field]) => {
    const known = schema.properties?.[name] ?? schema.additionalProperties;
    const at = join(path, name);
    if (isObject(known)) return prune(known, field, at);
    if (known === true || schema.type !== 'object' || schema['x-kubernetes-preserve-unknown-fields'])
      return [];
    delete value[name];
    return [at];
  });
}

/** Drops nulls that the schema does not allow and fills in its defaults, in place. */
export function applyDefaults(schema: Schema, value: unknown): void {
  if (Array.isArray(value)) {
    for (const item of value) applyDefaults(schema.items ?? {}, item);
  } else if (isObject(value)) {
    for (const [name, field] of Object.entries(schema.properties ?? {})) {
      if (value[name] === null && !field.nullable) delete value[name];
      if (value[name] === undefined && field.default !== undefined)
        value[name] = structuredClone(field.default);
    }
    for (const [name, field] of Object.entries(value)) {
      const known = schema.properties?.[name] ?? schema.additionalProperties;
      if (isObject(known)) applyDefaults(known, field);
    }
  }
}

/** Every violation in the words of kube-apiserver, which reports them in no particular order. */
export function violations(schema: Schema, value: unknown, path = ''): Cause[] {
  if (value === null && schema.nullable) return [];
  const type = typeOf(value);
  if (!hasType(schema, type)) {
    return [
      badType(path, quote(type), schema['x-kubernetes-int-or-string'] ? 'integer,string' : schema.type),
    ];
  }
  const found: Cause[] = [];
  if (schema.enum && !schema.enum.some((allowed) => isDeepStrictEqual(allowed, value))) {
    found.push(unsupportedValue(path, value, schema.enum));
  }
  if (typeof value === 'string') found.push(...inString(schema, value, path));
  else if (typeof value === 'number') found.push(...inNumber(schema, value, path));
  else if (Array.isArray(value)) found.push(...inArray(schema, value, path));
  else if (isObject(value)) found.push(...inObject(schema, value, path));
  return found;
}

function inObject(schema: Schema, value: Json, path: string): Cause[] {
  const size = Object.keys(value).length;
  const found = inSize(schema.minProperties, schema.maxProperties, size, path, 'properties');
  for (const name of schema.required ?? []) {
    if (value[name] !== undefined) continue;
    found.push({ reason: 'FieldValueRequired', message: 'Required value', field: join(path, name) });
  }
  for (const [name, field] of Object.entries(value)) {
    const known = schema.properties?.[name] ?? schema.additionalProperties;
    if (isObject(known) && field !== undefined) found.push(...violations(known, field, join(path, name)));
  }
  return found;
}

function inArray(schema: Schema, value: unknown[], path: string): Cause[] {
  const found = inSize(schema.minItems, schema.maxItems, value.length, path, 'items');
  found.push(...value.flatMap((item, index) => violations(schema.items ?? {}, item, `${path}[${index}]`)));
  const listType = schema['x-kubernetes-list-type'];
  if (listType !== 'set' && listType !== 'map') return found;
  const seen = new Set<string>();
  for (const [index, item] of value.entries()) {
    const keys = schema['x-kubernetes-list-map-keys'] ?? [];
    const identity = isObject(item) && listType === 'map' ? keys.map((key) => [key, item[key]]) : undefined;
    const text = JSON.stringify(identity ? Object.fromEntries(identity) : item);
    const field = `${path}[${index}]`;
    if (seen.has(text))
      found.push({ reason: 'FieldValueDuplicate', message: `Duplicate value: ${text}`, field });
    seen.add(text);
  }
  return found;
}

function inString(schema: Schema, value: string, path: string): Cause[] {
  const { minLength = 0, maxLength = Number.POSITIVE_INFINITY, pattern, format } = schema;
  const found: Cause[] = [];
  const length = [...value].length;
  if (length > maxLength) {
    const message = `Too long: may not be more than ${maxLength} bytes`;
    found.push({ reason: 'FieldValueTooLong', message, field: path });
  }
  if (length < minLength) found.push(bad(path, value, `should be at least ${minLength} chars long`));
  // A pattern that RE2 accepts means the same to JavaScript in all that CRDs of this project use.
  if (pattern && !new RegExp(pattern, 'u').test(value))
    found.push(bad(path, value, `should match '${pattern}'`));
  if (format && FORMATS[format]?.test(value) === false) found.push(badType(path, quote(value), format));
  return found;
}

const RFC3339 = String.raw`^\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d`;
const FORMATS: Record<string, RegExp | undefined> = {
  'date-time': new RegExp(`${RFC3339}(\\.\\d+)?(Z|[+-]\\d\\d:\\d\\d)$`, 'i'),
  // metav1.MicroTime takes six digits, no more and no fewer.
  'micro-time': new RegExp(`${RFC3339}\\.\\d{6}(Z|[+-]\\d\\d:\\d\\d)$`),
};

function inNumber(schema: Schema, value: number, path: string): Cause[] {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  const found: Cause[] = [];
  if (minimum !== undefined && (value < minimum || (exclusiveMinimum && value === minimum))) {
    found.push(
      bad(path, value, `should be greater than ${exclusiveMinimum ? '' : 'or equal to '}${minimum}`),
    );
  }
  if (maximum !== undefined && (value > maximum || (exclusiveMaximum && value === maximum))) {
    found.push(bad(path, value, `should be less than ${exclusiveMaximum ? '' : 'or equal to '}${maximum}`));
  }
  return found;
}

function inSize(min = 0, max = Number.POSITIVE_INFINITY, size: number, path: string, what: string): Cause[] {
  if (size > max) {
    const message = `Too many: ${size}: must have at most ${max} items`;
    return [{ reason: 'FieldValueTooMany', message, field: path }];
  }
  return size < min ? [bad(path, size, `should have at least ${min} ${what}`)] : [];
}

function bad(field: string, value: unknown, why: string): Cause {
  return invalidValue(field, value, `${field} in body ${why}`);
}

function badType(field: string, shown: string, type = ''): Cause {
  const message = `Invalid value: ${shown}: ${field} in body must be of type ${type}: ${shown}`;
  return { reason: 'FieldValueTypeInvalid', message, field };
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

function hasType(schema: Schema, type: string): boolean {
  if (schema['x-kubernetes-int-or-string']) return type === 'integer' || type === 'string';
  return (
    schema.type === undefined || schema.type === type || (schema.type === 'number' && type === 'integer')
  );
}

function join(path: string, name: string): string {
  return path ? `${path}.${name}` : name;
}
