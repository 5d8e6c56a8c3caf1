import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { ShardExplanation } from '@meshkit/shards/explain';
import type { DiffPage, DiffRequest, HistoryPage, ShardFilter } from '@meshkit/shards/repository';
import type { Access } from '@meshkit/shards/scope';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import type { Simulation, SimulationRequest } from '@meshkit/shards/simulate';
import type {
  Backend,
  BackendCall,
  PageRequest,
  ServerInfo,
  ServerStatus,
  ShardListPage,
} from './backend.ts';
import { GrpcBackend } from './grpc-backend.ts';
import { RestBackend } from './rest-backend.ts';
import { ShardCache, type ShardCacheOptions } from './shard-cache.ts';
import type { WatchEvent } from './shard-tracker.ts';
import { TokenReader, type TokenSource } from './token-source.ts';
import { machineClock } from './wait.ts';
import { type WatchMeans, type WatchOptions, watchShards } from './watch.ts';

export interface ShardClientOptions {
  /** The API server, `https://HOST:PORT`; the port is that of the transport. */
  server: string;
  /** `sse` (the default): REST, and server-sent events to watch, over HTTP/2. `grpc`: all by gRPC. */
  transport?: 'sse' | 'grpc';
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
  /** Wait, up to 3 s, until the server has seen this position (a resourceVersion): read your own write. */
  minVersion?: string;
}

export interface ExplainOptions extends CallOptions {
  /** Nodes in the answer, at most 1,000 (the default). */
  maxItems?: number;
}

export interface ListOptions extends CallOptions {
  /** Shards per request, at most 1,000 (the default). */
  pageSize?: number;
  /** Stop after this many shards in all. */
  limit?: number;
}

/** `from`, `to`, `since`: a resume token, a position, RFC 3339, or a duration before now such as `10m`. */
export interface DiffOptions extends Omit<CallOptions, 'minVersion'>, Partial<Omit<DiffRequest, 'limit'>> {
  /** Items per page, at most 1,000 (the default). */
  pageSize?: number;
}

export interface HistoryOptions extends Omit<CallOptions, 'minVersion'> {
  /** Changes per page, at most 1,000 (the default). */
  pageSize?: number;
  /** `next` of the page before. */
  cursor?: string;
  /** Nothing at or before it. */
  since?: string;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_PAGE_SIZE = 1_000;

/**
 * The read side of the MeshKit API of one server. Every failure is a ShardError: the server's own
 * (`scopeMissing` with the command that grants it, `notFound`, …), or `unavailable` and `timeout` on the way there.
 */
export class ShardClient {
  readonly #backend: Backend;
  readonly #token: TokenReader | undefined;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #closing = new AbortController();

  constructor(options: ShardClientOptions) {
    const { server, transport, ca, insecureSkipTlsVerify, token } = options;
    const { userAgent = 'meshkit-client', clock = machineClock, random = Math.random } = options;
    this.#backend =
      transport === 'grpc'
        ? new GrpcBackend({ server, ca, insecureSkipTlsVerify, userAgent })
        : new RestBackend({ url: server, ca, insecureSkipTlsVerify, userAgent, clock });
    this.#token = token === undefined ? undefined : new TokenReader(token, clock);
    this.#clock = clock;
    this.#random = random;
  }

  /** All shards that pass, ordered by namespace and name, fetched page by page as they are consumed. */
  async *list(filter: ShardFilter = {}, options: ListOptions = {}): AsyncGenerator<ShardView, void> {
    for await (const page of this.pages(filter, options)) yield* page.items;
  }

  /**
   * The same, as the server's pages: for callers that need the version vector, or print as they go. A list that takes
   * so long that the server forgets its state goes on at the newest one, with pages that say `keyset`.
   */
  async *pages(filter: ShardFilter = {}, options: ListOptions = {}): AsyncGenerator<ShardListPage, void> {
    const { pageSize = DEFAULT_PAGE_SIZE, limit = Number.POSITIVE_INFINITY, minVersion } = options;
    let cursor: string | undefined;
    let remaining = limit;
    do {
      const page = await this.#page(
        filter,
        { pageSize: Math.min(pageSize, remaining), cursor, minVersion },
        options,
      );
      yield page;
      remaining -= page.items.length;
      cursor = page.nextCursor;
    } while (cursor !== undefined && remaining > 0);
  }

  /** Throws `notFound` when there is none. */
  get(namespace: string, name: string, options: CallOptions = {}): Promise<ShardView> {
    const { minVersion } = options;
    return this.#call(options, (call) => this.#backend.get({ namespace, name, minVersion }, call));
  }

  /** What changed after `from`, up to now or `to`; a page of it. Pass `next` as `cursor` for the next one. */
  diff(filter: ShardFilter = {}, options: DiffOptions = {}): Promise<DiffPage> {
    const { pageSize = DEFAULT_PAGE_SIZE, mode = 'net', from, to, cursor } = options;
    const request = { mode, from, to, cursor, limit: pageSize };
    return this.#call(options, (call) => this.#backend.diff(filter, request, call));
  }

  /** What happened to one shard, newest first; a page of it. Throws `notFound` when nothing is known of one. */
  history(namespace: string, name: string, options: HistoryOptions = {}): Promise<HistoryPage> {
    const { pageSize = DEFAULT_PAGE_SIZE, cursor, since } = options;
    const request = { namespace, name, cursor, since, limit: pageSize };
    return this.#call(options, (call) => this.#backend.history(request, call));
  }

  /** Of one namespace, or of all. */
  nodes(namespace?: string, options: CallOptions = {}): Promise<NodeView[]> {
    return this.#call(options, (call) => this.#backend.nodes(namespace, call));
  }

  /** Which program answers; needs no token. Throws `invalidArgument` over gRPC: ask for `status` there. */
  about(options: CallOptions = {}): Promise<ServerInfo> {
    return this.#call(options, (call) => this.#backend.about(call));
  }

  /**
   * How new what the server serves is, and whether the journal keeps up: for probes. It is the same for every namespace;
   * name one that you may read, unless you may read all. Throws `notFound` or `methodNotAllowed` when the server is older.
   */
  status(namespace?: string, options: CallOptions = {}): Promise<ServerStatus> {
    return this.#call(options, (call) => this.#backend.status(namespace, call));
  }

  /** Who you are to the server, and what you may do in a namespace, or in all; needs no scope. Throws as `status`. */
  access(namespace?: string, options: CallOptions = {}): Promise<Access> {
    return this.#call(options, (call) => this.#backend.access(namespace, call));
  }

  /**
   * What the operator would do if something was changed; nothing is written. Throws `notFound` and `invalidArgument` with
   * `details.errors` that point into the request.
   */
  simulate(request: SimulationRequest, options: CallOptions = {}): Promise<Simulation> {
    return this.#call(options, (call) => this.#backend.simulate(request, call));
  }

  /** Why a shard is where it is, and what would move it. Throws `notFound` when there is none. */
  explain(namespace: string, name: string, options: ExplainOptions = {}): Promise<ShardExplanation> {
    const { minVersion, maxItems } = options;
    return this.#call(options, (call) =>
      this.#backend.explain({ namespace, name, minVersion, maxItems }, call),
    );
  }

  /**
   * What exists (ADDED … then SYNCED) and then every change, until the signal aborts. Streams that break are resumed
   * where they were; throws what that cannot cure. Not reading on is fine for a while: the server then ends the
   * stream, and the next one goes on after the last event that was read.
   */
  watch(filter: ShardFilter = {}, options: WatchOptions = {}): AsyncGenerator<WatchEvent, void> {
    return watchShards(filter, { ...options, signal: this.#until(options.signal) }, this.#means());
  }

  /** A live map of one ShardSet. It follows the server from now on, until it is closed. */
  cache(options: ShardCacheOptions): ShardCache {
    return new ShardCache({ ...options, signal: this.#until(options.signal) }, this.#means());
  }

  /** Ends its watches and caches too, as their signals would. */
  async close(): Promise<void> {
    this.#closing.abort(new ShardError('unavailable', 'the client is closed'));
    await this.#backend.close();
  }

  #until(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, this.#closing.signal]) : this.#closing.signal;
  }

  #means(): WatchMeans {
    const backend = this.#backend;
    return {
      open: (request) => backend.watch(request),
      differences: backend.differences,
      suspect: () => backend.suspect?.(),
      token: this.#token,
      clock: this.#clock,
      random: this.#random,
    };
  }

  async #page(filter: ShardFilter, request: PageRequest, options: CallOptions): Promise<ShardListPage> {
    try {
      return await this.#call(options, (call) => this.#backend.page(filter, request, call));
    } catch (error) {
      const cursor = cursorToGoOn(error);
      if (cursor === undefined || request.cursor === undefined) throw error;
      return this.#call(options, (call) => this.#backend.page(filter, { ...request, cursor }, call));
    }
  }

  async #call<T>(options: CallOptions, work: (call: BackendCall) => Promise<T>): Promise<T> {
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    const bearer = await this.#token?.read({ signal, timeoutMs });
    try {
      return await work({ bearer, signal, timeoutMs });
    } catch (error) {
      if (bearer === undefined || !(error instanceof ShardError) || error.code !== 'unauthenticated')
        throw error;
      // A projected token may have been replaced since it was read.
      const renewed = await this.#token?.renewed(bearer, { signal, timeoutMs });
      if (renewed === undefined) throw error;
      return work({ bearer: renewed, signal, timeoutMs });
    }
  }
}

/** Where a list goes on at the newest state, when the server no longer knows the one that it was cut at. */
function cursorToGoOn(error: unknown): string | undefined {
  if (!(error instanceof ShardError) || error.code !== 'cursorExpired') return undefined;
  // REST says `resume: {cursor}`; the metadata of gRPC is flat.
  const { resume, resumeCursor } = error.details as { resume?: { cursor?: unknown }; resumeCursor?: unknown };
  const cursor = resume?.cursor ?? resumeCursor;
  return typeof cursor === 'string' ? cursor : undefined;
}
