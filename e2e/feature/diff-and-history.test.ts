import type { LogItem, NetItem } from '@meshkit/shards/diff';
import type { DiffPage } from '@meshkit/shards/repository';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { ResumeWorld } from './resume-world.ts';

describe('what changed', () => {
  let world: ResumeWorld;
  let token: string;
  let position: string;
  let between: string;
  const filter = { namespace: 'default' };

  beforeAll(async () => {
    world = await ResumeWorld.start();
    const client = await world.client('sse');
    const newest = (await world.shards()).map(({ metadata }) => Number(metadata.resourceVersion));
    const minVersion = String(Math.max(...newest));
    for await (const page of client.pages(filter, { minVersion })) {
      token = page.resumeToken ?? '';
      position = page.versionVector.position;
    }
    for (const id of [0, 1, 2]) await world.move(id);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    between = new Date().toISOString();
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    for (const id of [0, 0, 5]) await world.move(id);
    // So that most of it is in the journal only.
    await world.product.apiServer.kill();
    await world.product.startApiServer();
  }, 120_000);

  afterAll(async () => {
    await world?.stop();
  });

  it('is answered by REST and gRPC alike, in whatever pages', async () => {
    const [sse, grpc] = [await world.client('sse'), await world.client('grpc')];
    for (const mode of ['net', 'log'] as const) {
      for (const asked of [filter, { ...filter, owners: ['node-1'] }, { ...filter, search: '5' }]) {
        const whole = await sse.diff(asked, { mode, from: token });
        expect(plain(await grpc.diff(asked, { mode, from: token }))).toEqual(plain(whole));
        for (const client of [sse, grpc]) {
          const items: unknown[] = [];
          let cursor: string | undefined;
          do {
            const page: DiffPage = await client.diff(asked, {
              mode,
              from: cursor ? undefined : token,
              cursor,
              pageSize: 2,
            });
            expect(plain(page.summary)).toEqual(plain(whole.summary));
            items.push(...page.items);
            cursor = page.next;
          } while (cursor !== undefined);
          expect(plain(items)).toEqual(plain(whole.items));
        }
      }
    }
  });

  it('is a row for each shard, or every change with who and why', async () => {
    const client = await world.client('sse');
    const net = await client.diff(filter, { from: token });
    const rows = net.items as NetItem[];
    // Shard 0 went once round and is where it was: it has a new epoch, and the same owner.
    expect(rows.map(({ name, change }) => `${name} ${change}`)).toEqual([
      'orders.0000 Changed',
      'orders.0001 Moved',
      'orders.0002 Moved',
      'orders.0005 Moved',
    ]);
    expect(net.summary).toMatchObject({
      shards: 6,
      moved: 3,
      added: 0,
      removed: 0,
      statusChanged: 1,
      churn: 0.5,
    });
    expect(net.summary.matrix.reduce((sum, { shards }) => sum + shards, 0)).toBe(3);
    expect(net).toMatchObject({ mode: 'net', from: { position }, coalesced: 0 });
    const log = (await client.diff(filter, { mode: 'log', from: position })).items as LogItem[];
    const hops = log.filter(({ before, after }) => before?.owner !== after?.owner);
    expect(hops.map(({ name }) => name)).toEqual([0, 1, 2, 0, 0, 5].map((id) => `orders.000${id}`));
    for (const { actor, changeTicket, previousOwner, before } of hops) {
      expect(changeTicket).toMatch(/^CHG-\d+$/);
      expect(actor?.name).toBeDefined();
      expect(previousOwner).toBe(before?.owner);
    }
    const edits = log.filter(({ before, after }) => before && before.generation !== after?.generation);
    const kind = inject('controlPlane').kind === 'real' ? 'User' : 'FieldManager';
    expect(new Set(edits.map(({ actor }) => actor?.kind))).toEqual(new Set([kind]));
  });

  it('is told of a stretch between two times, too', async () => {
    const client = await world.client('grpc');
    const first = await client.diff(filter, { from: token, to: between });
    expect(first.summary).toMatchObject({ moved: 3, shards: 6 });
    const second = await client.diff(filter, { from: between });
    expect((second.items as NetItem[]).map(({ name }) => name)).toEqual(['orders.0000', 'orders.0005']);
    await expect(client.diff(filter, { from: '10m' })).rejects.toMatchObject({ code: 'tokenExpired' });
    await expect(client.diff(filter, { from: 'rubbish' })).rejects.toMatchObject({ code: 'invalidArgument' });
    await expect(client.diff(filter, { from: second.to.position, to: position })).rejects.toMatchObject({
      code: 'invalidArgument',
    });
    await expect(client.diff(filter, {})).rejects.toMatchObject({ code: 'invalidArgument' });
  });

  it('is told of one shard, newest first, also when it is gone', async () => {
    const [sse, grpc] = [await world.client('sse'), await world.client('grpc')];
    const whole = await sse.history('default', 'orders.0000');
    expect(plain(await grpc.history('default', 'orders.0000'))).toEqual(plain(whole));
    const owners = whole.items.filter(({ before, after }) => after?.owner && before?.owner !== after.owner);
    expect(owners.map(({ after }) => after?.epoch)).toEqual(
      world.grants
        .filter((grant) => grant.startsWith('orders.0000 '))
        .map((grant) => Number(grant.split(' ')[2]))
        .toReversed(),
    );
    const pages: LogItem[] = [];
    let cursor: string | undefined;
    do {
      const page = await grpc.history('default', 'orders.0000', { pageSize: 2, cursor });
      pages.push(...page.items);
      cursor = page.next;
    } while (cursor !== undefined);
    expect(plain(pages)).toEqual(plain(whole.items));
    const recent = await sse.history('default', 'orders.0000', { since: between });
    expect(recent.items.length).toBeLessThan(whole.items.length);
    await expect(sse.history('default', 'orders.9999')).rejects.toMatchObject({ code: 'notFound' });
  });
});

/** What there is of it in JSON: gRPC leaves the members that have no value undefined. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
