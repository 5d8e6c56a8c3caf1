import type { RunHistory } from './history.ts';
import { describeState, Truth } from './truth.ts';
import type { Violation } from './violation.ts';

/**
 * The record itself: epochs only grow, whatever happens to the object or the cluster, and each belongs to one owner; and what
 * watchers and nodes were told of owners is what the record says.
 */
export function checkOwnership({ entries }: RunHistory): Violation[] {
  const violations: Violation[] = [];
  const truth = new Truth(entries);
  const add = (check: string, subject: string, detail: string) =>
    violations.push({ counter: 'twoOwners', check, subject, detail });

  /** `key/epoch` -> owner. */
  const owners = new Map<string, string>();
  /** The largest epoch that was ever granted, by key. */
  const highest = new Map<string, number>();
  for (const { key, before, after, era } of truth.events) {
    if (!after) continue;
    const grant =
      after.owner !== undefined && (after.epoch !== before?.epoch || after.owner !== before.owner);
    const most = highest.get(key) ?? 0;
    // What a restore brings back was granted before; it is no grant.
    const isOld = era > 0 && before === undefined && owners.get(`${key}/${after.epoch}`) === after.owner;
    if (before && before.uid === after.uid && after.epoch < before.epoch)
      add('epochShrank', key, `${describeState(before)} -> ${describeState(after)}`);
    else if (grant && !isOld && after.epoch <= most)
      add('grantWithoutNewEpoch', key, `${describeState(after)}, after epoch ${most} was given out`);
    highest.set(key, Math.max(most, after.epoch));
    if (after.owner === undefined) continue;
    const holder = owners.get(`${key}/${after.epoch}`);
    if (holder !== undefined && holder !== after.owner)
      add('twoOwnersInOneEpoch', key, `${holder} and ${after.owner} in epoch ${after.epoch}`);
    owners.set(`${key}/${after.epoch}`, after.owner);
  }

  const before = highestEpochs(truth, truth.eras - 2);
  for (const [key, state] of truth.eras > 1 ? truth.at(truth.eras - 1) : [])
    if (state.owner !== undefined && state.epoch <= (before.get(key) ?? 0))
      add(
        'notGrantedAnew',
        key,
        `${describeState(state)}, after epoch ${before.get(key)} before the restore`,
      );

  for (const entry of entries) {
    if (entry.kind === 'told' && entry.state?.owner !== undefined) {
      const { owner, epoch } = entry.state;
      const holder = owners.get(`${entry.key}/${epoch}`);
      if (holder !== owner)
        add('toldAnotherOwner', entry.watcher, `${entry.key} epoch ${epoch}: told ${owner}, is ${holder}`);
    } else if (entry.kind === 'grant') {
      const holder = owners.get(`${entry.key}/${entry.epoch}`);
      if (holder !== entry.node)
        add('holdsWithoutGrant', entry.node, `${entry.key} epoch ${entry.epoch} belongs to ${holder}`);
    }
  }
  return violations;
}

/** Of each key, up to an era. */
function highestEpochs(truth: Truth, upTo: number): Map<string, number> {
  const highest = new Map<string, number>();
  for (const { key, after, era } of truth.events)
    if (after && era <= upTo) highest.set(key, Math.max(highest.get(key) ?? 0, after.epoch));
  return highest;
}

/**
 * The storage stand-in keeps the highest epoch that wrote each shard and refuses lower ones. What it accepted must come from
 * the one node that the record names for that epoch, and epochs of accepted writes must not go down.
 */
export function checkStorage({ entries }: RunHistory): Violation[] {
  const violations: Violation[] = [];
  const owners = new Map<string, Set<string>>();
  for (const { key, after } of new Truth(entries).events) {
    if (after?.owner === undefined) continue;
    const id = `${key}/${after.epoch}`;
    owners.set(id, (owners.get(id) ?? new Set()).add(after.owner));
  }
  const accepted = new Map<string, { node: string; epoch: number }>();
  for (const entry of entries) {
    if (entry.kind !== 'write' || !entry.accepted) continue;
    const { node, key, epoch } = entry;
    const last = accepted.get(key);
    const add = (check: string, detail: string) =>
      violations.push({ counter: 'staleWritesAccepted', check, subject: node, detail });
    if (last && epoch < last.epoch)
      add('staleWrite', `${key}: epoch ${epoch} was accepted after ${last.epoch} of ${last.node}`);
    else if (last && epoch === last.epoch && last.node !== node)
      add('twoWriters', `${key}: ${last.node} and ${node} both wrote in epoch ${epoch}`);
    else if (!owners.get(`${key}/${epoch}`)?.has(node))
      add('writeWithoutGrant', `${key}: epoch ${epoch} was never granted to ${node}`);
    accepted.set(key, { node, epoch });
  }
  return violations;
}
