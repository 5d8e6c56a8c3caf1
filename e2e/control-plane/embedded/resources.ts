import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { decode, type WriteOptions } from './decode.ts';
import { apiVersionOf, type Kind } from './kinds.ts';
import type { Json } from './schema.ts';
import {
  alreadyExists,
  conflict,
  forbidden,
  invalid,
  invalidValue,
  notFound,
  StatusError,
} from './status.ts';
import type { Entry, Store, Stored } from './store.ts';
import { timestamp, validate } from './validate.ts';

/** metav1.DeleteOptions, as far as they are honoured. */
export interface Preconditions {
  uid?: string;
  resourceVersion?: string;
}

export interface Target {
  kind: Kind;
  /** '' at cluster scope. */
  namespace: string;
  name: string;
  subresource?: string;
}

const NAMESPACES = { group: '', plural: 'namespaces', bucket: 'namespaces.' };
const STALE = 'the object has been modified; please apply your changes to the latest version and try again';

/** What the verbs do to stored objects; everything that is refused is thrown as a StatusError. */
export class Resources {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  get({ kind, namespace, name }: Target): Entry {
    const entry = this.#store.get(kind.bucket, keyOf(namespace, name));
    if (!entry) throw notFound(kind, name);
    return entry;
  }

  /** `target.name` is '' for a POST: the body names the object, or `generateName` does. */
  create(target: Target, body: Json, options: WriteOptions): Stored {
    const { kind, namespace } = target;
    const next = decode(target, body, options);
    const { metadata } = next;
    if (kind.namespaced) this.#admit(kind, namespace, metadata.name ?? '');
    if (metadata.resourceVersion && !target.name) {
      throw new StatusError(500, undefined, 'resourceVersion should not be set on objects to be created');
    }
    const { generateName } = metadata as { generateName?: string };
    if (!metadata.name && generateName) metadata.name = generateName + randomUUID().slice(-5);
    metadata.resourceVersion = undefined;
    metadata.uid = randomUUID();
    metadata.creationTimestamp = timestamp();
    if (kind.generation) metadata.generation = 1;
    if (kind.bucket === NAMESPACES.bucket) metadata.labels = nameLabel(metadata);
    if (kind.status) next.status = undefined;
    metadata.managedFields = managedBy(undefined, kind, options.manager);
    validate(kind, next, undefined);
    const key = keyOf(namespace, metadata.name);
    if (this.#store.get(kind.bucket, key)) throw alreadyExists(kind, metadata.name);
    return options.dryRun ? next : this.#store.put(kind.bucket, key, next).object;
  }

  /** PUT. */
  replace(target: Target, body: Json, options: WriteOptions): { object: Stored; created: boolean } {
    const { kind, namespace, name } = target;
    const entry = this.#store.get(kind.bucket, keyOf(namespace, name));
    if (!entry && kind.upsert) return { object: this.create(target, body, options), created: true };
    const next = decode(target, body, options);
    if (!entry) throw notFound(kind, name);
    const [sent = '', uid] = [next.metadata.uid, entry.object.metadata.uid];
    if (sent !== '' && sent !== uid) {
      const why = `UID in precondition: ${sent}, UID in object meta: ${uid}`;
      throw conflict(kind, name, `Precondition failed: ${why}`);
    }
    return { object: this.#update(target, entry, next, options), created: false };
  }

  /** RFC 7386 on the object as it is served. */
  patch(target: Target, patch: Json, options: WriteOptions): Stored {
    const entry = this.get(target);
    return this.#update(target, entry, decode(target, entry.object, options, patch), options);
  }

  #update({ kind, name, subresource }: Target, entry: Entry, next: Stored, options: WriteOptions): Stored {
    const previous = entry.object;
    this.#expectCurrent(kind, name, entry, next);
    const merged =
      subresource === 'status'
        ? { ...previous, status: next.status }
        : withServerFields(kind, next, previous);
    validate(kind, merged, previous, subresource);
    if (same(merged, previous)) return previous;
    const { generation = 0, managedFields } = previous.metadata;
    const metadata = {
      ...merged.metadata,
      managedFields: managedBy(managedFields, kind, options.manager, subresource),
    };
    const isSpec = kind.generation && subresource !== 'status';
    const bumped = isSpec && !same({ ...merged, metadata: {} }, { ...previous, metadata: {} });
    if (bumped) metadata.generation = generation + 1;
    const stored = { ...merged, metadata };
    return options.dryRun ? stored : this.#store.put(kind.bucket, entry.key, stored).object;
  }

  /** Optimistic concurrency: an update carries the version of the object that it was made from. */
  #expectCurrent(kind: Kind, name: string, { version }: Entry, next: Stored): void {
    const { resourceVersion = '' } = next.metadata;
    if (!/^\d*$/.test(resourceVersion)) {
      const why = `strconv.ParseUint: parsing ${JSON.stringify(resourceVersion)}: invalid syntax`;
      throw new StatusError(500, undefined, why);
    }
    if (resourceVersion === '' && !kind.unconditional) {
      const cause = invalidValue('metadata.resourceVersion', 0, 'must be specified for an update');
      throw invalid(kind.group, kind.plural, name, [cause]);
    }
    if (resourceVersion !== '' && Number(resourceVersion) !== version) throw conflict(kind, name, STALE);
  }

  /** Returns the object as it was; a namespace stays, terminating, until the collector has emptied it. */
  remove(target: Target, expected: Preconditions, dryRun: boolean): Stored {
    const { kind, name } = target;
    const entry = this.get(target);
    const expect = (
      title: string,
      wanted: string | undefined,
      actual: string | undefined,
      otherwise: string,
    ) => {
      if (wanted === undefined || wanted === actual) return;
      const differs = `the ${title} in the precondition (${wanted}) does not match the ${title} in record (${actual})`;
      const why = `${differs}. The object might have been ${otherwise}`;
      throw conflict({ group: kind.group, plural: kind.kind }, name, why);
    };
    const { uid, resourceVersion } = entry.object.metadata;
    expect('UID', expected.uid, uid, 'deleted and then recreated');
    expect('ResourceVersion', expected.resourceVersion, resourceVersion, 'modified');
    if (kind.bucket === NAMESPACES.bucket) return this.#terminate(entry, dryRun);
    if (!dryRun) this.#store.delete(entry);
    return entry.object;
  }

  #terminate(entry: Entry, dryRun: boolean): Stored {
    const { object, key } = entry;
    if (['default', 'kube-system', 'kube-public'].includes(key)) {
      throw forbidden(NAMESPACES, key, 'this namespace may not be deleted');
    }
    if (object.metadata.deletionTimestamp) return object;
    const metadata = { ...object.metadata, deletionTimestamp: timestamp() };
    const terminating = { ...object, metadata, status: { phase: 'Terminating' } };
    return dryRun ? terminating : this.#store.put(entry.bucket, key, terminating).object;
  }

  /** The NamespaceLifecycle admission plugin. */
  #admit(kind: Kind, namespace: string, name: string): void {
    const entry = this.#store.get(NAMESPACES.bucket, namespace);
    if (!entry) throw notFound(NAMESPACES, namespace);
    if (!entry.object.metadata.deletionTimestamp) return;
    const message = `namespace ${namespace} is being terminated`;
    const cause = { reason: 'NamespaceTerminating', message, field: 'metadata.namespace' };
    const why = `unable to create new content in namespace ${namespace} because it is being terminated`;
    throw forbidden(kind, name, why, [cause]);
  }
}

function keyOf(namespace: string, name: string): string {
  return namespace ? `${namespace}/${name}` : name;
}

/** What a client wants to store, with everything that only the server sets as it was. */
function withServerFields(kind: Kind, next: Stored, previous: Stored): Stored {
  const { uid, resourceVersion, creationTimestamp, generation, deletionTimestamp, managedFields } =
    previous.metadata;
  const kept = { resourceVersion, creationTimestamp, generation, deletionTimestamp, managedFields };
  const ours = Object.fromEntries((kind.serverFields ?? []).map((field) => [field, previous[field]]));
  const metadata = { uid, ...next.metadata, ...kept };
  if (kind.bucket === NAMESPACES.bucket) metadata.labels = nameLabel(metadata);
  return { ...next, ...ours, metadata };
}

/** Every namespace carries its name as a label. */
function nameLabel({ labels, name }: Stored['metadata']): Record<string, string> {
  return { ...labels, 'kubernetes.io/metadata.name': name };
}

/** Equal as JSON: a field that is undefined is absent. */
function same(a: object, b: object): boolean {
  return isDeepStrictEqual(JSON.parse(JSON.stringify(a)), JSON.parse(JSON.stringify(b)));
}

type ManagedFields = Stored['metadata']['managedFields'];

/** Who changed what last, one entry per manager and subresource; without the field sets, which only server-side apply needs. */
function managedBy(
  previous: ManagedFields,
  kind: Kind,
  manager: string,
  subresource?: string,
): ManagedFields {
  const others = previous?.filter((one) => one.manager !== manager || one.subresource !== subresource) ?? [];
  const what = { apiVersion: apiVersionOf(kind), fieldsType: 'FieldsV1', fieldsV1: {} };
  return [...others, { manager, operation: 'Update', time: timestamp(), subresource, ...what }];
}
