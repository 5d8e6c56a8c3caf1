import type { ShardFilter } from '@meshkit/shards/repository';
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

  close() {
    return this.#client.close();
  }
}
