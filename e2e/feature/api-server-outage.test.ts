import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShardClient } from '@meshkit/client/shard-client';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { API_VERSION } from '@meshkit/shards/records';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Product } from '../start/product.ts';

/** A lost kube-apiserver costs readiness and nothing else: no process ends, and nothing that happened is missed. */
describe('the API server through an outage of kube-apiserver', () => {
  const stop = new AbortController();
  let plane: ControlPlane;
  let product: Product;
  let client: ShardClient;
  let healthUrl: string;

  beforeAll(async () => {
    plane = await startControlPlane({
      kind: inject('controlPlane').kind,
      env: process.env,
      log: () => undefined,
    });
    product = await Product.start({ controlPlane: plane, say: () => undefined, signal: stop.signal });
    const { token, ca } = product.files;
    client = new ShardClient({
      server: product.apiUrl,
      token: { file: token },
      ca: await readFile(ca, 'utf8'),
    });
    const log = await readFile(join(product.logs, 'api-server.log'), 'utf8');
    healthUrl = JSON.parse(log.split('\n').find((line) => line.includes('"listening"')) ?? '{}').healthUrl;
  });

  afterAll(async () => {
    stop.abort();
    await client?.close();
    await product?.stop();
    await plane?.stop();
  });

  const readyz = async () => {
    const response = await fetch(`${healthUrl}/readyz`);
    return { status: response.status, text: await response.text() };
  };

  const names = async () => {
    const shards = await Array.fromAsync(client.list({ namespace: 'default' }));
    return shards.map(({ name }) => name);
  };

  const create = (id: string) =>
    product.kube.create(SHARD_ASSIGNMENTS, {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: { namespace: 'default', name: `lonely.${id}` },
      spec: { shardSet: 'lonely', shardId: id },
    });

  async function until<T>(check: () => Promise<T | false>, what: string): Promise<T> {
    const deadline = performance.now() + 30_000;
    for (;;) {
      const found = await check().catch(() => false as const);
      if (found !== false) return found;
      if (performance.now() > deadline) throw new Error(`not within 30 s: ${what}`);
      await sleep(50);
    }
  }

  it('goes on serving what it knows, says that it is not ready and why, and catches up', async () => {
    await create('0000');
    await until(async () => (await names()).length === 1, 'the first shard');

    const restarted = plane.restart({ downMs: 3_000 });
    const lost = await until(async () => {
      const ready = await readyz();
      return ready.status === 503 && ready;
    }, 'the loss');
    expect(lost.text).toMatch(/^lost the watch of \w+: /);
    expect((await fetch(`${healthUrl}/livez`)).status).toBe(200);
    // From memory while its access review is at most 10 s old, then not at all; never half of the truth.
    const answer = await names().catch(({ code }: { code: string }) => [code]);
    expect([['lonely.0000'], ['unavailable']]).toContainEqual(answer);

    await restarted;
    await until(() => create('0001'), 'a write');
    await until(async () => (await names()).length === 2, 'the second shard');
    await until(async () => (await readyz()).status === 200, 'readiness');
    expect(product.crashed()).toEqual([]);
  }, 90_000);
});
