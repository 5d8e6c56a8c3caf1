import { SeededRandom } from '../bench/seeded-random.ts';

/** What breaks in a run; one class at a time, so that a failure names its cause. */
export const FAULT_CLASSES = [
  'api-server-kill',
  'operator-kill',
  'leader-switch',
  'kube-apiserver-restart',
  'etcd-compaction',
  'watcher-connections',
  'kube-connections',
  'recreate',
  'resize',
  'namespace-deletion',
  'filters',
  'nodes',
  'token-below-floor',
  'restore',
] as const;

export type FaultClass = (typeof FAULT_CLASSES)[number];

export type Step =
  | { do: 'pin' | 'unpin' | 'note' | 'pause' | 'unpause' | 'recreate'; shard: number; node: number }
  | { do: 'drain' | 'undrain' | 'weight' | 'endpoint'; node: number }
  | { do: 'resize'; count: number }
  | { do: 'handoff'; mode: 'Graceful' | 'Immediate' }
  | { do: 'recreateSet' | 'deleteNamespace' }
  | { do: 'cut' | 'restartWatcher'; watcher: number }
  /** Cut, and goes on at the other API server. */
  | { do: 'switch'; watcher: number }
  | { do: 'halfOpen' | 'hold'; watcher: number; forMs: number }
  | { do: 'partition'; forMs: number };

interface TimedStep {
  /** Milliseconds from the beginning of the run. */
  atMs: number;
  step: Step;
}

export interface RunPlan {
  run: number;
  seed: number;
  faultClass: FaultClass;
  steps: TimedStep[];
}

/** Runs of one class that go on side by side, and share what breaks. */
export interface Wave {
  faultClass: FaultClass;
  /** Which one of its class, from 0 on; it also says which of several ways to break things is due (see `WAYS`). */
  index: number;
  /** Of what breaks. */
  seed: number;
  runs: RunPlan[];
}

export const NODES = ['node-1', 'node-2', 'node-3', 'node-4'];
export const FIRST_SHARDS = 8;
const MOST_SHARDS = 12;
const STEPS = 30;
/** The steps of a run are spread over this long. */
export const RUN_MS = 4_000;

type Weights = Partial<Record<Step['do'], number>>;

const COMMON: Weights = {
  pin: 5,
  unpin: 1,
  note: 3,
  pause: 1,
  unpause: 1,
  drain: 2,
  undrain: 2,
  weight: 1,
  endpoint: 1,
  resize: 1,
  recreate: 1,
  cut: 2,
  switch: 4,
  restartWatcher: 2,
};

/** Ways to break things of which a wave has time for one only: each gets a wave of its own, if there are runs enough. */
const WAYS: Partial<Record<FaultClass, number>> = { 'leader-switch': 3, restore: 2 };

/** What a class adds to, or takes from, the common steps. */
const EXTRA: Partial<Record<FaultClass, Weights>> = {
  'watcher-connections': { pin: 6, cut: 5, switch: 5, halfOpen: 3, hold: 8, restartWatcher: 3 },
  'etcd-compaction': { resize: 4, recreate: 2, switch: 4 },
  recreate: { recreate: 9, recreateSet: 1 },
  resize: { resize: 9, drain: 4, undrain: 4, handoff: 1 },
  'namespace-deletion': { resize: 2 },
  filters: { pin: 12, pause: 4, unpause: 4 },
  nodes: { partition: 3, drain: 3, undrain: 3 },
  'token-below-floor': { hold: 6, pin: 8, resize: 4 },
};

export interface PlanOptions {
  runs: number;
  seed: number;
  classes: readonly FaultClass[];
  /** Runs side by side at most. */
  width: number;
  /** Watchers of a run. */
  watchers: number;
}

/** The whole campaign. Pure: the same options give the same plan. Runs take turns among the classes. */
export function planCampaign({ runs, seed, classes, width, watchers }: PlanOptions): Wave[] {
  const byClass = new Map<FaultClass, RunPlan[]>();
  for (let run = 1; run <= runs; run += 1) {
    const faultClass = classes[(run - 1) % classes.length]!;
    const plan = planRun(run, seedOf(seed, run), faultClass, watchers);
    byClass.set(faultClass, [...(byClass.get(faultClass) ?? []), plan]);
  }
  const waves: Wave[] = [];
  for (const faultClass of classes) {
    const plans = byClass.get(faultClass) ?? [];
    const ways = Math.min(WAYS[faultClass] ?? 1, plans.length);
    const count = Math.max(ways, Math.ceil(plans.length / width));
    for (let index = 0; index < count; index += 1) {
      const place = (at: number) => Math.floor((plans.length * at) / count);
      const wave = plans.slice(place(index), place(index + 1));
      waves.push({ faultClass, index, seed: seedOf(seed, -wave[0]!.run), runs: wave });
    }
  }
  return waves;
}

function seedOf(seed: number, part: number): number {
  return Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(part, 0xc2b2ae35);
}

function planRun(run: number, seed: number, faultClass: FaultClass, watchers: number): RunPlan {
  const random = new SeededRandom(seed);
  const weights = { ...COMMON };
  for (const [name, weight] of Object.entries(EXTRA[faultClass] ?? {}))
    weights[name as Step['do']] = (weights[name as Step['do']] ?? 0) + weight;
  const steps: TimedStep[] = [];
  for (let at = 0; at < STEPS; at += 1) {
    const step = stepOf(pick(weights, random), random, watchers);
    steps.push({ atMs: Math.round(((at + random.next()) * RUN_MS) / STEPS), step });
  }
  if (faultClass === 'namespace-deletion') {
    // In the middle, so that there is something before and, under the same name, after it.
    const atMs = Math.round(RUN_MS * (0.3 + 0.2 * random.next()));
    steps.push({ atMs, step: { do: 'deleteNamespace' } });
    steps.sort((a, b) => a.atMs - b.atMs);
  }
  return { run, seed, faultClass, steps };
}

function pick(weights: Weights, random: SeededRandom): Step['do'] {
  const entries = Object.entries(weights) as [Step['do'], number][];
  let left = random.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [name, weight] of entries) {
    left -= weight;
    if (left < 0) return name;
  }
  return 'note';
}

function stepOf(name: Step['do'], random: SeededRandom, watchers: number): Step {
  const node = random.below(NODES.length);
  const shard = random.below(MOST_SHARDS);
  const watcher = random.below(watchers);
  switch (name) {
    case 'drain':
    case 'undrain':
    case 'weight':
    case 'endpoint':
      return { do: name, node };
    case 'resize':
      return { do: name, count: 3 + random.below(MOST_SHARDS - 2) };
    case 'handoff':
      return { do: name, mode: random.below(2) === 0 ? 'Graceful' : 'Immediate' };
    case 'cut':
    case 'switch':
    case 'restartWatcher':
      return { do: name, watcher };
    case 'halfOpen':
      // Some are noticed by their silence before they break.
      return { do: name, watcher, forMs: 500 + random.below(6_000) };
    case 'hold':
      return { do: name, watcher, forMs: 300 + random.below(1_500) };
    case 'partition':
      return { do: name, forMs: 500 + random.below(2_500) };
    case 'recreateSet':
    case 'deleteNamespace':
      return { do: name };
    default:
      return { do: name, shard, node };
  }
}
