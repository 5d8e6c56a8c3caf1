import type { Informer } from '@meshkit/crds/informer';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { MESH_NODES } from '@meshkit/crds/resource';
import { ShardError } from '@meshkit/shards/errors';
import { type Condition, leaseName, type MeshNode, type MeshNodeStatus } from '@meshkit/shards/records';
import { semanticallyEqual } from '@meshkit/shards/semantic-equality';
import type { EventRecorder } from './event-recorder.ts';
import type { LivenessReason, Readiness } from './liveness.ts';

const CONFLICT_RETRY_MS = 200;

export interface NodeReconcilerOptions {
  client: Pick<KubeClient, 'updateStatus'>;
  nodes: Pick<Informer<MeshNode>, 'get' | 'observe'>;
  readiness: (key: string) => Readiness;
  /** Asked before every write. */
  leads: () => boolean;
  events: Pick<EventRecorder, 'record'>;
  now: () => number;
}

/** Writes a MeshNode's Ready condition, once per change; renewals of its Lease never reach it. */
export class NodeReconciler {
  readonly #options: NodeReconcilerOptions;

  constructor(options: NodeReconcilerOptions) {
    this.#options = options;
  }

  async reconcile(key: string, signal: AbortSignal): Promise<{ requeueAfterMs?: number }> {
    const { client, nodes, readiness, leads, now } = this.#options;
    const node = nodes.get(key);
    if (!node || !leads()) return {};
    const status = nodeStatus(node, readiness(key), now());
    if (semanticallyEqual(status, node.status)) return {};
    const { managedFields: _, ...metadata } = node.metadata;
    try {
      nodes.observe(await client.updateStatus(MESH_NODES, { ...node, metadata, status }, { signal }));
    } catch (error) {
      const code = error instanceof ShardError ? error.code : undefined;
      // Deleted meanwhile, or changed: its event brings the key back, and this is for when it does not.
      if (code === 'notFound') return {};
      if (code === 'conflict') return { requeueAfterMs: CONFLICT_RETRY_MS };
      throw error;
    }
    this.#tell(node, status);
    return {};
  }

  /** Only of a change: that a new node is not ready yet is no news. */
  #tell(node: MeshNode, status: MeshNodeStatus): void {
    const [before, after] = [node.status?.conditions?.[0], status.conditions?.[0]];
    if (!before || !after || before.status === after.status) return;
    const ready = after.status === 'True';
    this.#options.events.record(node, {
      type: ready ? 'Normal' : 'Warning',
      reason: ready ? 'NodeReady' : 'NodeNotReady',
      action: 'Judge',
      note: after.message,
    });
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
