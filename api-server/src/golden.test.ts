import { ERRORS, type ErrorCode } from '@meshkit/shards/errors';
import { describe, expect, it } from 'vitest';
import { setUp } from '../test/rest-surface.ts';
import { exampleProblem } from './examples.ts';

/** What clients parse, byte for byte; a change of these files is a change of the API. */
const golden = (name: string) => `__golden__/${name}.json`;

async function exchange(url: string, headers?: Record<string, string>): Promise<string> {
  const reply = await setUp().get(url, headers);
  const kept = Object.entries(reply.headers).filter(
    ([name]) => !['date', 'content-length', 'connection'].includes(name),
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

  it('problems', async () => {
    const problems = Object.fromEntries(
      (Object.keys(ERRORS) as ErrorCode[]).map((code) => [code, exampleProblem(code)]),
    );
    await expect(`${JSON.stringify(problems, null, 2)}\n`).toMatchFileSnapshot(golden('problems'));
  });
});
