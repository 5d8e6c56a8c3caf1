import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { act, perform, ShardHistory } from '../test/shard-history.ts';
import type { Change } from './change.ts';
import { NetFold, summaryOf } from './diff.ts';
import { JournalFold } from './journal-fold.ts';
import { parseMoment } from './moment.ts';
import { served } from './shard-view.ts';

const acts = fc.array(act, { maxLength: 40 });

const byKey = ({ records }: ShardHistory) =>
  new Map(
    [...records.values()].map((record) => [`${record.metadata.namespace}/${record.metadata.name}`, record]),
  );

describe('the net of changes', () => {
  it('is what two states differ in, however it came about', () => {
    fc.assert(
      fc.property(acts, acts, (earlier, later) => {
        const shards = new ShardHistory();
        perform(shards, earlier);
        const before = byKey(shards);
        const fold = JournalFold.listed(shards.records.values(), shards.version);
        const seen = shards.watched.length;
        perform(shards, later);
        const net = new NetFold();
        let hops = 0;
        for (const { before: was, after, position } of shards.watched.slice(seen)) {
          const record = after ?? { ...was!, metadata: { ...was!.metadata, resourceVersion: position } };
          const changes: Change[] = fold.changesTo(record, after === undefined);
          for (const change of changes) {
            net.add(change);
            fold.apply({
              ...change,
              at: '',
              history: {},
              source: 'watch',
              before: change.before && served(change.before),
              after: change.after && served(change.after),
            });
            hops += 1;
          }
        }
        const after = byKey(shards);
        const text = (record: Parameters<typeof served>[0] | undefined) =>
          record && JSON.stringify(served(record));
        const keys = [...new Set([...before.keys(), ...after.keys()])].sort();
        const differing = keys.filter((key) => text(before.get(key)) !== text(after.get(key)));
        const items = net.items({});
        expect(items.map(({ namespace, name }) => `${namespace}/${name}`).sort()).toEqual(differing);
        for (const item of items) {
          const key = `${item.namespace}/${item.name}`;
          expect(JSON.stringify(item.before)).toBe(text(before.get(key)));
          expect(JSON.stringify(item.after)).toBe(text(after.get(key)));
        }
        expect(items.reduce((sum, item) => sum + item.hops, 0)).toBeLessThanOrEqual(hops);
        expect(net.growth({})).toBe(after.size - before.size);
        const summary = summaryOf(items, after.size);
        expect(summary.moved + summary.added + summary.removed + summary.statusChanged).toBe(items.length);
        expect(summary.matrix.reduce((sum, cell) => sum + cell.shards, 0)).toBe(summary.moved);
      }),
    );
  });
});

describe('a moment', () => {
  const now = Date.parse('2026-11-23T12:00:00Z');

  it.each([
    ['918273', { kind: 'position', position: '918273' }],
    ['10m', { kind: 'time', at: now - 600_000 }],
    ['90s', { kind: 'time', at: now - 90_000 }],
    ['7d', { kind: 'time', at: now - 7 * 86_400_000 }],
    ['999999999d', { kind: 'time', at: 0 }],
    ['2026-11-23T12:00:00+01:00', { kind: 'time', at: now - 3_600_000 }],
    ['2026-11-23T11:59:59.5Z', { kind: 'time', at: now - 500 }],
    ['2026-13-23T11:59:59Z', { kind: 'token', token: '2026-13-23T11:59:59Z' }],
    ['yesterday', { kind: 'token', token: 'yesterday' }],
    ['10 m', { kind: 'token', token: '10 m' }],
  ])('%s', (text, expected) => {
    expect(parseMoment(text, now)).toEqual(expected);
  });
});
