import { ERRORS, type ErrorCode, ShardError } from '@meshkit/shards/errors';
import { expect, it } from 'vitest';
import { API, play, type Scene } from '../test/scene.ts';

/** One for each number that docs/cli.md promises; scripts build on them. */
it.each<[number, string, string, Scene]>([
  [0, 'done', 'list', {}],
  [0, 'nothing is wrong', 'status --owner node-9', { nodes: [] }],
  [1, 'something is wrong', 'status', {}],
  [1, 'a limit is exceeded', 'simulate --max-moves 0', {}],
  [
    1,
    'the journal lags behind',
    'status --owner node-9',
    { nodes: [], status: { journal: { state: 'behind' } } },
  ],
  [1, 'no', 'auth can-i operate', { lacks: ['operate'] }],
  [1, 'no, says the API server', 'auth can-i operate --mode api', { lacks: ['operate'] }],
  [0, 'yes, says the API server', 'auth can-i operate --mode api', { lacks: ['observe'] }],
  [2, 'a flag that there is not', 'list --nonsense', {}],
  [2, 'a flag that means nothing to the verb', 'get orders.0001 --owner node-1', {}],
  [2, 'a verb that there is not', 'move', {}],
  [2, 'no shard named', 'get', {}],
  [2, 'both -n and -A', 'list -n payments -A', {}],
  [2, 'groups of nobody', 'list --mode direct --as-group admins', {}],
  [3, 'who are you', 'list', { api: new ShardError('unauthenticated', 'no') }],
  [3, 'you may not', 'list', { lacks: ['read'] }],
  [4, 'no such shard', 'get orders.9999', {}],
  [4, 'no such node', 'simulate --drain nope', {}],
  [5, 'stale', 'list', { api: new ShardError('conflict', 'changed') }],
  [6, 'gone', 'list --mode api', { api: new ShardError('unavailable', 'gone', { reason: 'ECONNREFUSED' }) }],
  [6, 'too slow', 'list', { api: new ShardError('timeout', 'slow') }],
  [7, 'too old', 'watch --resume-token t', { api: new ShardError('tokenExpired', 'old') }],
  [130, 'Ctrl-C', 'list', { aborted: true }],
])('%i: %s', async (code, _meaning, line, scene) => {
  expect((await play(`shards ${line}`, { env: API, ...scene })).code).toBe(code);
});

it('is what the error registry says, for every error', async () => {
  for (const error of Object.keys(ERRORS) as ErrorCode[]) {
    const { code, stderr } = await play('shards list', {
      env: API,
      api: new ShardError(error, 'it went wrong'),
    });
    expect([error, code]).toEqual([error, ERRORS[error].exit]);
    expect(stderr).toBe('error: it went wrong\n');
  }
});
