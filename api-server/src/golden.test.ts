import { ERRORS, type ErrorCode, ShardError } from '@meshkit/shards/errors';
import { describe, expect, it } from 'vitest';
import { LINEAGE, setUp, shard } from '../test/rest-surface.ts';
import { exampleProblem } from './examples.ts';

/** What clients parse, byte for byte; a change of these files is a change of the API. */
const golden = (name: string) => `__golden__/${name}.json`;

async function exchange(url: string, headers?: Record<string, string>): Promise<string> {
  const reply = await setUp().get(url, headers);
  const kept = Object.entries(reply.headers).filter(
    ([name]) => !['date', 'server', 'content-length', 'connection'].includes(name),
  );
  return `${JSON.stringify({ request: url, ...reply, headers: Object.fromEntries(kept) }, null, 2)}\n`;
}

describe('golden files', () => {
  it.each([
    ['page-first', '/meshkit/shards?namespace=payments&pageSize=2'],
    ['page-filtered', '/meshkit/shards?status=draining'],
    ['page-empty', '/meshkit/shards?owner=nobody'],
    ['shard', '/meshkit/shards/payments/orders.0004'],
    ['nodes', '/meshkit/nodes?namespace=payments'],
    ['access', '/meshkit/access?namespace=billing'],
    ['diff', '/meshkit/shards/diff?namespace=payments&from=10m'],
    ['history', '/meshkit/shards/payments/orders.0042/history'],
    ['problem-diff', '/meshkit/shards/diff?mode=gross&pageSize=0&since=1h'],
    ['problem-query', '/meshkit/shards?pageSize=0&what=1'],
    ['problem-cursor', '/meshkit/shards?cursor=nonsense'],
    ['problem-shard', '/meshkit/shards/payments/orders.9999'],
    ['problem-route', '/meshkit'],
  ])('%s', async (name, url) => {
    await expect(await exchange(url)).toMatchFileSnapshot(golden(name));
  });

  it.each([
    ['problem-anonymous', {}],
    ['problem-scope', { authorization: 'Bearer jane' }],
    ['problem-accept', { authorization: 'Bearer admin', accept: 'text/html' }],
  ])('%s', async (name, headers) => {
    await expect(await exchange('/meshkit/shards', headers as Record<string, string>)).toMatchFileSnapshot(
      golden(name),
    );
  });

  it.each([
    ['watch', {}, undefined],
    ['watch-downgraded', { 'mesh-requested-protocol': 'h3; reason=timeout' }, undefined],
    ['watch-refused', {}, new ShardError('slowConsumer', 'you do not keep up')],
  ])('%s', async (name, headers, watchError) => {
    const before = shard('0000');
    const after = { ...shard('0000', 'Draining'), metadata: { ...before.metadata, resourceVersion: '50' } };
    const { app } = setUp({
      watchError,
      messages: [
        { type: 'reset', reason: 'expired', token: 'AA' },
        { type: 'snapshot-begin', position: '41', lineage: LINEAGE, reason: 'expired', token: 'AA' },
        { type: 'shard', event: 'ADDED', position: '41', current: before, token: 'AA' },
        { type: 'snapshot-end', position: '41', token: 'AB' },
        {
          type: 'shard',
          event: 'MODIFIED',
          position: '50',
          current: after,
          previous: before,
          history: { actor: { kind: 'User', name: 'jane' }, reason: 'hardware swap', changeTicket: 'CHG-7' },
          token: 'AC',
        },
        {
          type: 'shard',
          event: 'DELETED',
          cause: 'filter',
          position: '51',
          current: after,
          previous: before,
          token: 'AD',
          coalesced: 2,
        },
        { type: 'bookmark', position: '60', token: 'AE' },
        { type: 'goaway', reconnectAfterMs: 1_500, token: 'AE' },
      ],
    });
    const reply = await app.inject({
      url: '/meshkit/shards/watch?status=active',
      headers: { authorization: 'Bearer admin', ...headers },
    });
    expect(reply.statusCode).toBe(200);
    const seen = ['content-type', 'cache-control', 'vary', 'mesh-protocol', 'x-accel-buffering'].map(
      (header) => `${header}: ${reply.headers[header]}\n`,
    );
    await expect(`${seen.join('')}\n${reply.body}`).toMatchFileSnapshot(`__golden__/${name}.txt`);
  });

  it('problems', async () => {
    const problems = Object.fromEntries(
      (Object.keys(ERRORS) as ErrorCode[]).map((code) => [code, exampleProblem(code)]),
    );
    await expect(`${JSON.stringify(problems, null, 2)}\n`).toMatchFileSnapshot(golden('problems'));
  });
});
