import { setImmediate as yieldToOthers } from 'node:timers/promises';
import type { PlacementNode, PlacementShard } from '@meshkit/shards/placement';
import { placementInput, type Step, takeStep } from './placement-step.ts';
import {
  consistentHashRing,
  MESHKIT,
  type Subject,
  statelessBoundedRendezvous,
} from './placement-subjects.ts';
import { anyWeight, clusterTrace } from './placement-trace.ts';
import { type Benchmark, distribution, machine, type Row, round } from './report.ts';
import { SeededRandom } from './seeded-random.ts';

const SHARDS = 10_000;
const NODES = 200;
const WARM_UPS = 3;
const ROUNDS = 15;
const CASES_EACH = 20;
const TRACE_STEPS = 1_000;
/** Up to this sum of weights a node of weight 1 has a fair share of 20 shards, from where max/mean <= 1.05 is promised. */
const MAX_WEIGHT = SHARDS / 20;

interface Scene {
  shards: PlacementShard[];
  nodes: PlacementNode[];
  subjects: Subject[];
  random: SeededRandom;
  progress: (line: string) => void;
}

/** Plan time, balance and churn at 10,000 shards on 200 nodes of weights 1-4, beside two stateless peers. */
export const benchmarkPlacement: Benchmark = async ({ seed, progress }) => {
  const random = new SeededRandom(seed);
  const scene: Scene = {
    shards: Array.from({ length: SHARDS }, (_, id) => ({ id: String(id).padStart(4, '0'), capacity: 1 })),
    nodes: firstNodes(random),
    subjects: [MESHKIT, consistentHashRing(), statelessBoundedRendezvous()],
    random,
    progress,
  };
  const times = planTimes(scene);
  const cases = new Map<string, Life[]>();
  for (const [name, changes] of singleChanges(scene)) cases.set(name, singles(scene, name, changes));
  const trace = await liveThrough(scene);
  cases.set(`trace of ${TRACE_STEPS} changes`, trace);

  const ours = (name: string) => cases.get(name)![0]!;
  const all = [...cases.values()].map(([life]) => life!);
  const figures = {
    planMs: times[0]!.p50,
    maxOverMean: round(Math.max(...all.map((life) => life.maxOverMean))),
    minOverMean: round(Math.min(...all.map((life) => life.minOverMean))),
    leaveChurn: round(churn(ours('leave'))),
    joinChurn: round(churn(ours('join'))),
    joinShare: round(ours('join').joinShare),
    reweighChurn: round(churn(ours('reweigh'))),
    traceChurn: round(churn(trace[0]!)),
    traceStepsOffBound: trace[0]!.stepsOffBound,
    capViolations: all.reduce((sum, life) => sum + life.capViolations, 0),
  };
  const ok =
    figures.planMs <= 150 &&
    figures.maxOverMean <= 1.05 &&
    figures.leaveChurn === 1 &&
    figures.joinChurn === 1 &&
    figures.joinShare >= 0.9 &&
    figures.traceChurn === 1 &&
    figures.traceStepsOffBound === 0 &&
    figures.capViolations === 0;
  const rows = [
    ...times,
    ...[...cases].flatMap(([name, lives]) => lives.map((life) => lifeRow(name, life, lives[0]!))),
  ];
  return { bench: 'placement', ok, machine: machine(), figures, rows };
};

function firstNodes(random: SeededRandom): PlacementNode[] {
  const nodes = Array.from({ length: NODES }, (_, index): PlacementNode => {
    return { name: `node-${index}`, weight: anyWeight(random), standing: 'eligible' };
  });
  // Weights are drawn, their sum is held below the bound by lightening the heaviest.
  let excess = nodes.reduce((sum, { weight }) => sum + weight, 0) - (MAX_WEIGHT - 8);
  for (const node of nodes) {
    if (excess <= 0 || node.weight === 1) continue;
    node.weight--;
    excess--;
  }
  return nodes;
}

/** The whole placement from nothing, subjects in turn within each round; then ours from a settled state. */
function planTimes({ shards, nodes, subjects, progress }: Scene): Row[] {
  progress(`plan time: ${SHARDS} shards on ${NODES} nodes, ${ROUNDS} rounds after ${WARM_UPS} to warm up`);
  const settled = takeStep(MESHKIT, shards, nodes).shards;
  const dead = nodes.map(
    (node, index): PlacementNode => (index === 0 ? { ...node, standing: 'notReady' } : node),
  );
  const more: PlacementNode[] = [...nodes, { name: 'joiner', weight: 2, standing: 'eligible' }];
  const inputs = [
    { name: 'plan from nothing', input: placementInput(shards, nodes), subjects },
    { name: 'plan with nothing to do', input: placementInput(settled, nodes), subjects: [MESHKIT] },
    { name: 'plan after a leave', input: placementInput(settled, dead), subjects: [MESHKIT] },
    { name: 'plan after a join', input: placementInput(settled, more), subjects: [MESHKIT] },
  ];
  const runs = inputs.flatMap(({ name, input, subjects }) =>
    subjects.map((subject) => ({ name, input, subject, times: [] as number[] })),
  );
  for (let round = 0; round < WARM_UPS + ROUNDS; round++) {
    for (const run of runs) {
      const started = performance.now();
      run.subject.place(run.input);
      if (round >= WARM_UPS) run.times.push(performance.now() - started);
    }
  }
  return runs.map(({ name, subject, times }) => ({
    subject: subject.name,
    case: name,
    unit: 'ms',
    ...distribution(times),
  }));
}

/** One node each time: gone, new, or of another weight. */
function singleChanges({ nodes, random }: Scene): [string, (readonly PlacementNode[])[]][] {
  const each = <T>(change: (index: number) => T) =>
    Array.from({ length: CASES_EACH }, (_, index) => change(index));
  return [
    ['leave', each((index) => nodes.filter((_, other) => other !== index * 7))],
    [
      'join',
      each((index) => [...nodes, { name: `joiner-${index}`, weight: 1 + (index % 4), standing: 'eligible' }]),
    ],
    [
      'reweigh',
      each((index) =>
        nodes.map((node, other) =>
          other === index * 9 ? { ...node, weight: otherWeight(node.weight, random) } : node,
        ),
      ),
    ],
  ];
}

function otherWeight(weight: number, random: SeededRandom): number {
  return 1 + ((weight + random.below(3)) % 4);
}

/** What a subject went through: the steps' moves and the worst that was seen. */
interface Life {
  subject: Subject;
  moves: number[];
  lowerBound: number;
  stepsOffBound: number;
  maxOverMean: number;
  minOverMean: number;
  capViolations: number;
  /** The least load over fair share of a node that had just joined. */
  joinShare: number;
}

function newLife(subject: Subject): Life {
  return {
    subject,
    moves: [],
    lowerBound: 0,
    stepsOffBound: 0,
    maxOverMean: 0,
    minOverMean: Number.POSITIVE_INFINITY,
    capViolations: 0,
    joinShare: Number.POSITIVE_INFINITY,
  };
}

function record(life: Life, step: Step, joiner: string | undefined): void {
  life.moves.push(step.moves);
  life.lowerBound += step.lowerBound;
  if (step.moves !== step.lowerBound) life.stepsOffBound++;
  life.maxOverMean = Math.max(life.maxOverMean, step.maxOverMean);
  life.minOverMean = Math.min(life.minOverMean, step.minOverMean);
  life.capViolations += step.capViolations;
  const joined = joiner === undefined ? undefined : step.loads.get(joiner);
  if (joined) life.joinShare = Math.min(life.joinShare, joined.load / joined.mean);
}

/** Every change from the same settled state. */
function singles(scene: Scene, name: string, changes: (readonly PlacementNode[])[]): Life[] {
  scene.progress(`${name}: ${changes.length} single changes`);
  return scene.subjects.map((subject) => {
    const settled = takeStep(subject, scene.shards, scene.nodes).shards;
    const life = newLife(subject);
    for (const nodes of changes) {
      record(life, takeStep(subject, settled, nodes), name === 'join' ? nodes.at(-1)?.name : undefined);
    }
    return life;
  });
}

/** Every change from what the one before left behind, for all subjects in step. */
async function liveThrough({ shards, nodes, subjects, random, progress }: Scene): Promise<Life[]> {
  const lives = subjects.map((subject) => ({
    life: newLife(subject),
    shards: takeStep(subject, shards, nodes).shards,
  }));
  const trace = clusterTrace(random, nodes, MAX_WEIGHT).take(TRACE_STEPS);
  let steps = 0;
  for (const { change, nodes: now } of trace) {
    for (const one of lives) {
      const step = takeStep(one.life.subject, one.shards, now);
      record(one.life, step, change === 'join' ? now.at(-1)?.name : undefined);
      one.shards = step.shards;
    }
    if (++steps % 100 === 0) progress(`trace: ${steps} of ${TRACE_STEPS} changes`);
    await yieldToOthers();
  }
  return lives.map(({ life }) => life);
}

function churn({ moves, lowerBound }: Life): number {
  return moves.reduce((sum, count) => sum + count, 0) / lowerBound;
}

/** Peers are held against the bound of a set that is kept balanced (ours): their own is that of an unbalanced one. */
function lifeRow(name: string, life: Life, balanced: Life): Row {
  return {
    subject: life.subject.name,
    case: name,
    unit: 'moves a change',
    ...distribution(life.moves),
    moves: life.moves.reduce((sum, count) => sum + count, 0),
    lowerBound: balanced.lowerBound,
    churn: round(churn({ ...life, lowerBound: balanced.lowerBound })),
    maxOverMean: round(life.maxOverMean),
    minOverMean: round(life.minOverMean),
    capViolations: life.capViolations,
    ...(Number.isFinite(life.joinShare) ? { joinShare: round(life.joinShare) } : {}),
  };
}
