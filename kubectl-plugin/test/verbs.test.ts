import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { BUNDLE, Stage } from './stage.ts';

const BUILD = fileURLToPath(new URL('../../e2e/house/build-cli.ts', import.meta.url));

const SET = `apiVersion: meshkit.omnirelay.io/v1alpha1
kind: ShardSet
metadata: {name: orders}
spec:
  shards: {count: 4}
`;

/** The verbs as processes, as they lie in the sources and as they are shipped. */
describe.each(['sources', 'bundle'])('kubectl mesh, from its %s', (from) => {
  const stage = new Stage(from === 'bundle' ? BUNDLE : undefined);
  let observer: string;
  let reader: string;

  beforeAll(async () => {
    if (from === 'bundle') {
      const built = spawnSync(process.execPath, [BUILD], { encoding: 'utf8' });
      if (built.status !== 0) throw new Error(built.stderr);
    }
    await stage.open();
    await stage.startApi();
    await stage.shard('0000', 'Active', 'node-1');
    await stage.shard('0001', 'Lost', 'node-1');
    observer = await stage.kubeconfig('observer', 'meshkit-shards-observer');
    reader = await stage.kubeconfig('reader', 'meshkit-shards-reader');
  });

  afterAll(() => stage.close());

  const mesh = (words: string, kubeconfig = observer) =>
    stage.run(`kubectl-mesh shards ${words}`, { KUBECONFIG: kubeconfig });

  it.each(['api', 'direct'])('lists and looks: %s', async (mode) => {
    for (const words of ['list -o yaml', 'get orders.0000 -o json', 'explain orders.0000', 'simulate']) {
      expect(await mesh(`${words} --mode ${mode}`)).toMatchObject({ code: 0, stderr: '' });
    }
    const status = await mesh(`status -o json --mode ${mode}`);
    expect(status.code).toBe(1);
    const { problems, server } = JSON.parse(status.stdout);
    expect(problems.map(({ kind }: { kind: string }) => kind)).toContain('lost');
    // No operator runs here, so nobody writes a journal.
    expect(server?.journal.state).toBe(mode === 'api' ? 'absent' : undefined);
  });

  it('says who you are, what you may, and how to get more', async () => {
    expect(await mesh('auth can-i observe')).toEqual({ code: 0, stdout: 'yes\n', stderr: '' });
    const no = await mesh('auth can-i observe', reader);
    expect(no).toMatchObject({ code: 1, stdout: 'no\n' });
    expect(no.stderr).toMatch(/grant it: +kubectl create rolebinding .*--serviceaccount=t-\w+:reader -n t-/);
    for (const [mode, decidedBy] of [
      ['auto', 'kubernetes'],
      ['api', 'api'],
    ]) {
      const who = await mesh(`auth whoami --json --mode ${mode}`, reader);
      expect(JSON.parse(who.stdout)).toMatchObject({
        user: `system:serviceaccount:${stage.namespace}:reader`,
        decidedBy,
        scopes: { read: true, observe: false, operate: false },
      });
    }
    for (const [scope, kubeconfig, code] of [
      ['read', reader, 0],
      ['observe', reader, 1],
      ['observe', observer, 0],
      ['operate', observer, 1],
    ] as const) {
      expect((await mesh(`auth can-i ${scope} --mode api`, kubeconfig)).code).toBe(code);
    }
  });

  it('tells versions', async () => {
    const { code, stdout } = await mesh('version -o json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout).components.slice(0, 2)).toMatchObject([
      { name: 'api', state: 'ok', version: '0.1.0' },
      { name: 'kubernetes', state: 'ok', version: expect.stringMatching(/^v1\./) },
    ]);
  });

  it.each(['api', 'direct'])('follows, until its reader has had enough: %s', async (mode) => {
    const line = `kubectl-mesh shards list -w -o json --mode ${mode} | head -n 2`;
    const follow = stage.start(`{ ${line}; echo "exit $?" >&2; }`, { KUBECONFIG: observer });
    // Somebody has to write for the pipe to be found closed.
    const writing = setInterval(() => void stage.touch('orders.0000').catch(() => undefined), 300);
    const { stdout, stderr } = await follow.ended;
    clearInterval(writing);
    expect(
      stdout
        .trim()
        .split('\n')
        .map((text) => JSON.parse(text).type),
    ).toEqual(['ADDED', 'ADDED']);
    expect(stderr).toBe('exit 0\n');
  });

  it('reads manifests from standard input, and refuses what the schema refuses, with the line', async () => {
    stage.file('good.yaml', SET);
    stage.file('bad.yaml', SET.replace('count: 4', 'count: 0'));
    const good = await mesh(`simulate -f - --validate none --json < ${stage.folder}/good.yaml`);
    expect(good.code).toBe(0);
    expect(JSON.parse(good.stdout).sets[0]).toMatchObject({ name: 'orders', change: 'added' });
    const bad = await mesh(`diff -f ${stage.folder}/bad.yaml`);
    expect(bad).toMatchObject({ code: 2, stdout: '' });
    expect(bad.stderr).toContain('bad.yaml:5: spec.shards.count: ');
    // Observers may look at live objects, and may not apply, not even dry.
    const refused = await mesh(`diff -f ${stage.folder}/good.yaml`);
    expect(refused).toMatchObject({ code: 3, stdout: '' });
    expect(refused.stderr).toMatch(
      /grant it: +kubectl create rolebinding \S+ --clusterrole=meshkit-shards-operator /,
    );
  });

  it('completes names that it asks for', async () => {
    const { stdout } = await stage.run("kubectl_complete-mesh shards get 'orders.000'", {
      KUBECONFIG: observer,
    });
    expect(stdout).toBe('orders.0000\norders.0001\n:4\n');
  });

  it.each([
    ['omnirelay mesh shards get orders.000', 'orders.0000 orders.0001\n'],
    ['omnirelay mesh shards list --mode=d', 'direct\n'],
    ['omnirelay mesh shards list --mode=', 'auto api direct\n'],
    [
      'omnirelay mesh shards get --server https://127.0.0.1:1 --mode=direct orders.',
      'orders.0000 orders.0001\n',
    ],
  ])('completes in a shell, under its other name: %s', async (line, words) => {
    // As bash takes it apart.
    const broken = line.match(/[=:]|[^\s=:]+/g) ?? [];
    const script = `source <(omnirelay completion bash)
      COMP_LINE='${line}'; COMP_WORDS=(${broken.join(' ')}); COMP_CWORD=${broken.length - 1}
      _omnirelay_complete
      echo "\${COMPREPLY[@]}"`;
    stage.file('complete.bash', script);
    const { stdout } = await stage.run(`bash ${stage.folder}/complete.bash`, { KUBECONFIG: observer });
    expect(stdout).toBe(words);
  });

  it('gives up on a credential plugin that hangs when it completes, though what that started goes on', async () => {
    const config = parse(readFileSync(observer, 'utf8'));
    const apiVersion = 'client.authentication.k8s.io/v1';
    config.users[0].user = { exec: { apiVersion, command: 'sh', args: ['-c', 'sleep 60; true'] } };
    const KUBECONFIG = stage.file('hanging.kubeconfig', stringify(config));
    const { code, stdout } = await stage.run("kubectl_complete-mesh shards get ''", { KUBECONFIG });
    expect({ code, stdout }).toEqual({ code: 0, stdout: ':4\n' });
  });
});
