import { ShardError } from '@meshkit/shards/errors';
import { expect, it } from 'vitest';
import { complaint } from './complaint.ts';

it('names the flag that a moment came by', () => {
  const errors = [{ pointer: '/query/since', detail: 'not a time' }];
  const error = new ShardError('invalidArgument', 'since: not a time', { errors });
  expect(complaint(error, false)).toBe('error: --since: not a time\n');
});

it('says from where on something is known', () => {
  const error = new ShardError('tokenExpired', 'the history begins later', { floor: '268', head: '833' });
  expect(complaint(error, false)).toBe('error: the history begins later\n  earliest:     268\n');
});
