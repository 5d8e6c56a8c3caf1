import type { ServerStatus } from '@meshkit/client/backend';
import { ShardError } from '@meshkit/shards/errors';
import type { NodeView, ShardView } from '@meshkit/shards/shard-view';
import { served } from '@meshkit/shards/shard-view';
import { describe, expect, it } from 'vitest';
import { NOW, SHARDS, STATUS } from '../test/scene.ts';
import { serverComponents } from './components.ts';
import { type ConnectionFlags, sameFlags } from './connection.ts';
import { type Facts, healthOf } from './health.ts';

const WELL = served(SHARDS[1]!);
const NODE: NodeView = {
  namespace: 'payments',
  name: 'node-17',
  weight: 1,
  ready: true,
  scheduling: 'Active',
  shards: 1,
};

function health(facts: Partial<Facts>) {
  return healthOf({
    namespace: 'payments',
    shards: [WELL],
    nodes: [NODE],
    components: [],
    now: NOW,
    program: 'kubectl mesh shards',
    same: { mesh: '', kubectl: '', cluster: '' },
    leaseNamespace: 'meshkit-system',
    ...facts,
  });
}

/** Kind and severity of each problem, and the verb to run next. */
function found(facts: Partial<Facts>) {
  return health(facts).problems.map(({ kind, severity, next }) => [kind, severity, next.split(' ')[3]]);
}

const stalled = (reason: string, message = 'why') => [
  { type: 'Ready', status: 'False' as const, reason, message },
  { type: 'Stalled', status: 'True' as const, reason, message },
];

describe('of a shard', () => {
  it.each<[string, Partial<ShardView>, unknown[][]]>([
    ['nothing, while it is owned', {}, []],
    ['lost', { phase: 'Lost' }, [['lost', 'bad', 'explain']]],
    ['not placed yet', { phase: 'Pending', owner: undefined }, [['unowned', 'bad', 'explain']]],
    [
      'no node may have it',
      { phase: 'Pending', owner: undefined, conditions: stalled('NoNodeInLocality') },
      [['unplaceable', 'bad', 'explain']],
    ],
    ['nobody is to have it', { phase: 'Disabled', owner: undefined, state: 'Disabled' }, []],
    [
      'draining within its time',
      { phase: 'Draining', move: { to: 'b', startedAt: '', deadline: '2026-11-23T11:59:55Z' } },
      [],
    ],
    [
      'draining for too long',
      { phase: 'Draining', move: { to: 'b', startedAt: '', deadline: '2026-11-23T11:59:00Z' } },
      [['overdue', 'bad', 'history']],
    ],
    [
      'pinned where it cannot go',
      { conditions: stalled('PinnedNodeNotEligible') },
      [['stalled', 'bad', 'explain']],
    ],
    ['a spec that nobody has read yet', { generation: 3 }, [['notTakenUp', 'note', 'get']]],
  ])('%s', (_name, change, problems) => {
    expect(found({ shards: [{ ...WELL, ...change }] })).toEqual(problems);
  });

  it('is told once for many with the same trouble', () => {
    const shards = ['0001', '0002'].map((id) => ({ ...WELL, name: `orders.${id}`, phase: 'Lost' as const }));
    const [problem, ...others] = health({ shards }).problems;
    expect(others).toEqual([]);
    expect(problem?.subjects.map(({ name }) => name)).toEqual(['orders.0001', 'orders.0002']);
  });
});

describe('of a node', () => {
  it.each<[string, Partial<NodeView>, unknown[][]]>([
    ['nothing', {}, []],
    ['dead, with shards', { ready: false }, [['nodeNotReady', 'bad', 'list']]],
    ['dead, without', { ready: false, shards: 0 }, [['nodeNotReady', 'bad', 'node-17']]],
    [
      'emptied on purpose',
      { ready: false, shards: 0, scheduling: 'Drain' },
      [['nodeNotReady', 'note', 'node-17']],
    ],
  ])('%s', (_name, change, problems) => {
    expect(found({ nodes: [{ ...NODE, ...change }] })).toEqual(problems);
  });
});

describe('of the server', () => {
  const { journal } = STATUS;
  it.each<[string, Partial<ServerStatus> | ShardError, [state: string, title?: string, next?: string][]]>([
    ['all is well', {}, [['ok'], ['ok']]],
    [
      'a journal that lags behind',
      { journal: { ...journal, state: 'behind', newest: '140', behindMs: 42_000 } },
      [['ok'], ['bad', 'the journal lags behind', 'kubectl get pods -n meshkit-system']],
    ],
    [
      'a journal that cannot be read',
      { journal: { state: 'unreadable', detail: 'no answer' } },
      [['ok'], ['bad', 'the journal cannot be read', 'kubectl get pods -n meshkit-system']],
    ],
    ['no journal, which is no trouble', { journal: { state: 'absent' } }, [['ok'], ['absent']]],
    [
      'a cache that is stale',
      { cache: { state: 'stale', detail: 'lost the watch' } },
      [
        [
          'bad',
          'the MeshKit API server does not see what happens now',
          'kubectl mesh shards status -n payments --mode direct',
        ],
        ['ok'],
      ],
    ],
    ['too old to tell', new ShardError('notFound', 'nothing there'), [['ok'], ['unknown']]],
    ['it does not tell', new ShardError('timeout', 'no answer'), [['ok'], ['unknown']]],
  ])('%s', (_name, said, expected) => {
    const status = said instanceof ShardError ? said : { ...STATUS, ...said };
    const { components, problems } = health({ components: serverComponents('https://api', status) });
    expect(components.map(({ state }) => state)).toEqual(expected.map(([state]) => state));
    const found = expected.filter(([state]) => state === 'bad');
    expect(problems.map(({ title, next }) => ['bad', title, next])).toEqual(found);
  });

  it('is not sought behind a Kubernetes that does not answer either', () => {
    const error = new ShardError('unavailable', 'no route');
    const { problems } = health({
      components: [
        { name: 'api', state: 'bad', detail: 'no route' },
        { name: 'operator', state: 'unknown', detail: 'no route', error },
      ],
    });
    expect(problems.map(({ next }) => next)).toEqual(['kubectl cluster-info']);
  });

  it('says how far the journal is, and how long the oldest change has been waiting', () => {
    const late = { ...journal, state: 'behind', newest: '140', behindMs: 130_000 } as const;
    const { problems } = health({
      components: serverComponents('https://api', { ...STATUS, journal: late }),
    });
    expect(problems[0]?.detail).toBe(
      'written down up to 101 only, a change has been waiting for 2m10s, the newest is 140: resume tokens and history end there',
    );
  });
});

it('is ok with notes, and not with anything bad', () => {
  expect(health({ shards: [{ ...WELL, generation: 3 }] }).ok).toBe(true);
  expect(health({ components: [{ name: 'operator', state: 'unknown', detail: '' }] }).ok).toBe(true);
  expect(health({ components: [{ name: 'operator', state: 'bad', detail: '' }] }).ok).toBe(false);
  expect(health({ shards: [{ ...WELL, phase: 'Lost' }] }).ok).toBe(false);
});

it('counts what it has seen, and says when it saw nothing', () => {
  expect(health({}).shards).toMatchObject({ total: 1, owned: 1, active: 1, lost: 0 });
  expect(health({ shards: [{ ...WELL, phase: 'Lost' }] }).shards).toMatchObject({
    total: 1,
    owned: 0,
    lost: 1,
  });
  expect(health({ shards: undefined, nodes: undefined })).toMatchObject({
    shards: undefined,
    nodes: undefined,
  });
});

describe('the commands to run next', () => {
  const bad = (name: 'api' | 'operator' | 'kubernetes' | 'journal') =>
    ({ name, state: 'bad', detail: '' }) as const;
  const facts: Partial<Facts> = {
    components: ['api', 'operator', 'kubernetes', 'journal'].map((name) => bad(name as 'api')),
    shards: [{ ...WELL, phase: 'Lost' }],
    nodes: [
      { ...NODE, ready: false },
      { ...NODE, ready: false, shards: 0 },
      { ...NODE, ready: false, shards: 0, scheduling: 'Drain' },
    ],
    leaseNamespace: 'infra',
  };
  const next = (flags: ConnectionFlags) =>
    health({ ...facts, same: sameFlags(flags) }).problems.map((problem) => problem.next);

  it('ask the cluster that was asked, as whom it was asked', () => {
    const kubectl = " --kubeconfig 'a b' --context prod --user me";
    const flags = { kubeconfig: 'a b', context: 'prod', user: 'me', server: 'https://m', token: 'secret' };
    const mesh = ` --server https://m --token "$TOKEN"${kubectl}`;
    expect(next({ mode: 'auto', ...flags })).toEqual([
      `kubectl mesh shards status -n payments --mode direct${kubectl}`,
      `kubectl get pods -n infra${kubectl}`,
      `kubectl cluster-info${kubectl}`,
      `kubectl get pods -n infra${kubectl}`,
      `kubectl mesh shards explain orders.0000 -n payments${mesh}`,
      `kubectl mesh shards list --owner node-17 -n payments${mesh}`,
      `kubectl describe meshnode node-17 -n payments${kubectl}`,
      `kubectl delete meshnode node-17 -n payments${kubectl}`,
    ]);
  });

  it('say a token to Kubernetes only where it had it', () => {
    const commands = next({ mode: 'direct', as: 'jane', asGroup: ['a', 'b'], token: 'secret' });
    const flags = ' --as jane --as-group a --as-group b --token "$TOKEN"';
    expect(commands.at(-1)).toBe(`kubectl delete meshnode node-17 -n payments${flags}`);
    expect(commands.at(4)).toBe(`kubectl mesh shards explain orders.0000 -n payments --mode direct${flags}`);
    expect(commands.join()).not.toContain('secret');
  });

  it('look where was looked, in all namespaces too', () => {
    const { problems } = health({ namespace: undefined, components: [bad('api')] });
    expect(problems[0]?.next).toBe('kubectl mesh shards status -A --mode direct');
  });
});
