import { cpSync, mkdirSync } from 'node:fs';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ControlPlaneKind, planeFiles } from '../control-plane/control-plane.ts';
import { breakThings, type FaultNote, readyAgain, renewedLineage, restore } from './breaking.ts';
import { checkRun, count, emptyTally, type Tally } from './check.ts';
import { type HistoryEntry, type RunHistory, writeHistory } from './history.ts';
import { Run, WATCHERS } from './run.ts';
import { FAULT_CLASSES, type FaultClass, planCampaign, type Wave } from './schedule.ts';
import { Stage } from './stage.ts';
import type { Violation } from './violation.ts';

export interface CampaignOptions {
  runs: number;
  seed: number;
  controlPlane: ControlPlaneKind;
  /** Absent: every class that the control plane can do. */
  classes?: readonly FaultClass[];
  /** Only this run, with what breaks around it. */
  only?: number;
  /** Runs side by side. */
  width: number;
  /** Where histories go. */
  out: string;
  /** Keep the histories of runs in which everything held, too. */
  keepAll: boolean;
  /** How long watchers may need at the end of a run, in milliseconds. */
  patienceMs: number;
  nodeArguments: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  say: (line: string) => void;
  signal: AbortSignal;
}

/** At most this many histories are kept; each is some hundred kilobytes. */
const MOST_HISTORIES = 400;
const SAVE_AFTER_MS = 800;
/** Words about violations of one run on stderr. */
const SHOWN = 12;

/** Runs the plan, wave by wave, and checks every run's history. Rejects when the harness itself fails, which is no verdict. */
export async function runCampaign(options: CampaignOptions): Promise<Tally> {
  const { runs, seed, controlPlane, width, only, say, signal, out } = options;
  mkdirSync(out, { recursive: true });
  const classes =
    options.classes ?? FAULT_CLASSES.filter((name) => controlPlane === 'real' || name !== 'restore');
  const waves = planCampaign({ runs, seed, classes, width, watchers: WATCHERS.length }).flatMap((wave) => {
    const chosen = wave.runs.filter(({ run }) => only === undefined || run === only);
    return chosen.length > 0 ? [{ ...wave, runs: chosen }] : [];
  });
  const tally = emptyTally();
  let stage: Stage | undefined;
  let key: string | undefined;
  let kept = 0;
  const began = performance.now();
  try {
    for (const wave of waves) {
      signal.throwIfAborted();
      const wanted = stageOf(wave.faultClass);
      if (wanted !== key) {
        await stage?.stop();
        stage = undefined;
        stage = await Stage.start({
          ...options,
          say: () => undefined,
          shortMemory: wanted === 'short memory',
        });
        key = wanted;
      }
      const histories = await runWave(stage!, wave, options.patienceMs).catch((error: unknown) => {
        // The folder goes with the stage.
        cpSync(stage!.product.logs, join(out, 'logs'), { recursive: true });
        say(`the logs of the product: ${join(out, 'logs')}`);
        throw error;
      });
      for (const history of histories) {
        const violations = checkRun(history);
        count(tally, history, violations);
        if ((violations.length > 0 || options.keepAll) && kept < MOST_HISTORIES) {
          kept += 1;
          writeHistory(join(out, `run-${history.header.run}.jsonl`), history);
        }
        report(history, violations, out, say);
      }
      const seconds = ((performance.now() - began) / 1_000).toFixed(0);
      say(`${tally.runs} of ${runs} runs after ${seconds} s: ${wave.faultClass}`);
    }
    if (stage && options.keepAll) cpSync(stage.product.logs, join(out, 'logs'), { recursive: true });
  } finally {
    await stage?.stop();
  }
  return tally;
}

/** Taking the copy for a restore restarts kube-apiserver as well. */
const LOSE_HISTORY: readonly FaultClass[] = ['kube-apiserver-restart', 'etcd-compaction', 'restore'];
const EXPECTED_RESETS: Partial<Record<FaultClass, string[]>> = { 'token-below-floor': ['expired'] };

/** Classes with the same name share a control plane and a product; those that damage it for others have their own. */
function stageOf(faultClass: FaultClass): string {
  if (faultClass === 'token-below-floor') return 'short memory';
  return faultClass === 'restore' ? 'restore' : 'common';
}

async function runWave(stage: Stage, wave: Wave, patienceMs: number): Promise<RunHistory[]> {
  const { faultClass, index, runs: plans } = wave;
  const mayRelist = LOSE_HISTORY.includes(faultClass);
  const killsApiServers = faultClass === 'api-server-kill' || faultClass === 'token-below-floor';
  const header = {
    mayReset: EXPECTED_RESETS[faultClass] ?? [],
    mayRelist,
    mayReconstruct: mayRelist || killsApiServers,
  };
  const runs = plans.map((plan) => new Run(stage, plan, header, patienceMs));
  try {
    await Promise.all(runs.map((run) => run.prepare()));
    const record = (entry: HistoryEntry) => {
      for (const { recorder } of runs) recorder.add(entry);
    };
    const note: FaultNote = async (what, phase) => {
      const known = () => (phase === 'begin' ? stage.knownToAll() : stage.knownToAny());
      // Where nobody loses history, nothing hangs on it, and an API server that is away need not be asked.
      record({ kind: 'fault', what, phase, position: mayRelist ? await known() : stage.oracle.position });
    };
    const act = () => runs.map((run) => run.act());
    if (faultClass === 'restore') {
      const [copy] = await Promise.all([saveSoon(stage, note), ...act()]);
      await Promise.all(runs.map((run) => run.rest()));
      const before = await stage.lineage();
      await note('restore', 'begin');
      await restore(stage, copy, index);
      const renewed = renewedLineage(stage, before).then((lineage) => {
        record({ kind: 'renewed', lineage });
        return note('restore', 'end');
      });
      // Shards move while not everybody knows yet, and again in the new lineage.
      await Promise.all([renewed, ...act()]);
      await Promise.all(act());
    } else await Promise.all([breakThings(stage, wave, note), ...act()]);
    await Promise.all(runs.map((run) => run.settle()));
  } finally {
    await Promise.allSettled(runs.map((run) => run.end()));
  }
  return runs.map(({ recorder }) => recorder.history);
}

/** A copy of the store from the middle of things; resolves with its folder. */
async function saveSoon(stage: Stage, note: FaultNote): Promise<string> {
  await sleep(SAVE_AFTER_MS);
  await note('copy etcd', 'begin');
  const { plane } = stage;
  const { etcdData } = planeFiles(plane.folder);
  const copy = `${etcdData}-copy`;
  // Of an earlier wave.
  await rm(copy, { recursive: true, force: true });
  await plane.restart({ whileDown: () => cp(etcdData, copy, { recursive: true }) });
  await readyAgain(stage);
  await note('copy etcd', 'end');
  return copy;
}

export function report(
  { header, entries }: RunHistory,
  violations: readonly Violation[],
  out: string | undefined,
  say: (line: string) => void,
): void {
  if (violations.length === 0) return;
  const { run, faultClass } = header;
  say(`run ${run} (${faultClass}): ${violations.length} promises broken in ${entries.length} entries`);
  for (const { counter, check, subject, detail } of violations.slice(0, SHOWN))
    say(`    ${counter} · ${check} · ${subject}: ${detail}`);
  if (out !== undefined) say(`    history: ${join(out, `run-${run}.jsonl`)}`);
}
