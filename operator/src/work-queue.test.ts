import { silentLog } from '@meshkit/crds/log';
import { ManualClock } from '@meshkit/crds/manual-clock';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { OperatorMetrics } from './metrics.ts';
import { type Reconcile, WorkQueue } from './work-queue.ts';

let clock: ManualClock;
let metrics: OperatorMetrics;
let stop: AbortController;
let ended: Promise<void>;
let finishAll: () => void;

beforeEach(() => {
  finishAll = () => undefined;
  clock = new ManualClock();
  metrics = new OperatorMetrics({ monotonic: () => clock.monotonic() });
  stop = new AbortController();
});

afterEach(async () => {
  stop.abort();
  finishAll();
  await ended;
});

function start(reconcile: Reconcile, concurrency = 4): WorkQueue {
  const options = { name: 'set', reconcile, concurrency, clock, random: () => 1, log: silentLog, metrics };
  const queue = new WorkQueue(options);
  ended = queue.run(stop.signal);
  return queue;
}

/** Work that ends when the test says so. */
function gate() {
  const begun: string[] = [];
  const open = new Map<string, () => void>();
  const reconcile: Reconcile = async (key) => {
    begun.push(key);
    await new Promise<void>((resolve) => open.set(key, resolve));
    return {};
  };
  finishAll = () => {
    for (const finish of open.values()) finish();
  };
  return { begun, reconcile, finish: (key: string) => open.get(key)?.() };
}

it('works on a key once, however often it was added', async () => {
  const { begun, reconcile } = gate();
  const queue = start(reconcile, 1);
  for (const key of ['a', 'b', 'b', 'b', 'c']) queue.add(key);
  await clock.advance(0);
  expect(begun).toEqual(['a']);
  expect(queue.depth).toBe(2);
});

it('never works on a key twice at once; added meanwhile, it runs again afterwards', async () => {
  const { begun, reconcile, finish } = gate();
  const queue = start(reconcile);
  queue.add('a');
  await clock.advance(0);
  queue.add('a');
  queue.add('a');
  await clock.advance(1000);
  expect(begun).toEqual(['a']);
  finish('a');
  await clock.advance(0);
  expect(begun).toEqual(['a', 'a']);
});

it('works on at most so many keys at once, and a busy key holds up no other', async () => {
  const { begun, reconcile, finish } = gate();
  const queue = start(reconcile, 2);
  for (const key of ['a', 'b', 'c', 'd']) queue.add(key);
  await clock.advance(0);
  expect(begun).toEqual(['a', 'b']);
  queue.add('a');
  finish('b');
  await clock.advance(0);
  expect(begun).toEqual(['a', 'b', 'c']);
});

it('tries a failure again with doubling, capped waits, and forgets them after a success', async () => {
  const at: number[] = [];
  let failures = 9;
  const queue = start(async () => {
    at.push(clock.monotonic());
    if (failures-- > 0) throw new Error('no');
    return {};
  });
  queue.add('a');
  await clock.advance(120_000);
  const waits = at.slice(1).map((time, index) => time - (at[index] ?? 0));
  expect(waits).toEqual([50, 100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
  failures = 1;
  const before = at.length;
  queue.add('a');
  await clock.advance(60);
  expect(at.slice(before)).toHaveLength(2);
});

it('runs a key again after the time it asked for, and at once when it is added before', async () => {
  const at: number[] = [];
  const queue = start(async () => {
    at.push(clock.monotonic());
    return at.length < 3 ? { requeueAfterMs: 500 } : {};
  });
  queue.add('a');
  await clock.advance(500);
  expect(at).toEqual([0, 500]);
  await clock.advance(100);
  queue.add('a');
  await clock.advance(10_000);
  expect(at).toEqual([0, 500, 600]);
});

it('takes the earliest of several wishes', async () => {
  const at: number[] = [];
  const queue = start(async () => {
    at.push(clock.monotonic());
    return {};
  });
  queue.addAfter('a', 900);
  queue.addAfter('a', 300);
  queue.addAfter('a', 600);
  await clock.advance(2000);
  expect(at).toEqual([300]);
});

it('ends when what is under way has ended', async () => {
  const { reconcile, finish } = gate();
  const queue = start(reconcile);
  queue.add('a');
  await clock.advance(0);
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  stop.abort();
  await clock.advance(0);
  expect(isOver).toBe(false);
  finish('a');
  await ended;
});

it('tells its depth, its work and its failures', async () => {
  const queue = start(async (key) => {
    if (key === 'bad') throw new Error('no');
    return {};
  });
  queue.add('good');
  queue.add('bad');
  await clock.advance(0);
  const text = await metrics.registry.metrics();
  expect(text).toContain('workqueue_adds_total{name="set"} 2');
  expect(text).toContain('workqueue_retries_total{name="set"} 1');
  expect(text).toContain('workqueue_depth{name="set"} 0');
  expect(text).toContain('controller_runtime_reconcile_total{controller="set",result="success"} 1');
  expect(text).toContain('controller_runtime_reconcile_errors_total{controller="set"} 1');
});
