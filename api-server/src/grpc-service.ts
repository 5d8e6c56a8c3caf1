import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type MethodDefinition,
  type ServerWritableStream,
  type ServiceDefinition,
  status as statusCodes,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  Consistency,
  ListNodesResponse,
  ListResponse,
  ShardServiceService,
} from '@meshkit/proto/v1/shard_service';
import { ShardError } from '@meshkit/shards/errors';
import { parseShardFilter } from '@meshkit/shards/filter';
import type { ShardRepository } from '@meshkit/shards/repository';
import { servedNode } from '@meshkit/shards/shard-view';
import { boundedSimulation } from '@meshkit/shards/simulate';
import { accessOf } from './access-operation.ts';
import { explainShard } from './explain-operation.ts';
import { accessBytes, statusBytes } from './grpc-about.ts';
import {
  type Admitted,
  type Gates,
  GrpcCall,
  http2StreamOf,
  type Method,
  RequestBytes,
} from './grpc-call.ts';
import { GrpcEncodings } from './grpc-encoding.ts';
import { explainRequest, explanationBytes } from './grpc-explain.ts';
import { diffBytes, historyBytes } from './grpc-history.ts';
import {
  accessRequest,
  diffRequest,
  getRequest,
  historyRequest,
  listRequest,
  nodesRequest,
  statusRequest,
  watchRequest,
} from './grpc-request.ts';
import { simulateRequest, simulationBytes } from './grpc-simulate.ts';
import { GrpcSink } from './grpc-sink.ts';
import { bufferOf, EncodedShards, nodeMessage, vectorMessage } from './grpc-views.ts';
import { listPage, reach } from './list-page.ts';
import { PLANS, simulated } from './simulate-operation.ts';
import { serverStatus } from './status-operation.ts';
import { Turns } from './turns.ts';
import { cutUnread, type Patience } from './unread.ts';

export interface GrpcServiceOptions extends Gates {
  repository: ShardRepository;
  /** The one of REST; absent: not shared with anybody. */
  plans?: Turns;
  /** Absent: as documented. */
  patience?: Patience;
}

/** Most clients take no message above 4 MiB; a page that would be larger is cut shorter. */
const MAX_PAGE_BYTES = 3 << 20;

/** A method that answers once. */
interface UnaryMethod<Request> extends Method<Request> {
  /** `signal` aborts when the caller has gone or its deadline has come. */
  answer(
    request: Request,
    signal: AbortSignal,
    admitted: Admitted<Request>,
  ): Promise<{ bytes: Uint8Array; count: number }>;
}

/** meshkit.shards.v1.ShardService over a repository: the same gates, pages, views and errors as REST. */
export function shardService(options: GrpcServiceOptions): {
  definition: ServiceDefinition;
  implementation: UntypedServiceImplementation;
} {
  const { plans = new Turns(PLANS) } = options;
  const shards = new EncodedShards();
  return {
    definition: asBytes(ShardServiceService),
    implementation: {
      list: unary(options, list(options, shards)),
      get: unary(options, get(options, shards)),
      listNodes: unary(options, listNodes(options)),
      diff: unary(options, diff(options)),
      history: unary(options, history(options)),
      simulate: unary(options, simulate({ ...options, plans })),
      explain: unary(options, explain({ ...options, plans })),
      getStatus: unary(options, status(options)),
      getAccess: unary(options, ACCESS),
      watch: watch(options),
    },
  };
}

/** Bytes in, bytes out: requests are read where their faults can be answered, and what many get is encoded once. */
function asBytes(service: typeof ShardServiceService): ServiceDefinition {
  const requestDeserialize = (bytes: Buffer) => new RequestBytes(bytes);
  const definition = Object.entries(service).map(([name, method]) => {
    const raw = { ...method, requestDeserialize, responseSerialize: bufferOf };
    return [name, raw as unknown as MethodDefinition<RequestBytes, Uint8Array>];
  });
  return Object.fromEntries(definition) as ServiceDefinition;
}

function unary<Request>(
  options: GrpcServiceOptions,
  method: UnaryMethod<Request>,
): handleUnaryCall<RequestBytes, Uint8Array> {
  return (surface, callback) => {
    const call = new GrpcCall(options, method, surface);
    const gone = new AbortController();
    const answer = async (): Promise<Uint8Array> => {
      const admitted = await call.admit(surface.request.take());
      const { request, stale } = admitted;
      const { bytes, count } = await method.answer(request, gone.signal, admitted);
      call.access.count = count;
      if (stale && !surface.cancelled) surface.sendMetadata(staleMetadata());
      return bytes;
    };
    // Also after the answer, when there is nothing left to say.
    surface.on('cancelled', () => {
      gone.abort();
      call.cancelled();
    });
    answer().then(
      (bytes) => {
        call.record(statusCodes.OK);
        callback(null, bytes);
        const stream = http2StreamOf(surface);
        if (stream) cutUnread(stream, bytes.length, options.patience);
      },
      (error: unknown) => {
        if (surface.cancelled) return;
        const status = call.failed(error);
        call.record(status.code);
        callback(status);
      },
    );
  };
}

/** An answer from memory while the cluster is out of reach is true, but perhaps of the past. */
function staleMetadata(): Metadata {
  const metadata = new Metadata();
  metadata.set('mesh-cache', 'stale');
  return metadata;
}

function list(
  source: GrpcServiceOptions,
  shards: EncodedShards,
): UnaryMethod<ReturnType<typeof listRequest>> {
  return {
    op: 'list',
    scope: 'read',
    read: listRequest,
    target: ({ namespace }) => ({ namespace }),
    async answer({ pageSize, cursor, minVersion, ...conditions }, signal) {
      const filter = parseShardFilter(conditions);
      for (let size = pageSize; ; ) {
        const page = await listPage(source, filter, { pageSize: size, cursor, minVersion }, signal);
        const { items, nextCursor = '', resumeToken, consistency, versionVector } = page;
        const parts = items.map((item) => shards.of(item));
        const bytes = parts.reduce((sum, { length }) => sum + length, 0);
        if (bytes > MAX_PAGE_BYTES && size > 1) {
          size = Math.max(1, Math.floor(Math.min(size, items.length) * 0.9 * (MAX_PAGE_BYTES / bytes)));
          continue;
        }
        const rest: ListResponse = {
          shards: [],
          nextPageToken: nextCursor,
          versionVector: vectorMessage(versionVector),
          resumeToken: resumeToken?.() ?? '',
          consistency: consistency === 'keyset' ? Consistency.KEYSET : Consistency.SNAPSHOT,
        };
        // Messages behind each other are one message with the fields of both.
        const all = [...parts, ListResponse.encode(rest).finish()];
        return { bytes: Buffer.concat(all), count: items.length };
      }
    },
  };
}

function get(source: GrpcServiceOptions, shards: EncodedShards): UnaryMethod<ReturnType<typeof getRequest>> {
  return {
    op: 'get',
    scope: 'read',
    read: getRequest,
    target: ({ namespace, name }) => ({ namespace, name }),
    async answer({ namespace, name, minVersion }, signal) {
      if (minVersion !== undefined) await reach(source, minVersion, signal, '/query/minVersion');
      const record = await source.repository.get(namespace, name);
      if (record) return { bytes: shards.of(record), count: 1 };
      throw new ShardError('notFound', `there is no shard ${name} in namespace ${namespace}`, {
        errors: [{ pointer: '/path/name', detail: 'no such shard' }],
      });
    },
  };
}

function listNodes({ repository }: GrpcServiceOptions): UnaryMethod<ReturnType<typeof nodesRequest>> {
  return {
    op: 'nodes',
    scope: 'read',
    read: nodesRequest,
    target: ({ namespace }) => ({ namespace }),
    async answer({ namespace }) {
      const nodes = (await repository.nodes(namespace)).map((node) => nodeMessage(servedNode(node)));
      return { bytes: ListNodesResponse.encode({ nodes }).finish(), count: nodes.length };
    },
  };
}

function diff({ repository }: GrpcServiceOptions): UnaryMethod<ReturnType<typeof diffRequest>> {
  return {
    op: 'diff',
    scope: 'observe',
    read: diffRequest,
    target: ({ namespace }) => ({ namespace }),
    async answer({ from, to, mode, pageSize, cursor, ...conditions }, signal) {
      const filter = parseShardFilter(conditions);
      const request = { from, to, mode, cursor };
      return fitted(pageSize, async (limit) => {
        const page = await repository.diff(filter, { ...request, limit }, signal);
        return { bytes: diffBytes(page), count: page.items.length };
      });
    },
  };
}

function history({ repository }: GrpcServiceOptions): UnaryMethod<ReturnType<typeof historyRequest>> {
  return {
    op: 'history',
    scope: 'observe',
    read: historyRequest,
    target: ({ namespace, name }) => ({ namespace, name }),
    async answer({ namespace, name, pageSize, cursor, since }, signal) {
      return fitted(pageSize, async (limit) => {
        const page = await repository.history({ namespace, name, limit, cursor, since }, signal);
        return { bytes: historyBytes(page), count: page.items.length };
      });
    },
  };
}

/** A page that most clients take: asked for again with fewer items where it is too large. */
async function fitted(
  pageSize: number,
  answer: (limit: number) => Promise<{ bytes: Uint8Array; count: number }>,
): Promise<{ bytes: Uint8Array; count: number }> {
  for (let size = pageSize; ; ) {
    const page = await answer(size);
    const { length } = page.bytes;
    if (length <= MAX_PAGE_BYTES || size === 1) return page;
    size = Math.max(1, Math.floor(Math.min(size, page.count) * 0.9 * (MAX_PAGE_BYTES / length)));
  }
}

function simulate(
  options: GrpcServiceOptions & { plans: Turns },
): UnaryMethod<ReturnType<typeof simulateRequest>> {
  return {
    op: 'simulate',
    scope: 'observe',
    read: simulateRequest,
    target: ({ namespace }) => ({ namespace }),
    async answer(request, signal) {
      const whole = await simulated(options, request, signal);
      for (let size = request.maxItems; ; size = Math.floor(size / 2)) {
        const simulation = boundedSimulation(whole, size);
        const bytes = simulationBytes(simulation);
        const count = simulation.sets.reduce((sum, { moves }) => sum + moves.length, 0);
        if (bytes.length <= MAX_PAGE_BYTES || size <= 1) return { bytes, count };
      }
    },
  };
}

function explain(
  options: GrpcServiceOptions & { plans: Turns },
): UnaryMethod<ReturnType<typeof explainRequest>> {
  return {
    op: 'explain',
    scope: 'read',
    read: explainRequest,
    target: ({ namespace, name }) => ({ namespace, name }),
    async answer(request, signal, { refusal }) {
      const explanation = await explainShard(options, request, await refusal('observe'), signal);
      return { bytes: explanationBytes(explanation), count: explanation.nodes.length };
    },
  };
}

function status(options: GrpcServiceOptions): UnaryMethod<ReturnType<typeof statusRequest>> {
  return {
    op: 'status',
    scope: 'read',
    read: statusRequest,
    target: ({ namespace }) => ({ namespace }),
    async answer(_request, signal) {
      return { bytes: statusBytes(await serverStatus(options, signal)), count: 1 };
    },
  };
}

const ACCESS: UnaryMethod<ReturnType<typeof accessRequest>> = {
  op: 'access',
  read: accessRequest,
  target: ({ namespace }) => ({ namespace }),
  async answer({ namespace }, _signal, admitted) {
    const access = await accessOf(admitted, namespace);
    return { bytes: accessBytes(access), count: access.scopes.length };
  },
};

const WATCH: Method<ReturnType<typeof watchRequest>> = {
  op: 'watch',
  scope: 'observe',
  read: watchRequest,
  target: ({ namespace }) => ({ namespace }),
};

function watch(options: GrpcServiceOptions): handleServerStreamingCall<RequestBytes, Uint8Array> {
  const encodings = new GrpcEncodings();
  return (surface) => {
    const call = new GrpcCall(options, WATCH, surface);
    surface.once('close', () => call.cancelled());
    const open = async (): Promise<void> => {
      const { request, caller, transport, stale } = await call.admit(surface.request.take());
      const { resumeToken, from, onExpired, allowCoalescing, known, ...conditions } = request;
      const filter = parseShardFilter(conditions);
      if (stale && !surface.cancelled) surface.sendMetadata(staleMetadata());
      const sink = new GrpcSink(surface, call, encodings.for(transport));
      const started = { filter, resumeToken, from, onExpired, allowCoalescing, known };
      const watching = await options.repository.watch(started, sink, caller);
      if (surface.destroyed) watching.close();
      else surface.once('close', () => watching.close());
    };
    open().catch((error: unknown) => refuse(surface, call, error));
  };
}

function refuse(
  surface: ServerWritableStream<RequestBytes, Uint8Array>,
  call: GrpcCall<unknown>,
  error: unknown,
): void {
  if (surface.destroyed) return;
  const status = call.failed(error);
  call.record(status.code);
  surface.emit('error', status);
}
