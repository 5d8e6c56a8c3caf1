import { sealCursor } from '@meshkit/shards/cursor';
import type { ErrorCode } from '@meshkit/shards/errors';
import { ShardError } from '@meshkit/shards/errors';
import { type Problem, problemOf } from '@meshkit/shards/problem';
import type { DiffPage, HistoryPage, RepositoryStatus } from '@meshkit/shards/repository';
import { sealResumeToken } from '@meshkit/shards/resume-token';
import { type Access, scopeAccess, scopeMissing } from '@meshkit/shards/scope';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';

/** One example for each answer of the API, for its document; tests hold them to the schemas. */

const FILTER = { namespace: 'payments', owners: ['node-17'] };
const LINEAGE = '3f0c9f1e-6f1e-4c57-9a0e-0f4b7f0a9f11';
const POSITION = '918273';

export const EXAMPLE_SHARD: ShardView = {
  namespace: 'payments',
  name: 'orders.0042',
  uid: '8f9a3c52-5a56-4b2c-9d0a-6f7f0a4d2b10',
  shardSet: 'orders',
  shardId: '0042',
  phase: 'Draining',
  state: 'Active',
  owner: 'node-17',
  ownerEndpoint: 'https://worker-17.workers.payments.svc:8443',
  previousOwner: 'node-03',
  epoch: 1_795_412_345,
  version: 31,
  generation: 3,
  observedGeneration: 3,
  capacity: 1,
  locality: { region: 'eu-central', zone: 'eu-central-1a' },
  pinned: 'node-21',
  move: { to: 'node-21', startedAt: '2026-11-23T12:00:00Z', deadline: '2026-11-23T12:00:30Z' },
  since: '2026-11-23T12:00:00Z',
  changeTicket: 'CHG-1234',
  reason: 'rebalance after hardware swap',
};

export const EXAMPLE_LIST = {
  items: [EXAMPLE_SHARD],
  nextCursor: sealCursor(FILTER, {
    after: 'payments\0orders.0042',
    cut: { lineage: LINEAGE, position: POSITION },
    keyset: false,
  }),
  consistency: 'snapshot',
  resumeToken: sealResumeToken('payments', {
    lineage: LINEAGE,
    position: POSITION,
    anchor: 'q8aBhV3e',
    snapshot: false,
  }),
  versionVector: { lineage: LINEAGE, position: POSITION, namespaces: { payments: '918270' } },
};

const EXAMPLE_TRANSPORT = { negotiated: 'h2', requested: 'h3', downgraded: true, reason: 'timeout' };
const { move: _, ...settled } = EXAMPLE_SHARD;
const EXAMPLE_DATA = {
  'snapshot-begin': { position: POSITION, lineage: LINEAGE, transport: EXAMPLE_TRANSPORT },
  shard: {
    type: 'MODIFIED',
    position: '918280',
    current: { ...settled, phase: 'Active', owner: 'node-21', previousOwner: 'node-17', version: 32 },
    previous: EXAMPLE_SHARD,
    history: {
      actor: { kind: 'User', name: 'jane' },
      reason: 'rebalance after hardware swap',
      changeTicket: 'CHG-1234',
      previousOwner: 'node-17',
    },
  },
  'snapshot-end': { position: POSITION },
  bookmark: { position: '918290', transport: EXAMPLE_TRANSPORT },
  reset: { reason: 'expired', transport: EXAMPLE_TRANSPORT },
  goaway: { reconnectAfterMs: 2_400 },
};

/** One of each event of a watch, by its name. */
export const EXAMPLE_EVENTS = Object.fromEntries(
  Object.entries(EXAMPLE_DATA).map(([event, data]) => [
    event,
    { id: EXAMPLE_LIST.resumeToken, event, data: JSON.stringify(data) },
  ]),
);

const EXAMPLE_MOVED = {
  ...settled,
  phase: 'Active' as const,
  owner: 'node-21',
  previousOwner: 'node-17',
  version: 32,
};

export const EXAMPLE_DIFF: DiffPage = {
  mode: 'net',
  lineage: LINEAGE,
  from: { position: '911000', at: '2026-11-23T11:50:00.000Z' },
  to: { position: POSITION },
  summary: {
    shards: 64,
    moved: 1,
    added: 0,
    removed: 0,
    statusChanged: 0,
    churn: 0.015625,
    matrix: [{ from: 'node-17', to: 'node-21', shards: 1 }],
  },
  items: [
    {
      namespace: 'payments',
      name: 'orders.0042',
      change: 'Moved',
      before: EXAMPLE_SHARD,
      after: EXAMPLE_MOVED,
      hops: 2,
    },
  ],
  coalesced: 0,
};

export const EXAMPLE_HISTORY: HistoryPage = {
  namespace: 'payments',
  name: 'orders.0042',
  floor: { position: '700000', at: '2026-11-16T12:00:00.000Z' },
  items: [
    {
      position: POSITION,
      ordinal: 0,
      at: '2026-11-23T12:00:04.000Z',
      type: 'MODIFIED',
      namespace: 'payments',
      name: 'orders.0042',
      uid: EXAMPLE_SHARD.uid,
      before: EXAMPLE_SHARD,
      after: EXAMPLE_MOVED,
      actor: { kind: 'User', name: 'jane' },
      reason: 'rebalance after hardware swap',
      changeTicket: 'CHG-1234',
      previousOwner: 'node-17',
      source: 'watch',
    },
  ],
};

const EXAMPLE_NODE: NodeView = {
  namespace: 'payments',
  name: 'node-17',
  endpoint: 'https://worker-17.workers.payments.svc:8443',
  region: 'eu-central',
  zone: 'eu-central-1a',
  weight: 2,
  ready: true,
  scheduling: 'Active',
  shards: 128,
};

export const EXAMPLE_NODES = { items: [EXAMPLE_NODE] };

export const EXAMPLE_ACCESS: Access = {
  user: 'jane',
  groups: ['payments-team', 'system:authenticated'],
  namespace: 'payments',
  scopes: [
    scopeAccess('read', undefined),
    scopeAccess('observe', undefined),
    scopeAccess('operate', scopeMissing('jane', 'operate', { namespace: 'payments' })),
  ],
};

export const EXAMPLE_STATUS: RepositoryStatus = {
  lineage: LINEAGE,
  position: '918290',
  cache: { state: 'fresh' },
  journal: {
    state: 'behind',
    head: { position: '911000' },
    floor: { position: '700000', at: '2026-11-16T12:00:00.000Z' },
    newest: POSITION,
    behindMs: 42_000,
  },
};

const DETAILS: Partial<Record<ErrorCode, [message: string, details: Record<string, unknown>]>> = {
  invalidArgument: [
    'pageSize: a whole number from 1',
    { errors: [{ pointer: '/query/pageSize', detail: 'a whole number from 1' }] },
  ],
  tokenInvalid: [
    'cursor is damaged; start again without it',
    { errors: [{ pointer: '/query/cursor', detail: 'is damaged' }] },
  ],
  filterMismatch: [
    'cursor belongs to a list with other filters; repeat the filters of its list, or start again without it',
    { errors: [{ pointer: '/query/cursor', detail: 'belongs to a list with other filters' }] },
  ],
  unauthenticated: [
    'no bearer token: send "Authorization: Bearer TOKEN"',
    { reason: 'tokenMissing', audience: 'meshkit-shards' },
  ],
  identityRefused: [
    "system:kube-scheduler is a component of the cluster; use a service account or a person's identity",
    { user: 'system:kube-scheduler' },
  ],
  notFound: [
    'there is no shard orders.9999 in namespace payments',
    { errors: [{ pointer: '/path/name', detail: 'no such shard' }] },
  ],
  methodNotAllowed: [
    'POST is not possible here; GET, HEAD, OPTIONS are',
    {
      allow: ['GET', 'HEAD', 'OPTIONS'],
      errors: [{ pointer: '/method', detail: 'POST is not possible here; GET, HEAD, OPTIONS are' }],
    },
  ],
  notAcceptable: [
    'the Accept header excludes application/json',
    { errors: [{ pointer: '/header/accept', detail: 'must allow application/json' }] },
  ],
  unsupportedMediaType: [
    'send the body as application/json',
    { errors: [{ pointer: '/header/content-type', detail: 'must be application/json' }] },
  ],
  cursorExpired: [
    'the state that this list was cut at is no longer known; start again without the cursor, or go on at the newest state with the one in "resume"',
    {
      resume: {
        cursor: sealCursor(FILTER, { after: 'payments\0orders.0042', keyset: true }),
        consistency: 'keyset',
      },
      errors: [
        { pointer: '/query/cursor', detail: 'the state that this list was cut at is no longer known' },
      ],
    },
  ],
  tokenExpired: [
    'the changes since this token are no longer held',
    { floor: '700000', head: POSITION, errors: [{ pointer: '/query/resumeToken', detail: 'expired' }] },
  ],
  unavailable: [
    'this replica has not seen position 918273 within 3 s; try again, or ask without it',
    { reason: 'notReached' },
  ],
};

/** An example of each error, as a client would get it. */
export function exampleProblem(code: ErrorCode): Problem {
  if (code === 'scopeMissing') return problemOf(scopeMissing('jane', 'read', { namespace: 'payments' }));
  const [message, details] = DETAILS[code] ?? ['what is wrong, and what to do about it', {}];
  return problemOf(new ShardError(code, message, details));
}
