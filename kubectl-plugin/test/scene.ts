import type { ServerStatus } from '@meshkit/client/backend';
import type { ShardClientOptions } from '@meshkit/client/shard-client';
import type { WatchEvent } from '@meshkit/client/shard-tracker';
import { statusError } from '@meshkit/crds/kube-error';
import type { Lease } from '@meshkit/crds/resource';
import { ERRORS, ShardError } from '@meshkit/shards/errors';
import { explain } from '@meshkit/shards/explain';
import { shardMatches } from '@meshkit/shards/filter';
import { judged } from '@meshkit/shards/judged-node';
import { owningNodes } from '@meshkit/shards/owning-nodes';
import {
  API_VERSION,
  GROUP,
  type KubeObject,
  type MeshNode,
  type ShardAssignment,
  type ShardSet,
} from '@meshkit/shards/records';
import type { DiffPage, ShardFilter } from '@meshkit/shards/repository';
import { SCOPES, type Scope, scopeAccess, scopeMissing } from '@meshkit/shards/scope';
import { served, servedNode } from '@meshkit/shards/shard-view';
import { boundedSimulation, type MeshState, simulate } from '@meshkit/shards/simulate';
import { run } from '../src/program.ts';
import type { ApiClient, Kube, Output, Surroundings } from '../src/surroundings.ts';
import { historyOf } from './scene-history.ts';

export const NOW = Date.parse('2026-11-23T12:00:00Z');
export const API = { MESHKIT_SERVER: 'https://api.example:8443' };

function shard(namespace: string, id: string, rest: Partial<ShardAssignment> = {}): ShardAssignment {
  return {
    apiVersion: API_VERSION,
    kind: 'ShardAssignment',
    metadata: { namespace, name: `orders.${id}`, uid: `uid-${namespace}-${id}`, generation: 1 },
    spec: { shardSet: 'orders', shardId: id, ...rest.spec },
    status: rest.status,
  };
}

const actor = { kind: 'Operator', name: 'Unowned' } as const;

function owned(owner: string, phase: 'Active' | 'Draining' | 'Lost' | 'Paused', at: string) {
  const transition = { version: 2, to: owner, phase, actor, reason: 'Placed', at } as const;
  return {
    phase,
    owner,
    epoch: 1795412345,
    version: 2,
    observedGeneration: 1,
    recentTransitions: [transition],
  };
}

/** A fixed data set: every phase, a pin, a move, a long name, two namespaces. */
export const SHARDS: ShardAssignment[] = [
  shard('billing', '0000', { status: owned('worker-1', 'Active', '2026-11-01T00:00:00Z') }),
  shard('payments', '0000', {
    spec: { shardSet: 'orders', shardId: '0000', locality: { zone: 'eu-central-1a' } },
    status: {
      ...owned('node-17', 'Active', '2026-11-23T11:59:15Z'),
      ownerEndpoint: 'https://worker-17.workers.payments.svc:8443',
    },
  }),
  shard('payments', '0001', {
    spec: { shardSet: 'orders', shardId: '0001', owner: { pinned: 'node-21' }, changeTicket: 'CHG-1234' },
    status: {
      ...owned('node-17', 'Draining', '2026-11-23T11:56:40Z'),
      move: { to: 'node-21', startedAt: '2026-11-23T11:56:40Z', deadline: '2026-11-23T12:01:40Z' },
    },
  }),
  shard('payments', '0002', {
    status: {
      phase: 'Pending',
      epoch: 0,
      version: 1,
      conditions: [
        {
          type: 'Ready',
          status: 'False',
          reason: 'NoNodeInLocality',
          message: 'no node in zone eu-central-1c: add one, or set locality: Preferred',
          lastTransitionTime: '2026-11-23T10:00:00Z',
        },
      ],
    },
  }),
  shard('payments', '0003', {
    status: owned('a-node-with-a-name-that-is-rather-long', 'Lost', '2026-11-20T12:00:00Z'),
  }),
  shard('payments', '0004', { status: owned('node-9', 'Paused', '2026-11-23T06:30:00Z') }),
];

const NODES: MeshNode[] = ['node-17', 'node-21'].map((name, at) => ({
  apiVersion: API_VERSION,
  kind: 'MeshNode',
  metadata: { namespace: 'payments', name },
  spec: {
    weight: at + 1,
    region: 'eu-central',
    zone: 'eu-central-1a',
    scheduling: at === 0 ? 'Drain' : 'Active',
  },
  status: {
    conditions: [
      {
        type: 'Ready',
        status: at === 0 ? 'False' : 'True',
        reason: 'R',
        message: 'm',
        lastTransitionTime: '',
      },
    ],
  },
}));

export const SETS: ShardSet[] = ['billing', 'payments'].map((namespace) => ({
  apiVersion: API_VERSION,
  kind: 'ShardSet',
  metadata: { namespace, name: 'orders', uid: `uid-${namespace}`, generation: 1 },
  spec: { shards: { count: 5 }, churn: { maxConcurrentMoves: 2 }, handoff: { drainTimeout: '30s' } },
}));

/** Twelve equal nodes that have four shards each, without a hint of locality: a mesh at rest. */
export const AT_REST = {
  sets: SETS.slice(1).map((set): ShardSet => ({ ...set, spec: { ...set.spec, shards: { count: 48 } } })),
  nodes: Array.from(
    { length: 12 },
    (_, at): MeshNode => ({
      apiVersion: API_VERSION,
      kind: 'MeshNode',
      metadata: { namespace: 'payments', name: `node-${at + 1}` },
      spec: {},
      status: {
        conditions: [{ type: 'Ready', status: 'True', reason: 'R', message: 'm', lastTransitionTime: '' }],
      },
    }),
  ),
  shards: Array.from({ length: 48 }, (_, at) =>
    shard('payments', String(at).padStart(4, '0'), {
      status: owned(`node-${(at % 12) + 1}`, 'Active', '2026-11-20T12:00:00Z'),
    }),
  ),
};

const LEASE: Lease = {
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  metadata: {
    namespace: 'meshkit-system',
    name: 'meshkit-operator',
    annotations: { [`${GROUP}/version`]: '0.1.0' },
  },
  spec: { holderIdentity: 'operator-1', leaseDurationSeconds: 10, renewTime: '2026-11-23T11:59:58.000000Z' },
};

export const STATUS: ServerStatus = {
  api: 'v1',
  version: '0.1.0',
  lineage: 'uid-of-the-cluster',
  position: '102',
  cache: { state: 'fresh' },
  journal: {
    state: 'current',
    head: { position: '101' },
    floor: { position: '7', at: '2026-11-16T12:00:00Z' },
    newest: '101',
  },
};

const CANNOT = `shardassignments.${GROUP} is forbidden: User "jane" cannot list resource "shardassignments" in API group "${GROUP}" in the namespace "payments"`;
/** What kube-apiserver says to who may not list. */
export const FORBIDDEN = statusError(
  { what: `list shardassignments.${GROUP} in namespace payments`, server: 'https://k8s' },
  { status: 403, body: { reason: 'Forbidden', message: CANNOT } },
);

/** What the program meets; the data set above unless it says otherwise. */
export interface Scene {
  sets?: readonly ShardSet[];
  width?: number;
  color?: boolean;
  calledAs?: string;
  env?: Record<string, string>;
  /** What the API server does instead of answering. */
  api?: ShardError;
  /** What Kubernetes does instead of answering. */
  kube?: ShardError;
  /** No kubeconfig at all. */
  noKubeconfig?: boolean;
  /** The kubeconfig's user logs in with a certificate. */
  noToken?: boolean;
  aborted?: boolean;
  /** The wall clock; absent: it stands still. */
  now?: () => number;
  shards?: readonly ShardAssignment[];
  nodes?: readonly MeshNode[];
  /** Absent: the operator leads; null: there is no Lease. */
  lease?: Lease | null;
  /** What a watch tells after everything that exists. */
  events?: readonly WatchEvent[];
  /** How the API server is, where not as usual. */
  status?: Partial<ServerStatus>;
  /** Scopes that the caller lacks. */
  lacks?: readonly Scope[];
  /** Paths to texts; a folder is the beginning of a path. */
  files?: Record<string, string>;
  stdin?: string;
  /** Other answers of the API server's client. */
  answers?: Partial<ApiClient>;
  /** Other answers of Kubernetes. */
  raw?: (method: string, path: string, body: unknown, contentType?: string) => unknown;
}

export interface Played {
  stdout: string;
  stderr: string;
  code: number;
  /** Who was connected to, and writes that were sent. */
  calls: string[];
  /** What the API server's client was asked: name of the method, then its arguments. */
  asked: unknown[][];
}

/** Runs the program against the data set; both the API and Kubernetes hold it. */
export async function play(line: string | readonly string[], scene: Scene = {}): Promise<Played> {
  const texts = { stdout: '', stderr: '' };
  const calls: string[] = [];
  const asked: unknown[][] = [];
  const output = (name: 'stdout' | 'stderr'): Output => ({
    write: async (text) => {
      texts[name] += text;
    },
    width: scene.width,
    color: scene.color ?? false,
  });
  const stop = new AbortController();
  if (scene.aborted) stop.abort(new Error('interrupted'));
  const around: Surroundings = {
    stdout: output('stdout'),
    stderr: output('stderr'),
    env: scene.env ?? {},
    // Nothing takes long here, so nobody wakes from a sleep but by being told to.
    clock: { now: scene.now ?? (() => NOW), monotonic: () => 0, sleep: (_ms, signal) => until(signal) },
    random: () => 0,
    signal: stop.signal,
    files: filesOf(scene),
    connectApi: async (options) => noted(apiOf(scene, options, calls, stop.signal), asked),
    connectKube: async ({ token, as }) => {
      if (scene.noKubeconfig) throw new ShardError('invalidArgument', 'no kubeconfig');
      calls.push(`kube token=${token} as=${as}`);
      return kubeOf(scene, calls, stop.signal);
    },
    loadContext: async () => (scene.noKubeconfig ? undefined : contextOf(scene)),
  };
  const words = typeof line === 'string' ? line.split(' ').filter(Boolean) : line;
  const code = await run(scene.calledAs ?? 'kubectl-mesh', words, around);
  return { ...texts, code, calls, asked };
}

/** Everything that a user gets from one command, as one text. */
export function transcript(line: string, { stdout, stderr, code }: Played): string {
  const visible = stdout.replaceAll('\u001b', '\\e');
  return `$ kubectl mesh shards ${line}\n${visible}--- stderr\n${stderr}--- exit ${code}\n`;
}

function until(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((_, reject) => {
    if (signal?.aborted) reject(signal.reason);
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

function filesOf({ files = {}, stdin = '' }: Scene): Surroundings['files'] {
  const all: Record<string, string> = { 'ca.pem': 'PEM', ...files };
  return {
    read: async (path) => {
      const text = all[path];
      if (text === undefined) throw Object.assign(new Error('ENOENT: open'), { code: 'ENOENT' });
      return text;
    },
    below: async (path) => {
      const inside = Object.keys(all).filter((name) => name.startsWith(`${path}/`));
      return inside.length > 0 ? inside.sort() : undefined;
    },
    stdin: async () => stdin,
  };
}

function noted(client: ApiClient, asked: unknown[][]): ApiClient {
  const methods = Object.entries(client) as [string, (...given: unknown[]) => unknown][];
  const noting = methods.map(([name, method]) => [
    name,
    (...given: unknown[]) => {
      asked.push([name, ...given]);
      return method(...given);
    },
  ]);
  return Object.fromEntries(noting) as ApiClient;
}

function apiOf(scene: Scene, options: ShardClientOptions, calls: string[], signal: AbortSignal): ApiClient {
  const { server, token, ca } = options;
  const { shards = SHARDS, nodes = NODES, events = [], lacks = [] } = scene;
  calls.push(`api ${server} token=${token} ca=${ca}`);
  const answer = (scope: Scope, namespace: string | undefined) => {
    signal.throwIfAborted();
    if (scene.api) throw scene.api;
    if (lacks.includes(scope)) throw scopeMissing('jane', scope, { namespace });
  };
  return {
    async *pages(filter: ShardFilter = {}, { pageSize = 1_000, limit = 1_000 } = {}) {
      answer('read', filter.namespace);
      const items = shards
        .filter((item) => shardMatches(filter, item))
        .slice(0, limit)
        .map(served);
      do {
        yield {
          items: items.splice(0, pageSize),
          versionVector: { position: '101', namespaces: { payments: '101' } },
          resumeToken: 'token-101',
        };
      } while (items.length > 0);
    },
    async get(namespace, name) {
      answer('read', namespace);
      const found = shards.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name);
      if (!found) throw new ShardError('notFound', `there is no shard ${name} in namespace ${namespace}`);
      return served(found);
    },
    async nodes(namespace) {
      answer('read', namespace);
      const here = nodes.filter(
        ({ metadata }) => namespace === undefined || metadata.namespace === namespace,
      );
      return owningNodes(here, shards, () => undefined).map(servedNode);
    },
    async *watch(filter = {}, { resumeToken, signal: ending, onDisconnect } = {}) {
      if (scene.api && ERRORS[scene.api.code].retry) {
        // As the client does, for ever.
        onDisconnect?.(scene.api, 0);
        await until(ending).catch(() => undefined);
        return;
      }
      answer('observe', filter.namespace);
      const token = (at: number) => `token-${at}`;
      if (resumeToken === undefined) {
        for (const item of shards.filter((one) => shardMatches(filter, one))) {
          yield { type: 'ADDED', position: '100', current: served(item), token: token(0) };
        }
        yield { type: 'SYNCED', position: '100', token: token(0) };
      }
      yield* events;
    },
    async simulate(request) {
      answer('observe', request.namespace);
      return boundedSimulation(
        simulate(stateOf(scene, request.namespace), request),
        request.maxItems ?? 1_000,
      );
    },
    async explain(namespace, name) {
      answer('read', namespace);
      const explanation = explain(stateOf(scene, namespace), { namespace, name }, 1_000);
      if (!lacks.includes('observe')) return explanation;
      const {
        scope,
        check = '',
        grant = '',
      } = scopeAccess('observe', scopeMissing('jane', 'observe', { namespace }));
      return {
        ...explanation,
        transitions: undefined,
        withheld: [{ member: 'transitions', scope, check, grant }],
      };
    },
    async diff(filter = {}, { mode = 'net', pageSize = 1_000, cursor = '0' } = {}) {
      answer('observe', filter.namespace);
      const whole = HISTORY.diff(filter, mode);
      const end = Number(cursor) + pageSize;
      const next = end < whole.items.length ? String(end) : undefined;
      return { ...whole, items: whole.items.slice(Number(cursor), end), next } as DiffPage;
    },
    async history(namespace, name, { cursor } = {}) {
      answer('observe', namespace);
      if (name !== 'orders.0001')
        throw new ShardError('notFound', `nothing is known of a shard ${name} in namespace ${namespace}`);
      const items = HISTORY.log.filter((item) => item.name === name).reverse();
      const floor = { position: '7', at: '2026-11-16T12:00:00Z' };
      // Two pages, so that somebody has to ask for the second.
      if (cursor === undefined) return { namespace, name, floor, items: items.slice(0, 1), next: 'more' };
      return { namespace, name, floor, items: items.slice(1) };
    },
    async about() {
      signal.throwIfAborted();
      if (scene.api) throw scene.api;
      return { api: 'v1', version: '0.1.0' };
    },
    async status(namespace) {
      answer('read', namespace);
      return { ...STATUS, ...scene.status };
    },
    async access(namespace) {
      signal.throwIfAborted();
      if (scene.api) throw scene.api;
      const refusal = (scope: Scope) =>
        lacks.includes(scope) ? scopeMissing('jane', scope, { namespace }) : undefined;
      const scopes = SCOPES.map((scope) => scopeAccess(scope, refusal(scope)));
      return { user: 'jane', groups: ['team', 'system:authenticated'], namespace, scopes };
    },
    close: async () => undefined,
    ...scene.answers,
  };
}

const HISTORY = historyOf(SHARDS);

function stateOf({ shards = SHARDS, nodes = NODES, sets = SETS }: Scene, namespace?: string): MeshState {
  const here = ({ metadata }: KubeObject) => namespace === undefined || metadata.namespace === namespace;
  return {
    sets: sets.filter(here),
    shards: shards.filter(here),
    nodes: nodes.map(judged),
    basis: { position: '1', shardSets: '1', nodes: '1' },
  };
}

function kubeOf(scene: Scene, calls: string[], aborted: AbortSignal): Kube {
  const { shards = SHARDS, nodes = NODES, sets = SETS, lacks = [], lease = LEASE } = scene;
  const objectsOf = (plural: string): readonly KubeObject[] =>
    plural === 'shardassignments' ? shards : plural === 'meshnodes' ? nodes : sets;
  const answer = () => {
    aborted.throwIfAborted();
    if (scene.kube) throw scene.kube;
  };
  const here = (objects: readonly KubeObject[], namespace: string | undefined) =>
    objects.filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace);
  return {
    server: 'https://k8s.example:6443',
    namespace: 'payments',
    get: async ({ plural }: { plural: string }, key: { namespace: string; name: string }) => {
      answer();
      if (plural === 'leases' && lease) return lease;
      const found = objectsOf(plural).find(
        ({ metadata }) => metadata.namespace === key.namespace && metadata.name === key.name,
      );
      if (found) return found;
      throw new ShardError('notFound', 'no such object', { reason: 'NotFound', status: 404 });
    },
    listAll: async ({ plural }: { plural: string }, { namespace }: { namespace?: string } = {}) => {
      answer();
      return { items: here(objectsOf(plural), namespace), resourceVersion: '1' };
    },
    list: async ({ plural }: { plural: string }, { namespace }: { namespace?: string } = {}) => {
      answer();
      return { items: here(objectsOf(plural), namespace), resourceVersion: '1' };
    },
    // biome-ignore lint/correctness/useYield: nothing ever happens there.
    async *watch(_: unknown, { signal }: { signal: AbortSignal }) {
      await until(signal);
    },
    raw: async (
      method: string,
      path: string,
      { body, query, contentType }: { body?: unknown; query?: object; contentType?: string } = {},
    ) => {
      answer();
      if (path === '/version') return { gitVersion: 'v1.37.2' };
      if (path.endsWith('/selfsubjectreviews')) {
        return { status: { userInfo: { username: 'jane', groups: ['team', 'system:authenticated'] } } };
      }
      if (path.endsWith('/selfsubjectaccessreviews')) {
        const { verb } = (body as { spec: { resourceAttributes: { verb: Scope } } }).spec.resourceAttributes;
        return { status: { allowed: !lacks.includes(verb) } };
      }
      calls.push(`${method} ${path} ${JSON.stringify(query ?? {})}`);
      return scene.raw?.(method, path, body, contentType);
    },
    close: async () => undefined,
  } as unknown as Kube;
}

function contextOf({ noToken }: Scene): NonNullable<Awaited<ReturnType<Surroundings['loadContext']>>> {
  return {
    namespace: 'payments',
    extensions: new Map(),
    credentials: {
      current: async () => (noToken ? { cert: 'c', key: 'k' } : { authorization: 'Bearer from-kubeconfig' }),
      forget: () => undefined,
      close: () => undefined,
    },
  };
}
