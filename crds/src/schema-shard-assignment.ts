import type { Actor, ShardAssignmentSpec, ShardAssignmentStatus, Transition } from '@meshkit/shards/records';
import { z } from 'zod';
import {
  conditions,
  DNS_LABEL,
  ENDPOINT,
  formed,
  integer,
  mirror,
  NODE_NAME,
  observedGeneration,
  type Rule,
  ruled,
  SHARD_ID,
  TOPOLOGY,
  text,
  timestamp,
  VALIDATIONS,
} from './schema.ts';

/** Adds a transition rule to a field that already has rules of its own. */
function immutable(schema: z.ZodString, message: string): z.ZodString {
  const meta = schema.meta();
  const rules = (meta?.[VALIDATIONS] ?? []) as object[];
  return schema.meta({ ...meta, [VALIDATIONS]: [...rules, { rule: 'self == oldSelf', message }] });
}

const changeTicket = text(128, 'A ticket, e.g. CHG-1234; copied into the history of the change.');
const reason = text(1024, 'Why, in words; copied into the history of the change.');

export const shardAssignmentSpec = mirror<ShardAssignmentSpec>()(
  z
    .object({
      shardSet: immutable(
        formed(DNS_LABEL, 'The ShardSet that this shard belongs to. Immutable.'),
        'shardSet cannot be changed: delete this ShardAssignment and create one in the other set',
      ),
      shardId: immutable(
        formed(SHARD_ID, 'The id within the set, e.g. "0042". Immutable.'),
        'shardId cannot be changed: delete this ShardAssignment and create one with the other id',
      ),
      capacity: integer(1, 1_000_000, 'Relative cost of this shard. Absent: 1.').optional(),
      locality: z
        .object({
          region: formed(TOPOLOGY, 'A region, e.g. eu-central.').optional(),
          zone: formed(TOPOLOGY, 'A zone, e.g. eu-central-1a.').optional(),
        })
        .meta({
          description: "Where this shard wants to be; how far it is honoured says the ShardSet's locality.",
        })
        .optional(),
      owner: z
        .object({
          pinned: formed(
            NODE_NAME,
            'The MeshNode that shall own this shard: a pin, or a request to move.',
          ).optional(),
        })
        .meta({ description: 'Needs the verb operate on shardassignments.' })
        .optional(),
      state: z
        .enum(['Active', 'Paused', 'Disabled'])
        .meta({
          description:
            'Active (absent). Paused: stays where it is. Disabled: drained, then owned by nobody. Needs the verb operate on shardassignments.',
        })
        .optional(),
      changeTicket: changeTicket.optional(),
      reason: reason.optional(),
    })
    .meta({ description: 'What people and GitOps want; the operator never writes here.' }),
);

const phase = z.enum(['Pending', 'Active', 'Draining', 'Paused', 'Disabled', 'Lost']);
const node = (description: string) => formed(NODE_NAME, description);
const version = (description: string) => integer(0, Number.MAX_SAFE_INTEGER, description);

const actor = mirror<Actor>()(
  z.object({
    kind: z.enum(['User', 'FieldManager', 'Operator']),
    name: text(1024, 'A user name, a field manager, or the cause of a step of the operator itself.'),
  }),
);

const transition = mirror<Transition>()(
  z.object({
    version: version('status.version after this change.'),
    from: node('The owner before.').optional(),
    to: node('The owner after.').optional(),
    phase,
    epoch: version('status.epoch after this change.').optional(),
    actor,
    reason: text(1024, 'Why.'),
    changeTicket: changeTicket.optional(),
    at: timestamp('When.'),
  }),
);

export const shardAssignmentStatus = mirror<ShardAssignmentStatus>()(
  ruled(
    z
      .object({
        observedGeneration: observedGeneration.optional(),
        phase: phase.meta({ description: 'Pending, Active, Draining, Paused, Disabled or Lost.' }),
        owner: node('The MeshNode that owns this shard at this epoch.').optional(),
        ownerEndpoint: formed(ENDPOINT, "The owner's spec.endpoint.").optional(),
        previousOwner: node('The owner before the last grant.').optional(),
        epoch: version(
          'Fencing token, larger at every grant: whoever stores for this shard refuses a lower one.',
        ),
        version: version('Grows with every change of this status.'),
        effective: z
          .object({
            strategy: z.enum(['Rendezvous', 'Static']),
            capacity: integer(1, 1_000_000, 'spec.capacity or its default.'),
          })
          .meta({ description: 'The spec with its defaults, which are never written into spec.' })
          .optional(),
        move: z
          .object({
            to: node('The next owner; absent when the shard is retired or disabled.').optional(),
            startedAt: timestamp('When the drain began.'),
            deadline: timestamp('When the shard is granted even without a release.'),
          })
          .meta({ description: 'The hand-over under way; only while Draining.' })
          .optional(),
        recentTransitions: z
          .array(transition)
          .max(8)
          .meta({ description: 'The last changes, newest last.', 'x-kubernetes-list-type': 'atomic' })
          .optional(),
        conditions: conditions.optional(),
      })
      .meta({ description: 'The truth of ownership; written by the operator only.' }),
    [
      {
        rule: "!(self.phase in ['Active', 'Draining', 'Lost']) || has(self.owner)",
        message:
          'a shard that is Active, Draining or Lost has an owner: set status.owner or use another phase',
        fieldPath: '.owner',
        holds: ({ phase, owner }) => !['Active', 'Draining', 'Lost'].includes(phase) || owner !== undefined,
      },
      {
        rule: "(self.phase == 'Draining') == has(self.move)",
        message: 'status.move is there while the phase is Draining, and only then',
        fieldPath: '.move',
        holds: ({ phase, move }) => (phase === 'Draining') === (move !== undefined),
      },
      {
        rule: '!has(self.owner) || self.epoch > 0',
        message: 'an owner is granted at an epoch of 1 or more',
        fieldPath: '.epoch',
        holds: ({ owner, epoch }) => owner === undefined || epoch > 0,
      },
    ],
  ),
);

const BOTH = 'has(self.status) && has(oldSelf.status)';

export const shardAssignmentRules: readonly Rule<{
  metadata: { name: string };
  spec: { shardSet: string; shardId: string };
}>[] = [
  {
    rule: "self.metadata.name == self.spec.shardSet + '.' + self.spec.shardId",
    message: 'metadata.name must be <spec.shardSet>.<spec.shardId>',
    messageExpression:
      "'metadata.name must be ' + self.spec.shardSet + '.' + self.spec.shardId + ' (spec.shardSet, a dot, spec.shardId): rename the object or correct the spec'",
    fieldPath: '.metadata.name',
    holds: ({ metadata, spec }) => metadata.name === `${spec.shardSet}.${spec.shardId}`,
  },
  {
    rule: '!has(oldSelf.status) || has(self.status)',
    message: 'status cannot be removed once it is there: its epoch fences the owner',
    fieldPath: '.status',
  },
  {
    rule: `!(${BOTH}) || self.status == oldSelf.status || self.status.version > oldSelf.status.version`,
    message: 'status.version must grow with every change of status: add 1',
    fieldPath: '.status.version',
  },
  {
    rule: `!(${BOTH}) || self.status.epoch >= oldSelf.status.epoch`,
    message:
      'status.epoch never shrinks, since a smaller epoch would let an old owner write again: keep it or raise it',
    fieldPath: '.status.epoch',
  },
  {
    rule: `!(${BOTH}) || !has(self.status.owner) || (has(oldSelf.status.owner) && self.status.owner == oldSelf.status.owner) || self.status.epoch > oldSelf.status.epoch`,
    message:
      'an owner that appears or changes needs a larger status.epoch, which fences off the owner before: raise the epoch with the grant',
    fieldPath: '.status.epoch',
  },
];
