import { apiVersionOf } from './kinds.ts';
import type { Target } from './resources.ts';
import { applyDefaults, isObject, type Json, METADATA, prune, violations } from './schema.ts';
import { badRequest, invalid, invalidValue, notImplemented, quote } from './status.ts';
import type { Stored } from './store.ts';

export interface WriteOptions {
  dryRun: boolean;
  /** For managedFields. */
  manager: string;
  /** Strict, Warn or Ignore. */
  fieldValidation: string;
  /** Receives what the client should be warned of. */
  warnings: string[];
}

const SERVER_METADATA = ['selfLink', 'deletionTimestamp', 'managedFields', 'creationTimestamp', 'generation'];

/** What a client sent, or what its patch makes of the stored object: pruned, completed, and without what only the server sets. */
export function decode(target: Target, body: Json, options: WriteOptions, patch?: Json): Stored {
  const { kind, namespace, name } = target;
  const object = structuredClone(patch ? mergePatch(body, patch) : body) as Json;
  const cannot = `${kind.kind} in version "${kind.version}" cannot be handled as a ${kind.kind}: `;
  checkType(target, object, patch !== undefined);
  const unknown = prune(kind.schema, object).map((path) => `unknown field ${quote(path)}`);
  if (unknown.length > 0 && options.fieldValidation === 'Strict') {
    const why = `strict decoding error: ${unknown.join(', ')}`;
    throw patch
      ? invalid('', '', '', [invalidValue('patch', JSON.stringify(object), why)])
      : badRequest(cannot + why);
  }
  if (options.fieldValidation !== 'Ignore') options.warnings.push(...unknown);
  applyDefaults(kind.schema, object);
  const typed = kind.custom ? { properties: { metadata: METADATA } } : kind.schema;
  const undecodable = violations(typed, object).find(({ reason }) => reason === 'FieldValueTypeInvalid');
  if (undecodable) throw badRequest(`${cannot}${undecodable.field}: ${undecodable.message}`);
  const metadata = clientMetadata(object.metadata);
  metadata.name ??= patch ? '' : name;
  if (name && metadata.name !== name) {
    throw badRequest(
      `the name of the object (${metadata.name}) does not match the name on the URL (${name})`,
    );
  }
  if ((metadata.namespace ?? namespace) !== namespace) {
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  }
  if (namespace) metadata.namespace = namespace;
  if (metadata.finalizers) throw notImplemented('finalizers');
  // kind and apiVersion come first, so that lists of built-in kinds can cut them off by length.
  return { kind: kind.kind, apiVersion: apiVersionOf(kind), ...object, metadata };
}

/** Custom objects have to say what they are; built-in ones may leave it to the URL. */
function checkType({ kind, name }: Target, object: Json, patched: boolean): void {
  const right = apiVersionOf(kind);
  if (!kind.custom) {
    object.apiVersion ??= right;
    object.kind ??= kind.kind;
  }
  const { apiVersion = '', kind: sent = '' } = object as { apiVersion?: string; kind?: string };
  if (sent === '') {
    const why = `Object 'Kind' is missing in ${quote(JSON.stringify(object).slice(0, 200))}`;
    throw badRequest(`the object provided is unrecognized (must be of type ${kind.kind}): ${why}`);
  }
  const subject = name || (isObject(object.metadata) ? String(object.metadata.name ?? '') : '');
  if (apiVersion !== right) {
    if (patched)
      throw invalid('', sent, subject, [invalidValue('apiVersion', apiVersion, `must be ${right}`)]);
    throw badRequest(
      `the API version in the data (${apiVersion}) does not match the expected API version (${right})`,
    );
  }
  if (sent === kind.kind) return;
  if (kind.custom)
    throw invalid(kind.group, sent, subject, [invalidValue('kind', sent, `must be ${kind.kind}`)]);
  throw badRequest(
    `${sent} in version "${kind.version}" cannot be handled as a ${kind.kind}: unknown conversion`,
  );
}

function clientMetadata(sent: unknown): Stored['metadata'] {
  const kept = Object.entries(isObject(sent) ? sent : {}).filter(([name, value]) => {
    const empty = value === '' || (typeof value === 'object' && Object.keys(value ?? {}).length === 0);
    return !empty && !SERVER_METADATA.includes(name);
  });
  return Object.fromEntries(kept) as unknown as Stored['metadata'];
}

/** RFC 7386. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result: Json = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name], value);
  }
  return result;
}
