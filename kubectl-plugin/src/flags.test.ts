import { ShardError } from '@meshkit/shards/errors';
import { expect, it } from 'vitest';
import { API, AT_REST, play, type Scene } from '../test/scene.ts';

/** What becomes of flags between the command line and whoever is asked. */

const SET = `apiVersion: meshkit.omnirelay.io/v1alpha1
kind: ShardSet
metadata: {name: orders}
spec: {shards: {count: 5}}
`;
const MANIFESTS: Scene = { files: { 'deploy/orders.yaml': SET }, raw: (_method, _path, body) => body };

const FILTERS = '-n billing --set orders --owner a,b --owner c --status lost --zone z --search 00';
const FILTER = {
  namespace: 'billing',
  shardSet: 'orders',
  owners: ['a', 'b', 'c'],
  phases: ['Lost'],
  zones: ['z'],
  search: '00',
};

const CALL = { timeoutMs: 10_000 };

it.each<[string, unknown[][]]>([
  [`list ${FILTERS} --page-size 3 --limit 7`, [['pages', FILTER, { pageSize: 3, limit: 7 }]]],
  ['list -A --request-timeout 2s', [['pages', { namespace: undefined }, { timeoutMs: 2_000 }]]],
  ['get orders.0001 -n payments', [['get', 'payments', 'orders.0001', CALL]]],
  ['nodes -n billing', [['nodes', 'billing', CALL]]],
  [`watch ${FILTERS} --resume-token t`, [['watch', FILTER, { resumeToken: 't' }]]],
  [
    `diff --from 2h --to 1h --log ${FILTERS} --page-size 9`,
    [['diff', FILTER, { mode: 'log', from: '2h', to: '1h', pageSize: 9, cursor: undefined }]],
  ],
  [
    'diff --from token-7 -A --page-size 1 --limit 2',
    [
      ['diff', { namespace: undefined }, { mode: 'net', from: 'token-7', to: undefined, pageSize: 1 }],
      ['diff', { namespace: undefined }, { mode: 'net', from: 'token-7', pageSize: 1, cursor: '1' }],
    ],
  ],
  ['diff --from 10m --limit 1', [['diff', {}, { pageSize: 1 }]]],
  [
    'history orders.0001 --since 1h --page-size 1',
    [
      ['history', 'payments', 'orders.0001', { since: '1h', pageSize: 1, cursor: undefined }],
      ['history', 'payments', 'orders.0001', { since: '1h', pageSize: 1, cursor: 'more' }],
    ],
  ],
  ['history orders.0001 --limit 1', [['history', 'payments', 'orders.0001', { pageSize: 1 }]]],
  ['explain orders.0000 -n billing', [['explain', 'billing', 'orders.0000', CALL]]],
  [
    'simulate --set orders',
    [['simulate', { namespace: 'payments', shardSet: 'orders', maxItems: undefined }, CALL]],
  ],
  ['simulate -A -o name', [['simulate', { namespace: undefined, maxItems: 10_000 }, CALL]]],
])('%s', async (line, asked) => {
  const played = await play(`shards ${line}`, { env: API });
  expect(played.asked.filter(([method]) => method !== 'close')).toMatchObject(asked);
});

it('makes changes in the order of the help, whatever the order of the flags', async () => {
  const simulate = async () => Promise.reject(new ShardError('notFound', 'that will do'));
  const line =
    'simulate --drain node-3,fleet/node-4 --cordon node-3 --weight node-1=2 --labels app=x --add node-1:4:r:z --remove node-1 --strategy Static';
  const { asked } = await play(`shards ${line}`, { env: API, answers: { simulate } });
  expect(asked[0]?.[1]).toMatchObject({
    changes: [
      { type: 'remove', node: 'node-1' },
      { type: 'add', node: 'node-1', weight: 4, region: 'r', zone: 'z', labels: { app: 'x' } },
      { type: 'weight', node: 'node-1', weight: 2 },
      { type: 'cordon', node: 'node-3' },
      { type: 'drain', node: 'node-3' },
      { type: 'drain', node: 'node-4', namespace: 'fleet' },
      { type: 'strategy', strategy: 'Static' },
    ],
  });
  const { stdout } = await play('shards simulate --help');
  const named = [...stdout.matchAll(/^ {2}--(remove|add|weight|cordon|drain|strategy) /gm)];
  expect(named.map(([, flag]) => flag)).toEqual(['remove', 'add', 'weight', 'cordon', 'drain', 'strategy']);
});

it('replaces a node, weighs a new one, and drains one that is cordoned', async () => {
  const standing = async (line: string, name: string) => {
    const { stdout } = await play(`shards simulate ${line} --json`, { env: API, ...AT_REST });
    const { nodes } = JSON.parse(stdout).sets[0].balance.after;
    return nodes.find(({ node }: { node: string }) => node === name);
  };
  expect(await standing('--add node-7:4 --remove node-7', 'node-7')).toMatchObject({ weight: 4 });
  expect(await standing('--weight node-13=2 --add node-13', 'node-13')).toMatchObject({ weight: 2 });
  expect(await standing('--cordon node-1 --drain node-1', 'node-1')).toMatchObject({ standing: 'draining' });
});

it.each([
  ['diff -f deploy --owner node-9', '--owner means nothing to diff -f'],
  ['diff -f deploy --status bogus', '--status means nothing to diff -f'],
  ['diff -f deploy --set orders', '--set means nothing to diff -f'],
  ['diff -f deploy --zone z', '--zone means nothing to diff -f'],
  ['diff -f deploy --search 00', '--search means nothing to diff -f'],
  ['diff -f deploy --limit 1', '--limit means nothing to diff -f'],
  ['diff -f deploy --page-size 1000', '--page-size means nothing to diff -f'],
  ['diff --from 10m -R', '--recursive means nothing to diff without -f'],
  ['diff --from 10m --field-manager me', '--field-manager means nothing to diff without -f'],
  ['simulate -R', '--recursive means nothing to simulate without -f'],
  ['simulate --field-manager me', '--field-manager means nothing to simulate without -f'],
  ['simulate --validate server', '--validate means nothing to simulate without -f'],
])('refuses %s', async (line, message) => {
  const played = await play(`shards ${line}`, { env: API, ...MANIFESTS });
  expect(played).toEqual({ stdout: '', stderr: `error: ${message}\n`, code: 2, calls: [], asked: [] });
});

it("takes manifests that name no namespace to be of the kubeconfig's, with -A as well", async () => {
  for (const verb of ['diff', 'simulate']) {
    for (const flags of ['', '-A', '-n payments']) {
      const { calls, code } = await play(`shards ${verb} -f deploy ${flags}`, { env: API, ...MANIFESTS });
      expect({ verb, flags, code, calls }).toMatchObject({
        code: 0,
        calls: expect.arrayContaining([expect.stringContaining('/namespaces/payments/shardsets/orders')]),
      });
    }
  }
});
