import {
  type Actor,
  CHANGED_BY_ANNOTATION,
  type KubeObject,
  type ObjectMeta,
  type Transition,
} from './records.ts';

/** `status.recentTransitions` keeps this many; the journal keeps all. */
export const MAX_TRANSITIONS = 8;

/** The operator as actor; `cause` is CamelCase: NodeNotReady, Released, DeadlineExceeded, Rebalance, Drain, Placed. */
export function operatorActor(cause: string): Actor {
  return { kind: 'Operator', name: cause };
}

/**
 * Who last changed the spec: the authenticated user that the admission policy stamped (Kubernetes 1.36+), else
 * the field manager of the newest spec write, else undefined. See `unstamped`.
 */
export function specActor(metadata: ObjectMeta): Actor | undefined {
  const user = metadata.annotations?.[CHANGED_BY_ANNOTATION];
  if (user) return { kind: 'User', name: user };
  let newest: { manager: string; time: string } | undefined;
  for (const entry of metadata.managedFields ?? []) {
    if (!entry.manager || entry.subresource) continue;
    // An entry without the field list still counts: some servers and test doubles leave it out.
    if (entry.fieldsV1 && !('f:spec' in entry.fieldsV1)) continue;
    const time = entry.time ?? '';
    if (!newest || time >= newest.time) newest = { manager: entry.manager, time };
  }
  return newest && { kind: 'FieldManager', name: newest.manager };
}

/** The object as it is to be read where anybody may have written the stamp: without it. */
export function unstamped<T extends KubeObject>(object: T): T {
  if (object.metadata.annotations?.[CHANGED_BY_ANNOTATION] === undefined) return object;
  const { [CHANGED_BY_ANNOTATION]: _, ...annotations } = object.metadata.annotations;
  return { ...object, metadata: { ...object.metadata, annotations } };
}

/** Oldest first; the oldest fall out. */
export function appendTransition(
  recent: readonly Transition[] | undefined,
  transition: Transition,
): Transition[] {
  return [...(recent ?? []), transition].slice(-MAX_TRANSITIONS);
}
