import { readFileSync } from 'node:fs';
import { ERRORS, type ErrorCode, ShardError } from '@meshkit/shards/errors';
import { errorOfProblem, problemOf } from '@meshkit/shards/problem';
import { describe, expect, it } from 'vitest';
import { problemReply } from './problem-reply.ts';

const rows = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => line.split('|').map((cell) => cell.trim().replaceAll('`', '')));

describe('the error registry', () => {
  it('is documented row by row, in its order', () => {
    const registry = Object.entries(ERRORS).map(([code, { http, grpc, exit, retry }]) =>
      [code, http, grpc, exit, retry ? 'yes' : 'no'].map(String),
    );
    expect(rows.map((cells) => cells.slice(1, 6))).toEqual(registry);
    for (const cells of rows) expect(cells[6]).not.toBe('');
  });

  it.each(Object.keys(ERRORS) as ErrorCode[])(
    '%s travels as a problem and comes back as the same error',
    (code) => {
      const error = new ShardError(code, 'what is wrong', { scope: 'mesh.read', status: 'not this one' });
      const { status, headers, body } = problemReply(error);
      expect(status).toBe(ERRORS[code].http);
      expect(headers['content-type']).toBe('application/problem+json');
      expect(headers['retry-after']).toBe(ERRORS[code].retry ? '1' : undefined);
      expect(JSON.parse(body)).toEqual(JSON.parse(JSON.stringify(problemOf(error))));
      const back = errorOfProblem(status, JSON.parse(body), 'the server');
      expect(back).toMatchObject({ code, message: 'what is wrong', details: { scope: 'mesh.read', status } });
    },
  );
});
