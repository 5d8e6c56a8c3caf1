import type { StatusWrite } from '@meshkit/shards/decide';

/** What a Kubernetes Event says: `reason` for programs, `note` for people. */
export interface EventText {
  type: 'Normal' | 'Warning';
  reason: string;
  /** What the operator did. */
  action: string;
  note: string;
}

/** The Event of a hop that was written; undefined for hops that need none (first placements, pauses by people). */
export function shardEvent(write: StatusWrite): EventText | undefined {
  const { kind, cause, status, transition, shard } = write;
  if (!transition) return undefined;
  const from = shard.status?.owner;
  const why = transition.reason;
  const text = (type: EventText['type'], action: string, note: string): EventText => ({
    type,
    reason: kind,
    action,
    note: note.slice(0, MAX_NOTE),
  });
  switch (kind) {
    case 'MoveStarted':
      return text('Normal', 'Drain', `moving from ${from} to ${transition.to}: ${why}`);
    case 'Retargeted':
      return text('Normal', 'Drain', `moving from ${from}, now to ${transition.to}: ${why}`);
    case 'DrainStarted':
      return text('Normal', 'Drain', `leaving ${from}: ${why}`);
    case 'Moved': {
      const overdue = cause === 'DeadlineExceeded';
      const note = `granted to ${status.owner} at epoch ${status.epoch}, before ${from}: ${why}`;
      // The new epoch fences the old owner off, but an agent that does not release wants to be looked at.
      return overdue
        ? { ...text('Warning', 'Grant', note), reason: 'DeadlineExceeded' }
        : text('Normal', 'Grant', note);
    }
    case 'MoveCancelled':
      return text(
        'Normal',
        'Grant',
        `stays on ${status.owner}, granted again at epoch ${status.epoch}: ${why}`,
      );
    case 'FailedOver':
      return text('Warning', 'Grant', `granted to ${status.owner} at epoch ${status.epoch}: ${why}`);
    case 'Recovered':
    case 'Regranted':
    case 'Rehydrated':
      return text('Normal', 'Grant', `granted to ${status.owner} at epoch ${status.epoch}: ${why}`);
    case 'Lost':
      return text('Warning', 'Wait', readyMessage(write) ?? why);
    case 'Unplaceable':
      return text('Warning', 'Wait', readyMessage(write) ?? why);
    case 'Vacated':
    case 'OwnershipEnded':
      return from === undefined ? undefined : text('Normal', 'Revoke', `no longer owned by ${from}: ${why}`);
    case 'Placed':
    case 'Paused':
    case 'Resumed':
    case 'None':
      return undefined;
  }
}

/** events.k8s.io/v1 refuses a longer note. */
const MAX_NOTE = 1000;

function readyMessage({ status }: StatusWrite): string | undefined {
  return status.conditions?.find(({ type }) => type === 'Ready')?.message;
}
