import { API_SERVER_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import type { ScopeAccess } from '@meshkit/shards/scope';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Wire } from './exchange.ts';
import { AUDIENCE, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

const HOP = {
  version: 1,
  to: 'node-1',
  phase: 'Active',
  actor: { kind: 'User', name: 'somebody-of-the-past' },
  reason: 'a reason of the past',
  at: '2026-11-23T00:00:00Z',
} as const;

/** Who may list: real tokens by TokenRequest, real decisions by RBAC. */
describe('access to the list', () => {
  const cast = new Cast();
  let running: RunningServer;
  let wire: Wire;
  const tokens: Record<string, string | undefined> = { anonymous: undefined, garbage: 'garbage' };

  beforeAll(async () => {
    await cast.open();
    await Promise.all([
      cast.shard('0000', { owner: 'node-1', recentTransitions: [HOP] }),
      cast.account('no-role'),
      cast.account('reader', 'meshkit-shards-reader'),
      cast.account('observer', 'meshkit-shards-observer'),
      cast.account('operator', 'meshkit-shards-operator'),
      cast.account('reader-everywhere', 'meshkit-shards-reader', 'everywhere'),
    ]);
    for (const name of ['no-role', 'reader', 'observer', 'operator', 'reader-everywhere']) {
      tokens[name] = await cast.token(cast.namespace, name, AUDIENCE);
    }
    tokens['wrong audience'] = await cast.token(cast.namespace, 'reader', 'something-else');
    tokens['cluster audience'] = await cast.token(cast.namespace, 'reader');
    running = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
    await eventually(() => running.server.notReady() === undefined || undefined, 'ready');
    wire = new Wire(running.url);
  });

  afterAll(async () => {
    wire?.close();
    await running?.server.stop();
    await cast.close();
  });

  // Own namespace, another one, all; one shard of the own namespace; its nodes.
  it.each<[string, number, number, number, number, number]>([
    ['anonymous', 401, 401, 401, 401, 401],
    ['garbage', 401, 401, 401, 401, 401],
    ['wrong audience', 401, 401, 401, 401, 401],
    ['cluster audience', 401, 401, 401, 401, 401],
    ['no-role', 403, 403, 403, 403, 403],
    ['reader', 200, 403, 403, 200, 200],
    ['observer', 200, 403, 403, 200, 200],
    ['operator', 200, 403, 403, 200, 200],
    ['reader-everywhere', 200, 200, 200, 200, 200],
  ])('%s: own namespace %i, another %i, all %i, one shard %i, nodes %i', async (who, ...expected) => {
    const { namespace } = cast;
    const paths = [
      `/meshkit/shards?namespace=${namespace}`,
      '/meshkit/shards?namespace=default',
      '/meshkit/shards',
      `/meshkit/shards/${namespace}/orders.0000`,
      `/meshkit/nodes?namespace=${namespace}`,
    ];
    const replies = await Promise.all(paths.map((path) => wire.get(path, tokens[who])));
    expect(replies.map(({ status }) => status)).toEqual(expected);
    for (const { status, headers, body } of replies) {
      if (status === 401)
        expect({ code: body.code, challenge: headers['www-authenticate'] }).toEqual({
          code: 'unauthenticated',
          challenge: expect.stringMatching(/^Bearer realm=/),
        });
      if (status === 403)
        expect({ code: body.code, challenge: headers['www-authenticate'] }).toEqual({
          code: 'scopeMissing',
          challenge: expect.stringContaining('insufficient_scope'),
        });
    }
  });

  it.each<[string, boolean[], boolean[]]>([
    ['no-role', [false, false, false], [false, false, false]],
    ['reader', [true, false, false], [false, false, false]],
    ['observer', [true, true, false], [false, false, false]],
    ['operator', [true, true, true], [false, false, false]],
    ['reader-everywhere', [true, false, false], [true, false, false]],
  ])('says what %s may do: here %j, everywhere %j', async (who, here, everywhere) => {
    for (const [query, allowed] of [
      [`?namespace=${cast.namespace}`, here],
      ['', everywhere],
    ] as const) {
      const { status, body } = await wire.get(`/meshkit/access${query}`, tokens[who]);
      const found = body.scopes.map((scope: ScopeAccess) => scope.allowed);
      expect({ status, user: body.user, found }).toEqual({
        status: 200,
        user: `system:serviceaccount:${cast.namespace}:${who}`,
        found: allowed,
      });
      expect(body.groups).toContain(`system:serviceaccounts:${cast.namespace}`);
    }
  });

  it.each(['anonymous', 'garbage', 'wrong audience'])('says nothing to %s', async (who) => {
    expect((await wire.get('/meshkit/access', tokens[who])).status).toBe(401);
  });

  it('shows who may only read nothing of the past', async () => {
    const { namespace } = cast;
    const shard = `/meshkit/shards/${namespace}/orders.0000`;
    for (const path of [
      `${shard}/history`,
      `/meshkit/shards/diff?namespace=${namespace}&from=10m`,
      `/meshkit/shards/watch?namespace=${namespace}`,
    ]) {
      const { status, body } = await wire.get(path, tokens.reader);
      expect({ path, status, code: body.code, scope: body.scope }).toEqual({
        path,
        status: 403,
        code: 'scopeMissing',
        scope: 'mesh.observe',
      });
    }
    for (const path of [shard, `/meshkit/shards?namespace=${namespace}`, `${shard}/explain`]) {
      const { status, body } = await wire.get(path, tokens.reader);
      expect(status).toBe(200);
      const text = JSON.stringify(body);
      expect(text).toContain('orders.0000');
      for (const secret of [HOP.actor.name, HOP.reason, 'recentTransitions'])
        expect(text).not.toContain(secret);
    }
    const { body } = await wire.get(`${shard}/explain`, tokens.observer);
    expect(JSON.stringify(body)).toContain(HOP.actor.name);
  });

  it('tells the refused what is missing and how to get it', async () => {
    const { body } = await wire.get('/meshkit/shards', tokens.reader);
    const user = `system:serviceaccount:${cast.namespace}:reader`;
    expect(body).toMatchObject({ scope: 'mesh.read', namespace: '', user });
    expect(body.detail).toContain(`missing scope mesh.read in all namespaces for user ${user}`);
    expect(body.check).toBe(
      `kubectl auth can-i read shardassignments.meshkit.omnirelay.io --all-namespaces --as ${user}`,
    );
    expect(body.grant).toContain(
      `--clusterrole=meshkit-shards-reader --serviceaccount=${cast.namespace}:reader`,
    );
  });

  it('believes no header about who somebody is', async () => {
    const headers = {
      'x-remote-user': 'admin',
      'impersonate-user': 'system:admin',
      'impersonate-group': 'system:masters',
      'x-forwarded-user': 'admin',
      'mesh-scopes': 'mesh.operate',
    };
    expect((await wire.get('/meshkit/shards', tokens['no-role'], headers)).status).toBe(403);
    expect((await wire.get('/meshkit/shards', undefined, headers)).status).toBe(401);
  });

  it('leaves one line in the access log for each request', async () => {
    running.lines.length = 0;
    await wire.get(`/meshkit/shards?namespace=${cast.namespace}`, tokens.reader);
    await eventually(() => running.lines.length > 0 || undefined, 'a line');
    expect(running.lines).toEqual([
      {
        op: 'list',
        scope: 'read',
        decision: 'allow',
        user: `system:serviceaccount:${cast.namespace}:reader`,
        namespace: cast.namespace,
        count: 1,
        transport: 'rest',
        protocol: 'h2',
        status: 200,
        durationMs: expect.any(Number),
      },
    ]);
  });

  it("takes kube-apiserver's own tokens when told so, and still asks RBAC", async () => {
    const open = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT), {
      acceptClusterAudience: true,
    });
    const opened = new Wire(open.url);
    try {
      await eventually(() => open.server.notReady() === undefined || undefined, 'ready');
      const token = tokens['cluster audience'];
      expect((await opened.get(`/meshkit/shards?namespace=${cast.namespace}`, token)).status).toBe(200);
      expect((await opened.get(`/meshkit/shards?namespace=${cast.namespace}`, tokens.reader)).status).toBe(
        200,
      );
      expect((await opened.get('/meshkit/shards', token)).status).toBe(403);
      // A member of system:masters is a person like any other, and may everything.
      expect((await opened.get('/meshkit/shards', cast.adminToken)).status).toBe(200);
      expect((await opened.get('/meshkit/shards', tokens['wrong audience'])).status).toBe(401);
    } finally {
      opened.close();
      await open.server.stop();
    }
  });

  it('does not remember a right for longer than its cache does', async () => {
    let now = 0;
    const clock = {
      now: () => 0,
      monotonic: () => now,
      sleep: async (_ms: number, signal?: AbortSignal) =>
        new Promise<void>((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
    };
    await cast.account('leaver', 'meshkit-shards-reader');
    const token = await cast.token(cast.namespace, 'leaver', AUDIENCE);
    const timed = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT), { clock });
    const timedWire = new Wire(timed.url);
    try {
      await eventually(() => timed.server.notReady() === undefined || undefined, 'ready');
      const ask = async () => {
        const { status } = await timedWire.get(`/meshkit/shards?namespace=${cast.namespace}`, token);
        return status;
      };
      // RBAC's own caches, too, may need a moment to see a binding come and go.
      const becomes = async (status: number) => {
        now += 10_000;
        return (await ask()) === status || undefined;
      };
      await eventually(() => becomes(200), 'the right');
      await cast.unbind('leaver');
      expect(await ask()).toBe(200);
      await eventually(() => becomes(403), 'the end of the right');
    } finally {
      timedWire.close();
      await timed.server.stop();
    }
  });
});
