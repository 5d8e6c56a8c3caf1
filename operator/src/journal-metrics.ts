import type { JournalEntry, JournalWriter } from '@meshkit/shards/journal';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** The metrics of the journal's writer; all of the leader. */
export class JournalMetrics {
  readonly position;
  readonly time;
  readonly floor;
  readonly floorTime;
  readonly appendSeconds;
  readonly entries;
  readonly failures;
  readonly coalesced;
  readonly repaired;
  readonly damaged;
  readonly fenced;
  readonly renewed;
  readonly writes;
  readonly written;
  readonly stored;
  readonly segments;
  readonly buffered;
  readonly writing;

  constructor(registry: Registry) {
    const registers = [registry];
    const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
      new Counter({ name: `meshkit_journal_${name}`, help, labelNames, registers });
    const gauge = (name: string, help: string) =>
      new Gauge({ name: `meshkit_journal_${name}`, help, registers });
    this.position = gauge('head_position', 'Everything up to this resourceVersion is written down.');
    this.time = gauge('head_timestamp_seconds', 'When the newest change happened that is written down.');
    this.floor = gauge('floor_position', 'Everything after this resourceVersion is there.');
    this.floorTime = gauge('floor_timestamp_seconds', 'Since when everything is there.');
    this.appendSeconds = new Histogram({
      name: 'meshkit_journal_append_seconds',
      help: 'From the first try to the success of an append.',
      registers,
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    });
    this.entries = counter(
      'entries_total',
      'Changes written down: seen as they happened, or found by a list.',
      ['source'],
    );
    this.failures = counter('append_failures_total', 'Appends that have to be tried again.');
    this.coalesced = counter(
      'coalesced_total',
      'Changes that cannot be told apart any more: edits in an outage, hops beyond the newest eight of a shard, a full buffer.',
    );
    this.repaired = counter('repaired_total', 'Changes that the comparison with a list brought to light.');
    this.damaged = counter('damaged_total', 'Segments that were missing or not what was written.');
    this.fenced = counter('fenced_total', 'Times that another writer took over from this one.');
    this.renewed = counter('lineages_total', 'New lineages that this process began.');
    this.writes = counter('writes_total', 'Objects written or deleted, by kind.', ['kind']);
    this.written = counter('written_bytes_total', 'Bytes sent to kube-apiserver, by kind of object.', [
      'kind',
    ]);
    this.stored = gauge('stored_bytes', 'What the segments take in etcd, about.');
    this.segments = gauge('segments', 'Segments that are held.');
    this.buffered = gauge('buffered_entries', 'Changes that wait to be written down.');
    this.writing = gauge(
      'writing',
      '1 while this process writes the journal, and its last append succeeded.',
    );
  }
  /** What was written down. */
  count(entries: readonly JournalEntry[]): void {
    const reconciled = entries.filter(({ source }) => source === 'reconcile').length;
    this.entries.inc({ source: 'reconcile' }, reconciled);
    this.entries.inc({ source: 'watch' }, entries.length - reconciled);
  }

  tellHead({ spec, segments }: Pick<JournalWriter, 'spec' | 'segments'>): void {
    this.position.set(Number(spec.mark.position));
    this.time.set(Date.parse(spec.mark.at) / 1000);
    this.floor.set(Number(spec.floor.position));
    this.floorTime.set(Date.parse(spec.floor.at) / 1000);
    this.stored.set(spec.bytes);
    this.segments.set(segments.length);
  }
}
