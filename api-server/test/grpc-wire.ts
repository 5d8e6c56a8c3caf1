import { checkServerIdentity } from 'node:tls';
import {
  type ChannelCredentials,
  type ChannelOptions,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo } from '@meshkit/proto/rpc/error_details';
import { Status } from '@meshkit/proto/rpc/status';
import { GetAccessRequest, type GetAccessResponse } from '@meshkit/proto/v1/access';
import { DiffRequest, type DiffResponse } from '@meshkit/proto/v1/diff';
import { ExplainRequest, type ExplainResponse } from '@meshkit/proto/v1/explain';
import { HistoryRequest, type HistoryResponse } from '@meshkit/proto/v1/history';
import {
  type DeepPartial,
  GetRequest,
  type GetResponse,
  ListNodesRequest,
  type ListNodesResponse,
  ListRequest,
  type ListResponse,
  ShardServiceClient,
} from '@meshkit/proto/v1/shard_service';
import { SimulateRequest, type SimulateResponse } from '@meshkit/proto/v1/simulate';
import { GetStatusRequest, type GetStatusResponse } from '@meshkit/proto/v1/status';
import { WatchRequest, type WatchResponse } from '@meshkit/proto/v1/watch';
import { CA } from './running-server.ts';

/** How a client trusts a server of `startServer`. */
export function trusting(): { creds: ChannelCredentials; options: ChannelOptions } {
  const creds = credentials.createSsl(Buffer.from(CA), null, null, {
    checkServerIdentity: (_name, certificate) => checkServerIdentity('127.0.0.1', certificate),
  });
  const options = {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    // Without it grpc-js puts the address into the TLS handshake as a name, which Node refuses.
    'grpc.ssl_target_name_override': 'address.invalid',
  };
  return { creds, options };
}

/** What a failed call says. */
export interface Failure {
  status: number;
  message: string;
  /** ErrorInfo. */
  reason?: string;
  domain?: string;
  metadata: Record<string, string>;
  violations: { field: string; description: string }[];
  /** RetryInfo, seconds. */
  retryAfter?: number;
}

export type Outcome<T> = { ok: T } | { failure: Failure };

/** A bare grpc-js client, so that a test sees what is on the wire and not what our own client makes of it. */
export class GrpcWire {
  readonly client: ShardServiceClient;

  constructor(address: string, options: Record<string, number> = {}) {
    const { creds, options: own } = trusting();
    this.client = new ShardServiceClient(address, creds, { ...own, ...options });
  }

  list(request: DeepPartial<ListRequest>, token?: string): Promise<Outcome<ListResponse>> {
    const message = ListRequest.fromPartial(request);
    return outcome((done) => this.client.list(message, metadata(token), { deadline: soon() }, done));
  }

  get(request: DeepPartial<GetRequest>, token?: string): Promise<Outcome<GetResponse>> {
    const message = GetRequest.fromPartial(request);
    return outcome((done) => this.client.get(message, metadata(token), { deadline: soon() }, done));
  }

  nodes(request: DeepPartial<ListNodesRequest>, token?: string): Promise<Outcome<ListNodesResponse>> {
    const message = ListNodesRequest.fromPartial(request);
    return outcome((done) => this.client.listNodes(message, metadata(token), { deadline: soon() }, done));
  }

  status(request: DeepPartial<GetStatusRequest>, token?: string): Promise<Outcome<GetStatusResponse>> {
    const message = GetStatusRequest.fromPartial(request);
    return outcome((done) => this.client.getStatus(message, metadata(token), { deadline: soon() }, done));
  }

  access(request: DeepPartial<GetAccessRequest>, token?: string): Promise<Outcome<GetAccessResponse>> {
    const message = GetAccessRequest.fromPartial(request);
    return outcome((done) => this.client.getAccess(message, metadata(token), { deadline: soon() }, done));
  }

  explain(request: DeepPartial<ExplainRequest>, token?: string): Promise<Outcome<ExplainResponse>> {
    const message = ExplainRequest.fromPartial(request);
    return outcome((done) => this.client.explain(message, metadata(token), { deadline: soon() }, done));
  }

  history(request: DeepPartial<HistoryRequest>, token?: string): Promise<Outcome<HistoryResponse>> {
    const message = HistoryRequest.fromPartial(request);
    return outcome((done) => this.client.history(message, metadata(token), { deadline: soon() }, done));
  }

  diff(request: DeepPartial<DiffRequest>, token?: string): Promise<Outcome<DiffResponse>> {
    const message = DiffRequest.fromPartial(request);
    return outcome((done) => this.client.diff(message, metadata(token), { deadline: soon() }, done));
  }

  simulate(request: DeepPartial<SimulateRequest>, token?: string): Promise<Outcome<SimulateResponse>> {
    const message = SimulateRequest.fromPartial(request);
    return outcome((done) => this.client.simulate(message, metadata(token), { deadline: soon() }, done));
  }

  watch(
    request: DeepPartial<WatchRequest>,
    token?: string,
    options: { deadline?: number; requestedProtocol?: string } = {},
  ): Stream {
    const message = WatchRequest.fromPartial(request);
    const sent = metadata(token);
    if (options.requestedProtocol) sent.set('mesh-requested-protocol', options.requestedProtocol);
    return new Stream(this.client.watch(message, sent, { deadline: options.deadline }));
  }

  close(): void {
    this.client.close();
  }
}

/** A stream and what came out of it so far. */
export class Stream {
  readonly messages: WatchResponse[] = [];
  readonly raw: ClientReadableStream<WatchResponse>;
  /** Resolves when the stream is over. */
  readonly ended: Promise<Failure | undefined>;
  #taken = 0;
  #waiting: (() => void) | undefined;
  #over = false;

  constructor(raw: ClientReadableStream<WatchResponse>) {
    this.raw = raw;
    const { promise, resolve } = Promise.withResolvers<Failure | undefined>();
    this.ended = promise;
    let failure: Failure | undefined;
    raw.on('data', (message: WatchResponse) => {
      this.messages.push(message);
      this.#waiting?.();
    });
    raw.on('error', (error: ServiceError) => {
      failure = failureOf(error);
    });
    raw.on('close', () => {
      this.#over = true;
      this.#waiting?.();
      resolve(failure);
    });
  }

  /** The next message that was not taken yet; throws when there is none within 10 s, or no more. */
  async next(): Promise<WatchResponse> {
    const deadline = performance.now() + 10_000;
    while (this.messages.length <= this.#taken) {
      if (this.#over) throw new Error(`the stream ended: ${JSON.stringify(await this.ended)}`);
      if (performance.now() > deadline) throw new Error('no message within 10 s');
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting = resolve;
      const timer = setTimeout(resolve, 1_000);
      await promise;
      clearTimeout(timer);
    }
    this.#taken += 1;
    return this.messages[this.#taken - 1] as WatchResponse;
  }

  /** Everything up to and including the first message of that kind. */
  async until(kind: NonNullable<WatchResponse['message']>['$case']): Promise<WatchResponse[]> {
    const found: WatchResponse[] = [];
    for (;;) {
      const message = await this.next();
      found.push(message);
      if (message.message?.$case === kind) return found;
    }
  }

  cancel(): void {
    this.raw.cancel();
  }
}

function soon(): number {
  return Date.now() + 10_000;
}

export function metadata(token?: string): Metadata {
  const sent = new Metadata();
  if (token !== undefined) sent.set('authorization', `Bearer ${token}`);
  return sent;
}

function outcome<T>(
  start: (done: (error: ServiceError | null, response: T) => void) => unknown,
): Promise<Outcome<T>> {
  const { promise, resolve } = Promise.withResolvers<Outcome<T>>();
  start((error, response) => resolve(error ? { failure: failureOf(error) } : { ok: response }));
  return promise;
}

/** Decodes `grpc-status-details-bin`, whose status and message must be those of the call. */
export function failureOf(error: ServiceError): Failure {
  const failure: Failure = { status: error.code, message: error.details, metadata: {}, violations: [] };
  const [bytes] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!Buffer.isBuffer(bytes)) return failure;
  const { code, message, details } = Status.decode(bytes);
  if (code !== error.code || message !== error.details) throw new Error('details of another status');
  for (const { typeUrl, value } of details) {
    const type = typeUrl.split('.').at(-1);
    if (type === 'ErrorInfo') Object.assign(failure, ErrorInfo.decode(value));
    if (type === 'BadRequest') failure.violations = BadRequest.decode(value).fieldViolations;
    if (type === 'RetryInfo') failure.retryAfter = Number(RetryInfo.decode(value).retryDelay?.seconds);
  }
  return failure;
}
