import { deadNode } from './decide-message.ts';
import type { Situation, Surroundings } from './decide-situation.ts';
import type { PlannedMove } from './placement.ts';
import type { Actor } from './records.ts';
import { operatorActor, specActor } from './transition.ts';

/** Why a step is made, and in whose name: what a person changed carries the person, the rest the operator's cause. */
export interface Why {
  /** CamelCase; also the actor's name where the operator itself is the actor. */
  cause: string;
  actor: Actor;
  /** For people. */
  reason: string;
  changeTicket?: string;
}

export function byOperator(cause: string, reason: string): Why {
  return { cause, actor: operatorActor(cause), reason };
}

export function plannedWhy(s: Situation, planned: PlannedMove, c: Surroundings): Why {
  const owner = s.owner as string;
  switch (planned.cause) {
    case 'Pin':
      return pinnedWhy(s, planned.to) ?? byOperator('Pin', `pinned to ${planned.to}`);
    case 'Drain': {
      const standing = c.standings.get(owner);
      if (standing === 'notSelected')
        return byOperator('NotSelected', `${owner} is no longer selected by the set`);
      if (standing === 'notServing')
        return byOperator('NotServing', `${owner} no longer serves this namespace`);
      const node = c.nodes.get(owner)?.node;
      const actor = (node && specActor(node.metadata)) ?? operatorActor('Drain');
      return { cause: 'Drain', actor, reason: `${owner} is set to Drain` };
    }
    case 'Locality':
      return byOperator('Locality', `${owner} lies outside the required locality`);
    case 'Rebalance':
      return byOperator('Rebalance', `${planned.to} is below its share`);
    case 'Unowned':
      return byOperator('Placed', `placed on ${planned.to}`);
  }
}

export function pinnedWhy(s: Situation, target: string): Why | undefined {
  if (s.shard.spec.owner?.pinned !== target) return undefined;
  return bySpec('Pin', specActor(s.shard.metadata), `pinned to ${target}`, s);
}

export function deadWhy(node: string, c: Surroundings): Why {
  const { cause, reason } = deadNode(node, c);
  return byOperator(cause, reason);
}

/** A hop that the shard's own spec caused carries its author, reason and ticket. */
export function bySpec(cause: string, actor: Actor | undefined, fallback: string, s: Situation): Why {
  return {
    cause,
    actor: actor ?? operatorActor(cause),
    reason: s.shard.spec.reason ?? fallback,
    changeTicket: s.shard.spec.changeTicket,
  };
}

export function leavingWhy(s: Situation, c: Surroundings): Why {
  if (s.intent === 'Disabled') {
    return bySpec('Disabled', specActor(s.shard.metadata), 'spec.state is Disabled', s);
  }
  const reason =
    s.shard.metadata.deletionTimestamp === undefined
      ? `id ${s.id} is not in ShardSet ${s.shard.spec.shardSet}`
      : 'the ShardAssignment is being deleted';
  const actor = c.set && specActor(c.set.metadata);
  return { cause: 'Retired', actor: actor ?? operatorActor('Retired'), reason };
}

/** How a drain ends now: by release, or by its deadline; undefined while it may go on. */
export function drainEnd(s: Situation): Why | undefined {
  const ticket = s.shard.spec.changeTicket;
  const why = (cause: string, reason: string): Why => ({
    cause,
    actor: operatorActor(cause),
    reason,
    // The ticket belongs to the move that a person asked for, to its first hop and to its last.
    changeTicket: s.intent !== 'Retired' && s.move?.to === s.shard.spec.owner?.pinned ? ticket : undefined,
  });
  if (s.released) return why('Released', `released by ${s.owner} at epoch ${s.shard.status?.epoch}`);
  if (s.dueInMs !== undefined && s.dueInMs <= 0) {
    return why('DeadlineExceeded', `${s.owner} did not release before the deadline`);
  }
  return undefined;
}
