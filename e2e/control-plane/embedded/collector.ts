import type { Change, Entry, Store } from './store.ts';

/** Deletes dependents of deleted owners and the contents of deleted namespaces, in the background, as the controller manager does. */
export class Collector {
  readonly #store: Store;
  readonly #uids = new Set<string>();
  /** uid of an owner -> its dependents by key. */
  readonly #dependents = new Map<string, Map<string, Entry>>();
  #tasks: (() => void)[] = [];
  #timer: NodeJS.Immediate | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  stop(): void {
    clearImmediate(this.#timer);
    this.#tasks = [];
  }

  /** To be told of every change, in order. */
  observe({ type, entry, previous }: Change): void {
    const { uid = '', namespace = '', ownerReferences = [], deletionTimestamp } = entry.object.metadata;
    const key = `${entry.bucket}/${entry.key}`;
    for (const owner of previous?.object.metadata.ownerReferences ?? [])
      this.#dependents.get(owner.uid)?.delete(key);
    if (type === 'DELETED') {
      this.#uids.delete(uid);
      for (const dependent of this.#dependents.get(uid)?.values() ?? [])
        this.#later(() => this.#collect(dependent));
      this.#dependents.delete(uid);
      if (namespace) this.#later(() => this.#empty(namespace));
      return;
    }
    this.#uids.add(uid);
    for (const owner of ownerReferences) {
      const dependents = this.#dependents.get(owner.uid) ?? new Map<string, Entry>();
      this.#dependents.set(owner.uid, dependents.set(key, entry));
    }
    if (ownerReferences.length > 0) this.#later(() => this.#collect(entry));
    if (entry.bucket === 'namespaces.' && deletionTimestamp) this.#later(() => this.#empty(entry.key));
  }

  /** Removes an object none of whose owners is left. */
  #collect({ bucket, key }: Entry): void {
    const entry = this.#store.get(bucket, key);
    const owners = entry?.object.metadata.ownerReferences ?? [];
    if (entry && owners.length > 0 && !owners.some(({ uid }) => this.#uids.has(uid)))
      this.#store.delete(entry);
  }

  #empty(namespace: string): void {
    const entry = this.#store.get('namespaces.', namespace);
    if (!entry?.object.metadata.deletionTimestamp) return;
    for (const content of this.#store.everythingIn(namespace)) this.#store.delete(content);
    this.#store.delete(entry);
  }

  #later(task: () => void): void {
    this.#tasks.push(task);
    this.#timer ??= setImmediate(() => {
      this.#timer = undefined;
      for (const run of this.#tasks.splice(0)) run();
    });
  }
}
