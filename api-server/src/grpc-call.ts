import type { ServerHttp2Stream } from 'node:http2';
import { type Metadata, type StatusObject, status as statusCodes } from '@grpc/grpc-js';
import type { Log } from '@meshkit/crds/log';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { Scope, Target } from '@meshkit/shards/scope';
import type { WatchCaller } from '@meshkit/shards/watch';
import type { Span } from '@opentelemetry/api';
import { type AccessRecord, type AccessRecorder, noteFailure } from './access-record.ts';
import { type Authorizer, refusalOf } from './access-review.ts';
import { grpcStatus } from './grpc-status.ts';
import type { CacheHealth } from './kubernetes-repository.ts';
import type { Transport } from './operation.ts';
import { shardErrorOf } from './problem-reply.ts';
import { transportOf } from './protocol.ts';
import type { RateLimits } from './rate-limits.ts';
import type { Authenticator, Identity } from './token-review.ts';

/** The gates that every call passes, the same as those of REST. */
export interface Gates {
  authenticator: Pick<Authenticator, 'authenticate'>;
  authorizer: Pick<Authorizer, 'require'>;
  limits: Pick<RateLimits, 'request'>;
  cacheHealth: () => CacheHealth;
  recorder: AccessRecorder;
  clock: Clock;
  log: Log;
}

/** What a method says of itself; it is admitted before it answers. */
export interface Method<Request> {
  /** Short name for logs and metrics; the same as that of the REST operation. */
  op: string;
  /** Absent: whoever is known may call it; see `Operation`. */
  scope?: Scope;
  /** Throws `invalidArgument`. */
  read(bytes: Uint8Array): Request;
  target(request: Request): Target;
}

export interface Admitted<Request> {
  request: Request;
  identity: Identity;
  caller: WatchCaller;
  /** The refusal when the caller does not have this scope on the same target; rejects when nobody can say. */
  refusal(scope: Scope): Promise<ShardError | undefined>;
  transport: Transport;
  /** What is served may be old: kube-apiserver is out of reach. */
  stale: boolean;
}

/** A client's timer starts before ours, so that it is the client who ends a late call; that is no change of mind. */
const CLIENT_FIRST_MS = 50;

/** What grpc-js gives to every handler. */
interface Surface {
  metadata: Metadata;
  getDeadline(): Date | number;
}

/** One call from its arrival to its one line in the access log. */
export class GrpcCall<Request> {
  readonly access: AccessRecord;
  readonly #gates: Gates;
  readonly #method: Method<Request>;
  readonly #surface: Surface;
  readonly #arrivedAt: number;
  readonly #span: Span;
  #recorded = false;

  constructor(gates: Gates, method: Method<Request>, surface: Surface) {
    const { op, scope } = method;
    this.#gates = gates;
    this.#method = method;
    this.#surface = surface;
    this.#arrivedAt = gates.clock.monotonic();
    this.#span = gates.recorder.begin(textMetadata(surface.metadata));
    this.access = { op, transport: 'grpc', scope, decision: 'none' };
  }

  /** Who is it, how much already, is it well-formed, may they, can we serve; in the order of REST. */
  async admit(bytes: Uint8Array): Promise<Admitted<Request>> {
    const { authenticator, authorizer, limits, recorder, cacheHealth } = this.#gates;
    const { scope } = this.#method;
    const authorization = textOf(this.#surface.metadata, 'authorization');
    const identity = await authenticator.authenticate(authorization);
    this.access.user = identity.user;
    limits.request(identity);
    const transport = this.#transport();
    recorder.downgraded(transport);
    const request = this.#method.read(bytes);
    const target = this.#method.target(request);
    Object.assign(this.access, target);
    const review = async (known: Identity) => {
      if (scope !== undefined) await authorizer.require(known, scope, target);
    };
    await review(identity);
    this.access.decision = 'allow';
    const health = scope === undefined ? {} : cacheHealth();
    if (health.cold) throw new ShardError('unavailable', health.cold, { reason: 'cacheCold' });
    const check = async () => review(await authenticator.authenticate(authorization));
    const caller = { key: identity.user, check };
    const refusal = (other: Scope) => refusalOf(authorizer, identity, other, target);
    return { request, identity, caller, refusal, transport, stale: health.stale !== undefined };
  }

  /** The status that the call ends with. */
  failed(error: unknown): StatusObject {
    const { log } = this.#gates;
    const { op } = this.#method;
    const known = shardErrorOf(error, (cause) => log.error({ err: cause, op }, 'call failed'));
    noteFailure(this.access, known);
    return grpcStatus(known, op);
  }

  /** The client went away, or its deadline has come. */
  cancelled(): void {
    const late = Number(this.#surface.getDeadline()) - CLIENT_FIRST_MS <= Date.now();
    if (late) this.access.code = 'timeout';
    this.record(late ? statusCodes.DEADLINE_EXCEEDED : statusCodes.CANCELLED);
  }

  /** Once; later ones are passed over. */
  record(status: number): void {
    if (this.#recorded) return;
    this.#recorded = true;
    const durationMs = this.#gates.clock.monotonic() - this.#arrivedAt;
    const outcome = { status: statusCodes[status] ?? String(status), protocol: 'h2', durationMs };
    this.#gates.recorder.record(this.access, outcome, this.#span);
  }

  /** grpc-js speaks HTTP/2 only. */
  #transport(): Transport {
    const requested = textOf(this.#surface.metadata, 'mesh-requested-protocol');
    const headers = requested === undefined ? {} : { 'mesh-requested-protocol': requested };
    return transportOf({ httpVersion: '2.0', httpVersionMajor: 2, headers });
  }
}

/** What grpc-js has below a call, and shows nobody. */
export function http2StreamOf(surface: object): ServerHttp2Stream | undefined {
  const { call } = surface as { call?: { stream?: ServerHttp2Stream } };
  return call?.stream;
}

/**
 * The bytes of a request, which can be taken once. grpc-js keeps a request for as long as its call lasts, a watch's for
 * days; so what it keeps is empty from then on.
 */
export class RequestBytes {
  #bytes: Uint8Array | undefined;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  take(): Uint8Array {
    const bytes = this.#bytes ?? new Uint8Array();
    this.#bytes = undefined;
    return bytes;
  }
}

function textOf(metadata: Metadata, key: string): string | undefined {
  const values = metadata.get(key);
  // More than one is none that anybody can rely on: joined, it is refused by whoever reads it.
  return values.length === 0 ? undefined : values.join(', ');
}

export function textMetadata(metadata: Metadata): Record<string, string> {
  const entries = Object.entries(metadata.getMap());
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
