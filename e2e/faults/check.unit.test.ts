import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkRun, emptyTally, isClean, shortfalls } from './check.ts';
import {
  type HistoryEntry,
  type HistoryHeader,
  type RunHistory,
  readHistories,
  type ShardState,
  type WatcherInfo,
  writeHistory,
} from './history.ts';

const KEY = 'run-1/orders.0001';
const WATCHER: WatcherInfo = {
  id: 'w',
  kind: 'client',
  transport: 'sse',
  allowCoalescing: false,
  restarts: false,
};

function state(version: number, owner: string, more: Partial<ShardState> = {}): ShardState {
  return { uid: 'u1', generation: 1, version, epoch: 100 + version, owner, phase: 'Active', ...more };
}

function truth(position: number, after?: ShardState): HistoryEntry {
  return { kind: 'truth', position: String(position), key: KEY, state: after };
}

function told(position: number, after?: ShardState, more: object = {}): HistoryEntry {
  const type = after ? 'MODIFIED' : 'DELETED';
  const fixed = { kind: 'told', watcher: 'w', type, key: KEY } as const;
  return { ...fixed, position: String(position), uid: after?.uid ?? 'u1', state: after, ...more };
}

function mark(position: number, type: 'SYNCED' | 'BOOKMARK' = 'BOOKMARK'): HistoryEntry {
  return { kind: 'mark', watcher: 'w', type, position: String(position) };
}

function fault(phase: 'begin' | 'end', position: string): HistoryEntry {
  return { kind: 'fault', what: 'x', phase, position };
}

const LOSES_HISTORY = { mayRelist: true, mayReconstruct: true };
const RESET: HistoryEntry = { kind: 'reset', watcher: 'w', reason: 'expired' };

function history(
  entries: HistoryEntry[],
  watcher: Partial<WatcherInfo> = {},
  header: Partial<HistoryHeader> = {},
): RunHistory {
  return {
    header: {
      kind: 'run',
      run: 1,
      seed: 1,
      faultClass: 'filters',
      controlPlane: 'embedded',
      namespace: 'run-1',
      watchers: [{ ...WATCHER, ...watcher }],
      mayReset: [],
      mayRelist: false,
      mayReconstruct: false,
      ...header,
    },
    entries: [...entries, { kind: 'quiet', position: '99' }],
  };
}

function broken(...given: Parameters<typeof history>): string[] {
  return [...new Set(checkRun(history(...given)).map(({ counter, check }) => `${counter} ${check}`))].sort();
}

const [one, two, three] = [state(1, 'a'), state(2, 'b'), state(3, 'c')];
const BEGIN = [truth(1, one), told(1, one), mark(1, 'SYNCED')];

test('everything told once and in order is fine, edits of the spec included', () => {
  const edited = { ...two, generation: 2 };
  const entries = [
    ...BEGIN,
    truth(2, two),
    truth(3, edited),
    truth(4, three),
    truth(5),
    told(2, two),
    told(3, edited),
    mark(3),
    told(4, three),
    told(5),
  ];
  expect(broken(entries)).toEqual([]);
});

test('a hop that never comes is missed, also when a later one covers it up', () => {
  expect(broken([...BEGIN, truth(2, two), truth(3, three), told(3, three)])).toEqual(['missed hopMissed']);
  expect(broken([...BEGIN, truth(2, two)])).toEqual(['missed finalState', 'missed hopMissed']);
});

test('a hop that comes again is a duplicate, or out of order when others were told since', () => {
  const before = [...BEGIN, truth(2, two), truth(3, three), told(2, two)];
  expect(broken([...before, told(2, two), told(3, three)])).toEqual(['duplicated toldAgain']);
  expect(broken([...before, told(3, three), told(2, two), told(3, three)])).toEqual(['outOfOrder hopAgain']);
});

test('a deletion that is told twice is a duplicate', () => {
  expect(broken([...BEGIN, truth(2), told(2), told(2)])).toContain('duplicated hopAgain');
});

test('a bookmark must not come before its events', () => {
  expect(broken([...BEGIN, truth(2, two), mark(2), told(2, two)])).toEqual(['outOfOrder markBeforeEvents']);
  expect(broken([...BEGIN, truth(2, two), mark(2), told(2, two)], { kind: 'wire' })).toEqual([
    'outOfOrder bookmarkBeforeEvent',
    'outOfOrder markBeforeEvents',
  ]);
});

test('positions on the wire never go back, but at a reset', () => {
  const entries = [...BEGIN, truth(2, two), told(2, two), told(1, one)];
  expect(broken(entries, { kind: 'wire' })).toContain('outOfOrder positionWentBack');
  const reset = [
    ...entries.slice(0, -1),
    RESET,
    { kind: 'begin', watcher: 'w', position: '2' } as const,
    told(2, two, { row: true }),
    mark(2, 'SYNCED'),
  ];
  expect(broken(reset, { kind: 'wire' }, { mayReset: ['expired'] })).toEqual([]);
});

test('a token of a reconstructed stretch may resume before it, and only such a one', () => {
  const open = { kind: 'open', watcher: 'w', position: '1' } as const;
  const hop = told(2, two, { unsettled: true });
  const entries = [...BEGIN, truth(2, two), hop, open, mark(1), hop, mark(2)];
  expect(broken(entries, { kind: 'wire' }, { mayReconstruct: true })).toEqual([]);
  expect(broken(entries, { kind: 'wire' })).toContain('outOfOrder tokenWentBack');
});

test('on the wire an event comes once, unless it had to be reconstructed', () => {
  const before = [...BEGIN, truth(2, two)];
  const twice = (more: object) => [...before, told(2, two, more), told(2, two, more), mark(2)];
  for (const mayReconstruct of [false, true]) {
    expect(broken(twice({}), { kind: 'wire' }, { mayReconstruct })).toEqual(['duplicated toldAgain']);
    expect(broken(twice({ unsettled: true }), { kind: 'wire' }, { mayReconstruct })).toEqual([]);
    expect(broken(twice({ source: 'reconcile' }), { kind: 'wire' }, { mayReconstruct })).toEqual([]);
  }
  const gone = [...before, told(2, two), truth(3), told(3), told(3), mark(3)];
  expect(broken(gone, { kind: 'wire' })).toEqual(['duplicated toldAgain']);
});

test('a reset covers what it skips, and is counted where none is expected', () => {
  const entries = [...BEGIN, truth(2, two), truth(3, three), RESET, told(3, three), mark(3, 'SYNCED')];
  expect(broken(entries, {}, { mayReset: ['expired'] })).toEqual([]);
  expect(broken(entries)).toEqual(['unexpectedResets reset']);
  // A listing alone covers nothing.
  expect(broken(entries.filter((entry) => entry !== RESET))).toEqual(['missed hopMissed']);
});

test('a merged change covers what it stands for, and is counted where nobody asked for it', () => {
  const entries = [...BEGIN, truth(2, two), truth(3, three), told(3, three, { coalesced: 2 })];
  expect(broken(entries, { allowCoalescing: true })).toEqual([]);
  expect(broken(entries)).toEqual(['coalescedUnexpected coalesced']);
});

test('what is no hop may be merged into one in an outage, but covers no hop', () => {
  const edited = state(1, 'a', { generation: 2 });
  const moved = state(2, 'b', { generation: 2 });
  const entries = (...more: HistoryEntry[]) => [
    ...BEGIN,
    fault('begin', '1'),
    truth(2, edited),
    truth(3, moved),
    ...more.slice(0, -1),
    fault('end', '4'),
    ...more.slice(-1),
  ];
  const merged = entries(told(3, moved, { coalesced: 2 }));
  expect(broken(merged, {}, LOSES_HISTORY)).toEqual([]);
  expect(broken(merged)).toEqual(['coalescedUnexpected coalesced']);
  const again = state(3, 'c', { generation: 2 });
  const skipped = entries(truth(4, again), told(4, again, { coalesced: 3 }));
  expect(broken(skipped, {}, LOSES_HISTORY)).toEqual(['missed hopMissed']);
  // The edit was seen before the watch was lost.
  const early = [
    ...BEGIN,
    truth(2, edited),
    told(2, edited),
    fault('begin', '2'),
    truth(3, moved),
    fault('end', '3'),
  ];
  expect(broken([...early, told(3, moved, { coalesced: 2 })], {}, LOSES_HISTORY)).toEqual([
    'coalescedUnexpected coalesced',
  ]);
});

test('through a filter: entering and leaving count as hops', () => {
  const owners = { owners: ['b'] };
  const begin = [truth(1, one), mark(1, 'SYNCED'), truth(2, two), truth(3, three)];
  const leaves = told(3, three, { type: 'DELETED', cause: 'filter' });
  expect(broken([...begin, told(2, two, { type: 'ADDED' }), leaves], owners)).toEqual([]);
  expect(broken([...begin, told(2, two, { type: 'ADDED' })], owners)).toEqual([
    'missed finalState',
    'missed hopMissed',
  ]);
});

test('what was deleted while nobody could watch has no hops; what lives on has', () => {
  const reborn = state(1, 'a', { uid: 'u2', epoch: 200 });
  const entries = (during: HistoryEntry[], after: HistoryEntry[]) => [
    ...BEGIN,
    fault('begin', '1'),
    truth(2, two),
    ...during,
    fault('end', '4'),
    ...after,
    told(4),
    told(4, reborn, { type: 'ADDED' }),
  ];
  const gone = [truth(3), truth(4, reborn)];
  expect(broken(entries(gone, []), {}, LOSES_HISTORY)).toEqual([]);
  expect(broken(entries(gone, []))).toEqual(['missed hopMissed']);
  // It was there when somebody looked again.
  const later = [truth(5), truth(6, reborn)];
  expect(broken(entries([], later), {}, LOSES_HISTORY)).toEqual(['missed hopMissed']);
  // Whoever says that it was found out afterwards says that there may have been more.
  const verdict = entries(gone, []).map((entry) =>
    entry.kind === 'told' ? { ...entry, source: 'reconcile' } : entry,
  );
  expect(broken(verdict, {}, { mayReconstruct: true })).toEqual([]);
  expect(broken(verdict)).toEqual(['missed hopMissed']);
});

test('a merged change that nobody asked for is excused by an outage with more hops than a shard remembers', () => {
  const hops = Array.from({ length: 12 }, (_, at) => state(at + 2, at % 2 === 0 ? 'b' : 'a'));
  const merged = (from: number, to: number): HistoryEntry[] => [
    ...BEGIN,
    ...hops.slice(0, from).flatMap((hop) => [truth(hop.version, hop), told(hop.version, hop)]),
    fault('begin', String(from + 1)),
    ...hops.slice(from, to).map((hop) => truth(hop.version, hop)),
    fault('end', String(to + 1)),
    told(to + 1, hops[to - 1], { coalesced: to - from }),
  ];
  expect(broken(merged(0, 9), {}, LOSES_HISTORY)).toEqual([]);
  expect(broken(merged(0, 9), {}, { mayReconstruct: true })).toEqual(['coalescedUnexpected coalesced']);
  expect(broken(merged(0, 8), {}, LOSES_HISTORY)).toEqual(['coalescedUnexpected coalesced']);
  expect(broken(merged(4, 12), {}, LOSES_HISTORY)).toEqual(['coalescedUnexpected coalesced']);
});

test('epochs only grow, and each has one owner', () => {
  const inOne = state(2, 'b', { epoch: 101 });
  expect(broken([truth(1, one), truth(2, inOne), told(2, inOne), mark(2, 'SYNCED')])).toEqual([
    'twoOwners grantWithoutNewEpoch',
    'twoOwners twoOwnersInOneEpoch',
  ]);
  const reborn = state(1, 'b', { uid: 'u2', epoch: 100 });
  expect(broken([truth(1, one), truth(2), truth(3, reborn), told(3, reborn), mark(3, 'SYNCED')])).toEqual([
    'twoOwners grantWithoutNewEpoch',
  ]);
});

const RESTORED: HistoryEntry = { kind: 'restored', position: '1' };
const RENEWED: HistoryEntry = { kind: 'renewed', lineage: 'new' };
const OTHER = { kind: 'reset', watcher: 'w', reason: 'lineageChanged', lineage: 'old' } as const;
const [again, next] = [state(2, 'c', { epoch: 201 }), state(3, 'b', { epoch: 202 })];
const BACK = [...BEGIN, truth(2, two), told(2, two), RESTORED, truth(1, one), truth(3, again)];
const ANEW = [OTHER, told(3, again), mark(3, 'SYNCED')];

test('a restore brings old epochs back, but must not grant them again', () => {
  const after = (granted: ShardState) => [
    ...BACK.slice(0, -1),
    truth(3, granted),
    OTHER,
    told(3, granted),
    mark(3, 'SYNCED'),
  ];
  expect(broken(after(state(2, 'c', { epoch: 103 })))).toEqual([]);
  expect(broken(after(state(2, 'c', { epoch: 102 })))).toEqual([
    'twoOwners grantWithoutNewEpoch',
    'twoOwners notGrantedAnew',
    'twoOwners toldAnotherOwner',
    'twoOwners twoOwnersInOneEpoch',
  ]);
});

test('after a restore hops and bookmarks are checked as before', () => {
  const entries = [...BACK, ...ANEW, RENEWED, truth(4, next)];
  expect(broken([...entries, told(4, next), mark(4)])).toEqual([]);
  expect(broken([...entries, told(4, next), told(4, next)])).toEqual(['duplicated toldAgain']);
  expect(broken([...entries, mark(4), told(4, next)])).toEqual(['outOfOrder markBeforeEvents']);
  expect(broken(entries)).toEqual(['missed finalState', 'missed hopMissed']);
  const newest = state(4, 'a', { epoch: 203 });
  expect(broken([...entries, truth(5, newest), told(5, newest)])).toEqual(['missed hopMissed']);
});

test('a restore explains the resets that it leads to, and no others', () => {
  expect(broken([...BACK, RENEWED, ...ANEW])).toEqual([]);
  expect(broken([...BACK, ...ANEW, { ...OTHER, lineage: 'old~branch' }, mark(3, 'SYNCED'), RENEWED])).toEqual(
    [],
  );
  const unexpected = ['unexpectedResets reset'];
  expect(broken([...BEGIN, OTHER, mark(1, 'SYNCED'), ...BACK.slice(3), RENEWED, ...ANEW])).toEqual(
    unexpected,
  );
  expect(broken([...BACK, RENEWED, ...ANEW, { ...OTHER, lineage: 'new' }, mark(3, 'SYNCED')])).toEqual(
    unexpected,
  );
  expect(broken([...BACK, { ...OTHER, reason: 'expired' }, ...ANEW.slice(1), RENEWED])).toEqual(unexpected);
  expect(broken([...BACK, ...ANEW, { kind: 'renewed' }])).toEqual(['unexpectedResets notRenewed']);
  expect(broken([...BACK, RENEWED, told(3, again)])).toContain('missed restoreNotTold');
});

test('an API server that does not know of a restore yet may list as it was, but another reset has to follow', () => {
  const stale = [...BACK, OTHER, mark(2, 'SYNCED')];
  expect(broken([...stale, RENEWED, { ...OTHER, lineage: 'new' }, ...ANEW.slice(1)])).toEqual([]);
  expect(broken([...stale, told(3, again), mark(3)])).toEqual(['outOfOrder markBeforeEvents']);
});

test('a watcher must not be told of an owner that never was', () => {
  const wrong = { ...two, owner: 'z' };
  expect(broken([...BEGIN, truth(2, two), told(2, wrong)])).toContain('twoOwners toldAnotherOwner');
});

test('storage accepts only what the record granted', () => {
  const write = (node: string, epoch: number): HistoryEntry => {
    return { kind: 'write', node, key: KEY, epoch, accepted: true };
  };
  const entries = [...BEGIN, truth(2, two), told(2, two)];
  expect(broken([...entries, write('a', 101), write('b', 102)])).toEqual([]);
  expect(broken([...entries, write('b', 102), write('a', 101)])).toEqual(['staleWritesAccepted staleWrite']);
  expect(broken([...entries, write('b', 101)])).toEqual(['staleWritesAccepted writeWithoutGrant']);
  expect(broken([...entries, write('a', 101), write('b', 101)])).toContain('staleWritesAccepted twoWriters');
  const held: HistoryEntry = { kind: 'grant', node: 'z', key: KEY, epoch: 102 };
  expect(broken([...entries, held])).toEqual(['twoOwners holdsWithoutGrant']);
});

test('a history that was written down is judged as it was when it happened', () => {
  const folder = mkdtempSync(join(tmpdir(), 'meshkit-history-'));
  try {
    const path = join(folder, 'runs.jsonl');
    const runs = [
      history([...BEGIN, truth(2, two), told(2, two)]),
      history([...BEGIN, truth(2, two), truth(3, three), told(3, three), RESET]),
    ];
    for (const run of runs) writeHistory(path, run, true);
    const again = readHistories(path);
    expect(again.map(checkRun)).toEqual(runs.map(checkRun));
    expect(again.map((run) => checkRun(run).length > 0)).toEqual([false, true]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a campaign in which too little happened shows nothing, clean as it is', () => {
  const enough = { ...emptyTally(), runs: 30, changes: 300, resumes: 30 };
  expect(shortfalls(enough)).toEqual([]);
  const idle = { ...enough, changes: 299, resumes: 0 };
  expect(isClean(idle)).toBe(true);
  expect(shortfalls(idle)).toEqual(['299 changes in 30 runs, not 300', '0 resumes in 30 runs, not 30']);
  expect(shortfalls(emptyTally())).toEqual(['there was no run']);
  expect(shortfalls({ ...enough, missed: 1 })).toEqual([]);
});
