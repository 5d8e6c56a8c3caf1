import { Informer, type InformerOptions } from '@meshkit/crds/informer';
import type { Log } from '@meshkit/crds/log';
import { MESH_NODES, type Resource, SHARD_ASSIGNMENTS, SHARD_SETS } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { owningNodes } from '@meshkit/shards/owning-nodes';
import type { KubeObject, MeshNode, ShardAssignment, ShardSet } from '@meshkit/shards/records';
import type {
  OwningNode,
  ShardFilter,
  ShardPage,
  ShardRepository,
  VersionVector,
} from '@meshkit/shards/repository';
import { ShardStore } from './shard-store.ts';

export interface KubernetesRepositoryOptions {
  client: InformerOptions<ShardAssignment>['client'];
  clock: Clock;
  random: () => number;
  log: Log;
}

/** What stands between the cache and the cluster's present state; both undefined when nothing does. */
export interface CacheHealth {
  /** The first list is not complete: nothing can be served. */
  cold?: string;
  /** The connection to kube-apiserver is lost: what is served may be old. */
  stale?: string;
}

/** The shards and nodes of a cluster, followed by watch and served from memory. Answers need no I/O. */
export class KubernetesRepository implements ShardRepository {
  readonly #store = new ShardStore();
  readonly #assignments: Informer<ShardAssignment>;
  readonly #nodes: Informer<MeshNode>;
  readonly #sets: Informer<ShardSet>;

  constructor(options: KubernetesRepositoryOptions) {
    const informer = <T extends KubeObject>(resource: Resource<T>): Informer<T> =>
      new Informer<T>({ ...options, resource } satisfies InformerOptions<T>);
    this.#assignments = informer(SHARD_ASSIGNMENTS);
    this.#nodes = informer(MESH_NODES);
    this.#sets = informer(SHARD_SETS);
    this.#assignments.onChange(({ type, object }) => {
      if (type === 'DELETED') this.#store.remove(object);
      else this.#store.put(object);
    });
  }

  /** Follows the cluster until aborted; resolves then. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#informers().map(({ informer }) => informer.run(signal)));
  }

  health(): CacheHealth {
    const health: CacheHealth = {};
    for (const { name, informer } of this.#informers()) {
      const { synced, connected, lastError } = informer.state;
      const why = lastError === undefined ? '' : `: ${lastError}`;
      if (!synced) health.cold ??= `waiting for the first list of ${name}${why}`;
      else if (!connected) health.stale ??= `lost the watch of ${name}${why}`;
    }
    return health;
  }

  counts(): { shards: number; nodes: number } {
    return { shards: this.#store.size, nodes: this.#nodes.list().length };
  }

  async list(filter: ShardFilter, page: { limit: number; after?: string }): Promise<ShardPage> {
    const { items, next } = this.#store.page(filter, page.limit, page.after);
    const namespaces = new Set(items.map(({ metadata }) => metadata.namespace ?? ''));
    if (filter.namespace !== undefined) namespaces.add(filter.namespace);
    return { items, next, versionVector: this.#versionVector(namespaces) };
  }

  async get(namespace: string, name: string): Promise<ShardAssignment | undefined> {
    return this.#store.get(namespace, name);
  }

  async nodes(namespace?: string): Promise<OwningNode[]> {
    const nodes = this.#nodes
      .list()
      .filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace);
    return owningNodes(nodes, this.#store.values(), (place, name) => this.#sets.get(`${place}/${name}`));
  }

  #versionVector(namespaces: Iterable<string>): VersionVector {
    const found: Record<string, string> = {};
    for (const namespace of [...namespaces].sort()) {
      const position = this.#store.positionOf(namespace);
      if (position !== undefined) found[namespace] = position;
    }
    return { position: this.#assignments.state.resourceVersion ?? '0', namespaces: found };
  }

  #informers() {
    return [
      { name: 'ShardAssignments', informer: this.#assignments },
      { name: 'MeshNodes', informer: this.#nodes },
      { name: 'ShardSets', informer: this.#sets },
    ];
  }
}
