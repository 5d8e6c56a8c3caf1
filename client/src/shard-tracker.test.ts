import type { ShardView } from '@meshkit/shards/shard-view';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ShardChange, ShardTracker, type WatchEvent } from './shard-tracker.ts';
import type { ShardMessage, WatchMessage } from './watch-message.ts';

function shard(name: string, version: number, fields: Partial<ShardView> = {}): ShardView {
  return {
    namespace: 'payments',
    name,
    uid: `uid-${name}`,
    shardSet: 'orders',
    shardId: name,
    phase: 'Active',
    state: 'Active',
    epoch: version,
    version,
    generation: 1,
    observedGeneration: 1,
    capacity: 1,
    ...fields,
  };
}

const message = (
  event: ShardMessage['event'],
  position: number,
  current?: ShardView,
  previous?: ShardView,
): ShardMessage => ({
  type: 'shard',
  event,
  position: `${position}`,
  current,
  previous,
  token: `t${position}`,
});
const begin = (position: number): WatchMessage => ({
  type: 'snapshot-begin',
  position: `${position}`,
  token: 's',
  lineage: 'l',
});
const end = (position: number): WatchMessage => ({
  type: 'snapshot-end',
  position: `${position}`,
  token: 's',
});
const snapshot = (position: number, ...shards: ShardView[]): WatchMessage[] => [
  begin(position),
  ...shards.map((one) => message('ADDED', position, one)),
  end(position),
];

/** `ADDED a@1`, `DELETED b@2 relist`, `SYNCED`: type, name, version and cause of each event. */
const told = (events: readonly WatchEvent[]) =>
  events.map((event) => {
    if (!('previous' in event)) return event.type;
    const { name, version } = (event.current ?? event.previous)!;
    return [event.type, `${name}@${version}`, ...(event.cause ? [event.cause] : [])].join(' ');
  });

function hear(tracker: ShardTracker, ...messages: WatchMessage[]): string[] {
  return told(messages.flatMap((one) => tracker.apply(one)));
}

describe('ShardTracker', () => {
  it('tells of a second listing only what is different', () => {
    const tracker = new ShardTracker();
    hear(tracker, ...snapshot(10, shard('a', 1), shard('b', 1), shard('c', 1), shard('d', 1)));
    const reborn = shard('c', 0, { uid: 'another' });
    const again = snapshot(20, shard('a', 1), shard('b', 3), reborn, shard('e', 1));
    expect(hear(tracker, { type: 'reset', reason: 'expired', token: 's' }, ...again)).toEqual([
      'RESET',
      'MODIFIED b@3',
      'DELETED c@1 relist',
      'ADDED c@0',
      'ADDED e@1',
      'DELETED d@1 relist',
      'SYNCED',
    ]);
  });

  it('takes a listing as the truth even where it goes back', () => {
    const tracker = new ShardTracker();
    hear(tracker, ...snapshot(10, shard('a', 5)));
    expect(hear(tracker, ...snapshot(3, shard('a', 2)))).toEqual(['MODIFIED a@2', 'SYNCED']);
  });

  it('drops nothing when a listing was cut short, and all that is gone at the end of the next', () => {
    const tracker = new ShardTracker();
    hear(tracker, ...snapshot(10, shard('a', 1), shard('b', 1)));
    expect(hear(tracker, begin(12), message('ADDED', 12, shard('a', 1)))).toEqual([]);
    expect(hear(tracker, ...snapshot(13, shard('b', 1)))).toEqual(['DELETED a@1 relist', 'SYNCED']);
  });

  it('drops repeats, and what is older than what it has told', () => {
    const tracker = new ShardTracker();
    hear(tracker, ...snapshot(10, shard('a', 1)));
    const second = message('MODIFIED', 11, shard('a', 2), shard('a', 1));
    expect(hear(tracker, second, second)).toEqual(['MODIFIED a@2']);
    // A hop that was reconstructed after an outage bears a later position.
    expect(
      hear(tracker, message('MODIFIED', 12, shard('a', 1)), message('MODIFIED', 12, shard('a', 2))),
    ).toEqual([]);
    const message3 = message('MODIFIED', 13, shard('a', 2, { reason: 'other words' }));
    expect(hear(tracker, message3)).toEqual(['MODIFIED a@2']);
  });

  it('deletes only the shard that is meant', () => {
    const tracker = new ShardTracker();
    hear(tracker, ...snapshot(10, shard('a', 1)));
    const other = shard('a', 9, { uid: 'earlier life' });
    expect(hear(tracker, message('DELETED', 11, undefined, other))).toEqual([]);
    expect(hear(tracker, message('DELETED', 12, undefined, shard('b', 1)))).toEqual([]);
    expect(
      hear(tracker, { ...message('DELETED', 13, shard('a', 2), shard('a', 1)), cause: 'filter' }),
    ).toEqual(['DELETED a@2 filter']);
  });

  it('passes on what it cannot know when it was not there from the beginning', () => {
    const tracker = new ShardTracker();
    const messages = [
      message('MODIFIED', 11, shard('a', 2), shard('a', 1)),
      message('DELETED', 12, undefined, shard('b', 1)),
    ];
    expect(hear(tracker, ...messages)).toEqual(['MODIFIED a@2', 'DELETED b@1']);
  });

  it('tells every change once and in order, however streams are cut, repeated and listed again', () => {
    const step = fc.record({
      name: fc.constantFrom('a', 'b', 'c'),
      kind: fc.constantFrom('change', 'change', 'change', 'delete'),
      follow: fc.constantFrom('go on', 'go on', 'go on', 'repeat', 'list', 'cut listing'),
      back: fc.nat(5),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const tracker = new ShardTracker();
        let listed = 0;
        const live = new Map<string, ShardView>();
        const log: ShardMessage[] = [];
        const events: WatchEvent[] = [];
        const say = (...messages: WatchMessage[]) => {
          for (const one of messages) events.push(...tracker.apply(one));
        };
        let position = 1;
        let life = 0;
        say(...snapshot(position));
        for (const { name, kind, follow, back } of steps) {
          position += 1;
          const before = live.get(name);
          if (kind === 'delete' && !before) continue;
          const after =
            kind === 'delete'
              ? undefined
              : shard(name, (before?.version ?? 0) + 1, { uid: before?.uid ?? `${++life}` });
          if (after) live.set(name, after);
          else live.delete(name);
          const next = message(after ? (before ? 'MODIFIED' : 'ADDED') : 'DELETED', position, after, before);
          log.push(next);
          say(next);
          // Out of a stretch that had to be reconstructed, repeats reach back into lives that have ended; never past a listing.
          if (follow === 'repeat') say(...log.slice(Math.max(listed, log.length - 1 - back)));
          else if (follow !== 'go on') listed = log.length;
          if (follow === 'list') say(...snapshot(position, ...live.values()));
          if (follow === 'cut listing')
            say(
              ...snapshot(position, ...live.values()).slice(0, -1),
              ...snapshot(position, ...live.values()),
            );
        }
        const folded = new Map<string, ShardView>();
        const changes = events.filter((event): event is ShardChange => 'previous' in event);
        for (const { type, current, previous } of changes) {
          const { name } = (current ?? previous)!;
          expect(folded.get(name)).toEqual(previous);
          if (type === 'DELETED') folded.delete(name);
          else folded.set(name, current!);
        }
        expect(folded).toEqual(live);
        expect(changes).toHaveLength(log.length);
      }),
      { numRuns: 300 },
    );
  });

  it('hears nothing new in a repeat of before a shard left the filter', () => {
    const tracker = new ShardTracker();
    const leaves = (position: number, version: number): ShardMessage => ({
      ...message('DELETED', position, shard('a', version), shard('a', version - 1)),
      cause: 'filter',
    });
    const first = [message('ADDED', 2, shard('a', 2)), leaves(3, 3)];
    const second = [message('ADDED', 5, shard('a', 5)), leaves(6, 6)];
    const say = (...messages: WatchMessage[]) => told(messages.flatMap((one) => tracker.apply(one)));
    expect(say(...snapshot(1), ...first)).toEqual(['SYNCED', 'ADDED a@2', 'DELETED a@3 filter']);
    expect(say(...first)).toEqual([]);
    expect(say(...second.slice(0, 1))).toEqual(['ADDED a@5']);
    expect(say(...first, ...second.slice(0, 1))).toEqual([]);
    expect(say(...second.slice(1), ...first, ...second)).toEqual(['DELETED a@6 filter']);
    expect(say(...snapshot(7, shard('a', 2)))).toEqual(['ADDED a@2', 'SYNCED']);
  });

  it('takes a shard that comes back at an earlier version, once history is another one', () => {
    const tracker = new ShardTracker();
    const say = (...messages: WatchMessage[]) => told(messages.flatMap((one) => tracker.apply(one)));
    expect(say(...snapshot(9, shard('a', 9)))).toEqual(['ADDED a@9', 'SYNCED']);
    const reset: WatchMessage = { type: 'reset', reason: 'lineageChanged', token: 's' };
    expect(say(reset, ...snapshot(4))).toEqual(['RESET', 'DELETED a@9 relist', 'SYNCED']);
    expect(say(message('ADDED', 6, shard('a', 6)))).toEqual(['ADDED a@6']);
  });

  it('tells nothing twice of a stretch that is told again', () => {
    const tracker = new ShardTracker();
    const heard: string[] = [];
    const hear = (...messages: WatchMessage[]) => {
      for (const one of messages) heard.push(...told(tracker.apply(one)));
    };
    const again = (one: ShardMessage): ShardMessage => ({ ...one, source: 'reconcile' });
    hear(...snapshot(10, shard('a', 1), shard('b', 1), shard('c', 1)));
    heard.length = 0;
    hear(
      message('MODIFIED', 11, shard('a', 2), shard('a', 1)),
      message('DELETED', 12, undefined, shard('b', 1)),
      { ...message('DELETED', 13, shard('c', 3), shard('c', 2)), cause: 'filter' },
    );
    expect(heard).toEqual(['MODIFIED a@2', 'DELETED b@1', 'DELETED c@3 filter']);
    heard.length = 0;
    // Another server goes back to 10, because it does not know what was at 12.
    hear(
      again(message('MODIFIED', 12, shard('a', 2, { ownerEndpoint: 'unknown' }), shard('a', 1))),
      again(message('MODIFIED', 12, shard('b', 2), shard('b', 1))),
      again(message('DELETED', 13, undefined, shard('b', 2))),
      again(message('MODIFIED', 13, shard('c', 2), shard('c', 1))),
      again({ ...message('DELETED', 13, shard('c', 3), shard('c', 2)), cause: 'filter' }),
      message('MODIFIED', 14, shard('a', 3), shard('a', 2)),
      message('ADDED', 15, shard('c', 4)),
    );
    expect(heard).toEqual(['MODIFIED a@3', 'ADDED c@4']);
  });

  it('keeps what a delta does not list', () => {
    const tracker = new ShardTracker();
    for (const one of snapshot(10, shard('a', 1), shard('b', 1), shard('c', 1))) tracker.apply(one);
    const events = [
      { type: 'reset' as const, reason: 'expired', token: 's' },
      { ...begin(20), delta: true } as WatchMessage,
      message('DELETED', 20, undefined, shard('b', 1)),
      message('MODIFIED', 20, shard('a', 4)),
      message('ADDED', 20, shard('d', 1)),
      end(20),
    ].flatMap((one) => tracker.apply(one));
    expect(told(events)).toEqual(['RESET', 'DELETED b@1', 'MODIFIED a@4', 'ADDED d@1', 'SYNCED']);
    expect([...tracker.known()].map(({ name }) => name)).toEqual(['a', 'c', 'd']);
  });

  it('does not let a shard leave by a hop from before it came back, at whatever position that is told again', () => {
    const tracker = new ShardTracker();
    const say = (...messages: WatchMessage[]) => told(messages.flatMap((one) => tracker.apply(one)));
    const leaves = (position: number): ShardMessage => ({
      ...message('DELETED', position, shard('a', 2), shard('a', 1)),
      cause: 'filter',
    });
    say(...snapshot(1, shard('a', 1)), leaves(2), message('ADDED', 3, shard('a', 3)));
    const again = { ...leaves(9), source: 'reconcile' as const };
    expect(say(again, { ...message('ADDED', 9, shard('a', 3)), source: 'reconcile' })).toEqual([]);
  });

  it('knows a hop that is told again by its version, although its generation is that of the end of the stretch', () => {
    const tracker = new ShardTracker();
    const say = (...messages: WatchMessage[]) => told(messages.flatMap((one) => tracker.apply(one)));
    const leaves = (position: number, version: number): ShardMessage => ({
      ...message('DELETED', position, shard('a', version), shard('a', version - 1)),
      cause: 'filter',
    });
    const later = (one: ShardMessage): ShardMessage => ({
      ...one,
      position: '9',
      current: { ...(one.current as ShardView), generation: 4 },
      source: 'reconcile',
    });
    const hops = [message('ADDED', 2, shard('a', 1)), leaves(3, 2)];
    const news = [message('ADDED', 9, shard('a', 6)), leaves(9, 8)];
    say(...snapshot(1, shard('b', 3)), ...hops);
    expect(say(...[...hops, ...news].map(later))).toEqual(['ADDED a@6', 'DELETED a@8 filter']);
    expect(say(later(message('MODIFIED', 9, shard('b', 2))))).toEqual([]);
    expect(say(later(message('MODIFIED', 9, shard('b', 4))))).toEqual(['MODIFIED b@4']);
  });

  it('does not go back to an earlier life of a name, at whatever position a stretch tells of it', () => {
    const tracker = new ShardTracker();
    const say = (...messages: WatchMessage[]) => told(messages.flatMap((one) => tracker.apply(one)));
    const first = (version: number) => shard('a', version, { uid: 'first', epoch: version && 5 });
    const second = (version: number) => shard('a', version, { uid: 'second', epoch: 9 });
    // One server had only seen what came of it, another had seen it all.
    say(...snapshot(1), { ...message('ADDED', 7, second(1)), source: 'reconcile' });
    const earlier = [
      message('ADDED', 8, first(0)),
      message('MODIFIED', 8, first(1), first(0)),
      message('DELETED', 8, undefined, first(1)),
    ];
    expect(say(...earlier, message('ADDED', 8, second(1)))).toEqual([]);
    expect(say(message('MODIFIED', 9, second(2), second(1)))).toEqual(['MODIFIED a@2']);
    expect(say(message('DELETED', 10, undefined, second(2)))).toEqual(['DELETED a@2']);
    expect(say(message('ADDED', 11, shard('a', 0, { uid: 'third', epoch: 0 })))).toEqual(['ADDED a@0']);
  });
});
