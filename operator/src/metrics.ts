import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { JournalMetrics } from './journal-metrics.ts';

/** What a queue tells about itself when it is asked. */
export interface QueueFigures {
  depth: number;
  /** Monotonic milliseconds at which each item under way was begun. */
  startedAt: readonly number[];
}

export interface QueueMetrics {
  adds: Counter<'name'>;
  retries: Counter<'name'>;
  queueSeconds: Histogram<'name'>;
  observe(name: string, figures: () => QueueFigures): void;
  /** `result` as controller-runtime names it: success, requeue_after, error. */
  done(name: string, result: string, seconds: number): void;
}

const WORK_BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Every metric of the operator, in a registry of its own; names and labels are those of client-go where it has one. */
export class OperatorMetrics implements QueueMetrics {
  readonly registry = new Registry();
  readonly #monotonic: () => number;
  readonly #queues = new Map<string, () => QueueFigures>();
  readonly adds;
  readonly retries;
  readonly queueSeconds;
  readonly #workSeconds;
  readonly #reconciles;
  readonly #reconcileErrors;
  readonly #reconcileSeconds;
  /** 1 on the replica that leads. */
  readonly leader;
  readonly shards;
  readonly nodes;
  readonly moves;
  readonly grants;
  readonly grantSeconds;
  readonly planSeconds;
  readonly decideSeconds;
  readonly writes;
  readonly events;
  readonly connected;
  readonly journal;

  constructor(options: { monotonic: () => number; processMetrics?: boolean }) {
    this.#monotonic = options.monotonic;
    const registers = [this.registry];
    if (options.processMetrics) collectDefaultMetrics({ register: this.registry });
    const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
      new Counter({ name, help, labelNames, registers });
    const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
      new Gauge({ name, help, labelNames, registers });
    const histogram = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
      new Histogram({ name, help, labelNames, registers, buckets: WORK_BUCKETS });

    this.adds = counter('workqueue_adds_total', 'Keys added.', ['name']);
    this.retries = counter('workqueue_retries_total', 'Keys tried again after a failure.', ['name']);
    this.queueSeconds = histogram('workqueue_queue_duration_seconds', 'From addition to start.', ['name']);
    this.#workSeconds = histogram('workqueue_work_duration_seconds', 'From start to end.', ['name']);
    this.#reconciles = counter('controller_runtime_reconcile_total', 'Reconciliations by result.', [
      'controller',
      'result',
    ]);
    this.#reconcileErrors = counter('controller_runtime_reconcile_errors_total', 'Failed reconciliations.', [
      'controller',
    ]);
    this.#reconcileSeconds = histogram(
      'controller_runtime_reconcile_time_seconds',
      'Length of a reconciliation.',
      ['controller'],
    );
    this.#queueGauge('workqueue_depth', 'Keys waiting.', ({ depth }) => depth);
    this.#queueGauge(
      'workqueue_unfinished_work_seconds',
      'Seconds of work under way, summed.',
      ({ startedAt }) => startedAt.reduce((sum, at) => sum + this.#since(at), 0),
    );
    this.#queueGauge(
      'workqueue_longest_running_processor_seconds',
      'Seconds that the longest work under way has taken.',
      ({ startedAt }) => Math.max(0, ...startedAt.map((at) => this.#since(at))),
    );
    this.#queueGauge(
      'controller_runtime_active_workers',
      'Keys being worked on.',
      ({ startedAt }) => startedAt.length,
      'controller',
    );
    this.leader = gauge('leader_election_master_status', '1 on the replica that leads, else 0.', ['name']);
    this.shards = gauge('meshkit_operator_shards', 'Shards by set and phase, on the leader.', [
      'namespace',
      'shard_set',
      'phase',
    ]);
    this.nodes = gauge('meshkit_operator_nodes', 'MeshNodes by readiness.', ['ready']);
    this.moves = counter(
      'meshkit_operator_moves_total',
      'Changes of owner that were begun, planned and by failure, by cause.',
      ['cause'],
    );
    this.grants = counter(
      'meshkit_operator_grants_total',
      'Epochs granted, by what happened and its cause.',
      ['kind', 'cause'],
    );
    this.grantSeconds = histogram(
      'meshkit_operator_grant_latency_seconds',
      'planned: release seen to grant written. failover: Lease expired to grant written.',
      ['kind'],
    );
    this.planSeconds = histogram('meshkit_operator_planner_seconds', 'Length of a placement plan.', []);
    this.decideSeconds = histogram(
      'meshkit_operator_decide_seconds',
      'Length of a decision, its plan included.',
      [],
    );
    this.writes = counter(
      'meshkit_operator_writes_total',
      'Writes to kube-apiserver by resource and result.',
      ['resource', 'result'],
    );
    this.events = counter(
      'meshkit_operator_events_total',
      'Kubernetes Events: written, failed, or dropped to bound their rate.',
      ['result'],
    );
    this.journal = new JournalMetrics(this.registry);
    this.connected = gauge('meshkit_operator_kube_connected', '1 while the watch of a resource is open.', [
      'resource',
    ]);
  }

  observe(name: string, figures: () => QueueFigures): void {
    this.#queues.set(name, figures);
  }

  done(name: string, result: string, seconds: number): void {
    this.#workSeconds.observe({ name }, seconds);
    this.#reconcileSeconds.observe({ controller: name }, seconds);
    this.#reconciles.inc({ controller: name, result });
    if (result === 'error') this.#reconcileErrors.inc({ controller: name });
  }

  #queueGauge(name: string, help: string, read: (figures: QueueFigures) => number, label = 'name'): void {
    const queues = this.#queues;
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [this.registry],
      collect() {
        for (const [queue, figures] of queues) this.set({ [label]: queue }, read(figures()));
      },
    });
  }

  #since(at: number): number {
    return (this.#monotonic() - at) / 1000;
  }
}
