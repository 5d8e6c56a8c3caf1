import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString, loadKube } from '@meshkit/crds/kube-config';
import { MESH_NODES } from '@meshkit/crds/resource';
import type { ShardError } from '@meshkit/shards/errors';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { selfSigned } from './certificate.ts';
import { FakeApi, json, status } from './fake-api.ts';

let folder: string;
const opened: { close(): Promise<void> }[] = [];
const env = () => ({ HOME: folder, PATH: process.env.PATH });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kube-config-'));
});

afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
  await rm(folder, { recursive: true });
});

function config(
  context: string,
  o: { server?: string; user?: object; cluster?: object; namespace?: string } = {},
) {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name: `${context}-c`, cluster: { server: o.server ?? `https://${context}.test:6443`, ...o.cluster } },
    ],
    users: [{ name: `${context}-u`, user: o.user ?? {} }],
    contexts: [
      { name: context, context: { cluster: `${context}-c`, user: `${context}-u`, namespace: o.namespace } },
    ],
    'current-context': context,
  });
}

async function write(name: string, text: string): Promise<string> {
  const file = join(folder, name);
  await mkdir(join(file, '..'), { recursive: true });
  await writeFile(file, text);
  return file;
}

function keep(client: KubeClient): KubeClient {
  opened.push(client);
  return client;
}

async function serve(handler: Parameters<typeof FakeApi.start>[0], options = {}): Promise<FakeApi> {
  const api = await FakeApi.start(handler, options);
  opened.push(api);
  return api;
}

function problem(load: () => unknown): string {
  try {
    load();
  } catch (error) {
    expect((error as ShardError).code).toBe('invalidArgument');
    const { message } = error as Error;
    expect(message, 'one line').not.toContain('\n');
    return message;
  }
  throw new Error('loaded');
}

const ok = { apiVersion: 'v1', kind: 'MeshNode', metadata: { name: 'a', resourceVersion: '1' } };
const get = (client: KubeClient) => client.get(MESH_NODES, { name: 'a' });

describe('which kubeconfig', () => {
  test('the named file, else KUBECONFIG, else ~/.kube/config', async () => {
    const named = await write('named', config('named', { namespace: 'payments' }));
    const listed = await write('listed', config('listed'));
    await write('.kube/config', config('home'));
    const all = { ...env(), KUBECONFIG: listed };
    expect(loadKube({ kubeconfig: named, env: all })).toMatchObject({
      server: 'https://named.test:6443',
      namespace: 'payments',
    });
    expect(loadKube({ env: all })).toMatchObject({
      server: 'https://listed.test:6443',
      namespace: 'default',
    });
    expect(loadKube({ env: env() }).server).toBe('https://home.test:6443');
  });

  test('several files are merged; the first to name something wins; missing ones are skipped', async () => {
    const one = await write('one', config('one'));
    const two = await write('two', config('two'));
    const again = await write('again', config('one', { server: 'https://other.test' }));
    const KUBECONFIG = [join(folder, 'missing'), one, two, again].join(delimiter);
    const both = { ...env(), KUBECONFIG };
    expect(loadKube({ env: both }).server).toBe('https://one.test:6443');
    expect(loadKube({ env: both, context: 'two' }).server).toBe('https://two.test:6443');
  });

  test('a wrong one is one clear line', async () => {
    const missing = join(folder, 'missing');
    expect(problem(() => loadKube({ kubeconfig: missing, env: env() }))).toBe(
      `cannot read kubeconfig ${missing}: no such file`,
    );
    expect(problem(() => loadKube({ env: { ...env(), KUBECONFIG: missing } }))).toContain(missing);
    expect(problem(() => loadKube({ env: env() }))).toContain('Name one with --kubeconfig');
    const broken = await write('broken', 'clusters: [\n  - {');
    expect(problem(() => loadKube({ kubeconfig: broken }))).toMatch(
      /^kubeconfig .*broken is not YAML: .* line \d/,
    );
    const other = await write('other', 'hello: world');
    expect(problem(() => loadKube({ kubeconfig: other }))).toContain('it is no kubeconfig');
  });

  test.each([
    [{ 'current-context': undefined }, 'names no current context; choose one with --context: x'],
    [{ 'current-context': 'y' }, 'has no context y; it has x'],
    [{ contexts: [{ name: 'x', context: { cluster: 'z' } }] }, 'has no cluster z, which context x names'],
    [
      { contexts: [{ name: 'x', context: { cluster: 'x-c', user: 'z' } }] },
      'has no user z, which context x names',
    ],
    [{ clusters: [{ name: 'x-c', cluster: {} }] }, 'names no valid server: ""'],
    [{ clusters: [{ name: 'x-c', cluster: { server: 'ftp://a' } }] }, 'names no valid server: "ftp://a"'],
    [
      { clusters: [{ name: 'x-c', cluster: { server: 'https://a', 'proxy-url': 'socks5://p' } }] },
      'only http and https proxies',
    ],
  ])('inconsistent: %j', (change, message) => {
    const text = JSON.stringify({ ...JSON.parse(config('x')), ...change });
    expect(problem(() => kubeFromString(text))).toContain(message);
  });

  test('certificates that are none are told at the first call', async () => {
    const user = { 'client-certificate-data': 'bm9uZQ==', 'client-key-data': 'bm9uZQ==' };
    const client = keep(kubeFromString(config('x', { user })));
    await expect(get(client)).rejects.toMatchObject({
      code: 'invalidArgument',
      message: expect.stringContaining('not valid PEM'),
    });
  });
});

describe('who asks', () => {
  test('a token, a user and password, a person acting as another', async () => {
    const api = await serve((_, answer) => json(answer, 200, ok));
    await get(keep(api.client({ token: 't0ken' })));
    await get(keep(api.client({ username: 'jane', password: 'secret' })));
    await get(
      keep(api.client({ token: 't', as: 'bob', 'as-groups': ['a', 'b'], 'as-user-extra': { Team: ['x'] } })),
    );
    expect(api.received.map(({ headers }) => headers.authorization)).toEqual([
      'Bearer t0ken',
      `Basic ${Buffer.from('jane:secret').toString('base64')}`,
      'Bearer t',
    ]);
    expect(api.received[2]?.headers).toMatchObject({
      'impersonate-user': 'bob',
      'impersonate-group': 'a, b',
      'impersonate-extra-team': 'x',
      'user-agent': 'meshkit-shards',
    });
  });

  test('a client certificate, from files beside the kubeconfig', async () => {
    const api = await serve((_, answer) => json(answer, 200, ok), { tls: true });
    const jane = selfSigned('jane');
    await write('kube/pki/jane.crt', jane.cert);
    await write('kube/pki/jane.key', jane.key);
    await write('kube/pki/ca.crt', api.certificate);
    const file = await write(
      'kube/config',
      config('x', {
        server: api.url,
        cluster: { 'certificate-authority': 'pki/ca.crt' },
        user: { 'client-certificate': 'pki/jane.crt', 'client-key': 'pki/jane.key' },
      }),
    );
    await get(keep(loadKube({ kubeconfig: file })));
    expect(api.received[0]?.certificate).toBe('jane');
  });

  test('a token file that was replaced is read again when the server refuses the old token', async () => {
    let valid = 'one';
    const api = await serve(({ headers }, answer) =>
      headers.authorization === `Bearer ${valid}`
        ? json(answer, 200, ok)
        : status(answer, 401, 'Unauthorized', 'no'),
    );
    const tokenFile = await write('token', 'one\n');
    const client = keep(api.client({ tokenFile }));
    await get(client);
    valid = 'two';
    await expect(get(client)).rejects.toMatchObject({ code: 'unauthenticated' });
    await writeFile(tokenFile, 'two\n');
    await get(client);
    expect(api.received.map(({ headers }) => headers.authorization)).toEqual([
      'Bearer one',
      'Bearer one',
      'Bearer one',
      'Bearer two',
    ]);
  });

  test('an OpenID Connect user, by client-node', async () => {
    const api = await serve((_, answer) => json(answer, 200, ok));
    const part = (content: object) => Buffer.from(JSON.stringify(content)).toString('base64url');
    const token = `${part({ alg: 'none' })}.${part({ exp: Date.now() / 1000 + 3600 })}.c2ln`;
    const client = keep(api.client({ 'auth-provider': { name: 'oidc', config: { 'id-token': token } } }));
    await get(client);
    expect(api.received[0]?.headers.authorization).toBe(`Bearer ${token}`);
  });

  test('a token file that is not there', async () => {
    const api = await serve((_, answer) => json(answer, 200, ok));
    const client = keep(api.client({ tokenFile: join(folder, 'none') }));
    await expect(get(client)).rejects.toMatchObject({
      code: 'invalidArgument',
      message: expect.stringContaining('cannot read the token file'),
    });
  });
});

describe('credential plugins', () => {
  /** A plugin that counts its runs, and prints what the script says. */
  async function plugin(script: string, more: object = {}) {
    const command = await write('plugin', `#!/bin/sh\necho run >> "${folder}/runs"\n${script}\n`);
    await chmod(command, 0o755);
    return {
      exec: { apiVersion: 'client.authentication.k8s.io/v1', command, interactiveMode: 'Never', ...more },
    };
  }
  async function runs(): Promise<number> {
    const { readFile } = await import('node:fs/promises');
    return (await readFile(join(folder, 'runs'), 'utf8')).split('\n').length - 1;
  }
  const credential = (token: string, expires?: Date) =>
    `echo '${JSON.stringify({ kind: 'ExecCredential', status: { token, expirationTimestamp: expires?.toISOString() } })}'`;

  test('one run serves all calls until its credential expires', async () => {
    const api = await serve((_, answer) => json(answer, 200, ok));
    const inAnHour = new Date(Date.now() + 3_600_000);
    const client = keep(api.client(await plugin(credential('abc', inAnHour))));
    await Promise.all([get(client), get(client), get(client)]);
    await get(client);
    expect(api.received.map(({ headers }) => headers.authorization)).toEqual(Array(4).fill('Bearer abc'));
    expect(await runs()).toBe(1);
    const expired = keep(api.client(await plugin(credential('old', new Date(Date.now() - 1000)))));
    await get(expired);
    await get(expired);
    expect(await runs()).toBe(3);
  });

  test('a refused credential is obtained anew, and the call repeated', async () => {
    const api = await serve(({ headers }, answer) =>
      headers.authorization === 'Bearer 2'
        ? json(answer, 200, ok)
        : status(answer, 401, 'Unauthorized', 'no'),
    );
    const token = `$(wc -l < "${folder}/runs" | tr -d ' ')`;
    const client = keep(
      api.client(
        await plugin(`echo "{\\"kind\\":\\"ExecCredential\\",\\"status\\":{\\"token\\":\\"${token}\\"}}"`),
      ),
    );
    await get(client);
    expect(api.received).toHaveLength(2);
  });

  test('a client certificate from a plugin is used', async () => {
    const api = await serve((_, answer) => json(answer, 200, ok), { tls: true });
    const { cert, key } = selfSigned('plugged');
    const file = await write(
      'credential.json',
      JSON.stringify({ kind: 'ExecCredential', status: { clientCertificateData: cert, clientKeyData: key } }),
    );
    await get(keep(api.client(await plugin(`cat '${file}'`))));
    expect(api.received[0]?.certificate).toBe('plugged');
  });

  test('it is told what it asks for, in its environment', async () => {
    const api = await serve((_, answer) => json(answer, 200, ok));
    const user = await plugin(
      `printf '%s' "$KUBERNETES_EXEC_INFO" > "${folder}/info"; printf '%s' "$EXTRA $1" > "${folder}/extra"; ${credential('t')}`,
      { env: [{ name: 'EXTRA', value: 'value' }], args: ['argument'], provideClusterInfo: true },
    );
    await get(keep(api.client(user)));
    const { readFile } = await import('node:fs/promises');
    expect(JSON.parse(await readFile(join(folder, 'info'), 'utf8'))).toMatchObject({
      apiVersion: 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      spec: { interactive: false, cluster: { server: api.url } },
    });
    expect(await readFile(join(folder, 'extra'), 'utf8')).toBe('value argument');
  });

  test.each([
    ['fails', 'echo "log in first" >&2; exit 3', {}, 'failed with exit code 3: log in first'],
    ['prints nonsense', 'echo hello', {}, 'printed no ExecCredential'],
    [
      'is not there',
      '',
      { command: 'no-such-plugin', installHint: 'Install it.' },
      'was not found. Install it.',
    ],
    ['needs a person', '', { interactiveMode: 'Always' }, 'needs a terminal'],
  ])('one that %s is reported by name', async (_, script, more, message) => {
    const api = await serve((_, answer) => json(answer, 200, ok));
    const client = keep(api.client(await plugin(script, more)));
    await expect(get(client)).rejects.toMatchObject({
      code: 'unauthenticated',
      message: expect.stringContaining(message),
    });
  });

  test('one that hangs does not hold the call beyond its deadline, and ends with the client', async () => {
    const api = await serve((_, answer) => json(answer, 200, ok));
    const client = api.client(await plugin('exec sleep 60'));
    await expect(client.get(MESH_NODES, { name: 'a' }, { timeoutMs: 200 })).rejects.toMatchObject({
      code: 'timeout',
    });
    await client.close();
  });
});

describe('proxies', () => {
  /** Tunnels CONNECT, and notes where to. */
  async function proxy() {
    const targets: string[] = [];
    const server = createServer((_, answer) => answer.writeHead(400).end());
    server.on('connect', (request, socket) => {
      targets.push(request.url ?? '');
      const { hostname, port } = new URL(`http://${request.url}`);
      const upstream = connect(Number(port), hostname, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        upstream.pipe(socket);
        socket.pipe(upstream);
      });
      for (const [one, other] of [
        [socket, upstream],
        [upstream, socket],
      ] as const)
        one.on('error', () => other.destroy()).on('close', () => other.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    opened.push({ close: () => new Promise((resolve) => server.close(() => resolve())) });
    return { targets, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
  }

  test("the cluster's proxy-url is used; the environment's proxy is not, for loopback", async () => {
    const api = await serve((_, answer) => json(answer, 200, ok), { tls: true });
    const { targets, url } = await proxy();
    await get(keep(kubeFromString(api.kubeconfig(), { env: { HTTPS_PROXY: url } })));
    expect(targets).toEqual([]);
    const client = keep(kubeFromString(api.kubeconfig({}, { 'proxy-url': url })));
    await get(client);
    await get(client);
    expect(targets).toEqual([new URL(api.url).host]);
  });
});
