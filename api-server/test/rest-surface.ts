import { silentLog } from '@meshkit/crds/log';
import type { NodeState } from '@meshkit/shards/decide';
import { ShardError } from '@meshkit/shards/errors';
import { shardMatches } from '@meshkit/shards/filter';
import { API_VERSION, compareVersions, type ShardAssignment, type ShardSet } from '@meshkit/shards/records';
import type { PageRequest, ShardFilter, ShardPage } from '@meshkit/shards/repository';
import { scopeMissing } from '@meshkit/shards/scope';
import type { WatchMessage } from '@meshkit/shards/watch';
import { Registry } from 'prom-client';
import { AccessRecorder } from '../src/access-record.ts';
import { EncodedViews } from '../src/encoded-views.ts';
import { EXAMPLE_DIFF, EXAMPLE_HISTORY, EXAMPLE_STATUS } from '../src/examples.ts';
import { type HistorySource, historyOperations } from '../src/history-operations.ts';
import type { CacheHealth } from '../src/kubernetes-repository.ts';
import { openApiAnswer } from '../src/openapi.ts';
import type { Operation } from '../src/operation.ts';
import { RateLimits } from '../src/rate-limits.ts';
import { createRest } from '../src/rest.ts';
import { type ReadSource, shardOperations } from '../src/shard-operations.ts';
import type { Patience } from '../src/unread.ts';
import { type WatchSource, watchShards } from '../src/watch-operation.ts';

export function shard(id: string, phase: 'Active' | 'Draining' = 'Active'): ShardAssignment {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: {
      namespace: 'payments',
      name: `orders.${id}`,
      uid: `uid-${id}`,
      generation: 1,
      resourceVersion: '40',
    },
    spec: { shardSet: 'orders', shardId: id },
    status: { phase, owner: 'node-1', epoch: 17, version: 2, observedGeneration: 1 },
  };
}

const orders: ShardSet = {
  apiVersion: API_VERSION,
  kind: 'ShardSet',
  metadata: { namespace: 'payments', name: 'orders', uid: 'uid-orders', generation: 1 },
  spec: { shards: { count: 5 } },
};

function meshNode(name: string): NodeState {
  const metadata = { namespace: 'payments', name };
  return { ready: true, node: { apiVersion: API_VERSION, kind: 'MeshNode', metadata, spec: {} } };
}

export const LINEAGE = 'l-1';

/** Shards by position: what the cluster was at each of them; positions before `floor` are forgotten. */
export class History {
  readonly #states = new Map<string, readonly ShardAssignment[]>();
  position = '0';
  floor = '0';
  lineage = LINEAGE;

  put(position: string, records: readonly ShardAssignment[]): void {
    this.#states.set(position, records);
    this.position = position;
  }

  list(filter: ShardFilter, { limit, after, at }: PageRequest): ShardPage {
    const position = at ?? this.position;
    const state = this.#states.get(position);
    if (!state || compareVersions(position, this.floor) < 0) throw new ShardError('cursorExpired', 'gone');
    const key = ({ metadata }: ShardAssignment) => `${metadata.namespace}/${metadata.name}`;
    const left = state.filter((record) => shardMatches(filter, record) && key(record) > (after ?? ''));
    const items = left.slice(0, limit);
    return {
      items,
      next: left.length > limit ? key(items.at(-1)!) : undefined,
      versionVector: { lineage: this.lineage, position, namespaces: { payments: '40' } },
      resumeToken: () => `resume-${position}`,
      consistency: after === undefined || at !== undefined ? 'snapshot' : 'keyset',
    };
  }
}

/**
 * The REST surface on a repository without Kubernetes; requests are injected, nothing listens. Tokens are user names:
 * `jane` may read and observe payments, `reader` only read it, `admin` everything, `down` makes reviews fail, `system:…`
 * is refused.
 */
export function setUp(
  options: {
    health?: CacheHealth;
    repository?: Partial<ReadSource['repository'] & WatchSource['repository'] & HistorySource['repository']>;
    requestsPerSecond?: number;
    /** What a watch is told; then its stream ends, with the error if there is one. */
    messages?: readonly WatchMessage[];
    watchError?: ShardError;
    shards?: number;
    patience?: Patience;
  } = {},
) {
  const history = new History();
  const records = Array.from({ length: options.shards ?? 5 }, (_, i) =>
    shard(String(i).padStart(4, '0'), i === 4 ? 'Draining' : 'Active'),
  );
  history.put('41', records);
  const repository: ReadSource['repository'] & WatchSource['repository'] & HistorySource['repository'] = {
    list: async (filter, page) => history.list(filter, page),
    asOf: () => ({ lineage: history.lineage, position: history.position }),
    get: async (_namespace, name) => records.find(({ metadata }) => metadata.name === name),
    nodes: async () => [],
    meshState: async () => ({
      sets: [orders],
      shards: records,
      nodes: [meshNode('node-1'), meshNode('node-2')],
      basis: { lineage: LINEAGE, position: history.position, shardSets: '30', nodes: '35' },
    }),
    diff: async () => EXAMPLE_DIFF,
    history: async () => EXAMPLE_HISTORY,
    status: async () => EXAMPLE_STATUS,
    waitFor: async (position) => compareVersions(history.position, position) >= 0,
    watch: async (_request, sink) => {
      const messages = options.messages ?? [];
      for (const message of messages) sink.write(sink.encoding.encode(message));
      setImmediate(() => sink.end(options.watchError, messages.at(-1)?.token));
      return { messages: messages.length, close: () => undefined };
    },
    ...options.repository,
  };
  const lines: Record<string, unknown>[] = [];
  /** What the server logged as its own mistakes. */
  const failures: unknown[] = [];
  const registry = new Registry();
  const log = {
    ...silentLog,
    error: (fields: Record<string, unknown>) => failures.push(fields.err),
    info: (fields: Record<string, unknown>) => lines.push(fields),
    warn: (fields: Record<string, unknown>) => lines.push(fields),
  };
  const clock = { now: () => 0, monotonic: () => 0, sleep: async () => undefined };
  const source = { repository, clock, views: new EncodedViews(), random: () => 0 };
  const operations = [
    ...shardOperations(source),
    ...historyOperations(source),
    watchShards(source) as Operation,
  ];
  const app = createRest({
    operations,
    openApi: openApiAnswer(operations),
    limits: new RateLimits({
      clock: { monotonic: () => 0 },
      requestsPerSecond: options.requestsPerSecond ?? 0,
    }),
    authenticator: {
      async authenticate(header) {
        const user = header?.replace('Bearer ', '');
        if (!user) throw new ShardError('unauthenticated', 'no bearer token', { reason: 'tokenMissing' });
        if (user === 'forged')
          throw new ShardError('unauthenticated', 'unknown', { reason: 'tokenRejected' });
        if (user.startsWith('system:')) throw new ShardError('identityRefused', 'no component', { user });
        return { user, groups: [], key: user };
      },
    },
    authorizer: {
      async require({ user }, scope, target) {
        if (user === 'down')
          throw new ShardError('unavailable', 'cannot ask', { reason: 'reviewUnavailable' });
        if (user === 'reader' && scope === 'read' && target.namespace === 'payments') return;
        if (user === 'admin' || (user === 'jane' && target.namespace === 'payments')) return;
        throw scopeMissing(user, scope, target);
      },
    },
    cacheHealth: () => options.health ?? {},
    recorder: new AccessRecorder(log, registry),
    clock,
    log,
    patience: options.patience,
  });
  const get = async (url: string, headers: Record<string, string> = { authorization: 'Bearer admin' }) => {
    const response = await app.inject({ method: 'GET', url, headers });
    const body = response.body === '' ? undefined : response.json();
    return { status: response.statusCode, headers: response.headers, body };
  };
  const post = async (
    url: string,
    body: unknown,
    headers: Record<string, string> = { authorization: 'Bearer admin' },
  ) => {
    const payload = typeof body === 'string' ? body : JSON.stringify(body);
    const all = { 'content-type': 'application/json', ...headers };
    const response = await app.inject({ method: 'POST', url, headers: all, payload });
    return {
      status: response.statusCode,
      headers: response.headers,
      body: response.body === '' ? undefined : response.json(),
    };
  };
  return { app, get, post, lines, failures, registry, history, records, repository, operations };
}
