import type { ShardFilter } from '@meshkit/shards/repository';
import type { SimulationRequest } from '@meshkit/shards/simulate';
import type { CallLimits, FollowOptions, ListLimits, ShardSource } from './shard-source.ts';
import type { ApiClient } from './surroundings.ts';

/** The MeshKit API server. */
export class ApiSource implements ShardSource {
  readonly kind = 'api';
  readonly server: string;
  readonly #client: ApiClient;

  constructor(server: string, client: ApiClient) {
    this.server = server;
    this.#client = client;
  }

  async *pages(filter: ShardFilter, limits: ListLimits) {
    for await (const { items } of this.#client.pages(filter, limits)) yield items;
  }

  get(namespace: string, name: string, limits: CallLimits) {
    return this.#client.get(namespace, name, limits);
  }

  nodes(namespace: string | undefined, limits: CallLimits) {
    return this.#client.nodes(namespace, limits);
  }

  watch(filter: ShardFilter, options: FollowOptions) {
    return this.#client.watch(filter, options);
  }

  simulate(request: SimulationRequest, limits: CallLimits) {
    return this.#client.simulate(request, limits);
  }

  explain(namespace: string, name: string, limits: CallLimits) {
    return this.#client.explain(namespace, name, limits);
  }

  close() {
    return this.#client.close();
  }
}
