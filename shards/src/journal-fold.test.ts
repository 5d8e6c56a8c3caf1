import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Act, act, perform, ShardHistory } from '../test/shard-history.ts';
import { historyOf, type Mark } from './change.ts';
import type { JournalEntry } from './journal.ts';
import { changeOf, entryOf, JournalFold } from './journal-fold.ts';
import { MemoryJournal } from './journal-memory.ts';
import { marksOf } from './journal-slice.ts';
import { compareVersions } from './records.ts';
import { served } from './shard-view.ts';

const AT = '2026-11-23T12:00:00.000Z';
const signal = new AbortController().signal;
const acts = fc.array(act, { maxLength: 40 });

const follow = (fold: JournalFold, shards: ShardHistory, seen: number): JournalEntry[] =>
  shards.watched.slice(seen).flatMap(({ before, after, position }) => {
    const deleted = after === undefined;
    const record = after ?? { ...before!, metadata: { ...before!.metadata, resourceVersion: position } };
    const entries = fold.changesTo(record, deleted).map((change) => entryOf(change, AT));
    for (const entry of entries) fold.apply(entry);
    return entries;
  });

describe('the fold', () => {
  it('follows the watch to the state that a list shows, and back', () => {
    fc.assert(
      fc.property(acts, acts, (earlier, later) => {
        const shards = new ShardHistory();
        perform(shards, earlier);
        const start = JournalFold.listed(shards.records.values(), shards.version);
        const fold = new JournalFold(start.state);
        const seen = shards.watched.length;
        perform(shards, later);
        const copy = fold.clone();
        const entries = follow(fold, shards, seen);
        expect(copy.mark).toEqual(start.mark);
        for (const entry of entries) copy.apply(entry);
        expect(copy.state).toEqual(fold.state);
        const listed = JournalFold.listed(shards.records.values(), shards.version);
        expect(fold.mark.anchor).toBe(listed.mark.anchor);
        expect(marksOf(start.mark, entries).at(-1) ?? start.mark).toEqual(fold.mark);
        for (const [back, entry] of entries.toReversed().entries()) {
          const rest = entries.slice(0, entries.length - back - 1);
          fold.undo(entry, marksOf(start.mark, rest).at(-1) ?? start.mark);
        }
        expect(fold.mark).toEqual(start.mark);
      }),
    );
  });

  it('says of a replayed change what was said of the live one', () => {
    fc.assert(
      fc.property(acts, (given) => {
        const shards = new ShardHistory();
        const fold = JournalFold.listed([], '1');
        perform(shards, given);
        const live = shards.watched.filter(({ before, after }) => {
          return JSON.stringify(before && served(before)) !== JSON.stringify(after && served(after));
        });
        const replayed = follow(fold, shards, 0).map((entry) => changeOf(JSON.parse(JSON.stringify(entry))));
        expect(replayed.map(historyOf)).toEqual(
          live.map((change) => JSON.parse(JSON.stringify(historyOf(change)))),
        );
        expect(replayed.map(({ after }) => after && JSON.stringify(served(after)))).toEqual(
          live.map(({ after }) => after && JSON.stringify(served(after))),
        );
      }),
    );
  });

  it('remembers who owned a shard that is gone, also when it came back without a status', () => {
    const shards = new ShardHistory();
    const fold = JournalFold.listed([], '1');
    const hop = (node: 'n1' | 'n2'): Act => ({ act: 'hop', name: 'x', phase: 'Active', node, old: false });
    perform(shards, [{ act: 'create', name: 'x' }, hop('n1'), hop('n2')]);
    follow(fold, shards, 0);
    expect(fold.remembered('a/x')).toMatchObject({ owner: 'n2', epoch: 2 });
    let seen = shards.watched.length;
    perform(shards, [
      { act: 'remove', name: 'x' },
      { act: 'create', name: 'x' },
    ]);
    follow(fold, shards, seen);
    expect(fold.remembered('a/x')).toEqual({ owner: 'n2', epoch: 2 });
    expect(new JournalFold(fold.state).remembered('a/x')).toEqual({ owner: 'n2', epoch: 2 });
    seen = shards.watched.length;
    // A status that grants nothing: its set is not there yet.
    perform(shards, [{ act: 'hop', name: 'x', phase: 'Disabled', node: 'n1', old: false }]);
    follow(fold, shards, seen);
    expect(fold.remembered('a/x')).toEqual({ owner: 'n2', epoch: 2 });
    seen = shards.watched.length;
    perform(shards, [{ act: 'remove', name: 'x' }]);
    follow(fold, shards, seen);
    expect(fold.remembered('a/x')).toEqual({ owner: 'n2', epoch: 2 });
    expect(fold.remembered('a/other')).toBeUndefined();
  });
});

describe('a journal', () => {
  it('tells from every position since its floor what happened, and the anchor there', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(acts, fc.boolean()), { maxLength: 6 }),
        fc.nat(3),
        async (parts, forgotten) => {
          const shards = new ShardHistory();
          const fold = JournalFold.listed([], '100');
          const journal = new MemoryJournal(fold.state, AT);
          const marks = new Map<string, Mark>([['100', fold.mark]]);
          const unsettled = new Set<string>();
          for (const [given, outage] of parts) {
            const from = fold.mark.position;
            const seen = shards.watched.length;
            const before = shards.position;
            perform(shards, given);
            if (!outage) {
              const entries = follow(fold, shards, seen);
              for (const entry of entries) journal.append([entry]);
              const all = marksOf(marks.get(from) ?? fold.mark, entries);
              for (const one of all) marks.set(one.position, one);
            } else {
              const changes = fold.changesToList(shards.records.values(), shards.version);
              const entries = changes.map((change) => entryOf(change, AT));
              if (entries.length === 0) continue;
              for (const entry of entries) fold.apply(entry);
              fold.advance(shards.version);
              const gap = { from, to: shards.version };
              journal.append(entries, { gap, position: shards.version });
              for (let at = Math.max(before, Number(from)) + 1; at < shards.position; at += 1)
                unsettled.add(String(at));
              marks.set(fold.mark.position, fold.mark);
            }
          }
          const whole = await journal.state(signal);
          expect(whole?.mark).toEqual(fold.mark);
          journal.forget(forgotten);
          const { floor } = (await journal.head(signal))!;
          for (const [position, mark] of marks) {
            const slices = Array.fromAsync(journal.read(position, signal));
            if (compareVersions(position, floor.position) < 0) {
              await expect(slices).rejects.toMatchObject({ code: 'tokenExpired' });
              continue;
            }
            const [first, ...others] = await slices;
            expect(first!.from.anchor).toBe(mark.anchor);
            expect(compareVersions(first!.from.position, position)).toBeLessThanOrEqual(0);
            let end = first!.from;
            for (const { from, to, entries } of [first!, ...others]) {
              expect(from.anchor).toBe(end.anchor);
              expect((marksOf(from, entries).at(-1) ?? from).anchor).toBe(to.anchor);
              for (const entry of entries)
                expect(compareVersions(entry.position, position)).toBeGreaterThan(0);
              end = to;
            }
            expect(end).toEqual(fold.mark);
          }
          for (const position of unsettled) {
            if (compareVersions(position, floor.position) < 0) continue;
            const [first] = await Array.fromAsync(journal.read(position, signal));
            expect(marks.get(first!.from.position)?.anchor).toBe(first!.from.anchor);
          }
        },
      ),
    );
  });
});
