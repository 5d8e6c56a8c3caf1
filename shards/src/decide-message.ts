import type { Situation, Surroundings } from './decide-situation.ts';
import type { Standing, UnplaceableReason } from './placement.ts';

/**
 * The sentences of conditions and transitions: each names the constraint and the knob to turn. They carry no counts and
 * no times, so that a condition changes only when something about its own shard does.
 */
export function unplaceableMessage(
  reason: UnplaceableReason,
  situation: Situation,
  around: Surroundings,
): string {
  const set = `ShardSet ${around.set?.metadata.name}`;
  const pool = around.set?.spec.nodes?.namespace ?? around.set?.metadata.namespace;
  switch (reason) {
    case 'NoNodes':
      return `there is no MeshNode in namespace ${pool}: create one, or change spec.nodes of ${set}`;
    case 'NoEligibleNode':
      return `every MeshNode in namespace ${pool} is not ready, cordoned, draining, not selected or does not serve this namespace: start a node, set its spec.scheduling to Active, or change spec.nodes of ${set}`;
    case 'NoNodeInLocality': {
      const { region, zone } = situation.shard.spec.locality ?? {};
      const place = zone === undefined ? `region ${region}` : `zone ${zone}`;
      return `no eligible MeshNode in ${place}: add one there, change spec.locality of this shard, or set spec.locality of ${set} to Preferred`;
    }
    case 'NoPin':
      return `strategy Static places only pinned shards: set spec.owner.pinned of this shard, or spec.strategy of ${set} to Rendezvous`;
    case 'PinnedNodeNotEligible': {
      const pinned = situation.shard.spec.owner?.pinned ?? '';
      return `pinned to ${pinned}, which ${standingWords(around.standings.get(pinned), pool)}: make it eligible, or change spec.owner.pinned of this shard`;
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
