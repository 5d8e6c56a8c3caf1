import type { Situation, Surroundings } from './decide-situation.ts';
import type { Standing, UnplaceableReason } from './placement.ts';
import type { ShardAssignmentSpec } from './records.ts';

/**
 * The sentences of conditions and transitions: each names the constraint and the knob to turn. They carry no counts and
 * no times, so that a condition changes only when something about its own shard does.
 */
export function unplaceableMessage(
  reason: UnplaceableReason,
  situation: Situation,
  around: Surroundings,
): string {
  const { constraint, knob } = hindrance(reason, situation.shard.spec, around);
  return `${constraint}: ${knob}`;
}

/** Why a shard has no place, and what to change; both for people. */
export function hindrance(
  reason: UnplaceableReason,
  spec: Pick<ShardAssignmentSpec, 'locality' | 'owner'>,
  around: Surroundings,
): { constraint: string; knob: string } {
  const set = `ShardSet ${around.set?.metadata.name}`;
  const pool = around.set?.spec.nodes?.namespace ?? around.set?.metadata.namespace;
  switch (reason) {
    case 'NoNodes':
      return {
        constraint: `there is no MeshNode in namespace ${pool}`,
        knob: `create one, or change spec.nodes of ${set}`,
      };
    case 'NoEligibleNode':
      return {
        constraint: `every MeshNode in namespace ${pool} is not ready, cordoned, draining, not selected or does not serve this namespace`,
        knob: `start a node, set its spec.scheduling to Active, or change spec.nodes of ${set}`,
      };
    case 'NoNodeInLocality': {
      const { region, zone } = spec.locality ?? {};
      const place = zone === undefined ? `region ${region}` : `zone ${zone}`;
      return {
        constraint: `no eligible MeshNode in ${place}`,
        knob: `add one there, change spec.locality of this shard, or set spec.locality of ${set} to Preferred`,
      };
    }
    case 'NoPin':
      return {
        constraint: 'strategy Static places only pinned shards',
        knob: `set spec.owner.pinned of this shard, or spec.strategy of ${set} to Rendezvous`,
      };
    case 'PinnedNodeNotEligible': {
      const pinned = spec.owner?.pinned ?? '';
      return {
        constraint: `pinned to ${pinned}, which ${standingWords(around.standings.get(pinned), pool)}`,
        knob: 'make it eligible, or change spec.owner.pinned of this shard',
      };
    }
  }
}

function standingWords(standing: Standing | undefined, pool: string | undefined): string {
  switch (standing) {
    case undefined:
      return `is not a MeshNode in namespace ${pool}`;
    case 'eligible':
      return 'lies outside the required locality';
    case 'cordoned':
      return 'is cordoned';
    case 'draining':
      return 'is being drained';
    case 'notReady':
      return 'is not ready';
    case 'notSelected':
      return 'is not selected by spec.nodes.selector';
    case 'notServing':
      return 'does not serve this namespace (spec.serves)';
  }
}

/** Why a node's shards leave it now: its MeshNode is gone, or it is not ready. */
export function deadNode(node: string, around: Surroundings): { cause: string; reason: string } {
  const state = around.nodes.get(node);
  if (!state) return { cause: 'NodeDeleted', reason: `MeshNode ${node} is gone` };
  return {
    cause: 'NodeNotReady',
    reason: state.reason ? `${node} is not ready (${state.reason})` : `${node} is not ready`,
  };
}

export function frozenMessage(around: Surroundings): string {
  return `ShardSet ${around.set?.metadata.name} has freeze All: set spec.freeze to None or Rebalance to let it go on`;
}
