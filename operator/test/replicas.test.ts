import { LEASES } from '@meshkit/crds/resource';
import { SYSTEM_NAMESPACE } from '@meshkit/crds/roles';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startHealthServer } from '../src/health-server.ts';
import { Mesh, type RunningOperator } from './mesh.ts';

let mesh: Mesh;

beforeEach(async () => {
  mesh = await Mesh.open();
});

afterEach(async () => {
  await mesh.close();
});

async function metric(operator: RunningOperator, name: string): Promise<number> {
  const text = await (await fetch(`${operator.url}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(name));
  return Number(line?.split(' ').at(-1));
}

const leads = (operator: RunningOperator) => metric(operator, 'leader_election_master_status');

async function leaseHolder(): Promise<string | undefined> {
  const lease = await mesh.admin.get(LEASES, { namespace: SYSTEM_NAMESPACE, name: mesh.namespace });
  return lease.spec?.holderIdentity;
}

test('one of two replicas leads, both are ready, and the other takes over a move in flight', async () => {
  await mesh.node('a', { liveness: 'Always' });
  await mesh.set({ shards: { count: 4 } });
  const first = await mesh.operator({ identity: 'first' });
  await mesh.owned(4);
  const second = await mesh.operator({ identity: 'second' });
  const ready = async ({ url }: RunningOperator) => (await fetch(`${url}/readyz`)).status;
  await expect.poll(() => Promise.all([first, second].map(ready)), { timeout: 10_000 }).toEqual([200, 200]);
  expect(await Promise.all([first, second].map(leads))).toEqual([1, 0]);

  await mesh.node('b', { liveness: 'Always' });
  await mesh.until('moves are in flight', (shards) =>
    shards.some(({ status }) => status?.phase === 'Draining'),
  );
  await first.stop();
  await expect.poll(leaseHolder, { timeout: 5_000 }).toBe('second');
  for (const shard of mesh.shards.list()) if (shard.status?.phase === 'Draining') await mesh.release(shard);
  await mesh.owned(4);
  expect([...mesh.owners().values()].sort()).toEqual(['a', 'a', 'b', 'b']);
  expect(await leads(second)).toBe(1);
  // The gauge is of the newest pass, which may just be beginning.
  await expect
    .poll(
      async () =>
        await metric(
          second,
          `meshkit_operator_shards{namespace="${mesh.namespace}",shard_set="orders",phase="Active"}`,
        ),
      { timeout: 10_000 },
    )
    .toBe(4);
});

test('a release that nobody saw is honoured by the next leader', async () => {
  await mesh.node('a', { liveness: 'Always' });
  await mesh.set({ shards: { count: 1 } });
  const first = await mesh.operator();
  await mesh.owned(1);
  await mesh.node('b', { liveness: 'Always' });
  await mesh.patchNode('a', { scheduling: 'Drain' });
  await mesh.until('it drains', () => mesh.get('orders.0000')?.status?.phase === 'Draining');
  await first.stop();
  const draining = mesh.get('orders.0000');
  if (draining) await mesh.release(draining);
  await mesh.operator();
  await mesh.until('b owns it', () => mesh.get('orders.0000')?.status?.owner === 'b');
});

test('a node that was dead when the operator starts gets nothing until its Lease changes', async () => {
  await mesh.worker('a');
  await mesh.set({ shards: { count: 2 } });
  const first = await mesh.operator();
  await mesh.owned(2);
  mesh.die('a');
  await mesh.until('all are lost', (shards) => shards.every(({ status }) => status?.phase === 'Lost'));
  await first.stop();
  await mesh.node('b', { liveness: 'Always' });
  await mesh.operator();
  await mesh.until('b owns both', (shards) => shards.every(({ status }) => status?.owner === 'b'));
});

test('says why it is not ready, and that it lives', async () => {
  let reasons = ['the watch of shardsets is interrupted: connection refused'];
  const health = await startHealthServer({
    host: '127.0.0.1',
    port: 0,
    unready: () => reasons,
    metrics: async () => ({ contentType: 'text/plain', body: '' }),
  });
  const get = async (path: string) => {
    const answer = await fetch(`http://${health.address}${path}`);
    return `${answer.status} ${await answer.text()}`;
  };
  expect(await get('/livez')).toBe('200 ok\n');
  expect(await get('/readyz')).toBe(
    '503 not ready: the watch of shardsets is interrupted: connection refused\n',
  );
  reasons = [];
  expect(await get('/readyz')).toBe('200 ok\n');
  expect(await get('/nothing')).toMatch(/^404/);
  const taken = startHealthServer({
    host: '127.0.0.1',
    port: Number(health.address.split(':')[1]),
    unready: () => [],
    metrics: async () => ({ contentType: '', body: '' }),
  });
  await expect(taken).rejects.toThrow('Choose another --listen');
  await health.close();
});
