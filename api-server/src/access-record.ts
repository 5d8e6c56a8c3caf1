import type { Log } from '@meshkit/crds/log';
import type { Scope } from '@meshkit/shards/scope';
import { Counter, Histogram, type Registry } from 'prom-client';

/** How access to a request was decided; `none`: it was turned away before anybody asked who it is. */
export type Decision = 'allow' | 'deny' | 'unauthenticated' | 'unavailable' | 'none';

/** What is known of a request's access, filled in as it proceeds. */
export interface AccessRecord {
  /** `unknown` for a route that does not exist. */
  op: string;
  scope?: Scope;
  user?: string;
  /** Absent: all namespaces. */
  namespace?: string;
  name?: string;
  decision: Decision;
  /** Records in the answer. */
  count?: number;
  /** Of the error registry, when the request failed. */
  code?: string;
}

export interface Outcome {
  status: number;
  protocol: string;
  durationMs: number;
}

/** Says once per request who did what and how it went: a log line and two metrics. */
export class AccessRecorder {
  readonly #log: Log;
  readonly #total: Counter<'op' | 'scope' | 'decision' | 'transport'>;
  readonly #duration: Histogram<'op' | 'transport' | 'status'>;

  constructor(log: Log, registry: Registry) {
    this.#log = log;
    this.#total = new Counter({
      name: 'meshkit_access_total',
      help: 'Requests by operation, needed scope and access decision.',
      labelNames: ['op', 'scope', 'decision', 'transport'],
      registers: [registry],
    });
    this.#duration = new Histogram({
      name: 'meshkit_request_duration_seconds',
      help: 'From the arrival of a request to the end of its answer.',
      labelNames: ['op', 'transport', 'status'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5],
      registers: [registry],
    });
  }

  record(access: AccessRecord, { status, protocol, durationMs }: Outcome): void {
    const transport = 'rest';
    const { op, scope = '', decision } = access;
    this.#total.inc({ op, scope, decision, transport });
    this.#duration.observe({ op, transport, status: String(status) }, durationMs / 1_000);
    const fields = { ...access, transport, protocol, status, durationMs: Math.round(durationMs * 100) / 100 };
    if (status >= 500) this.#log.warn(fields, 'access');
    else this.#log.info(fields, 'access');
  }
}
