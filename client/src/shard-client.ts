import { ShardError } from '@meshkit/shards/errors';
import { errorOfProblem } from '@meshkit/shards/problem';
import type { ShardFilter, VersionVector } from '@meshkit/shards/repository';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import { Http2Origin } from './http2-origin.ts';
import { TokenReader, type TokenSource } from './token-source.ts';

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
  /** Monotonic milliseconds; a test's own. */
  monotonic?: () => number;
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

  constructor(options: ShardClientOptions) {
    const monotonic = options.monotonic ?? (() => performance.now());
    const { server, ca, insecureSkipTlsVerify } = options;
    this.#origin = new Http2Origin({ url: server, ca, insecureSkipTlsVerify, monotonic });
    this.#token = options.token === undefined ? undefined : new TokenReader(options.token, monotonic);
    this.#userAgent = options.userAgent ?? 'meshkit-client';
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

  async close(): Promise<void> {
    await this.#origin.close();
  }

  async #get(path: string, options: CallOptions): Promise<unknown> {
    const token = await this.#token?.read();
    let { status, body } = await this.#send(path, token, options);
    if (status === 401 && token !== undefined) {
      // A projected token may have been replaced since it was read.
      const renewed = await this.#token?.renewed(token);
      if (renewed !== undefined) ({ status, body } = await this.#send(path, renewed, options));
    }
    const document = parsed(body);
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

function queryOf(filter: ShardFilter): URLSearchParams {
  const query = new URLSearchParams();
  const { namespace, shardSet, owners = [], phases = [], zones = [], search } = filter;
  if (namespace !== undefined) query.set('namespace', namespace);
  if (shardSet !== undefined) query.set('shardSet', shardSet);
  for (const owner of owners) query.append('owner', owner);
  for (const phase of phases) query.append('status', phase);
  for (const zone of zones) query.append('zone', zone);
  if (search !== undefined) query.set('search', search);
  return query;
}

/** Undefined for what is not JSON: the status says what to make of it. */
function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
