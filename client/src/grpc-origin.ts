import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import {
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import type { GetAccessResponse } from '@meshkit/proto/v1/access';
import { DiffMode, type DiffResponse } from '@meshkit/proto/v1/diff';
import type { ExplainResponse } from '@meshkit/proto/v1/explain';
import type { HistoryResponse } from '@meshkit/proto/v1/history';
import { type ShardFilter as FilterMessage, Phase } from '@meshkit/proto/v1/shard';
import {
  Consistency,
  type GetResponse,
  type ListNodesResponse,
  type ListResponse,
  ShardServiceClient,
} from '@meshkit/proto/v1/shard_service';
import type { SimulateResponse } from '@meshkit/proto/v1/simulate';
import type { GetStatusResponse } from '@meshkit/proto/v1/status';
import { OnExpired, WatchFrom, type WatchRequest, type WatchResponse } from '@meshkit/proto/v1/watch';
import { ShardError } from '@meshkit/shards/errors';
import type { ShardExplanation } from '@meshkit/shards/explain';
import type {
  DiffPage,
  DiffRequest,
  HistoryPage,
  HistoryRequest,
  ShardFilter,
  VersionVector,
} from '@meshkit/shards/repository';
import type { Access } from '@meshkit/shards/scope';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import type { Simulation, SimulationRequest } from '@meshkit/shards/simulate';
import { type ExplainRequest, MAX_CONNECTIONS, type ServerStatus, tooManyStreams } from './backend.ts';
import { statusView } from './grpc-about.ts';
import { errorOfStatus } from './grpc-error.ts';
import { diffPage, historyPage } from './grpc-history.ts';
import { explanationView, simulateMessage, simulationView } from './grpc-simulate-views.ts';
import { nodeView, shardView, watchMessage } from './grpc-views.ts';
import type { WatchMessage } from './watch-message.ts';
import type { WatchStreamRequest } from './watch-transport.ts';

export interface GrpcOriginOptions {
  /** `https://HOST:PORT`, or `HOST:PORT`. */
  server: string;
  /** PEM; absent: the authorities that Node knows. */
  ca?: string;
  /** For experiments only: whoever sits in between gets the token. */
  insecureSkipTlsVerify?: boolean;
  /** `name/version` of the caller. */
  userAgent?: string;
}

export interface GrpcCallOptions {
  /** Bearer token; absent: none is sent. */
  bearer?: string;
  signal?: AbortSignal;
  timeoutMs: number;
}

export interface GrpcPageRequest {
  pageSize: number;
  cursor?: string;
  minVersion?: string;
}

export interface GrpcPage {
  items: ShardView[];
  nextCursor?: string;
  versionVector: VersionVector;
  /** Absent on `keyset` pages. */
  resumeToken?: string;
  consistency: 'snapshot' | 'keyset';
}

const OPTIONS = {
  // Connections of our own, as with HTTP/2: nothing is shared with what else the process talks to.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
  // Whoever calls has a back-off of its own; ours must not keep it out longer than that.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.enable_retries': 0,
  'grpc.max_receive_message_length': 64 << 20,
  'grpc.enable_channelz': 0,
};

/**
 * grpc-js keeps to itself how many the server takes, and lets those beyond wait. Servers are advised to take no fewer
 * (RFC 9113, section 6.5.2), and many proxies take no more.
 */
const STREAMS_PER_CONNECTION = 100;

const ON_EXPIRED = { snapshot: OnExpired.UNSPECIFIED, diff: OnExpired.DIFF, fail: OnExpired.FAIL } as const;

type Answered<Response> = (error: ServiceError | null, response: Response) => void;

interface Channel {
  client: ShardServiceClient;
  /** Open now, on one connection. */
  streams: number;
}

/** One server by gRPC, over as many connections as its streams take. Every failure is a ShardError, or the signal's reason. */
export class GrpcOrigin {
  readonly #server: string;
  readonly #connect: () => ShardServiceClient;
  readonly #channels: Channel[] = [];
  #closed = false;

  constructor({ server, ca, insecureSkipTlsVerify, userAgent = 'meshkit-client' }: GrpcOriginOptions) {
    const url = URL.parse(server.includes('://') ? server : `https://${server}`);
    if (url?.protocol !== 'https:' || url.pathname !== '/' || url.search || url.hash) {
      throw new ShardError(
        'invalidArgument',
        `${server} is not the address of a gRPC server: write HOST:PORT`,
      );
    }
    this.#server = `${url.hostname}:${url.port || '443'}`;
    const address = url.hostname.replace(/^\[(.*)\]$/, '$1');
    const byAddress = isIP(address) !== 0;
    const trusted = credentials.createSsl(ca === undefined ? null : Buffer.from(ca), null, null, {
      rejectUnauthorized: insecureSkipTlsVerify !== true,
      checkServerIdentity: (_name, certificate) => checkServerIdentity(address, certificate),
    });
    const options = {
      ...OPTIONS,
      // grpc-js names its target in the TLS handshake, where Node allows no address (RFC 6066, section 3).
      ...(byAddress ? { 'grpc.ssl_target_name_override': 'address.invalid' } : {}),
      'grpc.primary_user_agent': userAgent,
    };
    this.#connect = () => new ShardServiceClient(this.#server, trusted, options);
  }

  async page(filter: ShardFilter, request: GrpcPageRequest, options: GrpcCallOptions): Promise<GrpcPage> {
    const { pageSize, cursor: pageToken = '', minVersion = '' } = request;
    const message = { filter: filterMessage(filter), pageSize, pageToken, minVersion };
    const answer = await this.#call<ListResponse>(options, (client, metadata, deadline, done) =>
      client.list(message, metadata, deadline, done),
    );
    const { shards, nextPageToken, versionVector, resumeToken, consistency } = answer;
    return {
      items: shards.map(shardView),
      nextCursor: nextPageToken || undefined,
      versionVector: versionVector ?? { position: '', namespaces: {} },
      resumeToken: resumeToken || undefined,
      consistency: consistency === Consistency.KEYSET ? 'keyset' : 'snapshot',
    };
  }

  /** Throws `notFound` when there is none. */
  async get(
    request: { namespace: string; name: string; minVersion?: string },
    options: GrpcCallOptions,
  ): Promise<ShardView> {
    const { shard } = await this.#call<GetResponse>(options, (client, metadata, deadline, done) =>
      client.get({ ...request, minVersion: request.minVersion ?? '' }, metadata, deadline, done),
    );
    if (shard) return shardView(shard);
    throw new ShardError('internal', `${this.#server} answered without a shard; is it a MeshKit API server?`);
  }

  async diff(filter: ShardFilter, request: DiffRequest, options: GrpcCallOptions): Promise<DiffPage> {
    const { mode, from = '', to = '', cursor: pageToken = '', limit: pageSize } = request;
    const message = {
      filter: filterMessage(filter),
      from,
      to,
      mode: mode === 'log' ? DiffMode.LOG : DiffMode.NET,
      pageSize,
      pageToken,
    };
    const answer = await this.#call<DiffResponse>(options, (client, metadata, deadline, done) =>
      client.diff(message, metadata, deadline, done),
    );
    return diffPage(answer, mode);
  }

  /** Throws `notFound` when nothing is known of such a shard. */
  async history(request: HistoryRequest, options: GrpcCallOptions): Promise<HistoryPage> {
    const { namespace, name, cursor: pageToken = '', since = '', limit: pageSize } = request;
    const message = { namespace, name, pageSize, pageToken, since };
    const answer = await this.#call<HistoryResponse>(options, (client, metadata, deadline, done) =>
      client.history(message, metadata, deadline, done),
    );
    return historyPage(answer);
  }

  async nodes(namespace: string | undefined, options: GrpcCallOptions): Promise<NodeView[]> {
    const { nodes } = await this.#call<ListNodesResponse>(options, (client, metadata, deadline, done) =>
      client.listNodes({ namespace }, metadata, deadline, done),
    );
    return nodes.map(nodeView);
  }

  async status(namespace: string | undefined, options: GrpcCallOptions): Promise<ServerStatus> {
    return statusView(
      await this.#call<GetStatusResponse>(options, (client, metadata, deadline, done) =>
        client.getStatus({ namespace }, metadata, deadline, done),
      ),
    );
  }

  access(namespace: string | undefined, options: GrpcCallOptions): Promise<Access> {
    return this.#call<GetAccessResponse>(options, (client, metadata, deadline, done) =>
      client.getAccess({ namespace }, metadata, deadline, done),
    );
  }

  async simulate(request: SimulationRequest, options: GrpcCallOptions): Promise<Simulation> {
    const message = simulateMessage(request);
    return simulationView(
      await this.#call<SimulateResponse>(options, (client, metadata, deadline, done) =>
        client.simulate(message, metadata, deadline, done),
      ),
    );
  }

  async explain(request: ExplainRequest, options: GrpcCallOptions): Promise<ShardExplanation> {
    const { namespace, name, minVersion = '', maxItems = 0 } = request;
    const message = { namespace, name, minVersion, maxItems };
    return explanationView(
      await this.#call<ExplainResponse>(options, (client, metadata, deadline, done) =>
        client.explain(message, metadata, deadline, done),
      ),
    );
  }

  /** One stream; see `WatchTransport`. */
  async *watch(request: WatchStreamRequest): AsyncGenerator<WatchMessage, void> {
    const { signal, bearer } = request;
    signal.throwIfAborted();
    const channel = this.#channel();
    const stream = channel.client.watch(watchRequest(request), metadataOf(bearer));
    channel.streams += 1;
    const abort = (): void => stream.cancel();
    signal.addEventListener('abort', abort, { once: true });
    // A stream that nobody reads any more fails once more, when it has been cancelled.
    stream.on('error', () => undefined);
    try {
      yield* messagesOf(stream);
    } catch (error) {
      signal.throwIfAborted();
      throw errorOfStatus(error, this.#server);
    } finally {
      signal.removeEventListener('abort', abort);
      stream.cancel();
      channel.streams -= 1;
    }
    throw new ShardError('unavailable', `${this.#server} ended the stream`);
  }

  close(): void {
    this.#closed = true;
    for (const { client } of this.#channels) client.close();
  }

  /** The first with room for a further stream. */
  #channel(): Channel {
    if (this.#closed) throw new ShardError('unavailable', 'the client is closed');
    const known = this.#channels.find(({ streams }) => streams < STREAMS_PER_CONNECTION);
    if (known) return known;
    if (this.#channels.length >= MAX_CONNECTIONS) throw tooManyStreams(this.#server);
    const channel = { client: this.#connect(), streams: 0 };
    this.#channels.push(channel);
    return channel;
  }

  async #call<Response>(
    { bearer, signal, timeoutMs }: GrpcCallOptions,
    start: (
      client: ShardServiceClient,
      metadata: Metadata,
      options: { deadline: number },
      done: Answered<Response>,
    ) => ClientUnaryCall,
  ): Promise<Response> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const channel = this.#channel();
    const deadline = { deadline: Date.now() + timeoutMs };
    const call = start(channel.client, metadataOf(bearer), deadline, (error, response) => {
      if (error) reject(error);
      else resolve(response);
    });
    channel.streams += 1;
    const abort = (): void => call.cancel();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await promise;
    } catch (error) {
      signal?.throwIfAborted();
      throw errorOfStatus(error, this.#server);
    } finally {
      signal?.removeEventListener('abort', abort);
      channel.streams -= 1;
    }
  }
}

async function* messagesOf(stream: ClientReadableStream<WatchResponse>): AsyncGenerator<WatchMessage, void> {
  for await (const response of stream) {
    const message = watchMessage(response as WatchResponse);
    if (message) yield message;
  }
}

function metadataOf(bearer: string | undefined): Metadata {
  const metadata = new Metadata();
  if (bearer !== undefined) metadata.set('authorization', `Bearer ${bearer}`);
  return metadata;
}

function watchRequest(request: WatchStreamRequest): WatchRequest {
  const { filter, resumeToken = '', from, onExpired, allowCoalescing = false, known = [] } = request;
  return {
    filter: filterMessage(filter),
    resumeToken,
    from: from === 'now' ? WatchFrom.NOW : WatchFrom.UNSPECIFIED,
    onExpired: ON_EXPIRED[onExpired ?? 'snapshot'],
    allowCoalescing,
    known: Array.from(known, ({ namespace, name, uid, generation, version }) => {
      return { namespace, name, uid, generation: BigInt(generation), version: BigInt(version) };
    }),
  };
}

function filterMessage({ namespace, shardSet, owners, phases, zones, search }: ShardFilter): FilterMessage {
  return {
    namespace,
    shardSet,
    owners: [...(owners ?? [])],
    phases: (phases ?? []).map(phaseMessage),
    zones: [...(zones ?? [])],
    search,
  };
}

function phaseMessage(phase: string): Phase {
  const found = Phase[phase.toUpperCase() as keyof typeof Phase];
  if (found && found !== Phase.UNSPECIFIED && found !== Phase.UNRECOGNIZED) return found;
  const detail = 'not a status';
  throw new ShardError('invalidArgument', `status: "${phase}" is ${detail}`, {
    errors: [{ pointer: 'filter.phases', detail }],
  });
}
