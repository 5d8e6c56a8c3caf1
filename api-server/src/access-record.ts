import type { Log } from '@meshkit/crds/log';
import { ERRORS, type ShardError } from '@meshkit/shards/errors';
import type { Scope } from '@meshkit/shards/scope';
import {
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { Counter, Histogram, type Registry } from 'prom-client';
import type { Transport } from './operation.ts';

/** How access to a request was decided; `none`: nobody asked who it is, or it was turned away for what it is. */
type Decision = 'allow' | 'deny' | 'unauthenticated' | 'unavailable' | 'none';

/** What an error says of the access that it ended. */
export function noteFailure(access: AccessRecord, error: ShardError): void {
  access.code = error.code;
  access.decision = decisionOf(access.decision, error);
  // Turned away for who they are, and so before they are anybody's identity.
  if (error.code === 'identityRefused') access.user = String(error.details.user);
}

/** What was decided before stays decided. */
function decisionOf(before: Decision, { code }: ShardError): Decision {
  if (before === 'allow') return before;
  const http = ERRORS[code].http;
  if (http === 401) return 'unauthenticated';
  if (http === 403) return 'deny';
  return http === 503 || http === 429 ? 'unavailable' : 'none';
}

/** What is known of a request's access, filled in as it proceeds. */
export interface AccessRecord {
  /** `unknown` for a route that does not exist. */
  op: string;
  /** The surface; absent: `rest`. */
  transport?: 'rest' | 'sse' | 'grpc';
  scope?: Scope;
  user?: string;
  /** Absent: all namespaces, or, of a request that was refused, perhaps one that was not read. */
  namespace?: string;
  name?: string;
  decision: Decision;
  /** Records in the answer, events in a stream. */
  count?: number;
  /** Of the error registry, when the request failed. */
  code?: string;
}

export interface Outcome {
  /** HTTP's number, gRPC's name. */
  status: number | string;
  protocol: string;
  durationMs: number;
}

/** How long they take is how long somebody listens. */
const STREAMS: ReadonlySet<string> = new Set(['watch', 'healthWatch', 'reflection']);

/** Says once per request who did what and how it went: a log line, metrics and a span. */
export class AccessRecorder {
  readonly #log: Log;
  readonly #tracer: Tracer;
  readonly #total: Counter<'op' | 'scope' | 'decision' | 'transport'>;
  readonly #duration: Histogram<'op' | 'transport' | 'status'>;
  readonly #streamDuration: Histogram<'op' | 'transport' | 'status'>;
  readonly #downgrades: Counter<'reason'>;
  readonly #protocols: Counter<'protocol'>;

  /** `tracer` absent: that of the OpenTelemetry SDK in this process, if there is one. */
  constructor(log: Log, registry: Registry, tracer = trace.getTracer('meshkit-api-server')) {
    const registers = [registry];
    this.#log = log;
    this.#tracer = tracer;
    this.#total = new Counter({
      name: 'meshkit_access_total',
      help: 'Requests by operation, needed scope and access decision.',
      labelNames: ['op', 'scope', 'decision', 'transport'],
      registers,
    });
    this.#duration = new Histogram({
      name: 'meshkit_request_duration_seconds',
      help: 'From the arrival of a request to the end of its answer; streams are counted apart.',
      labelNames: ['op', 'transport', 'status'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5],
      registers,
    });
    this.#streamDuration = new Histogram({
      name: 'meshkit_stream_duration_seconds',
      help: 'From the arrival of a stream to its end.',
      labelNames: ['op', 'transport', 'status'],
      buckets: [1, 10, 60, 300, 900, 3_600, 4 * 3_600, 24 * 3_600],
      registers,
    });
    this.#protocols = new Counter({
      name: 'meshkit_requests_by_protocol_total',
      help: 'Requests by the protocol of their connection.',
      labelNames: ['protocol'],
      registers,
    });
    this.#downgrades = new Counter({
      name: 'meshkit_protocol_downgrades_total',
      help: 'Requests whose client had wanted a newer protocol, by the reason that it gave.',
      labelNames: ['reason'],
      registers,
    });
  }

  /** `carrier`: the request's headers or metadata, which may name the span that this one belongs to. */
  begin(carrier: unknown): Span {
    const parent = propagation.extract(context.active(), carrier);
    return this.#tracer.startSpan('request', { kind: SpanKind.SERVER }, parent);
  }

  downgraded({ downgraded, reason = 'unspecified' }: Transport): void {
    if (downgraded) this.#downgrades.inc({ reason });
  }

  record(access: AccessRecord, outcome: Outcome, span?: Span): void {
    const { status, protocol, durationMs } = outcome;
    const { op, scope = '', decision, transport = 'rest', code } = access;
    this.#total.inc({ op, scope, decision, transport });
    this.#protocols.inc({ protocol });
    const durations = STREAMS.has(op) ? this.#streamDuration : this.#duration;
    durations.observe({ op, transport, status: String(status) }, durationMs / 1_000);
    const fields = { ...access, transport, protocol, status, durationMs: Math.round(durationMs * 100) / 100 };
    const ours = code === 'internal' || (typeof status === 'number' && status >= 500);
    if (ours) this.#log.warn(fields, 'access');
    else this.#log.info(fields, 'access');
    span?.updateName(op).setAttributes({
      'meshkit.op': op,
      'meshkit.scope': scope,
      'meshkit.decision': decision,
      'meshkit.namespace': access.namespace ?? '',
      'meshkit.count': access.count ?? 0,
      'network.protocol.name': protocol,
      'meshkit.status': status,
    });
    if (code !== undefined)
      span?.setStatus({ code: ours ? SpanStatusCode.ERROR : SpanStatusCode.UNSET, message: code });
    span?.end();
  }
}
