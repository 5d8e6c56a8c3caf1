import type { StatusCause } from '@meshkit/crds/kube-error';
import { statusError } from '@meshkit/crds/kube-error';
import type { KubeObject } from '@meshkit/shards/records';
import { describe, expect, it } from 'vitest';
import { API, play, type Scene, SETS } from '../test/scene.ts';

const SET = `# the set
apiVersion: meshkit.omnirelay.io/v1alpha1
kind: ShardSet
metadata:
  name: orders
spec:
  shards:
    count: 8
  loadBound: "1.05"
`;
const NODE = `apiVersion: meshkit.omnirelay.io/v1alpha1
kind: MeshNode
metadata: {name: node-99, namespace: fleet}
spec: {weight: 2}
`;
const FILES = { 'deploy/orders.yaml': SET, 'deploy/more/node.yml': NODE, 'deploy/README.md': '# no YAML' };

/** A control plane that takes what it is told, on top of what is there. */
const accepts: Scene['raw'] = (_method, _path, body) => ({ ...SETS[1], ...(body as KubeObject) });

function refuses(status: number, message: string, causes?: StatusCause[]): Scene['raw'] {
  return () => {
    const body = { message, reason: 'Invalid', details: { name: 'orders', causes } };
    throw statusError({ what: 'PATCH', server: 'https://k8s' }, { status, body });
  };
}

const diff = (line: string, scene: Scene) => play(`shards diff ${line}`, { env: API, ...scene });

describe('diff -f', () => {
  it('shows each field that would change, and writes nothing', async () => {
    const { stdout, stderr, code, calls } = await diff('-f deploy', { files: FILES, raw: accepts });
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
    expect(stdout.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
      ['CHANGE', 'OBJECT', 'FIELD', 'LIVE', 'NEW', 'AT'],
      [
        'Changed',
        'ShardSet payments/orders',
        'spec.churn',
        '{"maxConcurrentMoves":2}',
        '-',
        'deploy/orders.yaml:2',
      ],
      [
        'Changed',
        'ShardSet payments/orders',
        'spec.handoff',
        '{"drainTimeout":"30s"}',
        '-',
        'deploy/orders.yaml:2',
      ],
      ['Changed', 'ShardSet payments/orders', 'spec.loadBound', '-', '1.05', 'deploy/orders.yaml:2'],
      ['Changed', 'ShardSet payments/orders', 'spec.shards.count', '5', '8', 'deploy/orders.yaml:2'],
      [''],
      ['1 object: 0 added, 1 changed, 0 unchanged'],
      [''],
    ]);
    const writes = calls.filter((call) => /^(PATCH|POST|PUT)/.test(call));
    expect(writes).toHaveLength(1);
    for (const write of writes) expect(write).toContain('"dryRun":"All"');
  });

  it('looks into folders of folders when asked to, and tells by its exit code', async () => {
    const scene: Scene = { files: FILES, raw: accepts };
    const deep = await diff('-f deploy -R --exit-code -o name', scene);
    expect(deep.code).toBe(1);
    expect(deep.stdout.trim().split('\n')).toEqual([
      'meshnode.meshkit.omnirelay.io/node-99',
      'shardset.meshkit.omnirelay.io/orders',
    ]);
    const same: Scene = { files: FILES, raw: () => SETS[1] };
    expect(await diff('-f deploy/orders.yaml --exit-code', same)).toMatchObject({ code: 0, stderr: '' });
  });

  it('reads standard input', async () => {
    const { stdout, code } = await diff('-f - --json', { stdin: SET, raw: accepts });
    expect(code).toBe(0);
    expect(JSON.parse(stdout).items[0]).toMatchObject({ change: 'Changed', file: '<stdin>', line: 2 });
  });

  it('says which of the two it is asked for', async () => {
    expect(await diff('', {})).toMatchObject({ code: 2, stdout: '' });
    expect(await diff('-f deploy --from 10m', { files: FILES })).toMatchObject({ code: 2, stdout: '' });
  });
});

it('simulates what kube-apiserver makes of manifests, or with --validate none what is written', async () => {
  const scene: Scene = { env: API, files: FILES, raw: () => SETS[1] };
  const shards = async (more: string) => {
    const { stdout } = await play(`shards simulate -f deploy/orders.yaml -n payments --json ${more}`, scene);
    return JSON.parse(stdout).totals.shards;
  };
  expect(await shards('')).toBe(5);
  expect(await shards('--validate none')).toBe(8);
});

describe('what is wrong with manifests, at its place', () => {
  it.each<[string, Scene, number, string]>([
    [
      'a field that kube-apiserver refuses',
      { raw: refuses(422, 'invalid', [{ field: 'spec.shards.count', message: 'must not shrink' }]) },
      2,
      'deploy/orders.yaml:8: ShardSet payments/orders: spec.shards.count: must not shrink',
    ],
    [
      'a rule about the whole object',
      { raw: refuses(422, 'the name binds', [{ field: '<nil>', message: 'the name binds' }]) },
      2,
      'deploy/orders.yaml:2: ShardSet payments/orders: the name binds',
    ],
    [
      'a field that a newer server does not know',
      { raw: refuses(400, 'strict decoding error: unknown field "spec.loadBound"') },
      2,
      'deploy/orders.yaml:9: ShardSet payments/orders: spec.loadBound: strict decoding error',
    ],
    [
      'an admission policy',
      {
        raw: refuses(
          403,
          "ValidatingAdmissionPolicy 'meshkit-shards-operate' denied request: missing verb operate",
        ),
      },
      2,
      'deploy/orders.yaml:2: ShardSet payments/orders: ValidatingAdmissionPolicy',
    ],
    [
      'no right to apply',
      { raw: refuses(403, 'jane cannot patch resource "shardsets"') },
      3,
      'cannot patch resource',
    ],
    ['what is no YAML', { files: { 'deploy/orders.yaml': 'a: [' } }, 2, 'deploy/orders.yaml:1: '],
    [
      'what breaks the schema',
      { files: { 'deploy/orders.yaml': SET.replace('count: 8', 'count: 0') } },
      2,
      'deploy/orders.yaml:8: spec.shards.count: ',
    ],
    [
      'the same twice',
      { files: { 'deploy/a.yaml': SET, 'deploy/b.yaml': SET } },
      2,
      'deploy/b.yaml:2: ShardSet payments/orders: is also in deploy/a.yaml:2',
    ],
    [
      'nothing of ours',
      { files: { 'deploy/x.yaml': 'kind: ConfigMap\napiVersion: v1' } },
      2,
      'deploy has no ShardSet',
    ],
  ])('%s', async (_name, scene, code, message) => {
    for (const verb of ['diff', 'simulate']) {
      const played = await play(`shards ${verb} -f deploy`, { env: API, files: FILES, ...scene });
      expect(played).toMatchObject({ code, stdout: '' });
      expect(played.stderr).toContain(message);
    }
  });

  it('notes what cannot be checked yet: an object of a namespace that the same change brings', async () => {
    const raw = refuses(404, 'namespaces "fleet" not found');
    const played = await diff('-f deploy/more', { files: FILES, raw });
    expect(played).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('not checked: namespace fleet'),
    });
    expect(played.stdout).toContain('Added');
  });

  it('merges where there is no server-side apply', async () => {
    const methods: string[] = [];
    const raw: Scene['raw'] = (method, _path, body, contentType) => {
      if (contentType?.includes('apply')) refuses(501, 'no server-side apply')!(method, '', body);
      methods.push(method);
      return body;
    };
    const { code } = await diff('-f deploy -R', { files: FILES, raw });
    expect([code, methods.sort()]).toEqual([0, ['PATCH', 'POST']]);
  });
});
