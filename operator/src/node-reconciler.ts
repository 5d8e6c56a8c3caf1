import type { Informer } from '@meshkit/crds/informer';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { MESH_NODES } from '@meshkit/crds/resource';
import { type Condition, leaseName, type MeshNode, type MeshNodeStatus } from '@meshkit/shards/records';
import { semanticallyEqual } from '@meshkit/shards/semantic-equality';
import type { LivenessReason, Readiness } from './liveness.ts';

export interface NodeReconcilerOptions {
  client: Pick<KubeClient, 'updateStatus'>;
  nodes: Pick<Informer<MeshNode>, 'get' | 'observe'>;
  readiness: (key: string) => Readiness;
  now: () => number;
}

/** Writes a MeshNode's Ready condition, once per change; renewals of its Lease never reach it. */
export class NodeReconciler {
  readonly #options: NodeReconcilerOptions;

  constructor(options: NodeReconcilerOptions) {
    this.#options = options;
  }

  async reconcile(key: string, signal: AbortSignal): Promise<{ requeueAfterMs?: number }> {
    const { client, nodes, readiness, now } = this.#options;
    const node = nodes.get(key);
    if (!node) return {};
    const status = nodeStatus(node, readiness(key), now());
    if (semanticallyEqual(status, node.status)) return {};
    const { managedFields: _, ...metadata } = node.metadata;
    nodes.observe(await client.updateStatus(MESH_NODES, { ...node, metadata, status }, { signal }));
    return {};
  }
}

/** Built from zero; the time changes only together with the condition's status. */
export function nodeStatus(node: MeshNode, { ready, reason }: Readiness, nowMs: number): MeshNodeStatus {
  const status: Condition['status'] = ready ? 'True' : 'False';
  const before = node.status?.conditions?.find(({ type }) => type === 'Ready');
  const lastTransitionTime =
    before?.status === status ? before.lastTransitionTime : new Date(nowMs).toISOString();
  const message = messageOf(node, reason);
  return {
    observedGeneration: node.metadata.generation,
    conditions: [{ type: 'Ready', status, reason, message, lastTransitionTime }],
  };
}

function messageOf(node: MeshNode, reason: LivenessReason): string {
  const lease = `Lease ${leaseName(node.metadata.name)}`;
  switch (reason) {
    case 'Always':
      return 'spec.liveness is Always';
    case 'LeaseRenewed':
      return `${lease} is being renewed`;
    case 'LeaseExpired':
      return `${lease} is no longer renewed: start the node's agent`;
    case 'LeaseReleased':
      return `${lease} was given back by its holder`;
    case 'NoLease':
      return `there is no ${lease} in this namespace: start the node's agent, or set spec.liveness to Always`;
  }
}
