import { ShardError } from '@meshkit/shards/errors';
import type { DiffRequest, HistoryRequest, ShardFilter } from '@meshkit/shards/repository';
import type { SimulationRequest } from '@meshkit/shards/simulate';
import type { Backend, BackendCall, ExplainRequest, PageRequest } from './backend.ts';
import type { GrpcOrigin, GrpcOriginOptions } from './grpc-origin.ts';
import type { WatchStreamRequest } from './watch-transport.ts';

/** gRPC, loaded when it is first used: it takes longer to load than most programs that do not use it take to run. */
export class GrpcBackend implements Backend {
  readonly differences = true;
  readonly #options: GrpcOriginOptions;
  #origin: Promise<GrpcOrigin> | undefined;
  #closed = false;

  constructor(options: GrpcOriginOptions) {
    this.#options = options;
  }

  async page(filter: ShardFilter, request: PageRequest, call: BackendCall) {
    return (await this.#connection()).page(filter, request, call);
  }

  async get(request: { namespace: string; name: string; minVersion?: string }, call: BackendCall) {
    return (await this.#connection()).get(request, call);
  }

  async diff(filter: ShardFilter, request: DiffRequest, call: BackendCall) {
    return (await this.#connection()).diff(filter, request, call);
  }

  async history(request: HistoryRequest, call: BackendCall) {
    return (await this.#connection()).history(request, call);
  }

  async nodes(namespace: string | undefined, call: BackendCall) {
    return (await this.#connection()).nodes(namespace, call);
  }

  async about(): Promise<never> {
    const how = "ask for its status, or by the transport 'sse'";
    throw new ShardError('invalidArgument', `the gRPC surface does not say to everybody what it is: ${how}`);
  }

  async status(namespace: string | undefined, call: BackendCall) {
    return (await this.#connection()).status(namespace, call);
  }

  async access(namespace: string | undefined, call: BackendCall) {
    return (await this.#connection()).access(namespace, call);
  }

  async simulate(request: SimulationRequest, call: BackendCall) {
    return (await this.#connection()).simulate(request, call);
  }

  async explain(request: ExplainRequest, call: BackendCall) {
    return (await this.#connection()).explain(request, call);
  }

  async *watch(request: WatchStreamRequest) {
    yield* (await this.#connection()).watch(request);
  }

  async close(): Promise<void> {
    this.#closed = true;
    // One that could not be made has said so to whoever asked for it.
    const origin = await this.#origin?.catch(() => undefined);
    origin?.close();
  }

  async #connection(): Promise<GrpcOrigin> {
    if (this.#closed) throw new ShardError('unavailable', 'the client is closed');
    this.#origin ??= import('./grpc-origin.ts').then(({ GrpcOrigin }) => new GrpcOrigin(this.#options));
    return this.#origin;
  }
}
