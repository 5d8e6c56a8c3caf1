import { cp, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { SeededRandom } from '../bench/seeded-random.ts';
import { planeFiles } from '../control-plane/control-plane.ts';
import { RUN_MS, type Wave } from './schedule.ts';
import { type ApiServer, OPERATOR_LEASE_MS, type Stage } from './stage.ts';

/** What is noted of each fault, in every run that goes on meanwhile. */
export type FaultNote = (what: string, phase: 'begin' | 'end') => Promise<void>;

interface Breaking {
  stage: Stage;
  random: SeededRandom;
  note: FaultNote;
  /** Of the wave; see `WAYS` in schedule.ts. */
  index: number;
  /** Monotonic time after which nothing more is broken. */
  until: number;
}

/**
 * Breaks what the class says, again and again while the runs of a wave do their steps; resolves when everything works again.
 * The seed decides what and when. Classes that are not here break things by the steps of their runs alone.
 */
export async function breakThings(
  stage: Stage,
  { faultClass, index, seed }: Wave,
  note: FaultNote,
): Promise<void> {
  const breaking = BREAKING[faultClass];
  if (!breaking) return;
  const random = new SeededRandom(seed);
  await sleep(random.below(400));
  await breaking({ stage, random, note, index, until: performance.now() + RUN_MS - 600 });
}

const BREAKING: Partial<Record<Wave['faultClass'], (breaking: Breaking) => Promise<void>>> = {
  'api-server-kill': killApiServers,
  'operator-kill': killOperators,
  'leader-switch': switchLeaders,
  'kube-apiserver-restart': restartKube,
  'etcd-compaction': compact,
  'kube-connections': breakKubeLinks,
  'token-below-floor': killApiServers,
  nodes: suspendNodes,
};

/** One after another: while one is away, its watchers go to the other. */
async function killApiServers({ stage, random, note, until }: Breaking): Promise<void> {
  let next = random.below(2);
  do {
    const server = stage.apiServers[next] as ApiServer;
    next = 1 - next;
    await note(`kill ${server.name}`, 'begin');
    await server.replica.child.kill();
    await sleep(random.below(400));
    await stage.startApiServer(server);
    await note(`kill ${server.name}`, 'end');
    await sleep(random.below(300));
  } while (performance.now() < until);
}

async function killOperators({ stage, random, note, until }: Breaking): Promise<void> {
  do {
    const leader = await stage.leader();
    const both = random.below(3) === 0;
    const victims = both ? stage.operators : [leader];
    await note('kill operator', 'begin');
    await Promise.all(victims.map(({ child }) => child.kill()));
    await sleep(random.below(400));
    await Promise.all(victims.map((operator) => stage.startOperator(operator)));
    // The other one, or the new one, leads once the Lease has run out.
    await sleep(random.below(OPERATOR_LEASE_MS));
    await note('kill operator', 'end');
  } while (performance.now() < until);
}

/** The old leader comes back and believes that it still leads; or loses its connection; or goes by itself: a wave of each. */
async function switchLeaders({ stage, random, note, index, until }: Breaking): Promise<void> {
  const how = index % 3;
  do {
    const leader = await stage.leader();
    await note('switch leader', 'begin');
    if (how === 0) {
      leader.child.pause();
      await sleep(OPERATOR_LEASE_MS + 300 + random.below(1_000));
      leader.child.resume();
    } else if (how === 1) {
      leader.kube.freeze();
      leader.kube.refuse(true);
      await sleep(OPERATOR_LEASE_MS + 300 + random.below(500));
      leader.kube.refuse(false);
      leader.kube.thaw();
    } else {
      await leader.child.stop();
      await stage.startOperator(leader);
    }
    await note('switch leader', 'end');
    await sleep(random.below(300));
  } while (performance.now() < until);
}

async function restartKube({ stage, random, note, until }: Breaking): Promise<void> {
  do {
    await note('restart kube-apiserver', 'begin');
    await stage.plane.restart({ downMs: random.below(600) });
    await readyAgain(stage);
    await note('restart kube-apiserver', 'end');
    await sleep(300 + random.below(700));
  } while (performance.now() < until);
}

/** The product is cut off, the world goes on, and what happened meanwhile is in no history any more when it is back. */
async function compact({ stage, random, note, until }: Breaking): Promise<void> {
  do {
    await note('compact etcd', 'begin');
    // Everybody; or the operators stay, so that shards move while no API server looks; or one API server knows what the other missed.
    const servers = stage.apiServers.map(({ kube }) => kube);
    const [one] = random.below(2) === 0 ? servers : servers.toReversed();
    const links = [stage.kubeLinks, servers, [one!], [one!]][random.below(4)]!;
    for (const link of links) {
      link.refuse(true);
      link.reset();
    }
    await sleep(200 + random.below(600));
    await stage.oracle.settled();
    await stage.plane.compactEtcd();
    for (const link of links) link.refuse(false);
    await readyAgain(stage);
    await note('compact etcd', 'end');
    await sleep(300 + random.below(500));
  } while (performance.now() < until);
}

async function breakKubeLinks({ stage, random, note, until }: Breaking): Promise<void> {
  do {
    const link = stage.kubeLinks[random.below(stage.kubeLinks.length)]!;
    await note('break link', 'begin');
    if (random.below(3) === 0) {
      link.freeze();
      await sleep(300 + random.below(1_200));
      link.thaw();
    } else link.reset();
    await note('break link', 'end');
    await sleep(random.below(250));
  } while (performance.now() < until);
}

/** For longer than their Leases last, so that their shards are granted elsewhere while they believe to own them. */
async function suspendNodes({ stage, random, note }: Breaking): Promise<void> {
  await note('suspend nodes', 'begin');
  stage.fleets[1].pause();
  await sleep(3_400 + random.below(900));
  stage.fleets[1].resume();
  await note('suspend nodes', 'end');
}

/**
 * Sets the cluster back to a copy, as after a disaster. Either the product lives through it and has to notice by itself, or it was
 * down as well and a person says so with `--new-lineage`: a wave of each. Resolves when it works again, perhaps with the lineage
 * from before still.
 */
export async function restore(stage: Stage, copy: string, index: number): Promise<void> {
  const { oracle, plane } = stage;
  const survives = index % 2 === 0;
  await oracle.settled();
  if (!survives) await stage.killProduct();
  const { etcdData } = planeFiles(plane.folder);
  const setBack = async () => {
    await rm(etcdData, { recursive: true });
    await cp(copy, etcdData, { recursive: true });
  };
  await oracle.aroundRestore((etcdAlone) => plane.restart({ whileDown: setBack, etcdAlone }));
  if (!survives) await stage.startProduct(['--new-lineage', `wave-${index}`]);
  await readyAgain(stage);
}

/** A takeover, and what a busy machine needs beyond it. */
const RENEWED_WITHIN_MS = 20_000;
/** An API server that has heard of a new lineage lists once more. */
const RENEWED_FOR_MS = 500;

/** The lineage that the journal and all API servers have after a restore; undefined when they come to none in time. */
export async function renewedLineage(stage: Stage, before: string): Promise<string | undefined> {
  const deadline = performance.now() + RENEWED_WITHIN_MS;
  let since: number | undefined;
  while (performance.now() < deadline) {
    const lineage = await stage.lineage();
    const served = await stage.served();
    if (lineage === before || served.some((one) => one.lineage !== lineage)) since = undefined;
    else since ??= performance.now();
    if (since !== undefined && performance.now() - since >= RENEWED_FOR_MS) return lineage;
    await sleep(50);
  }
  return undefined;
}

const READY_WITHIN_MS = 30_000;

/** Every API server says again that it is up to date. */
export async function readyAgain(stage: Stage): Promise<void> {
  const deadline = performance.now() + READY_WITHIN_MS;
  for (const { replica } of stage.apiServers) {
    for (;;) {
      const answer = await fetch(`${replica.healthUrl}/readyz`).catch(() => undefined);
      await answer?.text();
      if (answer?.status === 200) break;
      if (performance.now() > deadline) throw new Error(`${replica.name} is not ready again within 30 s`);
      await sleep(30);
    }
  }
}
