import { ShardError } from '@meshkit/shards/errors';
import type { ShardFilter } from '@meshkit/shards/repository';
import type { CallLimits, ListLimits, ShardSource } from './shard-source.ts';

/**
 * The first source until it turns out that nobody listens there, then the second. A server that answers, be it with
 * a refusal, is the authority: there is no way around its 401, 403 or 5xx.
 */
export class FallbackSource implements ShardSource {
  #current: ShardSource;
  #second: (() => Promise<ShardSource>) | undefined;

  constructor(first: ShardSource, second: () => Promise<ShardSource>) {
    this.#current = first;
    this.#second = second;
  }

  async *pages(filter: ShardFilter, limits: ListLimits) {
    let begun = false;
    try {
      for await (const page of this.#current.pages(filter, limits)) {
        begun = true;
        yield page;
      }
    } catch (error) {
      if (begun) throw error;
      yield* (await this.#next(error)).pages(filter, limits);
    }
  }

  get(namespace: string, name: string, limits: CallLimits) {
    return this.#attempt((source) => source.get(namespace, name, limits));
  }

  nodes(namespace: string | undefined, limits: CallLimits) {
    return this.#attempt((source) => source.nodes(namespace, limits));
  }

  close() {
    return this.#current.close();
  }

  async #attempt<T>(ask: (source: ShardSource) => Promise<T>): Promise<T> {
    try {
      return await ask(this.#current);
    } catch (error) {
      return ask(await this.#next(error));
    }
  }

  async #next(error: unknown): Promise<ShardSource> {
    const refused = error instanceof ShardError && error.details.reason === 'ECONNREFUSED';
    if (!refused || !this.#second) throw error;
    const second = await this.#second();
    this.#second = undefined;
    await this.#current.close();
    this.#current = second;
    return second;
  }
}
