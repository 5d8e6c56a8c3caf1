import { ShardError } from '@meshkit/shards/errors';
import { scopeMissing } from '@meshkit/shards/scope';
import { describe, expect, it } from 'vitest';
import { API, FORBIDDEN, play, type Scene, transcript } from '../test/scene.ts';
import { VERBS } from './verbs.ts';

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
    ['error-flag-early', '--server https://other list', {}],
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
    ['error-direct', 'list --mode direct --context prod --as jane', { kube: FORBIDDEN }],
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

  it('says of each verb what it does, and by examples how', async () => {
    const texts: string[] = [];
    for (const { words } of VERBS) texts.push((await play(`shards ${words} --help`, { width: 100 })).stdout);
    await expect(texts.join('\n')).toMatchFileSnapshot('__golden__/help-verbs.txt');
  });

  it('has only examples that can be parsed', async () => {
    for (const { examples } of VERBS) {
      for (const [line] of examples) {
        const { stderr } = await play(`shards ${line.replaceAll('"', '')}`, { env: API, files: {} });
        expect(stderr).not.toMatch(/unknown (option|command)|is invalid|means nothing/);
      }
    }
  });

  it('is called as another CLI asks', async () => {
    const { stdout } = await play('mesh shards version --client -o json', { calledAs: 'omnirelay' });
    expect(JSON.parse(stdout)).toEqual({ client: { version: expect.any(String) } });
  });

  it('has a version under both names', async () => {
    expect((await play('shards version --client')).stdout).toMatch(/^CLIENT {3}\d+\.\d+\.\d+\n$/);
    expect((await play('mesh shards version --client', { calledAs: 'omnirelay' })).stdout).toMatch(
      /^CLIENT /,
    );
    expect((await play('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

it('a watch says when nothing was heard for long, and when it goes on; a restart passes without a word', async () => {
  const lost = new ShardError('unavailable', 'cannot reach https://mesh');
  const bookmark = { type: 'BOOKMARK', position: '102', token: 't' } as const;
  let now = Date.parse('2026-11-23T12:00:00Z');
  const watched = async (line: string, seconds: number) => {
    const answers: Scene['answers'] = {
      async *watch(_filter, { onDisconnect } = {}) {
        yield { type: 'SYNCED', position: '101', token: 't' };
        for (let at = 0; at <= seconds; at += 5) {
          onDisconnect?.(lost, 5_000);
          now += 5_000;
        }
        yield bookmark;
      },
    };
    return (await play(line, { env: API, answers, now: () => now })).stderr.trimEnd().split('\n');
  };
  expect(await watched('shards watch', 10)).toEqual(['']);
  const silence = 'note: nothing is heard of any more: cannot reach https://mesh; still trying';
  expect(await watched('shards watch', 60)).toEqual([silence, 'note: connected again']);
  const verbose = await watched('shards watch -v', 60);
  expect(verbose.filter((line) => line.endsWith('trying again in 5.0 s'))).toHaveLength(13);
});

it('grants what is missing in the cluster that was asked, by somebody else', async () => {
  const grant = 'kubectl create rolebinding x';
  const explanation: Scene['answers'] = {
    explain: async (namespace, name) => {
      const known = JSON.parse(
        (await play(`shards explain ${name} -n ${namespace} --json`, { env: API })).stdout,
      );
      const withheld = [{ member: 'transitions', scope: 'mesh.observe', check: 'x', grant }];
      return { ...known, withheld };
    },
  };
  const flags = '--context prod --user jane';
  const explained = await play(`shards explain orders.0001 ${flags}`, { env: API, answers: explanation });
  expect(explained.stdout).toContain(`grant it: ${grant} --context prod\n`);
  const asked = await play(`shards auth can-i observe ${flags}`, { env: API, lacks: ['observe'] });
  expect(asked.stderr).toMatch(/ -n payments --context prod\n$/);
});

it('a watch has the time that it is told to begin in', async () => {
  const told: unknown[] = [];
  const answers: Scene['answers'] = {
    async *watch(_filter, { timeoutMs } = {}) {
      told.push(timeoutMs);
      yield { type: 'SYNCED', position: '101', token: 't' };
    },
  };
  for (const verb of ['watch', 'list -w', 'get orders.0001 -w']) {
    await play(`shards ${verb} --request-timeout 1m`, { env: API, answers });
  }
  expect(told).toEqual([60_000, 60_000, 60_000]);
});
