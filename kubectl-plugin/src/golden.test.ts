import type { WatchEvent } from '@meshkit/client/shard-tracker';
import { ShardError } from '@meshkit/shards/errors';
import type { JournalStatus } from '@meshkit/shards/repository';
import type { Scope } from '@meshkit/shards/scope';
import { scopeMissing } from '@meshkit/shards/scope';
import { served } from '@meshkit/shards/shard-view';
import { describe, expect, it } from 'vitest';
import {
  API,
  AT_REST,
  FORBIDDEN,
  play,
  type Scene,
  SETS,
  SHARDS,
  STATUS,
  transcript,
} from '../test/scene.ts';

/** Every verb, in every form, as a user sees it: one file a verb, with all its outputs and all its failures. */

const [, , draining, , lost] = SHARDS.map(served);
const moved = { ...draining!, phase: 'Active' as const, owner: 'node-21', epoch: 1795412346, version: 3 };
const { move: _, ...settled } = moved;
const EVENTS: WatchEvent[] = [
  {
    type: 'MODIFIED',
    position: '101',
    current: settled,
    previous: draining,
    history: {
      actor: { kind: 'Operator', name: 'Drain' },
      reason: 'released by node-17 at epoch 1795412345',
      changeTicket: 'CHG-1234',
      previousOwner: 'node-17',
    },
    token: 'token-101',
  },
  { type: 'BOOKMARK', position: '102', token: 'token-102' },
  { type: 'RESET', reason: 'expired', token: 'token-102' },
  {
    type: 'ADDED',
    position: '103',
    current: { ...settled, name: 'orders.0005', shardId: '0005', uid: 'uid-5' },
    coalesced: 4,
    token: 'token-103',
  },
  {
    type: 'DELETED',
    cause: 'filter',
    position: '104',
    current: settled,
    previous: draining,
    token: 'token-104',
  },
  { type: 'DELETED', position: '105', previous: lost, token: 'token-105' },
];

const MANIFEST = `apiVersion: meshkit.omnirelay.io/v1alpha1
kind: ShardSet
metadata:
  name: orders
spec:
  shards: {count: 8}
`;

interface Subject {
  verb: string;
  /** Without what the forms below add. */
  line: string;
  scope?: Scope;
  scene?: Scene;
  /** Further lines, each as a pipe gets it; perhaps of another scene. */
  more?: readonly (string | readonly [line: string, scene: Scene])[];
  nameless?: boolean;
  /** Of one shard: one that is not there. */
  missing?: string;
}

const MANIFESTS: Scene = {
  files: { 'deploy/orders.yaml': MANIFEST, 'deploy/notes.txt': 'nothing' },
  raw: (_method, _path, body) => body,
};

/** Its first shard is handed over to node-2 by a node that lives. */
const HANDING_OVER: Scene = {
  ...AT_REST,
  shards: AT_REST.shards.map((shard, at) => {
    if (at > 0) return shard;
    const move = { to: 'node-2', startedAt: '2026-11-23T11:59:50Z', deadline: '2026-11-23T12:00:20Z' };
    return { ...shard, status: { ...shard.status!, phase: 'Draining', move } };
  }),
};

const SUBJECTS: readonly Subject[] = [
  {
    verb: 'list',
    line: 'list',
    scope: 'read',
    more: [
      'list -A',
      'list --limit 2',
      'list -A --no-headers -o wide',
      'list --show-token --limit 1',
      'list --show-token --limit 1 --json',
      'list -v --limit 1',
      'list -v --limit 1 --mode direct',
      'list -w --show-token',
      'list -w --page-size 2',
    ],
  },
  {
    verb: 'get',
    line: 'get orders.0001',
    scope: 'read',
    missing: 'get orders.9999',
    more: [
      'get shardassignment.meshkit.omnirelay.io/orders.0001',
      'get shard/orders.0001 -o name',
      'get meshnode/node-17',
    ],
  },
  {
    verb: 'watch',
    line: 'watch',
    scope: 'observe',
    scene: { events: EVENTS },
    more: [
      'watch -A --limit 2',
      'watch --show-bookmarks',
      'watch --show-bookmarks -o json',
      'watch --resume-token token-100',
      'watch --resume-token token-100 --json',
      'list -w',
      'list -w -o wide --no-headers',
      'list -w -o json --set orders --owner node-17',
      'list -w --limit 2',
      'list -w --limit 6 -o name',
      'get orders.0001 -w',
    ],
  },
  {
    verb: 'status',
    line: 'status',
    scope: 'read',
    more: [
      'status -A',
      'status --owner node-9',
      'status --mode direct',
      'status --context prod --as jane --mode direct --token secret',
      'status --context prod --server https://mesh.example --token secret -o name',
      'status --context prod --server https://mesh.example --token secret --json',
    ],
  },
  {
    verb: 'diff',
    line: 'diff --from 10m',
    scope: 'observe',
    scene: { ...MANIFESTS, raw: (_method, _path, body) => ({ ...SETS[1], ...(body as object) }) },
    more: [
      'diff --from 10m -A',
      'diff --from 10m --log',
      'diff --from 10m --log -o wide -A',
      'diff --from 10m --log --json',
      'diff --from 10m --exit-code',
      'diff --from 10m --owner nobody --exit-code',
      'diff -f deploy',
      'diff -f deploy -o wide --exit-code',
      'diff -f deploy --json',
      'diff -f deploy -o name',
      'diff -f deploy -A',
      'diff -f deploy --status bogus',
      'diff -f deploy --limit 1',
      'diff --from 10m -R',
      'diff --from 10m --limit 1',
      'diff',
      'diff --from 10m -f deploy',
      'diff --from 10m --mode direct',
    ],
  },
  {
    verb: 'history',
    line: 'history orders.0001',
    scope: 'observe',
    nameless: true,
    missing: 'history orders.9999',
    more: [
      'history orders.0001 --limit 1',
      'history orders.0001 --since 1h --no-headers',
      'history orders.0001 --mode direct',
    ],
  },
  {
    verb: 'simulate',
    line: 'simulate --weight node-21=3',
    scope: 'observe',
    scene: MANIFESTS,
    more: [
      'simulate',
      'simulate --add node-30:2:eu-central:eu-central-1b,node-31 --max-churn 50%',
      'simulate --remove node-21 --max-unplaceable 0',
      'simulate --max-moves 0 --max-churn 1%',
      'simulate --policy freeze=All,locality=Required',
      'simulate -f deploy',
      'simulate -f deploy --validate none --json',
      'simulate --drain nope',
      'simulate --weight node-21=heavy',
      'simulate --policy colour=red',
      'simulate --labels a=b',
      'simulate -A --set orders',
      'simulate -f nowhere.yaml',
      'simulate --validate none',
      'simulate --strategy Static',
      ['simulate --drain node-1 -o wide', AT_REST],
      ['simulate --drain node-1 --max-moves 4 --max-churn 9% --max-unplaceable 0', AT_REST],
      ['simulate --cordon node-1 -o wide', AT_REST],
      ['simulate --add node-13:12 --labels app=orders', AT_REST],
      ['simulate --remove node-1 --add node-1:4', AT_REST],
      ['simulate', { ...AT_REST, nodes: [] }],
      // From 48 shards to 8: no move at all, and 40 lose their owner.
      ['simulate -f deploy --max-moves 0 --max-churn 0% --max-unplaceable 0', AT_REST],
    ],
  },
  {
    verb: 'explain',
    line: 'explain orders.0001',
    scope: 'read',
    missing: 'explain orders.9999',
    more: [
      'explain orders.0002',
      'explain orders.0003',
      'explain orders.0004',
      ['explain orders.0002', { lacks: ['observe'] }],
      ['explain orders.0000', HANDING_OVER],
      ['explain orders.0001', AT_REST],
    ],
  },
  { verb: 'nodes', line: 'nodes', scope: 'read', more: ['nodes -A --limit 1'] },
  {
    verb: 'auth-can-i',
    line: 'auth can-i observe',
    nameless: true,
    more: [
      'auth can-i observe -A',
      'auth can-i read --mode api',
      'auth can-i operate --mode api',
      'auth can-i fly',
    ],
  },
  {
    verb: 'auth-whoami',
    line: 'auth whoami',
    nameless: true,
    more: ['auth whoami -n billing --mode api', 'auth whoami --mode api --json'],
  },
  {
    verb: 'version',
    line: 'version',
    nameless: true,
    more: ['version --client', 'version --mode direct', 'version --mode api', 'version -v'],
  },
];

const refused = new ShardError('unavailable', 'cannot reach https://api.example:8443: connect ECONNREFUSED', {
  reason: 'ECONNREFUSED',
});
const kubeDown = new ShardError(
  'unavailable',
  'cannot list shardassignments at https://k8s: connect ECONNREFUSED',
  {
    reason: 'ECONNREFUSED',
  },
);
const ASK_FOR_HISTORY = ['list', 'watch', 'diff', 'history'];
const TOO_LATE: [flags: string, scene: Scene][] = [
  ['', { api: new ShardError('tokenExpired', 'the history that is kept begins at position 7') }],
  ['', { api: new ShardError('lineageChanged', 'the token is of another history') }],
  ['', { api: new ShardError('cursorExpired', 'the state of the first page is no longer known') }],
];

/** How each verb fails, and what it is started with. */
function failures({ verb, scope = 'read' }: Subject): [flags: string, scene: Scene][] {
  return [
    [
      '',
      { api: scopeMissing('jane', scope, { namespace: 'payments' }), lacks: ['read', 'observe', 'operate'] },
    ],
    ['', { api: new ShardError('unauthenticated', 'the bearer token was not accepted: expired') }],
    ['', { api: new ShardError('timeout', 'https://api.example:8443 gave no answer within 10 s') }],
    ['', { api: new ShardError('unavailable', 'the cache is still filling', { status: 503 }) }],
    ['', { api: new ShardError('draining', 'the server is stopping', { status: 503 }) }],
    ...(ASK_FOR_HISTORY.includes(verb) ? TOO_LATE : []),
    ['--mode api', { api: refused }],
    ['', { api: refused, kube: kubeDown }],
    ['--mode api', { env: {} }],
    ['--mode api', { noToken: true }],
    ['--mode direct', { kube: FORBIDDEN }],
    ['--mode direct', { noKubeconfig: true }],
    ['--nonsense', {}],
    ['-o html', {}],
    ['-o yaml --json', {}],
    ['--limit 0', {}],
    ['--as jane --mode api', {}],
  ];
}

/** The transcript of all its failures. */
async function failing(subject: Subject, form: string, look: Scene): Promise<string> {
  const { verb, line, scene = {}, missing } = subject;
  const all = failures(subject).map(([flags, failure]) => [`${line} ${flags}`.trim(), failure] as const);
  const texts: string[] = [];
  for (const [words, failure] of missing === undefined ? all : [...all, [missing, {}] as const]) {
    const text = `${words} ${form}`.trim();
    const played = await play(`shards ${text}`, { env: API, ...scene, ...look, ...failure });
    texts.push(transcript(text, played));
    if (played.code > 1 && !ANSWERS_ALL_THE_SAME.includes(verb)) expect(played.stdout).toBe('');
    expect(played.stderr).not.toContain('mistake in the program');
  }
  return texts.join('\n');
}

/** The others tell whom they asked. */
const SAME_EVERYWHERE = ['list', 'get', 'simulate', 'explain', 'nodes'];
/** What is on stdout when a command fails: nothing, so that a pipe never takes half an answer for a whole one. */
const ANSWERS_ALL_THE_SAME = ['status', 'version'];

const journal = (change: Partial<JournalStatus>): Scene => ({
  status: { journal: { ...STATUS.journal, ...change } },
});
const older = new ShardError('notFound', 'there is nothing at /meshkit/access');
const old = async () => Promise.reject(older);

it.each<[string, Scene]>([
  ['behind', journal({ state: 'behind', newest: '140', behindMs: 42_000 })],
  ['absent', { status: { journal: { state: 'absent' } } }],
  ['unreadable', { status: { journal: { state: 'unreadable', detail: 'the journal does not answer' } } }],
  ['stale', { status: { cache: { state: 'stale', detail: 'lost the watch of ShardAssignments' } } }],
  ['of an older server', { answers: { status: old } }],
  ['silent', { answers: { status: async () => Promise.reject(new ShardError('timeout', 'no answer')) } }],
])('status: %s', async (name, scene) => {
  const texts: string[] = [];
  // Of one well shard and no node, so that all there is to find is the server.
  for (const line of ['status --owner node-9', 'status --owner node-9 --json']) {
    texts.push(transcript(line, await play(`shards ${line}`, { env: API, nodes: [], ...scene })));
  }
  await expect(texts.join('\n')).toMatchFileSnapshot(`__golden__/status-${name.replaceAll(' ', '-')}.txt`);
});

it.each(['auth can-i read', 'auth whoami'])('an older server does not know: %s', async (line) => {
  const text = `${line} --mode api`;
  const played = await play(`shards ${text}`, { env: API, answers: { access: old } });
  expect(played).toMatchObject({ code: 4, stdout: '' });
  expect(played.stderr).toMatch(/^error: https:.* is older than this program .*--mode direct.*\n$/);
});

describe.each(SUBJECTS)('$verb', (subject) => {
  const { verb, line, scene = {}, more = [], nameless = false } = subject;
  const formats = ['', '-o wide', '--json', '-o yaml', ...(nameless ? [] : ['-o name'])];

  it('prints', async () => {
    const texts: string[] = [];
    const show = async (text: string, look: Scene, title: string) => {
      const played = await play(`shards ${text}`, { env: API, ...scene, ...look });
      texts.push(`# ${title}\n${transcript(text, played)}`);
    };
    for (const form of formats) await show(`${line} ${form}`.trim(), {}, 'to a pipe');
    for (const width of [80, 200]) {
      for (const color of [false, true]) {
        for (const form of ['', '-o wide']) {
          const title = `to a terminal of ${width} columns${color ? ' with colour' : ''}`;
          await show(`${line} ${form}`.trim(), { width, color }, title);
        }
      }
    }
    for (const line of more) {
      const [text, look] = typeof line === 'string' ? [line, {}] : line;
      await show(text, look, 'to a pipe');
    }
    await expect(texts.join('\n')).toMatchFileSnapshot(`__golden__/verbs/${verb}.txt`);
  });

  it('fails', async () => {
    await expect(await failing(subject, '', {})).toMatchFileSnapshot(`__golden__/failures/${verb}.txt`);
  });

  it('ends with 130 when interrupted', async () => {
    const played = await play(`shards ${line}`, { env: API, ...scene, aborted: true });
    expect(played).toMatchObject({ code: 130, stdout: '' });
  });
});

/** Programs read these, and an error is no document: stdout stays empty, or is one whole answer. */
const READ_BY_PROGRAMS = ['list', 'diff', 'simulate', 'auth-can-i', 'version'];

it.each<[verb: string, where: string, form: string, look: Scene]>([
  ...READ_BY_PROGRAMS.map((verb) => [verb, 'json', '--json', {}] as [string, string, string, Scene]),
  ['status', 'terminal', '', { width: 80, color: true }],
])('%s fails: %s', async (verb, where, form, look) => {
  const subject = SUBJECTS.find((one) => one.verb === verb) as Subject;
  const texts = await failing(subject, form, look);
  await expect(texts).toMatchFileSnapshot(`__golden__/failures/${verb}-${where}.txt`);
});

it.each(SUBJECTS.filter(({ verb }) => SAME_EVERYWHERE.includes(verb)))(
  '$verb is the same directly from Kubernetes',
  async ({ line, scene = {} }) => {
    for (const output of ['', '-o wide', '--json', '-o name']) {
      const [api, direct] = await Promise.all([
        play(`shards ${line} ${output}`, { env: API, ...scene }),
        play(`shards ${line} ${output} --mode direct`, scene),
      ]);
      expect(direct).toMatchObject({ stdout: api.stdout, code: api.code });
    }
  },
);
