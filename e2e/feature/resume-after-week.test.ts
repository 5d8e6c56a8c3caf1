import { readFile } from 'node:fs/promises';
import { ShardClient } from '@meshkit/client/shard-client';
import type { WatchEvent } from '@meshkit/client/shard-tracker';
import { JOURNAL_NAME } from '@meshkit/crds/journal-objects';
import { JournalStore } from '@meshkit/crds/journal-store';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { silentLog } from '@meshkit/crds/log';
import { NAMESPACES, SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { entryOf } from '@meshkit/shards/journal-fold';
import { API_VERSION, type ShardAssignment } from '@meshkit/shards/records';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';
import { Product, SYSTEM_NAMESPACE } from '../start/product.ts';

const NAMESPACE = 'default';
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WEEK_MS = 7 * DAY_MS;
const signal = AbortSignal.timeout(120_000);

/** The journal is written by its own writer, by a clock of ours: a change every twelve hours, for ten days. */
describe('a token of last week', () => {
  let plane: ControlPlane;
  let product: Product;
  let operator: KubeClient;
  let client: ShardClient;
  let shard: ShardAssignment;
  let now = Date.parse('2026-11-13T00:00:00Z');
  const written: { at: number; token: string }[] = [];

  const give = async (owner: string): Promise<ShardAssignment> => {
    const version = (shard.status?.version ?? 0) + 1;
    const status = { phase: 'Active' as const, owner, epoch: version, version };
    shard = await operator.updateStatus(SHARD_ASSIGNMENTS, { ...shard, status });
    return shard;
  };

  beforeAll(async () => {
    plane = await startControlPlane({ kind: inject('controlPlane').kind, env: process.env });
    const apiServerFlags = ['--ring-size', '2'];
    const say = () => undefined;
    product = await Product.start({ controlPlane: plane, say, signal, operator: false, apiServerFlags });
    operator = kubeFromString(await plane.serviceAccountKubeconfig(SYSTEM_NAMESPACE, 'meshkit-operator'));
    client = new ShardClient({
      server: product.apiUrl,
      ca: await readFile(product.files.ca, 'utf8'),
      token: { file: product.files.token },
    });
    const created = await product.kube.create<ShardAssignment>(SHARD_ASSIGNMENTS, {
      apiVersion: API_VERSION,
      kind: 'ShardAssignment',
      metadata: { namespace: NAMESPACE, name: 'orders.0000' },
      spec: { shardSet: 'orders', shardId: '0000' },
    });
    shard = created;
    await give('node-0');
    const { metadata } = await product.kube.get(NAMESPACES, { name: 'kube-system' });
    const journal = await JournalStore.takeOver(
      {
        client: operator,
        name: JOURNAL_NAME,
        cluster: metadata.uid ?? '',
        retention: { ms: WEEK_MS, bytes: 64 << 20 },
        clock: { now: () => now },
        log: silentLog,
      },
      {
        list: () => product.kube.listAll<ShardAssignment>(SHARD_ASSIGNMENTS, {}),
        renews: () => false,
        highestEpoch: 0,
      },
      signal,
    );
    for (let at = 0; at < 20; at += 1) {
      now += DAY_MS / 2;
      const record = await give(`node-${at + 1}`);
      const changes = journal.fold.changesTo(record, false);
      const entries = changes.map((change) => entryOf(change, new Date(now).toISOString()));
      await journal.append(entries, {}, signal);
      const minVersion = record.metadata.resourceVersion;
      for await (const page of client.pages({ namespace: NAMESPACE }, { minVersion })) {
        written.push({ at: now, token: page.resumeToken ?? '' });
      }
    }
  }, 120_000);

  afterAll(async () => {
    await client?.close();
    await operator?.close();
    await product?.stop();
    await plane?.stop();
  });

  async function heard(resumeToken: string, onExpired: 'fail' | 'snapshot'): Promise<WatchEvent[]> {
    const events: WatchEvent[] = [];
    const stop = new AbortController();
    const watching = client.watch({ namespace: NAMESPACE }, { resumeToken, onExpired, signal: stop.signal });
    for await (const event of watching) {
      events.push(event);
      if ('previous' in event && event.current?.version === shard.status?.version) stop.abort();
    }
    return events;
  }

  it('is continued by whatever server, from the journal, for as long as it is kept', async () => {
    await product.apiServer.kill();
    await product.startApiServer();
    const kept = written.filter(({ at }) => now - at < WEEK_MS - DAY_MS);
    expect(kept.length).toBeGreaterThan(8);
    for (const [at, { token }] of kept.slice(0, -1).entries()) {
      const events = await heard(token, 'fail');
      const changes = events.flatMap((event) => ('previous' in event ? [event] : []));
      expect(events.map(({ type }) => type)).not.toContain('RESET');
      expect(changes.map((event) => event.current?.owner)).toEqual(
        written.slice(written.length - kept.length + at + 1).map((_, place) => {
          return `node-${written.length - kept.length + at + 2 + place}`;
        }),
      );
    }
  });

  it('is answered with a reset after that, or with what could be resumed', async () => {
    const { token } = written.find(({ at }) => now - at > WEEK_MS + DAY_MS)!;
    const events = await heard(token, 'snapshot');
    expect(events.map(({ type }) => type)).toContain('RESET');
    const refused = heard(token, 'fail');
    await expect(refused).rejects.toMatchObject({ code: 'tokenExpired' });
    const error = await refused.catch(
      (reason: unknown) => reason as { details: { floor: string; head: string } },
    );
    expect(Number((error as { details: { floor: string } }).details.floor)).toBeGreaterThan(0);
  });
});
