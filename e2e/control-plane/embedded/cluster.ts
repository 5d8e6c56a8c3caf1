import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { Collector } from './collector.ts';
import { apiVersionOf, type BuiltIn, builtIn, type Kind, kindOf } from './kinds.ts';
import { aggregated, RBAC_GROUP } from './rbac.ts';
import { Resources } from './resources.ts';
import type { Json } from './schema.ts';
import { type Change, type Entry, Store } from './store.ts';
import { timestamp } from './validate.ts';

const DEFINITIONS = 'customresourcedefinitions.apiextensions.k8s.io';

/** The stored state, the kinds that are served, and the controllers that react to changes. */
export class Cluster {
  readonly store = new Store((change) => this.#observe(change));
  readonly resources = new Resources(this.store);
  readonly #collector = new Collector(this.store);
  readonly #builtIn: readonly Kind[];
  #kinds: readonly Kind[];

  constructor() {
    const file = readFileSync(new URL('./bootstrap.yaml', import.meta.url), 'utf8');
    const { kinds, objects } = parse(file) as { kinds: BuiltIn[]; objects: (Json & { kind: string })[] };
    this.#builtIn = kinds.map(builtIn);
    this.#kinds = this.#builtIn;
    for (const object of objects) this.#create(object.kind, object);
  }

  get kinds(): readonly Kind[] {
    return this.#kinds;
  }

  stop(): void {
    this.#collector.stop();
  }

  #observe(change: Change): void {
    const { type, entry } = change;
    this.#collector.observe(change);
    if (entry.bucket === DEFINITIONS) this.#define(type, entry);
    if (entry.bucket === 'namespaces.' && type === 'ADDED') {
      this.#create('ServiceAccount', { metadata: { name: 'default' } }, entry.key);
    }
    if (entry.bucket === `clusterroles.${RBAC_GROUP}`) {
      // One at a time: the write of one comes back here and leads to those that aggregate it.
      const [role] = aggregated(this.store);
      if (role) this.store.put(entry.bucket, role.metadata.name, role);
    }
  }

  /** Serves what the definitions say; the instances of a definition go with it. */
  #define(type: Change['type'], entry: Entry): void {
    const definitions = this.store.list(DEFINITIONS, '').map(({ object }) => kindOf(object));
    if (type === 'DELETED')
      for (const instance of this.store.list(entry.key, '')) this.store.delete(instance);
    this.#kinds = [...this.#builtIn, ...definitions];
    if (type !== 'ADDED') return;
    const met = { status: 'True', lastTransitionTime: timestamp() };
    const conditions = [
      { ...met, type: 'NamesAccepted', reason: 'NoConflicts', message: 'no conflicts found' },
      {
        ...met,
        type: 'Established',
        reason: 'InitialNamesAccepted',
        message: 'the initial names have been accepted',
      },
    ];
    const { names, versions } = entry.object.spec as { names: Json; versions: { name: string }[] };
    const status = { acceptedNames: names, conditions, storedVersions: versions.map(({ name }) => name) };
    this.store.put(DEFINITIONS, entry.key, { ...entry.object, status });
  }

  #create(name: string, object: Json, namespace = ''): void {
    const kind = this.#builtIn.find((one) => one.kind === name)!;
    const options = { dryRun: false, manager: 'kube-apiserver', fieldValidation: 'Strict', warnings: [] };
    this.resources.create(
      { kind, namespace, name: '' },
      { apiVersion: apiVersionOf(kind), ...object },
      options,
    );
  }
}
