import { z } from 'zod';
import { SHARD_JOURNAL_HEADS, SHARD_JOURNAL_SEGMENTS } from './journal-objects.ts';
import {
  type CustomResourceDefinition,
  MESH_NODES,
  type Resource,
  SHARD_ASSIGNMENTS,
  SHARD_SETS,
} from './resource.ts';
import { celRules, type Rule, VALIDATIONS } from './schema.ts';
import { journalHeadRules, journalHeadSpec, journalSegmentSpec } from './schema-journal.ts';
import { meshNodeRules, meshNodeSpec, meshNodeStatus } from './schema-mesh-node.ts';
import {
  shardAssignmentRules,
  shardAssignmentSpec,
  shardAssignmentStatus,
} from './schema-shard-assignment.ts';
import { shardSetRules, shardSetSpec, shardSetStatus } from './schema-shard-set.ts';

/** A schema as apiextensions.k8s.io/v1 takes it ("structural"). */
export type StructuralSchema = Record<string, unknown> & {
  type?: string;
  properties?: Record<string, StructuralSchema>;
  items?: StructuralSchema;
  additionalProperties?: StructuralSchema;
};

interface Column {
  name: string;
  type: 'string' | 'integer' | 'date';
  jsonPath: string;
  /** 1: only with `-o wide`. */
  priority?: 1;
  description?: string;
}

/** Everything that makes a CRD of two zod schemas. */
interface Kind {
  resource: Resource;
  singular: string;
  shortNames: string[];
  description: string;
  spec: z.ZodType;
  /** Absent: no status subresource. */
  status?: z.ZodType;
  /** Absent: `mesh`. */
  categories?: string[];
  /** On the whole object. */
  // biome-ignore lint/suspicious/noExplicitAny: each kind's rules look at its own shape, here they are only carried.
  rules: readonly Rule<any>[];
  columns: Column[];
  selectableFields: string[];
}

/** For reading: what a field is before what it contains, rules last. */
const ORDER = [
  'description',
  'type',
  'format',
  'enum',
  'required',
  'properties',
  'items',
  'additionalProperties',
];

const AGE: Column = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };
const READY: Column = {
  name: 'Ready',
  type: 'string',
  jsonPath: '.status.conditions[?(@.type=="Ready")].status',
};
const WHY: Column = {
  name: 'Message',
  type: 'string',
  jsonPath: '.status.conditions[?(@.type=="Ready")].message',
  priority: 1,
};

const KINDS: readonly Kind[] = [
  {
    resource: SHARD_SETS,
    singular: 'shardset',
    shortNames: ['shset'],
    description:
      'A ShardSet says how many shards there are and how they are placed; it is to ShardAssignments what a ReplicaSet is to Pods.',
    spec: shardSetSpec,
    status: shardSetStatus,
    rules: shardSetRules,
    columns: [
      { name: 'Shards', type: 'integer', jsonPath: '.status.shards' },
      { name: 'Owned', type: 'integer', jsonPath: '.status.owned' },
      { name: 'Draining', type: 'integer', jsonPath: '.status.draining' },
      { name: 'Nodes', type: 'integer', jsonPath: '.status.nodes' },
      READY,
      AGE,
      { name: 'Strategy', type: 'string', jsonPath: '.spec.strategy', priority: 1 },
      { name: 'Freeze', type: 'string', jsonPath: '.spec.freeze', priority: 1 },
      { name: 'Unplaceable', type: 'integer', jsonPath: '.status.unplaceable', priority: 1 },
      { name: 'Lost', type: 'integer', jsonPath: '.status.lost', priority: 1 },
      { name: 'Max/Mean', type: 'string', jsonPath: '.status.balance.maxOverMean', priority: 1 },
      WHY,
    ],
    selectableFields: ['.spec.strategy', '.spec.freeze', '.spec.nodes.namespace'],
  },
  {
    resource: SHARD_ASSIGNMENTS,
    singular: 'shardassignment',
    shortNames: ['shard', 'shards'],
    description:
      'A ShardAssignment is one shard: what people want of it in spec, who owns it in status. Its name is <spec.shardSet>.<spec.shardId>.',
    spec: shardAssignmentSpec,
    status: shardAssignmentStatus,
    rules: shardAssignmentRules,
    columns: [
      { name: 'Set', type: 'string', jsonPath: '.spec.shardSet' },
      { name: 'Shard', type: 'string', jsonPath: '.spec.shardId' },
      { name: 'Owner', type: 'string', jsonPath: '.status.owner' },
      { name: 'Phase', type: 'string', jsonPath: '.status.phase' },
      { name: 'Epoch', type: 'integer', jsonPath: '.status.epoch' },
      AGE,
      { name: 'Version', type: 'integer', jsonPath: '.status.version', priority: 1 },
      {
        name: 'Move',
        type: 'string',
        jsonPath: '.status.move.to',
        priority: 1,
        description: 'The next owner.',
      },
      { name: 'Pin', type: 'string', jsonPath: '.spec.owner.pinned', priority: 1 },
      { name: 'Ticket', type: 'string', jsonPath: '.spec.changeTicket', priority: 1 },
    ],
    // Eight is the most that Kubernetes allows.
    selectableFields: [
      '.spec.shardSet',
      '.spec.shardId',
      '.spec.state',
      '.spec.owner.pinned',
      '.spec.locality.zone',
      '.status.owner',
      '.status.phase',
      '.status.move.to',
    ],
  },
  {
    resource: MESH_NODES,
    singular: 'meshnode',
    shortNames: ['mnode', 'mnodes'],
    description:
      'A MeshNode is a member that can own shards. Its heartbeat is only its Lease, named meshnode-<name>.',
    spec: meshNodeSpec,
    status: meshNodeStatus,
    rules: meshNodeRules,
    columns: [
      READY,
      { name: 'Weight', type: 'integer', jsonPath: '.spec.weight' },
      { name: 'Zone', type: 'string', jsonPath: '.spec.zone' },
      { name: 'Scheduling', type: 'string', jsonPath: '.spec.scheduling' },
      AGE,
      { name: 'Region', type: 'string', jsonPath: '.spec.region', priority: 1 },
      { name: 'Endpoint', type: 'string', jsonPath: '.spec.endpoint', priority: 1 },
      { name: 'Liveness', type: 'string', jsonPath: '.spec.liveness', priority: 1 },
      WHY,
    ],
    selectableFields: ['.spec.region', '.spec.zone', '.spec.scheduling', '.spec.liveness'],
  },
  {
    resource: SHARD_JOURNAL_HEADS,
    singular: 'shardjournalhead',
    shortNames: [],
    categories: [],
    description:
      'The ShardJournalHead named meshkit says where the journal of shards begins and ends, and who writes it. Written by the operator only.',
    spec: journalHeadSpec,
    rules: journalHeadRules,
    columns: [
      { name: 'Term', type: 'integer', jsonPath: '.spec.term' },
      { name: 'Position', type: 'string', jsonPath: '.spec.mark.position' },
      { name: 'Written', type: 'date', jsonPath: '.spec.mark.at' },
      { name: 'Floor', type: 'string', jsonPath: '.spec.floor.position' },
      { name: 'Since', type: 'date', jsonPath: '.spec.floor.at' },
      { name: 'Entries', type: 'integer', jsonPath: '.spec.entries' },
      { name: 'Bytes', type: 'integer', jsonPath: '.spec.bytes' },
      { name: 'Nonce', type: 'string', jsonPath: '.spec.nonce', priority: 1 },
    ],
    selectableFields: [],
  },
  {
    resource: SHARD_JOURNAL_SEGMENTS,
    singular: 'shardjournalsegment',
    shortNames: [],
    categories: [],
    description:
      'A ShardJournalSegment holds consecutive entries of the journal of shards, compressed. Written by the operator only, and never changed.',
    spec: journalSegmentSpec,
    rules: [],
    columns: [
      { name: 'Type', type: 'string', jsonPath: '.spec.type' },
      { name: 'Count', type: 'integer', jsonPath: '.spec.count' },
      { name: 'From', type: 'string', jsonPath: '.spec.from' },
      { name: 'To', type: 'string', jsonPath: '.spec.to' },
      AGE,
    ],
    selectableFields: [],
  },
];

function customResourceDefinition(kind: Kind): CustomResourceDefinition {
  const { group, version, plural, kind: kindName } = kind.resource;
  const definition = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition' as const,
    metadata: { name: `${plural}.${group}`, labels: { 'app.kubernetes.io/part-of': 'meshkit-shards' } },
    spec: {
      group,
      scope: kind.resource.namespaced ? ('Namespaced' as const) : ('Cluster' as const),
      names: {
        kind: kindName,
        listKind: `${kindName}List`,
        plural,
        singular: kind.singular,
        shortNames: kind.shortNames,
        categories: kind.categories ?? ['mesh'],
      },
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          ...(kind.status ? { subresources: { status: {} } } : {}),
          additionalPrinterColumns: kind.columns,
          ...(kind.selectableFields.length > 0
            ? { selectableFields: kind.selectableFields.map((jsonPath) => ({ jsonPath })) }
            : {}),
          schema: { openAPIV3Schema: objectSchema(kind) },
        },
      ],
    },
  };
  return definition;
}

function objectSchema(kind: Kind): StructuralSchema {
  return {
    type: 'object',
    description: kind.description,
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      // Says nothing that the rules do not; there for the rules to point at.
      metadata: { type: 'object', properties: { name: { type: 'string' } } },
      spec: structural(kind.spec),
      ...(kind.status ? { status: structural(kind.status) } : {}),
    },
    ...(kind.rules.length > 0 ? { [VALIDATIONS]: celRules(kind.rules) } : {}),
  };
}

/**
 * What kube-apiserver takes of a zod schema. `io: 'input'` keeps zod from closing objects
 * (`additionalProperties: false`), which a structural schema forbids.
 */
export function structural(schema: z.ZodType): StructuralSchema {
  return ordered(
    z.toJSONSchema(schema, { target: 'openapi-3.0', io: 'input', reused: 'inline' }) as StructuralSchema,
  );
}

function ordered(schema: StructuralSchema): StructuralSchema {
  const { properties, items, additionalProperties, ...own } = schema;
  // format: date-time already says it, and zod's pattern for it is half a page.
  if (own.format === 'date-time') delete own.pattern;
  if (properties) {
    own.properties = Object.fromEntries(
      Object.entries(properties).map(([name, property]) => [name, ordered(property)]),
    );
  }
  if (items) own.items = ordered(items);
  if (additionalProperties) own.additionalProperties = ordered(additionalProperties);
  const rank = ([key]: [string, unknown]) => {
    const at = ORDER.indexOf(key);
    return key === VALIDATIONS ? ORDER.length + 1 : at < 0 ? ORDER.length : at;
  };
  return Object.fromEntries(Object.entries(own).sort((a, b) => rank(a) - rank(b)));
}

/** The CRDs of all kinds, ready to be applied. */
export const CRDS: readonly CustomResourceDefinition[] = KINDS.map(customResourceDefinition);
