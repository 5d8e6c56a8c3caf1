import type { ShardFilter } from '@meshkit/shards/repository';
import type { SimulationRequest } from '@meshkit/shards/simulate';
import type { CallLimits, DiffRange, FollowOptions, ListLimits, ShardSource } from './shard-source.ts';
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

  pages(filter: ShardFilter, limits: ListLimits) {
    return this.#client.pages(filter, limits);
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

  diff(filter: ShardFilter, range: DiffRange, limits: ListLimits) {
    return paged(limits, (page) => this.#client.diff(filter, { ...range, ...page }));
  }

  history(key: { namespace: string; name: string; since?: string }, limits: ListLimits) {
    const { namespace, name, since } = key;
    return paged(limits, (page) => this.#client.history(namespace, name, { since, ...page }));
  }

  status(namespace: string | undefined, limits: CallLimits) {
    return this.#client.status(namespace, limits);
  }

  close() {
    return this.#client.close();
  }
}

/** One page after the other, until there are no more or enough. */
async function* paged<Page extends { items: readonly unknown[]; next?: string }>(
  { pageSize, limit = Number.POSITIVE_INFINITY, ...call }: ListLimits,
  ask: (page: CallLimits & { pageSize: number; cursor?: string }) => Promise<Page>,
): AsyncGenerator<Page, void> {
  let cursor: string | undefined;
  let left = limit;
  do {
    const page = await ask({ ...call, pageSize: Math.min(pageSize, left), cursor });
    yield page;
    left -= page.items.length;
    cursor = page.next;
  } while (cursor !== undefined && left > 0);
}
