import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Start } from './watch-start.ts';

/** What the metrics look at when they are scraped. */
export interface WatchFigures {
  streams(): ReadonlyMap<string, number>;
  ring(): { changes: number; bytes: number; oldestMs: number };
}

/** What can be known of the watch hub from outside. */
export class WatchMetrics {
  readonly started: Counter<'encoding' | 'start'>;
  readonly ended: Counter<'encoding' | 'code'>;
  readonly lagged: Counter<'encoding'>;
  readonly resumed: Counter<'result'>;
  readonly refused: Counter<'code'>;
  readonly changes: Counter;
  readonly delivery: Histogram;
  /** Messages by encoding: counted by hand, because a counter's increment would cost more than a delivery. */
  readonly messages = new Map<string, number>();

  constructor(registry: Registry, figures: WatchFigures) {
    const registers = [registry];
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    new Gauge({
      name: 'meshkit_watch_streams',
      help: 'Open watch streams.',
      labelNames: ['encoding'],
      registers,
      collect() {
        this.reset();
        for (const [encoding, count] of figures.streams()) this.set({ encoding }, count);
      },
    });
    const { messages } = this;
    new Counter({
      name: 'meshkit_watch_messages_total',
      help: 'Messages given to watch streams: changes, rows of snapshots, bookmarks.',
      labelNames: ['encoding'],
      registers,
      collect() {
        this.reset();
        for (const [encoding, count] of messages) this.inc({ encoding }, count);
      },
    });
    this.started = new Counter({
      name: 'meshkit_watch_started_total',
      help: 'Watch streams by how they began: snapshot, reset (a token that could not be continued), resumed, now.',
      labelNames: ['encoding', 'start'],
      registers,
    });
    this.ended = new Counter({
      name: 'meshkit_watch_ended_total',
      help: 'Watch streams by the error that the server ended them with; empty: the client left, or the server stopped.',
      labelNames: ['encoding', 'code'],
      registers,
    });
    this.lagged = new Counter({
      name: 'meshkit_watch_lagged_total',
      help: 'How often a watch stream did not keep up: it was ended, or told the changes folded.',
      labelNames: ['encoding'],
      registers,
    });
    this.resumed = new Counter({
      name: 'meshkit_resume_total',
      help: 'Resumed watches by what went on: ring, journal, diff (what differs from what the client said to have), or, with a snapshot, expired, lineageChanged, snapshotInterrupted. A stream that the ring left behind counts again.',
      labelNames: ['result'],
      registers,
    });
    this.refused = new Counter({
      name: 'meshkit_watch_refused_total',
      help: 'Watches that were refused before they began, by error.',
      labelNames: ['code'],
      registers,
    });
    this.changes = new Counter({
      name: 'meshkit_changes_total',
      help: 'Changes of shards that this server has seen; edits of what is not served do not count.',
      registers,
    });
    this.delivery = new Histogram({
      name: 'meshkit_watch_delivery_seconds',
      help: 'From the arrival of a change at this server until it was handed to the network, once for every 500 streams.',
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
      registers,
    });
    gauge('meshkit_ring_changes', 'Changes held for resuming watches.', () => figures.ring().changes);
    gauge('meshkit_ring_bytes', 'Memory of the held changes, roughly.', () => figures.ring().bytes);
    gauge(
      'meshkit_ring_floor_age_seconds',
      'Age of the oldest held change: tokens that are younger resume without a reset.',
      () => figures.ring().oldestMs / 1_000,
    );
  }

  count(encoding: string, messages: number): void {
    this.messages.set(encoding, (this.messages.get(encoding) ?? 0) + messages);
  }

  begun(encoding: string, start: Start, resumed: boolean): void {
    const how =
      start.kind !== 'snapshot' ? (resumed ? 'resumed' : 'now') : start.reset ? 'reset' : 'snapshot';
    this.started.inc({ encoding, start: how });
    if (resumed) this.resumed.inc({ result: resultOf(start) });
  }
}

function resultOf(start: Start): string {
  if (start.kind !== 'snapshot') return start.kind === 'journal' ? 'journal' : 'ring';
  return start.known ? 'diff' : (start.reason ?? 'snapshot');
}
