import { ShardError } from '@meshkit/shards/errors';
import type { ShardExplanation } from '@meshkit/shards/explain';
import { errorOfProblem } from '@meshkit/shards/problem';
import type {
  DiffPage,
  DiffRequest,
  HistoryPage,
  HistoryRequest,
  ShardFilter,
} from '@meshkit/shards/repository';
import type { Access } from '@meshkit/shards/scope';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import type { Simulation, SimulationRequest } from '@meshkit/shards/simulate';
import type {
  Backend,
  BackendCall,
  ExplainRequest,
  PageRequest,
  ServerInfo,
  ServerStatus,
  ShardListPage,
} from './backend.ts';
import type { ConnectionOptions } from './http2-connection.ts';
import { Http2Origin } from './http2-origin.ts';
import { parsed, queryOf, sseTransport } from './sse-stream.ts';
import type { WatchTransport } from './watch-transport.ts';

/** REST and server-sent events over HTTP/2. */
export class RestBackend implements Backend {
  readonly watch: WatchTransport;
  readonly #origin: Http2Origin;
  readonly #userAgent: string;

  constructor(options: ConnectionOptions & { userAgent: string }) {
    this.#origin = new Http2Origin(options);
    this.#userAgent = options.userAgent;
    this.watch = sseTransport(this.#origin, options.userAgent);
  }

  async page(filter: ShardFilter, request: PageRequest, call: BackendCall): Promise<ShardListPage> {
    const query = queryOf(filter);
    query.set('pageSize', String(request.pageSize));
    if (request.cursor !== undefined) query.set('cursor', request.cursor);
    if (request.minVersion !== undefined) query.set('minVersion', request.minVersion);
    return (await this.#send(`/meshkit/shards?${query}`, call)) as ShardListPage;
  }

  async get(request: { namespace: string; name: string; minVersion?: string }, call: BackendCall) {
    const [namespace, name] = [request.namespace, request.name].map(encodeURIComponent);
    const query = request.minVersion === undefined ? '' : `?minVersion=${request.minVersion}`;
    return (await this.#send(`/meshkit/shards/${namespace}/${name}${query}`, call)) as ShardView;
  }

  async nodes(namespace: string | undefined, call: BackendCall): Promise<NodeView[]> {
    return ((await this.#of('nodes', namespace, call)) as { items: NodeView[] }).items;
  }

  async status(namespace: string | undefined, call: BackendCall): Promise<ServerStatus> {
    return (await this.#of('status', namespace, call)) as ServerStatus;
  }

  async access(namespace: string | undefined, call: BackendCall): Promise<Access> {
    return (await this.#of('access', namespace, call)) as Access;
  }

  async simulate(request: SimulationRequest, call: BackendCall): Promise<Simulation> {
    return (await this.#send('/meshkit/shards/simulate', call, JSON.stringify(request))) as Simulation;
  }

  async explain(
    { namespace, name, ...options }: ExplainRequest,
    call: BackendCall,
  ): Promise<ShardExplanation> {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(options))
      if (value !== undefined) query.set(key, String(value));
    const path = [namespace, name].map(encodeURIComponent).join('/');
    return (await this.#send(`/meshkit/shards/${path}/explain?${query}`, call)) as ShardExplanation;
  }

  async about(call: BackendCall): Promise<ServerInfo> {
    const { document, headers } = await this.#exchange('/openapi.json', call);
    const { info } = document as { info?: { version?: string } };
    const [, version] = /^meshkit-shards\/(\S+)$/.exec(String(headers.server ?? '')) ?? [];
    return { api: info?.version ?? 'unknown', version };
  }

  async diff(filter: ShardFilter, request: DiffRequest, call: BackendCall): Promise<DiffPage> {
    const { mode, from, to, cursor, limit } = request;
    const query = queryOf(filter);
    for (const [name, value] of Object.entries({ mode, from, to, cursor, pageSize: String(limit) })) {
      if (value !== undefined) query.set(name, value);
    }
    return (await this.#send(`/meshkit/shards/diff?${query}`, call)) as DiffPage;
  }

  async history(request: HistoryRequest, call: BackendCall): Promise<HistoryPage> {
    const { cursor, since, limit } = request;
    const [namespace, name] = [request.namespace, request.name].map(encodeURIComponent);
    const query = new URLSearchParams({ pageSize: String(limit) });
    if (cursor !== undefined) query.set('cursor', cursor);
    if (since !== undefined) query.set('since', since);
    return (await this.#send(`/meshkit/shards/${namespace}/${name}/history?${query}`, call)) as HistoryPage;
  }

  suspect(): void {
    this.#origin.suspect();
  }

  async close(): Promise<void> {
    await this.#origin.close();
  }

  #of(what: string, namespace: string | undefined, call: BackendCall): Promise<unknown> {
    const query = namespace === undefined ? '' : `?namespace=${encodeURIComponent(namespace)}`;
    return this.#send(`/meshkit/${what}${query}`, call);
  }

  /** `json`: to be posted. */
  async #send(path: string, call: BackendCall, json?: string): Promise<unknown> {
    return (await this.#exchange(path, call, json)).document;
  }

  async #exchange(path: string, { bearer, signal, timeoutMs }: BackendCall, json?: string) {
    const headers: Record<string, string> = { accept: 'application/json', 'user-agent': this.#userAgent };
    if (bearer !== undefined) headers.authorization = `Bearer ${bearer}`;
    if (json !== undefined) headers['content-type'] = 'application/json';
    const answer = await this.#origin.send({ path, headers, body: json, signal, timeoutMs });
    const { status, body, headers: received } = answer;
    const document = parsed(String(body));
    if (status !== 200) throw errorOfProblem(status, document, this.#origin.url);
    if (document === undefined) {
      const text = `${this.#origin.url} answered with something that is not JSON; is it a MeshKit API server?`;
      throw new ShardError('internal', text);
    }
    return { document, headers: received };
  }
}
