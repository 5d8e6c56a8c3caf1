import type { DiffRequest, HistoryRequest, ShardFilter } from '@meshkit/shards/repository';
import type { Backend, BackendCall, PageRequest } from './backend.ts';
import type { GrpcOrigin, GrpcOriginOptions } from './grpc-origin.ts';
import type { WatchStreamRequest } from './watch-transport.ts';

/** gRPC, loaded when it is first used: it takes longer to load than most programs that do not use it take to run. */
export class GrpcBackend implements Backend {
  readonly differences = true;
  readonly #options: GrpcOriginOptions;
  #origin: Promise<GrpcOrigin> | undefined;

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

  async *watch(request: WatchStreamRequest) {
    yield* (await this.#connection()).watch(request);
  }

  async close(): Promise<void> {
    (await this.#origin)?.close();
  }

  #connection(): Promise<GrpcOrigin> {
    this.#origin ??= import('./grpc-origin.ts').then(({ GrpcOrigin }) => new GrpcOrigin(this.#options));
    return this.#origin;
  }
}
