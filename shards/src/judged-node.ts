import type { NodeState } from './decide.ts';
import type { MeshNode } from './records.ts';
import { isReady } from './shard-view.ts';

/** A node with the operator's judgement of it, as it stands in the node's status; one not judged yet is not ready. */
export function judged(node: MeshNode): NodeState {
  if (isReady(node)) return { node, ready: true };
  const condition = node.status?.conditions?.find(({ type }) => type === 'Ready');
  return { node, ready: false, reason: condition?.reason ?? 'NotJudged' };
}
