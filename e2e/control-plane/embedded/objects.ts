import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Call } from './call.ts';
import { customKind, type Kind } from './kinds.ts';
import { at, complete, isObject, type Json } from './schema.ts';
import * as status from './status.ts';
import { type Entry, keyOf, type Store, type Stored } from './store.ts';

/** Where an object is, and how it is to be written. */
type Target = Pick<Call, 'namespace' | 'name' | 'subresource' | 'dryRun' | 'manager' | 'warnings'>;

const NAMESPACES = { group: '', plural: 'namespaces', bucket: 'namespaces.' };
const CANNOT = 'Operation cannot be fulfilled on %s: ';
const STALE = 'the object has been modified; please apply your changes to the latest version and try again';
const SERVER_METADATA = ['selfLink', 'deletionTimestamp', 'managedFields', 'creationTimestamp', 'generation'];

/** POST; `target.name` is '' then: the body names the object, or `generateName` does. */
export function create(store: Store, kind: Kind, target: Target, body: Json): Stored {
  const next = decode(kind, target, body);
  const { metadata } = next;
  if (kind.namespaced) store.find(NAMESPACES, { namespace: '', name: target.namespace });
  if (metadata.resourceVersion && !target.name)
    throw new status.StatusError(
      500,
      undefined,
      'resourceVersion should not be set on objects to be created',
    );
  const fresh = { uid: randomUUID(), resourceVersion: undefined, creationTimestamp: timestamp() };
  Object.assign(metadata, fresh, kind.generation && { generation: 1 });
  metadata.managedFields = managedBy(kind, target, next);
  if (kind.status) next.status = undefined;
  validate(kind, next);
  const key = keyOf(target.namespace, metadata.name);
  if (store.get(kind.bucket, key))
    throw status.refused('AlreadyExists', kind, metadata.name, '%s already exists');
  return target.dryRun ? next : store.put(kind.bucket, key, next).object;
}

/** PUT, or (`patched`) what a merge patch made of the stored object. */
export function update(store: Store, kind: Kind, target: Target, body: Json, patched = false): Stored {
  const { name, subresource } = target;
  const next = decode(kind, target, body, patched);
  const { key, object: previous } = store.find(kind, target);
  const { uid } = previous.metadata;
  if (!patched && (next.metadata.uid ?? uid) !== uid) {
    const why = `Precondition failed: UID in precondition: ${next.metadata.uid}, UID in object meta: ${uid}`;
    throw status.refused('Conflict', kind, name, CANNOT + why);
  }
  expectCurrent(kind, name, previous, next);
  const merged =
    subresource === 'status' ? { ...previous, status: next.status } : withServerFields(kind, next, previous);
  validate(kind, merged, previous, subresource);
  if (same(merged, previous)) return previous;
  const metadata = { ...merged.metadata, managedFields: managedBy(kind, target, merged, previous) };
  const isSpec = !same({ ...merged, metadata: {} }, { ...previous, metadata: {} }) && !subresource;
  if (kind.generation && isSpec) metadata.generation = (previous.metadata.generation ?? 0) + 1;
  const stored = { ...merged, metadata };
  return target.dryRun ? stored : store.put(kind.bucket, key, stored).object;
}

/** RFC 7386 on the object as it is served. */
export function patch(store: Store, kind: Kind, target: Target, body: Json): Stored {
  const { object } = store.find(kind, target);
  return update(store, kind, target, mergePatch(object, body) as Json, true);
}

/** DELETE; returns the object as it was, and a namespace, which goes with all that is in it, as it never was: Terminating. */
export function remove(store: Store, kind: Kind, entry: Entry, dryRun: boolean, expected: Json = {}): Stored {
  const { object } = entry;
  const { name, uid, resourceVersion } = object.metadata;
  for (const [title, wanted, actual, otherwise] of [
    ['UID', expected.uid, uid, 'deleted and then recreated'],
    ['ResourceVersion', expected.resourceVersion, resourceVersion, 'modified'],
  ]) {
    if (wanted === undefined || wanted === actual) continue;
    const differs = `the ${title} in the precondition (${wanted}) does not match the ${title} in record (${actual})`;
    const why = `${differs}. The object might have been ${otherwise}`;
    throw status.refused('Conflict', { group: kind.group, plural: kind.kind }, name, CANNOT + why);
  }
  if (kind.bucket !== NAMESPACES.bucket) {
    if (!dryRun) store.delete(entry);
    return object;
  }
  if (['default', 'kube-system', 'kube-public'].includes(name))
    throw status.refused('Forbidden', NAMESPACES, name, '%s is forbidden: this namespace may not be deleted');
  const terminating = { ...object, status: { phase: 'Terminating' } };
  terminating.metadata = { ...object.metadata, deletionTimestamp: timestamp() };
  if (!dryRun) for (const one of [...store.everythingIn(name), entry]) store.delete(one);
  return terminating;
}

/** What a client sent, or made of the stored object by a patch: pruned, completed, and without what only the server sets. */
function decode(kind: Kind, target: Target, sent: Json, patched = false): Stored {
  const { namespace, name, warnings } = target;
  const object = structuredClone(sent);
  checkType(kind, object, name, patched);
  warnings.push(...complete(kind.schema, object).map((path) => `unknown field ${status.quote(path)}`));
  const kept = Object.entries(isObject(object.metadata) ? object.metadata : {}).filter(([field, value]) => {
    const empty = value === '' || (typeof value === 'object' && Object.keys(value ?? {}).length === 0);
    return !empty && !SERVER_METADATA.includes(field);
  });
  const metadata = Object.fromEntries(kept) as unknown as Stored['metadata'];
  const { generateName } = metadata as { generateName?: string };
  metadata.name ??= patched ? '' : name || (generateName && generateName + randomUUID().slice(-5)) || '';
  const differs = `the name of the object (${metadata.name}) does not match the name on the URL (${name})`;
  if (name && metadata.name !== name) throw status.badRequest(differs);
  if ((metadata.namespace ?? namespace) !== namespace)
    throw status.badRequest(
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  if (namespace) metadata.namespace = namespace;
  // Every namespace carries its name as a label.
  if (kind.bucket === NAMESPACES.bucket)
    metadata.labels = { ...metadata.labels, 'kubernetes.io/metadata.name': metadata.name };
  if (metadata.finalizers) throw status.notImplemented('finalizers');
  if (object.aggregationRule) throw status.notImplemented('ClusterRoles that aggregate others');
  // kind and apiVersion come first, so that lists of built-in kinds can cut them off by length.
  return { kind: kind.kind, apiVersion: kind.apiVersion, ...object, metadata };
}

/** Custom objects have to say what they are; built-in ones may leave it to the URL. */
function checkType(kind: Kind, object: Json, name: string, patched: boolean): void {
  if (!kind.custom) Object.assign(object, { apiVersion: kind.apiVersion, kind: kind.kind, ...object });
  const { apiVersion = '', kind: sent = '' } = object as { apiVersion?: string; kind?: string };
  if (sent === '')
    throw status.badRequest(`Object 'Kind' is missing in ${status.quote(JSON.stringify(object))}`);
  const refuse = (field: string, value: string, wanted: string) =>
    status.invalid({ group: kind.group, plural: sent }, name, [
      status.invalidValue(field, value, `must be ${wanted}`),
    ]);
  if (apiVersion !== kind.apiVersion) {
    if (patched) throw refuse('apiVersion', apiVersion, kind.apiVersion);
    const right = `does not match the expected API version (${kind.apiVersion})`;
    throw status.badRequest(`the API version in the data (${apiVersion}) ${right}`);
  }
  if (sent !== kind.kind) throw refuse('kind', sent, kind.kind);
}

/** Optimistic concurrency: an update carries the version of the object that it was made from. */
function expectCurrent(kind: Kind, name: string, previous: Stored, next: Stored): void {
  const { resourceVersion = '' } = next.metadata;
  const malformed = `strconv.ParseUint: parsing ${status.quote(resourceVersion)}: invalid syntax`;
  if (!/^\d*$/.test(resourceVersion)) throw new status.StatusError(500, undefined, malformed);
  const missing = status.invalidValue('metadata.resourceVersion', 0, 'must be specified for an update');
  if (resourceVersion === '' && !kind.unconditional) throw status.invalid(kind, name, [missing]);
  if (resourceVersion !== '' && resourceVersion !== previous.metadata.resourceVersion)
    throw status.refused('Conflict', kind, name, CANNOT + STALE);
}

/** Throws 422 with everything that is wrong with an object that is about to be stored, or 400 for what Go could not even decode. */
function validate(kind: Kind, next: Stored, previous?: Stored, subresource?: string): void {
  const { name, ownerReferences = [] } = next.metadata;
  // The real server looks at nothing but the status of a status, and words its messages from there.
  const found = subresource
    ? kind.statusViolations(next.status ?? {}).map((one) => ({ ...one, field: `status.${one.field}` }))
    : kind.violations(next);
  const typed = ({ field }: { field?: string }) => !kind.custom || field?.startsWith('metadata');
  const wrong = found.find((one) => one.reason === 'FieldValueTypeInvalid' && typed(one));
  const cannot = `${kind.kind} in version "${kind.version}" cannot be handled as a ${kind.kind}: `;
  if (wrong) throw status.badRequest(cannot + wrong.message);
  if (!name)
    found.push(status.cause('Required', 'metadata.name', 'Required value: name or generateName is required'));
  if (ownerReferences.filter(({ controller }) => controller).length > 1) {
    const one = 'Only one reference can have Controller set to true';
    found.push(status.invalidValue('metadata.ownerReferences', ownerReferences, one));
  }
  for (const field of previous ? ['metadata.uid', ...(kind.immutable ?? [])] : []) {
    const [value, old] = [next, previous].map((one) => at(one, ...field.split('.')));
    if (!isDeepStrictEqual(value, old)) found.push(status.invalidValue(field, value, 'field is immutable'));
  }
  if (kind.kind === 'CustomResourceDefinition') customKind(next);
  if (found.length > 0) throw status.invalid({ group: kind.group, plural: kind.kind }, name, found);
}

/** RFC 7386. */
function mergePatch(target: unknown, body: unknown): unknown {
  if (!isObject(body)) return body;
  const result: Json = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(body)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name], value);
  }
  return result;
}

/** What a client wants to store, with everything that only the server sets as it was. */
function withServerFields(kind: Kind, next: Stored, previous: Stored): Stored {
  const pick = (object: object, fields: string[]) =>
    Object.fromEntries(fields.map((field) => [field, (object as Json)[field]]));
  const kept = pick(previous.metadata, [...SERVER_METADATA, 'resourceVersion']);
  const metadata = { uid: previous.metadata.uid, ...next.metadata, ...kept };
  return { ...next, ...pick(previous, kind.serverFields ?? []), metadata };
}

/** Equal as JSON: a field that is undefined is absent. */
function same(a: object, b: object): boolean {
  return isDeepStrictEqual(JSON.parse(JSON.stringify(a)), JSON.parse(JSON.stringify(b)));
}

/** Who changed what last, one entry per manager and subresource; of the field sets `spec` alone, from which the operator knows who acted. */
function managedBy({ apiVersion }: Kind, { manager, subresource }: Target, next: Stored, previous?: Stored) {
  const entries = previous?.metadata.managedFields ?? [];
  const isMine = (one: Json) => one.manager === manager && one.subresource === subresource;
  const wrote = entries.some((one) => isMine(one) && one.fieldsV1?.['f:spec']);
  const fieldsV1 = wrote || !same({ spec: next.spec }, { spec: previous?.spec }) ? { 'f:spec': {} } : {};
  const what = { apiVersion, fieldsType: 'FieldsV1', fieldsV1 };
  const mine = { manager, operation: 'Update', time: timestamp(), subresource, ...what };
  return [...entries.filter((one) => !isMine(one)), mine];
}

/** Kubernetes timestamps are whole seconds. */
export function timestamp(milliseconds = Date.now()): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}
