import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import { errorOfProblem } from '@meshkit/shards/problem';
import type { ShardFilter, VersionVector } from '@meshkit/shards/repository';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import { Http2Origin } from './http2-origin.ts';
import { ShardCache, type ShardCacheOptions } from './shard-cache.ts';
import type { WatchEvent } from './shard-tracker.ts';
import { parsed, queryOf, sseTransport } from './sse-stream.ts';
import { TokenReader, type TokenSource } from './token-source.ts';
import { machineClock } from './wait.ts';
import { type WatchMeans, type WatchOptions, watchShards } from './watch.ts';

export interface ShardClientOptions {
  /** The API server, `https://HOST:PORT`. */
  server: string;
  /** Absent: requests are sent without one, and refused. */
  token?: TokenSource;
  /** PEM; absent: the authorities that Node knows. */
  ca?: string;
  insecureSkipTlsVerify?: boolean;
  /** `name/version` of the caller. */
  userAgent?: string;
  /** The machine's unless a test has its own. */
  clock?: Clock;
  /** In [0, 1), for jitter; a test's own. */
  random?: () => number;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** Milliseconds for each request. Default 10,000. */
  timeoutMs?: number;
}

export interface ListOptions extends CallOptions {
  /** Shards per request, at most 1,000 (the default). */
  pageSize?: number;
  /** Stop after this many shards in all. */
  limit?: number;
}

export interface ShardListPage {
  items: ShardView[];
  nextCursor?: string;
  versionVector: VersionVector;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_PAGE_SIZE = 1_000;

/**
 * The read side of the MeshKit API over one HTTP/2 connection. Every failure is a ShardError: the server's own
 * (`scopeMissing` with the command that grants it, `notFound`, …), or `unavailable` and `timeout` on the way there.
 */
export class ShardClient {
  readonly #origin: Http2Origin;
  readonly #token: TokenReader | undefined;
  readonly #userAgent: string;
  readonly #clock: Clock;
  readonly #random: () => number;

  constructor(options: ShardClientOptions) {
    const { server, ca, insecureSkipTlsVerify, token, clock = machineClock, random = Math.random } = options;
    this.#origin = new Http2Origin({ url: server, ca, insecureSkipTlsVerify, clock });
    this.#token = token === undefined ? undefined : new TokenReader(token, clock);
    this.#userAgent = options.userAgent ?? 'meshkit-client';
    this.#clock = clock;
    this.#random = random;
  }

  /** All shards that pass, ordered by namespace and name, fetched page by page as they are consumed. */
  async *list(filter: ShardFilter = {}, options: ListOptions = {}): AsyncGenerator<ShardView, void> {
    for await (const page of this.pages(filter, options)) yield* page.items;
  }

  /** The same, as the server's pages: for callers that need the version vector, or print as they go. */
  async *pages(filter: ShardFilter = {}, options: ListOptions = {}): AsyncGenerator<ShardListPage, void> {
    const { pageSize = DEFAULT_PAGE_SIZE, limit = Number.POSITIVE_INFINITY } = options;
    const query = queryOf(filter);
    let remaining = limit;
    do {
      query.set('pageSize', String(Math.min(pageSize, remaining)));
      const page = (await this.#get(`/meshkit/shards?${query}`, options)) as ShardListPage;
      yield page;
      remaining -= page.items.length;
      if (page.nextCursor === undefined) return;
      query.set('cursor', page.nextCursor);
    } while (remaining > 0);
  }

  /** Throws `notFound` when there is none. */
  async get(namespace: string, name: string, options: CallOptions = {}): Promise<ShardView> {
    const path = `/meshkit/shards/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
    return (await this.#get(path, options)) as ShardView;
  }

  /** Of one namespace, or of all. */
  async nodes(namespace?: string, options: CallOptions = {}): Promise<NodeView[]> {
    const query = namespace === undefined ? '' : `?namespace=${encodeURIComponent(namespace)}`;
    return ((await this.#get(`/meshkit/nodes${query}`, options)) as { items: NodeView[] }).items;
  }

  /**
   * What exists (ADDED … then SYNCED) and then every change, until the signal aborts. Streams that break are resumed
   * where they were; throws what that cannot cure. Not reading on is fine for a while: the server then ends the
   * stream, and the next one goes on after the last event that was read.
   */
  watch(filter: ShardFilter = {}, options: WatchOptions = {}): AsyncGenerator<WatchEvent, void> {
    return watchShards(filter, options, this.#means());
  }

  /** A live map of one ShardSet. It follows the server from now on, until it is closed. */
  cache(options: ShardCacheOptions): ShardCache {
    return new ShardCache(options, this.#means());
  }

  async close(): Promise<void> {
    await this.#origin.close();
  }

  #means(): WatchMeans {
    return {
      open: sseTransport(this.#origin, this.#userAgent),
      token: this.#token,
      clock: this.#clock,
      random: this.#random,
      suspect: () => this.#origin.suspect(),
    };
  }

  async #get(path: string, options: CallOptions): Promise<unknown> {
    const token = await this.#token?.read();
    let { status, body } = await this.#send(path, token, options);
    if (status === 401 && token !== undefined) {
      // A projected token may have been replaced since it was read.
      const renewed = await this.#token?.renewed(token);
      if (renewed !== undefined) ({ status, body } = await this.#send(path, renewed, options));
    }
    const document = parsed(String(body));
    if (status !== 200) throw errorOfProblem(status, document, this.#origin.url);
    if (document === undefined) {
      const text = `${this.#origin.url} answered with something that is not JSON; is it a MeshKit API server?`;
      throw new ShardError('internal', text);
    }
    return document;
  }

  #send(path: string, token: string | undefined, { signal, timeoutMs = DEFAULT_TIMEOUT_MS }: CallOptions) {
    const headers: Record<string, string> = { accept: 'application/json', 'user-agent': this.#userAgent };
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    return this.#origin.send({ path, headers, signal, timeoutMs });
  }
}
