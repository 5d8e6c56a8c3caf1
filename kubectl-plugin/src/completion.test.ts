import { expect, it } from 'vitest';
import { API, play, type Scene } from '../test/scene.ts';

async function completed(words: string[], scene: Scene = {}): Promise<string[]> {
  const { stdout, stderr, code } = await play(words, {
    calledAs: 'kubectl_complete-mesh',
    env: API,
    ...scene,
  });
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split('\t')[0] as string);
}

it.each<[string, string[], string[]]>([
  ['the noun', ['sh'], ['shards', ':4']],
  ['a verb', ['shards', 'wa'], ['watch', ':4']],
  ['verbs of verbs', ['shards', 'auth', ''], ['can-i', 'whoami', ':4']],
  ['a scope', ['shards', 'auth', 'can-i', 'o'], ['observe', 'operate', ':4']],
  ['a flag', ['shards', 'list', '--own'], ['--owner', ':4']],
  ['no flag that means nothing here', ['shards', 'get', '--own'], [':4']],
  ['a choice', ['shards', 'list', '-o', ''], ['table', 'wide', 'json', 'yaml', 'name', ':4']],
  ['a choice behind an equals sign', ['shards', 'list', '--mode=d'], ['direct', ':4']],
  ['a phase', ['shards', 'list', '--status', 'Dr'], ['Draining', ':4']],
  ['a file', ['shards', 'list', '--kubeconfig', ''], [':0']],
  [
    'a shard of the namespace',
    ['shards', 'get', 'orders.000'],
    ['orders.0000', 'orders.0001', 'orders.0002', 'orders.0003', 'orders.0004', ':4'],
  ],
  ['a shard where -n says', ['shards', 'get', '-n', 'billing', ''], ['orders.0000', ':4']],
  ['no second shard', ['shards', 'get', 'orders.0000', ''], [':4']],
  ['an owner', ['shards', 'list', '--owner', 'node-2'], ['node-21', ':4']],
  ['a node to think away', ['shards', 'simulate', '--remove', ''], ['node-17', 'node-21', ':4']],
  ['a namespace', ['shards', 'list', '-n', ''], ['billing', 'payments', ':4']],
  ['a set', ['shards', 'list', '--set', ''], ['orders', ':4']],
])('completes %s', async (_name, words, expected) => {
  expect(await completed(words)).toEqual(expected);
});

it('says nothing when nobody answers', async () => {
  expect(await completed(['shards', 'get', ''], { noKubeconfig: true, env: {} })).toEqual([':4']);
});

it('gives up on what is silent', async () => {
  const answers: Scene['answers'] = { nodes: () => new Promise(() => undefined) };
  expect(await completed(['shards', 'list', '--owner', ''], { answers })).toEqual([':4']);
});

it('completes the other name too, and has a script for each shell', async () => {
  const omnirelay = { calledAs: 'omnirelay', env: API };
  const { stdout } = await play(['__complete', 'mesh', 'shards', 'get', 'orders.0001'], omnirelay);
  expect(stdout).toBe('orders.0001\n:4\n');
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { code, stdout: script } = await play(['completion', shell], omnirelay);
    expect(code).toBe(0);
    expect(script).toContain('omnirelay __complete');
  }
});
