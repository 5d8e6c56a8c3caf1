import { status } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo } from '@meshkit/proto/rpc/error_details';
import { Status } from '@meshkit/proto/rpc/status';
import { ERRORS, type ErrorCode, ShardError } from '@meshkit/shards/errors';
import { describe, expect, it } from 'vitest';
import { grpcStatus } from './grpc-status.ts';

const BYTES = 'grpc-status-details-bin';

/** The details by the last part of their type. */
function detailsOf(error: ShardError, op?: string): Record<string, Buffer> {
  const { metadata } = grpcStatus(error, op);
  const { details } = Status.decode(metadata.get(BYTES)[0] as Buffer);
  return Object.fromEntries(details.map(({ typeUrl, value }) => [typeUrl.split('.').at(-1), value]));
}

describe('an error as a gRPC status', () => {
  it.each(Object.keys(ERRORS) as ErrorCode[])('%s', (code) => {
    const answer = grpcStatus(new ShardError(code, 'what is wrong'));
    expect(answer).toMatchObject({ code: status[ERRORS[code].grpc], details: 'what is wrong' });
    expect(answer.code).toBeGreaterThan(0);
    const found = detailsOf(new ShardError(code, 'what is wrong'));
    expect(ErrorInfo.decode(found.ErrorInfo as Buffer)).toEqual({
      reason: code,
      domain: 'meshkit.omnirelay.io',
      metadata: {},
    });
    expect('RetryInfo' in found).toBe(ERRORS[code].retry);
  });

  it('says when to come back', () => {
    const limited = detailsOf(new ShardError('rateLimited', 'too much', { retryAfterSeconds: 7 }));
    expect(RetryInfo.decode(limited.RetryInfo as Buffer).retryDelay).toEqual({ seconds: 7n, nanos: 0 });
  });

  it('translates what REST points at, and flattens the rest', () => {
    const errors = [
      { pointer: '/query/owner/3', detail: 'empty' },
      { pointer: '/query/cursor', detail: 'damaged' },
      { pointer: '/header/accept', detail: 'odd' },
      { pointer: '/query/namespace', detail: 'no name' },
      { pointer: '/body/changes/0/maxConcurrentMoves', detail: 'too many' },
      { pointer: '/body/manifests/2/spec/loadBound', detail: 'below 1' },
      { pointer: '/body', detail: 'no protobuf' },
      { pointer: '/query/maxItems', detail: 'a whole number from 1' },
      { pointer: '/path/namespace', detail: 'no name' },
    ];
    const details = { errors, allowed: ['a', 'b'], resume: { cursor: 'c', consistency: 'keyset' }, limit: 3 };
    const error = new ShardError('invalidArgument', 'wrong', details);
    const found = detailsOf(error);
    expect(BadRequest.decode(found.BadRequest as Buffer).fieldViolations.map(({ field }) => field)).toEqual([
      'filter.owners[3]',
      'page_token',
      '/header/accept',
      'filter.namespace',
      'changes[0].max_concurrent_moves',
      'manifests_json[2].spec.loadBound',
      '/body',
      'max_items',
      'namespace',
    ]);
    expect(ErrorInfo.decode(found.ErrorInfo as Buffer).metadata).toEqual({
      allowed: 'a, b',
      resumeCursor: 'c',
      resumeConsistency: 'keyset',
      limit: '3',
    });
    for (const op of ['nodes', 'status', 'access']) {
      const { fieldViolations } = BadRequest.decode(detailsOf(error, op).BadRequest as Buffer);
      expect(fieldViolations[3]?.field).toBe('namespace');
    }
  });

  it('fits into the trailers that clients read, and can always be sent', () => {
    const long = '😀'.repeat(5_000);
    const errors = Array.from({ length: 100 }, (_, at) => ({ pointer: `/query/owner/${at}`, detail: long }));
    const resumeToken = 't'.repeat(400);
    const answer = grpcStatus(
      new ShardError('internal', long, { errors: errors.slice(0, 1), long, resumeToken }),
    );
    expect(encodeURI(answer.details).length).toBeLessThan(8_000);
    expect((answer.metadata.get(BYTES)[0] as Buffer).length).toBeLessThan(8_000);
    const many = detailsOf(new ShardError('internal', 'x', { errors, resumeToken }));
    expect(BadRequest.decode(many.BadRequest as Buffer).fieldViolations).toHaveLength(10);
    expect(ErrorInfo.decode(many.ErrorInfo as Buffer).metadata.resumeToken).toBe(resumeToken);
  });
});
