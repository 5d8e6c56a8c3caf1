import type { Situation } from './decide-situation.ts';
import { conditionsFor } from './decide-status.ts';
import type { Verdict } from './decide-step.ts';
import type { EffectiveSet } from './defaults.ts';
import type { PlacementNode, Plan } from './placement.ts';
import type { ShardSet, ShardSetStatus } from './records.ts';
import { semanticallyEqual } from './semantic-equality.ts';

export interface SetFacts {
  set: ShardSet;
  settings: EffectiveSet;
  situations: readonly Situation[];
  missing: number;
  /** Shards that may not be placed before the journal has said whose they were. */
  awaiting: number;
  nodes: readonly PlacementNode[];
  plan: Plan;
  /** Planned moves that are wanted and have not started. */
  waiting: number;
  now: number;
}

/** The aggregates of a ShardSet, from what its shards' statuses say now; undefined when nothing changed. */
export function nextSetStatus(facts: SetFacts): ShardSetStatus | undefined {
  const { set, situations, plan } = facts;
  const counts = { owned: 0, draining: 0, unplaceable: 0, lost: 0 };
  const loads = new Map<string, number>();
  for (const { phase, owner, intent, capacity, id } of situations) {
    if (phase === 'Lost') counts.lost += 1;
    else if (owner !== undefined) counts.owned += 1;
    if (phase === 'Draining') counts.draining += 1;
    if (owner === undefined && intent === 'Active' && plan.unplaceable.has(id)) counts.unplaceable += 1;
    if (owner !== undefined && phase !== 'Lost') loads.set(owner, (loads.get(owner) ?? 0) + capacity);
  }
  const eligible = facts.nodes.filter((node) => node.standing === 'eligible');
  const status: ShardSetStatus = {
    observedGeneration: set.metadata.generation,
    shards: situations.filter(belongs).length + facts.missing,
    ...counts,
    nodes: eligible.length,
    balance: balanceOf(eligible, loads),
    conditions: conditionsFor(verdictOf(facts, counts), set.status?.conditions, facts.now),
  };
  return semanticallyEqual(status, set.status) ? undefined : status;
}

/** Shards of the set, and those that still have to leave it. */
function belongs({ intent, owner }: Situation): boolean {
  return intent !== 'Retired' || owner !== undefined;
}

/** For a spec that the operator cannot read, which a server without CEL may let through. */
export function invalidSetStatus(set: ShardSet, message: string, now: number): ShardSetStatus | undefined {
  const verdict: Verdict = { state: 'Stalled', reason: 'InvalidSpec', message };
  const status: ShardSetStatus = {
    ...set.status,
    observedGeneration: set.metadata.generation,
    conditions: conditionsFor(verdict, set.status?.conditions, now),
  };
  return semanticallyEqual(status, set.status) ? undefined : status;
}

/** Load over fair share, of the fullest and the emptiest eligible node. */
function balanceOf(
  eligible: readonly PlacementNode[],
  loads: ReadonlyMap<string, number>,
): ShardSetStatus['balance'] {
  const weights = eligible.reduce((sum, node) => sum + node.weight, 0);
  const total = eligible.reduce((sum, node) => sum + (loads.get(node.name) ?? 0), 0);
  if (weights === 0 || total === 0) return undefined;
  const ratios = eligible.map((node) => ((loads.get(node.name) ?? 0) * weights) / (total * node.weight));
  return { maxOverMean: Math.max(...ratios).toFixed(2), minOverMean: Math.min(...ratios).toFixed(2) };
}

function verdictOf(
  facts: SetFacts,
  counts: { draining: number; unplaceable: number; lost: number },
): Verdict {
  const { settings, situations, waiting, missing, awaiting } = facts;
  const unmet = situations.filter(
    ({ shard, owner, intent }) =>
      intent === 'Active' && owner !== undefined && (shard.spec.owner?.pinned ?? owner) !== owner,
  ).length;
  if (counts.lost > 0) {
    const knob = settings.freeze === 'All' ? 'spec.freeze is All' : 'no eligible node can take them';
    return {
      state: 'Stalled',
      reason: 'ShardsLost',
      message: `${counts.lost} shards lost their node: ${knob}`,
    };
  }
  if (awaiting > 0) {
    const message = `${awaiting} shards were never granted: the journal, which may know who owned them, cannot be read yet; /readyz of the operator says why`;
    return { state: 'Reconciling', reason: 'AwaitingJournal', message };
  }
  if (counts.unplaceable > 0) {
    const message = `${counts.unplaceable} shards cannot be placed: their conditions say why`;
    return { state: 'Stalled', reason: 'Unplaceable', message };
  }
  const unowned = situations.filter(({ intent, owner }) => intent === 'Active' && owner === undefined).length;
  if (settings.freeze === 'All' && unowned + waiting > 0) {
    const message = `${unowned} shards without an owner and ${waiting} moves wait: spec.freeze is All`;
    return { state: 'Stalled', reason: 'Frozen', message };
  }
  if (missing + unowned > 0) {
    return { state: 'Reconciling', reason: 'Placing', message: 'placing shards' };
  }
  const leaving = situations.filter(({ intent }) => intent === 'Retired').length;
  if (counts.draining + waiting > 0) {
    const message = `${counts.draining} shards are draining, ${waiting} moves wait for the churn budget (spec.churn.maxConcurrentMoves: ${settings.maxConcurrentMoves})`;
    return { state: 'Reconciling', reason: 'Moving', message };
  }
  if (unmet > 0) {
    const message = `${unmet} shards are pinned to nodes that cannot take them: their conditions say why`;
    return { state: 'Stalled', reason: 'PinnedNodeNotEligible', message };
  }
  const outside = leaving > 0 ? `; ${leaving} ShardAssignments lie outside the set` : '';
  return {
    state: 'Ready',
    reason: 'Placed',
    message: `all ${settings.ids.length} shards are placed${outside}`,
  };
}
