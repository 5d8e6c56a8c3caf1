import type { JournalClient } from '@meshkit/crds/journal-store';
import { statusError } from '@meshkit/crds/kube-error';
import type { Resource } from '@meshkit/crds/resource';
import type { KubeObject } from '@meshkit/shards/records';

type Stored = Map<string, KubeObject>;

/** What happens to the next writes: done; refused; or done, with the answer lost on the way. */
export type Fate = 'done' | 'refused' | 'lost';

/** As much of a kube-apiserver as a journal needs, in memory: create, compare-and-swap, delete, list. */
export class JournalCluster {
  readonly stored = new Map<string, Stored>();
  version = 1_000;
  writes = 0;
  /** Taken from the front by writes; none left: done. */
  fates: Fate[] = [];
  #uids = 0;

  /** Everything as it is now, to be put back as a restored etcd would. */
  snapshot(): () => void {
    const copies = [...this.stored].map(([plural, objects]) => [plural, new Map(objects)] as const);
    const { version } = this;
    return () => {
      this.stored.clear();
      for (const [plural, objects] of copies) this.stored.set(plural, new Map(objects));
      this.version = version;
    };
  }

  objects<T extends KubeObject>(resource: Resource<T>): Map<string, T> {
    const known = this.stored.get(resource.plural) ?? new Map<string, KubeObject>();
    this.stored.set(resource.plural, known);
    return known as Map<string, T>;
  }

  readonly client: JournalClient = {
    get: async (resource, { name }) => {
      await Promise.resolve();
      return this.#present(resource, name);
    },
    list: async (resource) => {
      await Promise.resolve();
      return { items: [...this.objects(resource).values()], resourceVersion: String(this.version) };
    },
    create: (resource, object) =>
      this.#write(() => {
        const { name } = object.metadata;
        if (this.objects(resource).has(name))
          throw refusal(409, `${resource.plural} "${name}" already exists`);
        this.#uids += 1;
        return this.#store(resource, {
          ...object,
          metadata: { ...object.metadata, uid: `uid-${this.#uids}` },
        });
      }),
    update: (resource, object) =>
      this.#write(() => {
        const present = this.#present(resource, object.metadata.name);
        if (present.metadata.resourceVersion !== object.metadata.resourceVersion) throw refusal(409, 'stale');
        return this.#store(resource, object);
      }),
    delete: async (resource, { name }, { uid } = {}) => {
      await this.#write(() => {
        const present = this.#present(resource, name);
        if (uid !== undefined && present.metadata.uid !== uid) throw refusal(409, 'another uid');
        this.objects(resource).delete(name);
        this.version += 1;
      });
    },
  };

  async #write<T>(act: () => T): Promise<T> {
    await Promise.resolve();
    const fate = this.fates.shift() ?? 'done';
    if (fate === 'refused') throw refusal(500, 'etcdserver: mvcc: database space exceeded');
    const done = act();
    this.writes += 1;
    if (fate === 'lost') throw refusal(504, 'the answer was lost');
    return done;
  }

  #present<T extends KubeObject>(resource: Resource<T>, name: string): T {
    const found = this.objects(resource).get(name);
    if (!found) throw refusal(404, `${resource.plural} "${name}" not found`);
    return found;
  }

  #store<T extends KubeObject>(resource: Resource<T>, object: T): T {
    this.version += 1;
    const metadata = { ...object.metadata, resourceVersion: String(this.version) };
    const stored = JSON.parse(JSON.stringify({ ...object, metadata })) as T;
    this.objects(resource).set(object.metadata.name, stored);
    return stored;
  }
}

function refusal(status: number, message: string): Error {
  const call = { what: 'do it', server: 'memory' };
  return statusError(call, { status, body: { message, code: status } });
}
