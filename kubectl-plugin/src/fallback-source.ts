import type { WatchEvent } from '@meshkit/client/shard-tracker';
import { ShardError } from '@meshkit/shards/errors';
import type { ShardFilter } from '@meshkit/shards/repository';
import type { SimulationRequest } from '@meshkit/shards/simulate';
import type { CallLimits, DiffRange, FollowOptions, ListLimits, ShardSource } from './shard-source.ts';

/**
 * The first source until it turns out that nobody listens there, then the second. A server that answers, be it with
 * a refusal, is the authority: there is no way around its 401, 403 or 5xx. Nor is there one to a history: the second has none.
 */
export class FallbackSource implements ShardSource {
  #current: ShardSource;
  #second: (() => Promise<ShardSource>) | undefined;
  #switching: Promise<ShardSource> | undefined;
  #refusal: ShardSource['refusal'];

  constructor(first: ShardSource, second: () => Promise<ShardSource>) {
    this.#current = first;
    this.#second = second;
  }

  get kind() {
    return this.#current.kind;
  }

  get server() {
    return this.#current.server;
  }

  get refusal() {
    return this.#refusal;
  }

  pages(filter: ShardFilter, limits: ListLimits) {
    return this.#pages((source) => source.pages(filter, limits));
  }

  get(namespace: string, name: string, limits: CallLimits) {
    return this.#attempt((source) => source.get(namespace, name, limits));
  }

  nodes(namespace: string | undefined, limits: CallLimits) {
    return this.#attempt((source) => source.nodes(namespace, limits));
  }

  /** A watch tries again by itself, so here it is ended when its very first connection is refused. */
  async *watch(filter: ShardFilter, options: FollowOptions): AsyncGenerator<WatchEvent, void> {
    const { signal, onDisconnect, resumeToken } = options;
    const given = new AbortController();
    let begun = false;
    const first = this.#current.watch(filter, {
      ...options,
      signal: AbortSignal.any([signal, given.signal]),
      onDisconnect: (error, retryInMs) => {
        if (!begun && resumeToken === undefined && isRefused(error) && this.#second) given.abort(error);
        else onDisconnect?.(error, retryInMs);
      },
    });
    for await (const event of first) {
      begun = true;
      yield event;
    }
    if (given.signal.aborted && !signal.aborted) {
      yield* (await this.#next(given.signal.reason)).watch(filter, options);
    }
  }

  simulate(request: SimulationRequest, limits: CallLimits) {
    return this.#attempt((source) => source.simulate(request, limits));
  }

  explain(namespace: string, name: string, limits: CallLimits) {
    return this.#attempt((source) => source.explain(namespace, name, limits));
  }

  diff(filter: ShardFilter, range: DiffRange, limits: ListLimits) {
    return this.#current.diff(filter, range, limits);
  }

  history(key: { namespace: string; name: string; since?: string }, limits: ListLimits) {
    return this.#current.history(key, limits);
  }

  status(namespace: string | undefined, limits: CallLimits) {
    return this.#attempt((source) => source.status(namespace, limits));
  }

  close() {
    return this.#current.close();
  }

  async *#pages<Page>(ask: (source: ShardSource) => AsyncIterable<Page>): AsyncGenerator<Page, void> {
    let begun = false;
    try {
      for await (const page of ask(this.#current)) {
        begun = true;
        yield page;
      }
    } catch (error) {
      if (begun) throw error;
      yield* ask(await this.#next(error));
    }
  }

  async #attempt<T>(ask: (source: ShardSource) => Promise<T>): Promise<T> {
    try {
      return await ask(this.#current);
    } catch (error) {
      return ask(await this.#next(error));
    }
  }

  async #next(error: unknown): Promise<ShardSource> {
    if (!isRefused(error)) throw error;
    // Requests that were under way together are refused together.
    this.#switching ??= this.#switch(error);
    return this.#switching;
  }

  async #switch(error: ShardError): Promise<ShardSource> {
    const begin = this.#second;
    if (!begin) throw error;
    this.#second = undefined;
    const second = await begin();
    const first = this.#current;
    this.#refusal = { server: first.server, error };
    this.#current = second;
    await first.close();
    return second;
  }
}

function isRefused(error: unknown): error is ShardError {
  return error instanceof ShardError && error.details.reason === 'ECONNREFUSED';
}
