import type { ShardClient } from '@meshkit/client/shard-client';
import type { ShardFilter } from '@meshkit/shards/repository';
import type { CallLimits, ListLimits, ShardSource } from './shard-source.ts';

/** The MeshKit API server. */
export class ApiSource implements ShardSource {
  readonly #client: Pick<ShardClient, 'pages' | 'get' | 'nodes' | 'close'>;

  constructor(client: Pick<ShardClient, 'pages' | 'get' | 'nodes' | 'close'>) {
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

  close() {
    return this.#client.close();
  }
}
