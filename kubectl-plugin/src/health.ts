import type { ServerStatus } from '@meshkit/client/backend';
import { ERRORS } from '@meshkit/shards/errors';
import { quoted } from '@meshkit/shards/scope';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import { age } from './age.ts';
import type { Component } from './components.ts';
import type { SameFlags } from './connection.ts';

/** What `status` looked at, all of one moment as far as that is possible. */
export interface Facts {
  /** Absent: all namespaces. */
  namespace?: string;
  /** Undefined: could not be had; then the component that should have given them is bad. */
  shards?: readonly ShardView[];
  nodes?: readonly NodeView[];
  components: readonly Component[];
  /** As the API server says; undefined: it was not asked, or does not tell. */
  server?: ServerStatus;
  /** Milliseconds since the Unix epoch. */
  now: number;
  /** `kubectl mesh shards`, for the commands to run next. */
  program: string;
  /** Flags for them, so that they ask the cluster that was looked at. */
  same: SameFlags;
  /** Where the operator's leader Lease lives, and so its pods. */
  leaseNamespace: string;
}

type ProblemKind =
  | 'lost'
  | 'overdue'
  | 'unplaceable'
  | 'unowned'
  | 'stalled'
  | 'nodeNotReady'
  | 'notTakenUp'
  | 'component';

export interface Problem {
  kind: ProblemKind;
  /** `note`: worth knowing, but nothing is wrong because of it. */
  severity: 'bad' | 'note';
  /** What it is, in a few words that fit one and several. */
  title: string;
  /** Names of shards or nodes, `namespace/name`, all of them. */
  subjects: { namespace: string; name: string }[];
  detail: string;
  /** The command to run next. */
  next: string;
}

export interface Health {
  ok: boolean;
  namespace?: string;
  /** Absent when they could not be read. */
  shards?: { total: number; owned: number } & Record<Lowercase<ShardView['phase']>, number>;
  nodes?: { total: number; ready: number };
  components: Omit<Component, 'error' | 'finding'>[];
  /** What the API server says of itself and its journal. */
  server?: ServerStatus;
  problems: Problem[];
}

/** The operator ends a drain at its deadline; clocks differ, and a write takes a moment. */
const DRAIN_GRACE_MS = 10_000;

/** What is wrong now, worst first. Pure. */
export function healthOf(facts: Facts): Health {
  const problems = [
    ...componentProblems(facts),
    ...(facts.shards ? shardProblems(facts.shards, facts) : []),
    ...(facts.nodes ? nodeProblems(facts.nodes, facts) : []),
  ].sort((a, b) => Number(a.severity === 'note') - Number(b.severity === 'note'));
  return {
    ok: problems.every(({ severity }) => severity === 'note'),
    namespace: facts.namespace,
    shards: facts.shards && countsOf(facts.shards),
    nodes: facts.nodes && {
      total: facts.nodes.length,
      ready: facts.nodes.filter(({ ready }) => ready).length,
    },
    components: facts.components.map(({ error: _, finding: __, ...component }) => component),
    server: facts.server,
    problems,
  };
}

function countsOf(shards: readonly ShardView[]): Health['shards'] {
  const of = (phase: ShardView['phase']) => shards.filter((shard) => shard.phase === phase).length;
  return {
    total: shards.length,
    // As ShardSet.status.owned counts: of a Lost shard the owner is on record only.
    owned: shards.filter(({ owner, phase }) => owner !== undefined && phase !== 'Lost').length,
    pending: of('Pending'),
    active: of('Active'),
    draining: of('Draining'),
    paused: of('Paused'),
    disabled: of('Disabled'),
    lost: of('Lost'),
  };
}

function componentProblems({ components, program, namespace, same, leaseNamespace }: Facts): Problem[] {
  const titles = {
    api: 'the MeshKit API server does not serve',
    operator: 'no operator works',
    kubernetes: 'Kubernetes does not answer',
    journal: 'the journal lags behind',
  };
  // The operator's Lease is read from Kubernetes: without an answer, direct mode has none either.
  const isKubernetesSilent = components.some(
    ({ name, error }) => name === 'operator' && error && ERRORS[error.code].exit === ERRORS.unavailable.exit,
  );
  const where = namespace === undefined ? '-A' : `-n ${namespace}`;
  const clusterInfo = `kubectl cluster-info${same.kubectl}`;
  const pods = `kubectl get pods -n ${quoted(leaseNamespace)}${same.kubectl}`;
  const next = {
    api: isKubernetesSilent ? clusterInfo : `${program} status ${where} --mode direct${same.kubectl}`,
    operator: pods,
    kubernetes: clusterInfo,
    journal: pods,
  };
  return components
    .filter(({ state }) => state === 'bad')
    .map(({ name, detail, finding }) => ({
      kind: 'component',
      severity: 'bad',
      title: finding ?? titles[name],
      subjects: [],
      detail,
      next: next[name],
    }));
}

/** Conditions that the operator sets on shards that it cannot place. */
const UNPLACEABLE = ['NoNodes', 'NoEligibleNode', 'NoNodeInLocality', 'NoPin', 'PinnedNodeNotEligible'];

function shardProblems(shards: readonly ShardView[], facts: Facts): Problem[] {
  const groups = new Map<string, Omit<Problem, 'subjects' | 'next'> & { shards: ShardView[] }>();
  for (const shard of shards) {
    const found = problemOf(shard, facts.now);
    if (!found) continue;
    // Shards with the same trouble are one line; what differs is in the detail.
    const key = `${found.kind}\0${found.detail}`;
    const group = groups.get(key) ?? { ...found, shards: [] };
    group.shards.push(shard);
    groups.set(key, group);
  }
  const order: ProblemKind[] = ['lost', 'unplaceable', 'unowned', 'overdue', 'stalled', 'notTakenUp'];
  return [...groups.values()]
    .sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))
    .map(({ shards: affected, ...group }) => ({
      ...group,
      subjects: affected.map(({ namespace, name }) => ({ namespace, name })),
      next: nextFor(group.kind, affected[0] as ShardView, facts),
    }));
}

function problemOf(shard: ShardView, now: number): Omit<Problem, 'subjects' | 'next'> | undefined {
  const { phase, state, owner, move, conditions = [] } = shard;
  const said = conditions.find(({ type, status }) => type === 'Stalled' && status === 'True');
  const bad = { severity: 'bad' as const };
  if (phase === 'Lost') {
    const detail = said?.message || 'the owner is dead, and nobody could take its place';
    return { ...bad, kind: 'lost', title: 'without a living owner', detail };
  }
  if (owner === undefined && state === 'Active') {
    const why = conditions.find(({ reason }) => UNPLACEABLE.includes(reason));
    if (why) return { ...bad, kind: 'unplaceable', title: 'that cannot be placed', detail: why.message };
    const message = conditions.find(({ type }) => type === 'Ready')?.message;
    const detail = said?.message || message || 'not placed by the operator yet';
    return { ...bad, kind: 'unowned', title: 'without an owner', detail };
  }
  if (move && Date.parse(move.deadline) + DRAIN_GRACE_MS < now) {
    const target = move.to === undefined ? 'be retired' : `move to ${move.to}`;
    const detail = `should ${target}, past the deadline for ${age(move.deadline, now)}: the operator should have ended it`;
    return { ...bad, kind: 'overdue', title: 'draining past the deadline', detail };
  }
  if (said) return { ...bad, kind: 'stalled', title: 'stalled', detail: said.message };
  if (shard.observedGeneration < shard.generation) {
    const detail = 'the spec changed, and the operator has not taken it up yet';
    return { severity: 'note', kind: 'notTakenUp', title: 'waiting for the operator', detail };
  }
  return undefined;
}

function nextFor(kind: ProblemKind, { namespace, name }: ShardView, { program, same }: Facts): string {
  const verb = kind === 'overdue' ? 'history' : kind === 'notTakenUp' ? 'get' : 'explain';
  return `${program} ${verb} ${name} -n ${namespace}${same.mesh}`;
}

function nodeProblems(nodes: readonly NodeView[], { program, same }: Facts): Problem[] {
  return nodes
    .filter(({ ready }) => !ready)
    .map((node) => {
      const { namespace, name, shards, scheduling } = node;
      // One that was emptied on purpose may be gone for good.
      const isRetired = shards === 0 && scheduling === 'Drain';
      return {
        kind: 'nodeNotReady',
        severity: isRetired ? 'note' : 'bad',
        title: 'node is not ready',
        subjects: [{ namespace, name }],
        detail: isRetired
          ? 'drained, and has no shards any more: it may be deleted'
          : `has ${shards} shards; its Lease meshnode-${name} is not renewed`,
        next: isRetired
          ? `kubectl delete meshnode ${name} -n ${namespace}${same.kubectl}`
          : shards > 0
            ? `${program} list --owner ${name} -n ${namespace}${same.mesh}`
            : `kubectl describe meshnode ${name} -n ${namespace}${same.kubectl}`,
      } satisfies Problem;
    });
}
