/** Maps an object to the values under which `byIndex` finds it. */
export type IndexFunction<T> = (object: T) => readonly string[];

/** Objects by key, and by the values of named indexes. */
export class IndexedStore<T> {
  readonly #objects = new Map<string, T>();
  readonly #indexes = new Map<string, { of: IndexFunction<T>; keys: Map<string, Set<string>> }>();

  constructor(indexes: Record<string, IndexFunction<T>>) {
    for (const [name, of] of Object.entries(indexes)) this.#indexes.set(name, { of, keys: new Map() });
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  list(): T[] {
    return [...this.#objects.values()];
  }

  /** Throws on an unknown index: that is a mistake in the program, not an empty answer. */
  byIndex(name: string, value: string): T[] {
    const index = this.#indexes.get(name);
    if (!index) throw new TypeError(`there is no index ${name}`);
    return [...(index.keys.get(value) ?? [])].map((key) => this.#objects.get(key) as T);
  }

  set(key: string, object: T): void {
    const previous = this.#objects.get(key);
    for (const { of, keys } of this.#indexes.values()) {
      const before = previous === undefined ? [] : of(previous);
      const after = of(object);
      for (const value of before) if (!after.includes(value)) remove(keys, value, key);
      for (const value of after) {
        const members = keys.get(value);
        if (members) members.add(key);
        else keys.set(value, new Set([key]));
      }
    }
    this.#objects.set(key, object);
  }

  delete(key: string): void {
    const previous = this.#objects.get(key);
    if (previous === undefined) return;
    for (const { of, keys } of this.#indexes.values())
      for (const value of of(previous)) remove(keys, value, key);
    this.#objects.delete(key);
  }
}

function remove(keys: Map<string, Set<string>>, value: string, key: string): void {
  const members = keys.get(value);
  members?.delete(key);
  if (members?.size === 0) keys.delete(value);
}
