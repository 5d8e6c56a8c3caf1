import { ShardError } from '@meshkit/shards/errors';
import { errorOfProblem } from '@meshkit/shards/problem';
import type {
  DiffPage,
  DiffRequest,
  HistoryPage,
  HistoryRequest,
  ShardFilter,
} from '@meshkit/shards/repository';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import type { Backend, BackendCall, PageRequest, ShardListPage } from './backend.ts';
import { Http2Origin, type OriginOptions } from './http2-origin.ts';
import { parsed, queryOf, sseTransport } from './sse-stream.ts';
import type { WatchTransport } from './watch-transport.ts';

/** REST and server-sent events over one HTTP/2 connection. */
export class RestBackend implements Backend {
  readonly watch: WatchTransport;
  readonly #origin: Http2Origin;
  readonly #userAgent: string;

  constructor(options: OriginOptions & { userAgent: string }) {
    this.#origin = new Http2Origin(options);
    this.#userAgent = options.userAgent;
    this.watch = sseTransport(this.#origin, options.userAgent);
  }

  async page(filter: ShardFilter, request: PageRequest, call: BackendCall): Promise<ShardListPage> {
    const query = queryOf(filter);
    query.set('pageSize', String(request.pageSize));
    if (request.cursor !== undefined) query.set('cursor', request.cursor);
    if (request.minVersion !== undefined) query.set('minVersion', request.minVersion);
    return (await this.#get(`/meshkit/shards?${query}`, call)) as ShardListPage;
  }

  async get(request: { namespace: string; name: string; minVersion?: string }, call: BackendCall) {
    const [namespace, name] = [request.namespace, request.name].map(encodeURIComponent);
    const query = request.minVersion === undefined ? '' : `?minVersion=${request.minVersion}`;
    return (await this.#get(`/meshkit/shards/${namespace}/${name}${query}`, call)) as ShardView;
  }

  async nodes(namespace: string | undefined, call: BackendCall): Promise<NodeView[]> {
    const query = namespace === undefined ? '' : `?namespace=${encodeURIComponent(namespace)}`;
    return ((await this.#get(`/meshkit/nodes${query}`, call)) as { items: NodeView[] }).items;
  }

  async diff(filter: ShardFilter, request: DiffRequest, call: BackendCall): Promise<DiffPage> {
    const { mode, from, to, cursor, limit } = request;
    const query = queryOf(filter);
    for (const [name, value] of Object.entries({ mode, from, to, cursor, pageSize: String(limit) })) {
      if (value !== undefined) query.set(name, value);
    }
    return (await this.#get(`/meshkit/shards/diff?${query}`, call)) as DiffPage;
  }

  async history(request: HistoryRequest, call: BackendCall): Promise<HistoryPage> {
    const { cursor, since, limit } = request;
    const [namespace, name] = [request.namespace, request.name].map(encodeURIComponent);
    const query = new URLSearchParams({ pageSize: String(limit) });
    if (cursor !== undefined) query.set('cursor', cursor);
    if (since !== undefined) query.set('since', since);
    return (await this.#get(`/meshkit/shards/${namespace}/${name}/history?${query}`, call)) as HistoryPage;
  }

  suspect(): void {
    this.#origin.suspect();
  }

  async close(): Promise<void> {
    await this.#origin.close();
  }

  async #get(path: string, { bearer, signal, timeoutMs }: BackendCall): Promise<unknown> {
    const headers: Record<string, string> = { accept: 'application/json', 'user-agent': this.#userAgent };
    if (bearer !== undefined) headers.authorization = `Bearer ${bearer}`;
    const { status, body } = await this.#origin.send({ path, headers, signal, timeoutMs });
    const document = parsed(String(body));
    if (status !== 200) throw errorOfProblem(status, document, this.#origin.url);
    if (document === undefined) {
      const text = `${this.#origin.url} answered with something that is not JSON; is it a MeshKit API server?`;
      throw new ShardError('internal', text);
    }
    return document;
  }
}
