import { ShardError } from '@meshkit/shards/errors';
import { shardMatches } from '@meshkit/shards/filter';
import { API_VERSION, type MeshNode, type ShardAssignment } from '@meshkit/shards/records';
import type { ShardFilter } from '@meshkit/shards/repository';
import { scopeMissing } from '@meshkit/shards/scope';
import { served, servedNode } from '@meshkit/shards/shard-view';
import { describe, expect, it } from 'vitest';
import { run } from './program.ts';
import type { Output, Surroundings } from './surroundings.ts';

const NOW = Date.parse('2026-11-23T12:00:00Z');

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
const SHARDS: ShardAssignment[] = [
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

interface Scene {
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
}

/** Runs the program against the data set; both the API and Kubernetes hold it. */
async function play(line: string, scene: Scene = {}) {
  const texts = { stdout: '', stderr: '' };
  const calls: string[] = [];
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
    clock: { now: () => NOW, monotonic: () => 0, sleep: async () => undefined },
    signal: stop.signal,
    readFile: async (path) => {
      if (path === 'ca.pem') return 'PEM';
      throw new Error('no such file');
    },
    connectApi: ({ server, token, ca }) => {
      calls.push(`api ${server} token=${token} ca=${ca}`);
      const answer = () => {
        stop.signal.throwIfAborted();
        if (scene.api) throw scene.api;
      };
      return {
        async *pages(filter: ShardFilter = {}, { pageSize = 1_000, limit = 1_000 } = {}) {
          answer();
          const items = SHARDS.filter((item) => shardMatches(filter, item))
            .slice(0, limit)
            .map(served);
          do {
            yield { items: items.splice(0, pageSize), versionVector: { position: '1', namespaces: {} } };
          } while (items.length > 0);
        },
        async get(namespace, name) {
          answer();
          const found = SHARDS.find(
            ({ metadata }) => metadata.namespace === namespace && metadata.name === name,
          );
          if (!found) throw new ShardError('notFound', `there is no shard ${name} in namespace ${namespace}`);
          return served(found);
        },
        async nodes() {
          answer();
          return NODES.map((node) => servedNode({ node, shards: 2 }));
        },
        close: async () => undefined,
      };
    },
    connectKube: ({ token, as }) => {
      calls.push(`kube token=${token} as=${as}`);
      return {
        namespace: 'payments',
        get: async () => {
          throw scene.kube ?? new ShardError('notFound', 'no such object', { reason: 'NotFound' });
        },
        listAll: async ({ plural }: { plural: string }, { namespace }: { namespace?: string } = {}) => {
          if (scene.kube) throw scene.kube;
          const items = plural === 'shardassignments' ? SHARDS : plural === 'meshnodes' ? NODES : [];
          return {
            items: items.filter(
              ({ metadata }) => namespace === undefined || metadata.namespace === namespace,
            ),
            resourceVersion: '1',
          };
        },
        close: async () => undefined,
      } as unknown as ReturnType<Surroundings['connectKube']>;
    },
    loadContext: () =>
      scene.noKubeconfig
        ? undefined
        : {
            namespace: 'payments',
            extensions: new Map(),
            credentials: {
              current: async () =>
                scene.noToken ? { cert: 'c', key: 'k' } : { authorization: 'Bearer from-kubeconfig' },
              forget: () => undefined,
              close: () => undefined,
            },
          },
  };
  const code = await run(scene.calledAs ?? 'kubectl-mesh', line.split(' ').filter(Boolean), around);
  return { ...texts, code, calls };
}

/** Everything that a user gets from one command, in one file. */
function transcript(line: string, { stdout, stderr, code }: Awaited<ReturnType<typeof play>>): string {
  const visible = stdout.replaceAll('\u001b', '\\e');
  return `$ kubectl mesh shards ${line}\n${visible}--- stderr\n${stderr}--- exit ${code}\n`;
}

const API = { MESHKIT_SERVER: 'https://api.example:8443' };

describe('what list prints', () => {
  it.each<[string, string, Scene]>([
    ['table', 'list', {}],
    ['table-all-namespaces', 'list -A', {}],
    ['table-no-headers', 'list --no-headers', {}],
    ['table-pages', 'list --page-size 2', {}],
    ['table-limit', 'list --limit 2', {}],
    ['table-width-40', 'list', { width: 40 }],
    ['table-width-80', 'list', { width: 80 }],
    ['table-width-200', 'list -A', { width: 200 }],
    ['table-color', 'list', { width: 200, color: true }],
    ['wide', 'list -o wide', {}],
    ['wide-width-80', 'list -o wide', { width: 80 }],
    ['json', 'list --json --status draining,pending', {}],
    ['yaml', 'list -o yaml --owner node-17', {}],
    ['name', 'list -o name', {}],
    ['filters', 'list -A --status active --status paused --search 000', {}],
    ['empty-table', 'list -n nowhere', {}],
    ['empty-filter', 'list --owner nobody', {}],
    ['empty-json', 'list --json -n nowhere', {}],
    ['empty-yaml', 'list -o yaml -n nowhere', {}],
    ['empty-name', 'list -o name -n nowhere', {}],
    ['get', 'get orders.0001', {}],
    ['get-json', 'get orders.0002 --json', {}],
    ['nodes', 'nodes', {}],
    ['nodes-wide', 'nodes -A -o wide', {}],
    ['nodes-json', 'nodes --json', {}],
  ])('%s', async (name, line, scene) => {
    const result = await play(line ? `shards ${line}` : '', { env: API, ...scene });
    await expect(transcript(line, result)).toMatchFileSnapshot(`__golden__/${name}.txt`);
  });

  it('is the same directly from Kubernetes as through the API server', async () => {
    for (const line of [
      'list',
      'list -A -o wide',
      'list --status draining --json',
      'list -o name --limit 2',
    ]) {
      const [api, direct] = await Promise.all([
        play(`shards ${line}`, { env: API }),
        play(`shards ${line} --mode direct`),
      ]);
      expect(direct.stdout).toBe(api.stdout);
    }
  });

  it('has no escape sequences where nobody asked for colour', async () => {
    expect((await play('shards list -A', { env: API })).stdout).not.toContain('\u001b');
  });
});

describe('what goes wrong', () => {
  const refused = new ShardError(
    'unavailable',
    'cannot reach https://api.example:8443: connect ECONNREFUSED',
    {
      reason: 'ECONNREFUSED',
    },
  );
  it.each<[string, string, Scene]>([
    ['error-scope', 'list', { api: scopeMissing('jane', 'read', { namespace: 'payments' }) }],
    ['error-scope-all', 'list -A', { api: scopeMissing('jane', 'read', {}) }],
    [
      'error-token',
      'list',
      { api: new ShardError('unauthenticated', 'the bearer token was not accepted: expired') },
    ],
    ['error-not-found', 'get orders.9999', {}],
    ['error-refused-api', 'list --mode api', { api: refused }],
    ['error-refused-auto', 'list -o name', { api: refused }],
    [
      'error-timeout',
      'list',
      { api: new ShardError('timeout', 'https://api.example:8443 gave no answer within 10 s') },
    ],
    ['error-down', 'list', { api: new ShardError('unavailable', 'access cannot be checked right now') }],
    ['error-status', 'list --status broken', {}],
    ['error-set', 'list --set UPPER', {}],
    ['error-flag', 'list --nonsense', {}],
    ['error-format', 'list -o html', {}],
    ['error-formats', 'list -o yaml --json', {}],
    ['error-page-size', 'list --page-size 0', {}],
    ['error-argument', 'list orders', {}],
    ['error-verb', 'lsit', {}],
    ['error-mode-as', 'list --mode api --as jane', {}],
    ['error-ca', 'list --certificate-authority nope.pem', {}],
    ['error-no-server', 'list --mode api', { env: {} }],
    ['error-no-token-api', 'list --mode api', { noToken: true }],
    ['error-no-token-auto', 'list -o name', { noToken: true }],
    [
      'error-direct',
      'list --mode direct',
      {
        kube: new ShardError(
          'scopeMissing',
          'cannot list shardassignments in namespace payments at https://k8s: forbidden (403 Forbidden). Ask an administrator.',
        ),
      },
    ],
  ])('%s', async (name, line, scene) => {
    const result = await play(`shards ${line}`, { env: API, ...scene });
    await expect(transcript(line, result)).toMatchFileSnapshot(`__golden__/${name}.txt`);
    if (result.code !== 0) expect(result.stdout).toBe('');
  });

  it('ends with 130 when interrupted', async () => {
    expect(await play('shards list', { env: API, aborted: true })).toMatchObject({
      code: 130,
      stdout: '',
      stderr: '',
    });
  });
});

describe('whom it asks', () => {
  it.each<[string, string, Scene, string[]]>([
    ['nothing configured: Kubernetes, silently', 'list', {}, ['kube token=undefined as=undefined']],
    [
      'the environment',
      'list',
      { env: API },
      ['api https://api.example:8443 token=from-kubeconfig ca=undefined'],
    ],
    [
      'flags first',
      'list --server https://b --token t --certificate-authority ca.pem',
      { env: API },
      ['api https://b token=t ca=PEM'],
    ],
    [
      'no kubeconfig needed',
      'list --server https://b --token t',
      { noKubeconfig: true },
      ['api https://b token=t ca=undefined'],
    ],
    ['--as is for Kubernetes', 'list --as jane', { env: API }, ['kube token=undefined as=jane']],
    ['direct with a token', 'list --mode direct --token t', { env: API }, ['kube token=t as=undefined']],
  ])('%s', async (_name, line, scene, calls) => {
    const result = await play(`shards ${line}`, scene);
    expect(result.calls).toEqual(calls);
    expect(result.stderr).toBe(
      line === 'list --server https://b --token t' ? 'No shards found in namespace default.\n' : '',
    );
  });

  it('never shows the API token to Kubernetes when the API server is gone', async () => {
    const api = new ShardError('unavailable', 'refused', { reason: 'ECONNREFUSED' });
    const { calls, stderr, code } = await play('shards list --token secret', { env: API, api });
    expect(calls).toEqual([
      'api https://api.example:8443 token=secret ca=undefined',
      'kube token=undefined as=undefined',
    ]);
    expect(code).toBe(0);
    expect(stderr).toContain('refuses connections');
  });
});

describe('help', () => {
  it.each([
    ['help-kubectl', 'kubectl-mesh', '--help'],
    ['help-kubectl-list', 'kubectl-mesh', 'shards list --help'],
    ['help-omnirelay', 'omnirelay', '--help'],
    ['help-omnirelay-list', 'omnirelay', 'mesh shards list --help'],
  ])('%s', async (name, calledAs, line) => {
    const result = await play(line, { calledAs });
    expect(result).toMatchObject({ code: 0, stderr: '' });
    await expect(result.stdout).toMatchFileSnapshot(`__golden__/${name}.txt`);
  });

  it('has a version under both names', async () => {
    expect((await play('shards version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect((await play('mesh shards version', { calledAs: 'omnirelay' })).stdout).toMatch(
      /^\d+\.\d+\.\d+\n$/,
    );
    expect((await play('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});
