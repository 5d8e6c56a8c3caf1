import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { act, node, perform, type Records, ShardHistory } from '../test/shard-history.ts';
import { type Change, comparePoints, historyOf } from './change.ts';
import { missedChanges } from './missed-changes.ts';
import { compareVersions, type Phase } from './records.ts';
import { served } from './shard-view.ts';

function applied(known: Records, changes: readonly Change[]): Records {
  const state = new Map(known);
  for (const { key, before, after } of changes) {
    expect(state.get(key)?.metadata.uid).toBe(before?.metadata.uid);
    if (after) state.set(key, after);
    else state.delete(key);
  }
  return state;
}

const views = (records: Records) =>
  Object.fromEntries(
    [...records].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, record]) => [key, served(record)]),
  );

/** What of a change is a hop, as the client package tells hops apart. */
const hops = (changes: readonly Change[]) =>
  changes.flatMap(({ before, after }) => {
    if (!after?.status || after.status.version === before?.status?.version) return [];
    return [`${after.metadata.uid} ${after.status.version} ${after.status.owner} ${after.status.epoch}`];
  });

describe('what was missed', () => {
  it('leads from what was known to what is listed, in order', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 30 }), fc.array(act, { maxLength: 60 }), (earlier, later) => {
        const shards = new ShardHistory();
        perform(shards, earlier);
        const known = shards.byKey();
        const from = shards.version;
        perform(shards, later);
        const changes = missedChanges(known, shards.records.values(), shards.version);
        expect(views(applied(known, changes))).toEqual(views(shards.byKey()));
        for (const [at, change] of changes.entries()) {
          const next = changes[at + 1];
          if (next) expect(comparePoints(change, next)).toBeLessThan(0);
          expect(compareVersions(change.position, from)).toBeGreaterThan(0);
          expect(compareVersions(change.position, shards.version)).toBeLessThanOrEqual(0);
          const { before, after } = change;
          expect(before ?? after).toBeDefined();
          if (!before || !after) continue;
          expect(after.metadata.uid).toBe(before.metadata.uid);
          expect(after.status?.epoch ?? 0).toBeGreaterThanOrEqual(before.status?.epoch ?? 0);
          expect(after.status?.version ?? 0).toBeGreaterThanOrEqual(before.status?.version ?? 0);
        }
      }),
    );
  });

  it('tells every hop of a shard that still has all of them, each as it was', () => {
    const hop = fc.record({ phase: fc.constantFrom<Phase>('Active', 'Draining'), node });
    fc.assert(
      fc.property(
        fc.array(hop, { minLength: 1, maxLength: 4 }),
        fc.array(hop, { minLength: 1, maxLength: 4 }),
        (a, b) => {
          const shards = new ShardHistory();
          shards.create('x');
          for (const { phase, node: to } of a) shards.hop('x', phase, to);
          const known = shards.byKey();
          const seen = shards.watched.length;
          for (const { phase, node: to } of b) shards.hop('x', phase, to);
          const live = shards.watched.slice(seen);
          const changes = missedChanges(known, shards.records.values(), shards.version);
          expect(hops(changes)).toEqual(hops(live));
          expect(changes.map(historyOf)).toEqual(live.map(historyOf));
          expect(
            changes.every(({ coalesced, source }) => coalesced === undefined && source === 'reconcile'),
          ).toBe(true);
        },
      ),
    );
  });

  it('counts what fell out on the first change that is told', () => {
    const shards = new ShardHistory();
    shards.create('x');
    shards.hop('x', 'Active', 'n1');
    const known = shards.byKey();
    for (let at = 0; at < 20; at += 1) shards.hop('x', 'Active', `n${at % 2}`);
    const changes = missedChanges(known, shards.records.values(), shards.version);
    expect(changes.map(({ ordinal }) => ordinal)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(changes.map(({ coalesced }) => coalesced)).toEqual([12, ...Array(7).fill(undefined)]);
  });

  it('counts every change of a shard that it does not tell: edits, and what is no transition', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 20 }), fc.array(act, { maxLength: 60 }), (earlier, later) => {
        const shards = new ShardHistory();
        perform(shards, earlier);
        const known = shards.byKey();
        const seen = shards.watched.length;
        perform(shards, later);
        const changes = missedChanges(known, shards.records.values(), shards.version);
        for (const [key, { metadata }] of shards.byKey()) {
          const isSame = ({ after }: Change) => after?.metadata.uid === metadata.uid;
          const happened = shards.watched.slice(seen).filter(isSame).length;
          const isNew = known.get(key)?.metadata.uid !== metadata.uid;
          const told = changes.filter(isSame).reduce((sum, { coalesced = 0 }) => sum + 1 + coalesced, 0);
          // The creation of a shard is told together with what came next.
          expect(told).toBe(isNew && happened > 1 ? happened - 1 : happened);
        }
      }),
    );
  });

  it('says of edits that nobody saw that they were several', () => {
    const shards = new ShardHistory();
    shards.create('x');
    shards.hop('x', 'Active', 'n1');
    const known = shards.byKey();
    for (let edits = 0; edits < 3; edits += 1) shards.edit('x');
    const [edited, ...none] = missedChanges(known, shards.records.values(), shards.version);
    expect(none).toEqual([]);
    expect([edited?.before?.metadata.generation, edited?.after?.metadata.generation]).toEqual([1, 4]);
    expect(edited?.coalesced).toBe(2);
  });

  it('folds transitions without an epoch into the next one that has it', () => {
    const shards = new ShardHistory();
    shards.create('x');
    shards.hop('x', 'Active', 'n1');
    const known = shards.byKey();
    shards.hop('x', 'Active', 'n2', { old: true });
    shards.hop('x', 'Active', 'n3');
    shards.hop('x', 'Active', 'n1', { old: true });
    const changes = missedChanges(known, shards.records.values(), shards.version);
    // The newest needs none: the status itself has it.
    expect(
      changes.map(({ after, coalesced }) => [after?.status?.owner, after?.status?.epoch, coalesced]),
    ).toEqual([
      ['n3', 3, 1],
      ['n1', 4, undefined],
    ]);
  });

  it('lets a replaced shard end where its successor begins, and a deleted one at the list', () => {
    const shards = new ShardHistory();
    shards.create('x');
    shards.create('y');
    const known = shards.byKey();
    shards.remove('x');
    shards.create('x');
    shards.hop('x', 'Active', 'n1');
    const end = shards.version;
    shards.remove('y');
    const changes = missedChanges(known, shards.records.values(), shards.version);
    expect(
      changes.map(({ key, position, ordinal, before, after }) => [
        key,
        position,
        ordinal,
        before?.metadata.uid,
        after?.metadata.uid,
      ]),
    ).toEqual([
      ['a/x', end, 0, 'u1', undefined],
      ['a/x', end, 1, undefined, 'u3'],
      ['a/y', shards.version, 0, 'u2', undefined],
    ]);
  });

  it('says nothing when nothing served changed', () => {
    const shards = new ShardHistory();
    shards.create('x');
    const known = shards.byKey();
    const [record] = shards.records.values();
    const touched = {
      ...record!,
      metadata: { ...record!.metadata, resourceVersion: '999', annotations: { a: 'b' } },
    };
    expect(missedChanges(known, [touched], '999')).toEqual([]);
  });
});
