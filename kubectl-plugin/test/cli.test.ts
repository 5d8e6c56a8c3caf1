import type { AddressInfo } from 'node:net';
import { createServer, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stage } from './stage.ts';

describe('kubectl mesh as a process', () => {
  const stage = new Stage();
  let reader: string;
  let stranger: string;

  beforeAll(async () => {
    await stage.open();
    await stage.startApi();
    await Promise.all([
      stage.shard('0000', 'Active', 'node-1'),
      stage.shard('0001', 'Lost', 'node-1'),
      stage.shard('0002', 'Pending'),
    ]);
    reader = await stage.kubeconfig('reader', 'meshkit-shards-reader');
    stranger = await stage.kubeconfig('stranger');
  });

  afterAll(() => stage.close());

  const names = (stdout: string): string[] =>
    JSON.parse(stdout).items.map(({ name }: { name: string }) => name);

  it('finds the API server in the kubeconfig, and prints what Kubernetes holds', async () => {
    const { code, stdout, stderr } = await stage.run('kubectl-mesh shards list --mode api', {
      KUBECONFIG: reader,
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout.split('\n').map((line) => line.split(/ {3,}/).slice(0, 3))).toEqual([
      ['NAME', 'OWNER', 'PHASE'],
      ['orders.0000', 'node-1', 'Active'],
      ['orders.0001', 'node-1', 'Lost'],
      ['orders.0002', '-', 'Pending'],
      [''],
    ]);
  });

  it.each([
    '',
    '--status lost,pending',
    '--owner node-1 --limit 1',
    '--set orders --search 2',
    '--owner nobody',
  ])('shows the same through the API server and directly: %s', async (flags) => {
    const [api, direct] = await Promise.all(
      ['api', 'direct'].map((mode) =>
        stage.run(`kubectl-mesh shards list --json --mode ${mode} ${flags}`, { KUBECONFIG: reader }),
      ),
    );
    expect(api).toMatchObject({ code: 0 });
    expect(direct?.stdout).toBe(api?.stdout);
  });

  it('takes the server from the environment, and a token from a flag', async () => {
    const env = { KUBECONFIG: stranger, MESHKIT_SERVER: stage.server };
    const ca = '--certificate-authority tls.crt';
    const { code, stderr } = await stage.run(`kubectl-mesh shards list ${ca}`, env);
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--certificate-authority tls.crt: '),
    });
    const untrusted = await stage.run(
      'kubectl-mesh shards list --server https://localhost:1 --mode api',
      env,
    );
    expect(untrusted.code).toBe(6);
  });

  it.each([
    ['api', 'grant it:     kubectl create rolebinding'],
    ['direct', 'grant it:     kubectl create rolebinding'],
  ])('exits with 3 and the remedy when a right is missing: %s', async (mode, hint) => {
    const { code, stdout, stderr } = await stage.run(`kubectl-mesh shards list --mode ${mode}`, {
      KUBECONFIG: stranger,
    });
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toContain(hint);
  });

  it('does not go round a refusal in auto mode', async () => {
    const { code, stderr } = await stage.run('kubectl-mesh shards list', { KUBECONFIG: stranger });
    expect(code).toBe(3);
    expect(stderr).not.toContain('direct');
  });

  it.each(['api', 'direct'])('exits with 4 for a shard that is not there: %s', async (mode) => {
    const missing = await stage.run(`kubectl-mesh shards get orders.9999 --mode ${mode}`, {
      KUBECONFIG: reader,
    });
    expect(missing).toEqual({
      code: 4,
      stdout: '',
      stderr: `error: there is no shard orders.9999 in namespace ${stage.namespace}\n`,
    });
    const found = await stage.run(`kubectl-mesh shards get orders.0000 -o json --mode ${mode}`, {
      KUBECONFIG: reader,
    });
    expect(JSON.parse(found.stdout)).toMatchObject({ name: 'orders.0000', owner: 'node-1' });
  });

  it('reads from Kubernetes when the API server is gone, and says so; not with --mode api', async () => {
    const env = { KUBECONFIG: reader, MESHKIT_SERVER: 'https://127.0.0.1:1' };
    const auto = await stage.run('kubectl-mesh shards list --json', env);
    expect(auto.code).toBe(0);
    expect(names(auto.stdout)).toHaveLength(3);
    expect(auto.stderr).toContain('https://127.0.0.1:1 refuses connections');
    const api = await stage.run('kubectl-mesh shards list --mode api', env);
    expect({ code: api.code, stdout: api.stdout }).toEqual({ code: 6, stdout: '' });
    expect(api.stderr).toMatch(/^error: cannot reach .*ECONNREFUSED/);
  });

  it.each([
    ['/no/such/file', /^error: cannot read kubeconfig .*no such file\n$/],
    ['not-yaml', /^error: kubeconfig .*\n$/],
  ])('says in one line what is wrong with a kubeconfig: %s', async (name, message) => {
    const path = name.startsWith('/') ? name : stage.file(name, '{{{');
    const { code, stdout, stderr } = await stage.run(`kubectl-mesh shards list --kubeconfig ${path}`);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });

  it('is quiet when the reader of its output has had enough', async () => {
    const line = 'kubectl-mesh shards list --page-size 1 -o name | head -n 1';
    const { stdout, stderr } = await stage.run(line, { KUBECONFIG: reader });
    expect({ stdout, stderr }).toEqual({
      stdout: 'shardassignment.meshkit.omnirelay.io/orders.0000\n',
      stderr: '',
    });
    const closed = await stage.run('{ kubectl-mesh shards list; echo "exit $?" >&2; } | true', {
      KUBECONFIG: reader,
    });
    expect(closed.stderr).toBe('exit 0\n');
  });

  it.each([
    ['--nonsense', 2],
    ['--mode api --server https://127.0.0.1:1 --token t', 6],
  ])('keeps its exit code when nobody reads what it complains of: %s', async (flags, code) => {
    const path = `${stage.folder}/code`;
    const command = `{ kubectl-mesh shards list ${flags}; echo "exit $?" >${path}; } 2>&1 >/dev/null`;
    const { stdout } = await stage.run(`${command} | true; cat ${path}`, { KUBECONFIG: reader });
    expect(stdout).toBe(`exit ${code}\n`);
  });

  it('fails with 6 and a word when its output cannot be written', async () => {
    const { code, stderr } = await stage.run('kubectl-mesh shards list > /dev/full', { KUBECONFIG: reader });
    expect(code).toBe(6);
    expect(stderr).toMatch(/^error: standard output cannot be written: ENOSPC: .*\n$/);
  });

  /** With a server that takes connections and says nothing. */
  async function withSilence(use: (port: number, connected: Promise<void>) => Promise<void>): Promise<void> {
    const sockets = new Set<Socket>();
    const connected = Promise.withResolvers<void>();
    const silent = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      connected.resolve();
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    try {
      await use((silent.address() as AddressInfo).port, connected.promise);
    } finally {
      silent.close();
      for (const socket of sockets) socket.destroy();
    }
  }

  it('ends at Ctrl-C with 130, while it waits for a server', () =>
    withSilence(async (port, connected) => {
      const line = `exec kubectl-mesh shards list --token t --server https://127.0.0.1:${port}`;
      const { child, ended } = stage.start(line);
      await connected;
      child.kill('SIGINT');
      expect(await ended).toEqual({ code: 130, stdout: '', stderr: '' });
    }));

  it.each(['list', 'watch', 'list -w'])('waits no longer than it is told: %s', (verb) =>
    withSilence(async (port) => {
      const server = `https://127.0.0.1:${port}`;
      const api = `--token t --server ${server} --mode api`;
      const direct = stage.file('silent.kubeconfig', silentKubeconfig(server));
      for (const whom of [api, `--mode direct --kubeconfig ${direct}`]) {
        const line = `kubectl-mesh shards ${verb} --request-timeout 300ms ${whom}`;
        const { code, stdout, stderr } = await stage.run(line);
        expect({ code, stdout }).toEqual({ code: 6, stdout: '' });
        expect(stderr).toMatch(/^error: .*no answer within 0\.3 s/);
      }
    }),
  );

  it('answers to the name omnirelay too', async () => {
    const { code, stdout } = await stage.run('omnirelay mesh shards list --json', { KUBECONFIG: reader });
    expect(code).toBe(0);
    expect(names(stdout)).toHaveLength(3);
    expect((await stage.run('omnirelay mesh shards list --help')).stdout).toMatch(
      /^Usage: omnirelay mesh shards list/,
    );
  });
});

function silentKubeconfig(server: string): string {
  return JSON.stringify({
    clusters: [{ name: 'silent', cluster: { server } }],
    contexts: [{ name: 'silent', context: { cluster: 'silent' } }],
    'current-context': 'silent',
  });
}
