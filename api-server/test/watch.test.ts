import { request } from 'node:https';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import { API_SERVER_SERVICE_ACCOUNT, OPERATOR_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import { compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EventStream, type StreamEvent } from './event-stream.ts';
import { Wire } from './exchange.ts';
import { AUDIENCE, CA, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

describe('watching shards', () => {
  const cast = new Cast();
  let running: RunningServer;
  let wire: Wire;
  let token: string;
  const open: EventStream[] = [];
  let operator: KubeClient | undefined;

  const watch = (query = '', headers: Record<string, string> = {}): EventStream => {
    const path = `/meshkit/shards/watch?namespace=${cast.namespace}${query}`;
    const stream = new EventStream(wire.session, path, { authorization: `Bearer ${token}`, ...headers });
    open.push(stream);
    return stream;
  };
  /** As the operator would: another owner, and the next version. */
  const give = async (shard: ShardAssignment, owner: string): Promise<ShardAssignment> => {
    operator ??= await cast.process(OPERATOR_SERVICE_ACCOUNT);
    const status = shard.status!;
    return operator.updateStatus(SHARD_ASSIGNMENTS, {
      ...shard,
      status: { ...status, owner, epoch: status.epoch + 1, version: status.version + 1 },
    });
  };
  /** The server under test has seen what was written. */
  const known = async ({ metadata }: ShardAssignment): Promise<void> => {
    await wire.get(
      `/meshkit/shards?namespace=${cast.namespace}&minVersion=${metadata.resourceVersion}`,
      token,
    );
  };
  const isOf =
    (id: string, type?: string) =>
    ({ event, data }: StreamEvent): boolean =>
      event === 'shard' &&
      (data.current ?? data.previous).shardId === id &&
      (type === undefined || data.type === type);

  beforeAll(async () => {
    await cast.open();
    await cast.account('observer', 'meshkit-shards-observer');
    await cast.account('reader', 'meshkit-shards-reader');
    token = await cast.token(cast.namespace, 'observer', AUDIENCE);
    running = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
    await eventually(() => running.server.notReady() === undefined || undefined, 'ready');
    wire = new Wire(running.url);
  });

  afterAll(async () => {
    for (const stream of open) stream.cut();
    wire?.close();
    await running?.server.stop();
    await cast.close();
  });

  it('begins with a snapshot, then tells every change with before and after', async () => {
    const shard = await cast.shard('0001', { owner: 'node-1' });
    await known(shard);
    const stream = watch();
    const headers = await stream.headers;
    expect(headers[':status']).toBe(200);
    expect(headers['content-type']).toBe('text/event-stream');
    const end = await stream.until(({ event }) => event === 'snapshot-end');
    expect(stream.events[0]).toMatchObject({
      event: 'snapshot-begin',
      data: { transport: { negotiated: 'h2', requested: 'h2', downgraded: false } },
    });
    expect(stream.events.find(isOf('0001'))?.data.current.owner).toBe('node-1');
    expect(stream.text).toMatch(/^retry: [1-5]\d{3}\n\n/);
    const written = await give(shard, 'node-2');
    const { data, id } = await stream.until(isOf('0001', 'MODIFIED'));
    expect(data).toMatchObject({
      position: written.metadata.resourceVersion,
      current: { owner: 'node-2', version: 2 },
      previous: { owner: 'node-1', version: 1 },
      history: { previousOwner: 'node-1' },
    });
    expect(compareVersions(data.position, end.data.position)).toBeGreaterThan(0);
    expect(new Set(stream.events.map((event) => event.id)).size).toBeGreaterThan(2);
    expect(id).toMatch(/^[\w-]+$/);
  });

  it('goes on exactly where a list ended, whatever happened in between', async () => {
    const shard = await cast.shard('0002', { owner: 'node-1' });
    const { resourceVersion = '' } = shard.metadata;
    const path = `/meshkit/shards?namespace=${cast.namespace}&owner=node-1&minVersion=${resourceVersion}`;
    const listed = await wire.get(path, token);
    const moved = await give(shard, 'node-2');
    const monitor = /<([^>]+)>; rel="monitor"/.exec(String(listed.headers.link))?.[1] ?? '';
    expect(monitor).toContain('/meshkit/shards/watch?');
    const stream = new EventStream(wire.session, monitor, { authorization: `Bearer ${token}` });
    open.push(stream);
    // It left the filter: for this watcher it is gone, though it exists.
    const gone = await stream.until(isOf('0002'));
    expect(gone.data).toMatchObject({
      type: 'DELETED',
      cause: 'filter',
      current: { owner: 'node-2' },
      previous: { owner: 'node-1' },
    });
    await give(moved, 'node-1');
    const back = await stream.until(isOf('0002', 'ADDED'));
    expect(back.data.current).toMatchObject({ owner: 'node-1', version: 3 });
    expect(stream.events[0]?.event).toBe('bookmark');
  });

  it('resumes after the last event that was seen, by Last-Event-ID before the query', async () => {
    const shard = await cast.shard('0003', { owner: 'node-1' });
    const first = watch();
    const seen = await first.until((event) => isOf('0003')(event) && event.data.current.owner === 'node-1');
    await first.until(({ event }) => event === 'snapshot-end');
    const { id } = first.events.at(-1) ?? seen;
    first.cut();
    const second = await give(shard, 'node-2');
    await give(second, 'node-3');
    const resumed = watch(`&resumeToken=${seen.id}`, { 'last-event-id': id });
    await resumed.until(({ data }) => data.current?.owner === 'node-3');
    const told = resumed.events.filter(isOf('0003')).map(({ data }) => data.current.owner);
    expect(told).toEqual(['node-2', 'node-3']);
    expect(resumed.events.some(({ event }) => event === 'snapshot-begin')).toBe(false);
  });

  it('tells a deletion with its own position, and nothing of what is not served', async () => {
    const shard = await cast.shard('0004', { owner: 'node-1' });
    await known(shard);
    const stream = watch('&from=now');
    await stream.until(({ event }) => event === 'bookmark');
    const admin = cast.admin;
    await admin.patch(SHARD_ASSIGNMENTS, shard.metadata as never, {
      metadata: { annotations: { note: 'nobody sees this' } },
    });
    await admin.delete(SHARD_ASSIGNMENTS, { namespace: cast.namespace, name: shard.metadata.name });
    const { data } = await stream.until(isOf('0004', 'DELETED'));
    expect(compareVersions(data.position, shard.metadata.resourceVersion ?? '')).toBeGreaterThan(0);
    expect(data.current).toBeUndefined();
    expect(data.previous.owner).toBe('node-1');
    expect(stream.events.filter(isOf('0004'))).toHaveLength(1);
  });

  it('speaks HTTP/1.1 as well', async () => {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const url = `${running.url}/meshkit/shards/watch?namespace=${cast.namespace}`;
    const call = request(url, { ca: CA, headers: { authorization: `Bearer ${token}` } }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk;
        if (text.includes('event: snapshot-end')) resolve(text);
      });
    });
    call.on('error', reject);
    call.end();
    expect(await promise).toContain('"negotiated":"http/1.1"');
    call.off('error', reject).on('error', () => undefined);
    call.destroy();
    const line = await eventually(
      () => running.lines.find(({ protocol, op }) => protocol === 'http/1.1' && op === 'watch'),
      'the access line',
    );
    expect(line).toMatchObject({ status: 200, decision: 'allow' });
  });

  it.each([
    ['&resumeToken=garbage', 400, 'tokenInvalid'],
    ['&from=tomorrow', 400, 'invalidArgument'],
    ['&pageSize=3', 400, 'invalidArgument'],
  ])('refuses %s with a status, not in the stream', async (query, status, code) => {
    const stream = watch(query);
    expect((await stream.headers)[':status']).toBe(status);
    expect(await stream.problem()).toMatchObject({ status, code });
  });

  it('refuses a token of other filters, and whoever may only read', async () => {
    const stream = watch();
    const { id } = await stream.until(({ event }) => event === 'snapshot-end');
    const other = watch(`&owner=node-1&resumeToken=${id}`);
    expect(await other.problem()).toMatchObject({ status: 400, code: 'filterMismatch' });
    const reader = await cast.token(cast.namespace, 'reader', AUDIENCE);
    const refused = watch('', { authorization: `Bearer ${reader}` });
    expect(await refused.problem()).toMatchObject({ status: 403, code: 'scopeMissing' });
  });

  it('answers a token that it cannot continue with a reset and a snapshot, or 410 when asked', async () => {
    const stream = watch();
    const { id } = await stream.until(({ event }) => event === 'snapshot-end');
    // Something has to happen before the other server begins to follow, or it could go on.
    await cast.shard('0005', { owner: 'node-1' });
    const later = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
    await eventually(() => later.server.notReady() === undefined || undefined, 'ready');
    const there = new Wire(later.url);
    const path = `/meshkit/shards/watch?namespace=${cast.namespace}&resumeToken=${id}`;
    const headers = { authorization: `Bearer ${token}` };
    const failed = new EventStream(there.session, `${path}&onExpired=fail`, headers);
    expect(await failed.problem()).toMatchObject({ status: 410, code: 'tokenExpired' });
    const reset = new EventStream(there.session, path, headers);
    await reset.until(({ event }) => event === 'snapshot-end');
    expect(reset.events[0]).toMatchObject({ event: 'reset', data: { reason: 'expired' } });
    expect(reset.events[1]).toMatchObject({ event: 'snapshot-begin', data: { reason: 'expired' } });
    there.close();
    await later.server.stop();
  });

  it('ends a client that does not read, and what it has read is enough to resume', {
    timeout: 60_000,
  }, async () => {
    let shard = await cast.shard('0009');
    await known(shard);
    const first = shard.status!.version;
    const slow = watch('&search=0009');
    await slow.until(({ event }) => event === 'snapshot-end');
    slow.pause();
    // Some 900 bytes each: more than the network takes unread and a stream may have waiting.
    for (let round = 1; round <= 700; round += 1) shard = await give(shard, `node-${round}`);
    const line = await eventually(() => running.lines.find(({ code }) => code === 'slowConsumer'), 'the end');
    expect(line).toMatchObject({ op: 'watch', transport: 'sse', decision: 'allow', status: 200 });
    shard = await give(shard, 'node-last');
    slow.resume();
    await slow.ended;
    const resumed = watch('&search=0009', { 'last-event-id': slow.events.at(-1)!.id });
    await resumed.until(({ data }) => data.current?.owner === 'node-last');
    // Nothing is lost, and nothing comes twice.
    const heard = [slow, resumed].flatMap(({ events }) =>
      events.flatMap(({ data }) => data.current?.version ?? []),
    );
    expect(heard).toEqual(Array.from({ length: heard.length }, (_, at) => first + at));
    expect(heard.at(-1)).toBe(shard.status!.version);
  });

  it('says goaway when the server stops, and the token goes on at another one', async () => {
    const stopping = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
    await eventually(() => stopping.server.notReady() === undefined || undefined, 'ready');
    const wireOfIt = new Wire(stopping.url);
    const path = `/meshkit/shards/watch?namespace=${cast.namespace}`;
    const stream = new EventStream(wireOfIt.session, path, { authorization: `Bearer ${token}` });
    await stream.until(({ event }) => event === 'snapshot-end');
    const from = performance.now();
    await stopping.server.stop();
    await stream.ended;
    expect(performance.now() - from).toBeLessThan(5_000);
    const { event, id, data } = stream.events.at(-1)!;
    expect(event).toBe('goaway');
    expect(data.reconnectAfterMs).toBeGreaterThanOrEqual(0);
    wireOfIt.close();
    const resumed = watch('', { 'last-event-id': id });
    const first = await resumed.until(() => true);
    expect(first.event).toBe('bookmark');
  });
});
