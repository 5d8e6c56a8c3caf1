import { API_VERSION, type ShardAssignment } from '@meshkit/shards/records';
import { describe, expect, it } from 'vitest';
import { Timeline } from './timeline.ts';

function shard(id: string, version: string, owner = 'node-1', uid = `u-${id}`): ShardAssignment {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace: 'a', name: `orders.${id}`, uid, resourceVersion: version },
    spec: { shardSet: 'orders', shardId: id },
    status: { phase: 'Active', owner, epoch: 1, version: Number(version) },
  };
}

function setUp(changes = 100, monotonic = () => 0, bytes = 1 << 30) {
  const timeline = new Timeline({ changes, bytes }, { monotonic, now: () => 0 });
  timeline.apply({
    type: 'REPLACED',
    items: [shard('1', '5'), shard('2', '6'), shard('3', '7')],
    resourceVersion: '10',
  });
  const told = () => {
    const found: string[] = [];
    for (let at = timeline.ring.last - timeline.ring.size + 1; at <= timeline.ring.last; at += 1) {
      const { position, ordinal, key, before, after } = timeline.ring.at(at)!.change;
      const what = before && after ? '~' : after ? '+' : '-';
      found.push(`${position}.${ordinal} ${what}${key}`);
    }
    return found;
  };
  return { timeline, told };
}

describe('a timeline', () => {
  it('starts with a list, and tells no change of it', () => {
    const { timeline, told } = setUp();
    expect(told()).toEqual([]);
    expect([timeline.position, timeline.size, timeline.branch]).toEqual(['10', 3, '']);
  });

  it.each([
    ['their number', 2, 1 << 30, false],
    ['their memory', 100, 3_500, true],
  ])('forgets changes for %s, and says so', (_why, changes, bytes, cramped) => {
    const { timeline } = setUp(changes, undefined, bytes);
    expect(timeline.ring.isCramped).toBe(false);
    for (let version = 11; version < 20; version += 1)
      timeline.apply({ type: 'MODIFIED', object: shard('1', String(version)) });
    expect([timeline.ring.size, timeline.ring.isCramped]).toEqual([2, cramped]);
  });

  it('makes changes of what a later list differs in, in their order; deletions come last', () => {
    const { timeline, told } = setUp();
    timeline.apply({
      type: 'REPLACED',
      items: [shard('4', '14'), shard('3', '12', 'node-2'), shard('2', '6'), shard('5', '13')],
      resourceVersion: '20',
    });
    expect(told()).toEqual(['12.0 ~a/orders.3', '13.0 +a/orders.5', '14.0 +a/orders.4', '20.0 -a/orders.1']);
    expect(timeline.position).toBe('20');
    // In between nobody knows how it was; before and after it is known.
    expect(timeline.page({}, 10, undefined, '13')).toBeUndefined();
    expect(timeline.page({}, 10, undefined, '10')?.items).toHaveLength(3);
    expect(timeline.page({}, 10, undefined, '20')?.items).toHaveLength(4);
  });

  it('tells a shard that was deleted and created again unseen as two changes', () => {
    const { timeline, told } = setUp();
    const items = [shard('1', '5'), shard('2', '15', 'node-1', 'another'), shard('3', '7')];
    timeline.apply({ type: 'REPLACED', items, resourceVersion: '20' });
    expect(told()).toEqual(['15.0 -a/orders.2', '15.1 +a/orders.2']);
  });

  it('moves on without a change when nothing that is served changed', () => {
    const { timeline, told } = setUp();
    const { metadata, ...rest } = shard('1', '5');
    const annotated = { ...metadata, resourceVersion: '11', annotations: { note: 'x' } };
    timeline.apply({ type: 'MODIFIED', object: { ...rest, metadata: annotated } });
    expect(told()).toEqual([]);
    expect(timeline.position).toBe('11');
    expect(timeline.get('a', 'orders.1')?.metadata.resourceVersion).toBe('11');
  });

  it('starts anew when the list is of an older time, though its version may be larger', () => {
    const { timeline, told } = setUp();
    const { restarts } = timeline;
    timeline.apply({ type: 'DELETED', object: shard('3', '12') });
    // Shard 3 is back at a version that was passed long ago.
    const items = [shard('1', '5'), shard('2', '6'), shard('3', '7')];
    timeline.apply({ type: 'REPLACED', items, resourceVersion: '30' });
    expect(told()).toEqual([]);
    expect(timeline.restarts).toBe(restarts + 1);
    expect(timeline.branch).not.toBe('');
  });

  it('forgets the oldest changes, and then the states before them', () => {
    const { timeline } = setUp(2);
    for (const version of ['11', '12', '13']) {
      timeline.apply({ type: 'MODIFIED', object: shard('1', version) });
    }
    expect(timeline.ring.floor.position).toBe('11');
    expect(timeline.page({}, 10, undefined, '10')).toBeUndefined();
    expect(timeline.page({}, 10, undefined, '11')?.items[0]?.metadata.resourceVersion).toBe('11');
  });

  it('keeps of who wrote a record only what tells who wrote its spec', () => {
    const { timeline } = setUp();
    const { metadata, ...rest } = shard('1', '11');
    const managedFields = [
      { manager: 'kubectl', operation: 'Apply', time: 't1', fieldsV1: { 'f:spec': {} } },
      { manager: 'operator', operation: 'Update', time: 't2', subresource: 'status', fieldsV1: {} },
    ];
    timeline.apply({ type: 'MODIFIED', object: { ...rest, metadata: { ...metadata, managedFields } } });
    expect(timeline.get('a', 'orders.1')?.metadata.managedFields).toEqual([
      { manager: 'kubectl', operation: 'Apply', time: 't1' },
    ]);
  });
});

describe('what somebody has not heard', () => {
  function changing(changes?: number) {
    let time = 0;
    const { timeline } = setUp(changes, () => time);
    const at = (now: number, version: string) => {
      time = now;
      timeline.apply({ type: 'MODIFIED', object: shard('1', version) });
      return timeline.head;
    };
    return { timeline, at, pass: (now: number) => (time = now) };
  }

  it('waits since the first change after what they know', () => {
    const { timeline, at } = changing();
    const before = timeline.head;
    const first = at(100, '11');
    const second = at(200, '12');
    expect([before, first, second].map((mark) => timeline.changedSince(mark))).toEqual([100, 200, undefined]);
    // They know more than we do.
    expect(timeline.changedSince({ position: '15', ordinal: 0, anchor: 'other' })).toBeUndefined();
  });

  it('is nothing when they have the same state, though a list gave a deletion a larger position here', () => {
    const { timeline, pass } = changing();
    const { timeline: theirs } = setUp();
    theirs.apply({ type: 'DELETED', object: shard('3', '12') });
    pass(100);
    timeline.apply({ type: 'REPLACED', items: [shard('1', '5'), shard('2', '6')], resourceVersion: '20' });
    expect(timeline.changedSince(theirs.head)).toBeUndefined();
    pass(300);
    timeline.apply({ type: 'MODIFIED', object: shard('1', '21') });
    expect(timeline.changedSince(theirs.head)).toBe(300);
  });

  it('waits at least since what is still known', () => {
    const { timeline, at } = changing(1);
    const before = timeline.head;
    at(100, '11');
    at(200, '12');
    expect(timeline.changedSince(before)).toBe(200);
  });

  it('waits since the beginning when they are behind that', () => {
    const { timeline, pass } = changing();
    pass(500);
    expect(timeline.changedSince({ position: '4', ordinal: 0, anchor: 'other' })).toBe(0);
    expect(timeline.changedSince({ ...timeline.head, position: '4' })).toBeUndefined();
  });
});
