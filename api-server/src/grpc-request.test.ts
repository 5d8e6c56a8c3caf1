import { GetRequest, ListRequest } from '@meshkit/proto/v1/shard_service';
import { WatchRequest } from '@meshkit/proto/v1/watch';
import { ShardError } from '@meshkit/shards/errors';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { getRequest, listRequest, nodesRequest, watchRequest } from './grpc-request.ts';

const readers = { listRequest, getRequest, nodesRequest, watchRequest };

/** The code that reading ends with, or `ok`. */
function outcome(read: () => unknown): string {
  try {
    read();
    return 'ok';
  } catch (error) {
    if (error instanceof ShardError) return error.code;
    throw error;
  }
}

describe('requests of gRPC', () => {
  it.each(Object.entries(readers))('%s takes any bytes, and refuses them at worst', (_name, read) => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      // Starts like a request, and goes wrong.
      fc
        .tuple(fc.uint8Array({ maxLength: 40 }), fc.nat(40))
        .map(([tail, cut]) =>
          Buffer.concat([ListRequest.encode(LIST).finish().subarray(0, cut), Buffer.from(tail)]),
        ),
    );
    fc.assert(
      fc.property(bytes, (input) => ['ok', 'invalidArgument'].includes(outcome(() => read(input)))),
      { numRuns: 2_000 },
    );
  });

  it('takes groups within groups for what they are', () => {
    const groups = Buffer.alloc(200_000, 0x0b);
    expect(outcome(() => listRequest(groups))).toBe('invalidArgument');
    expect(outcome(() => listRequest(Buffer.alloc(300_000)))).toBe('requestTooLarge');
  });

  it('reads what REST reads, in its words', () => {
    expect(listRequest(ListRequest.encode(LIST).finish())).toEqual({
      namespace: 'payments',
      owner: ['node-1'],
      status: ['ACTIVE', 'LOST'],
      pageSize: 1_000,
      cursor: 'c',
      minVersion: '9',
    });
    expect(listRequest(new Uint8Array())).toEqual({ pageSize: 100 });
    const get = GetRequest.fromPartial({ namespace: 'payments', name: 'orders.0001' });
    expect(getRequest(GetRequest.encode(get).finish())).toEqual({
      namespace: 'payments',
      name: 'orders.0001',
    });
    const watch = WatchRequest.fromPartial({ from: 'WATCH_FROM_NOW', onExpired: 'ON_EXPIRED_FAIL' });
    expect(watchRequest(WatchRequest.encode(watch).finish())).toEqual({
      from: 'now',
      onExpired: 'fail',
      allowCoalescing: false,
    });
  });

  it('tells set but empty from not set', () => {
    const read = (filter: object) =>
      outcome(() => listRequest(ListRequest.encode(ListRequest.fromPartial({ filter })).finish()));
    expect(read({})).toBe('ok');
    expect(read({ namespace: '' })).toBe('invalidArgument');
  });
});

const LIST = ListRequest.fromPartial({
  filter: { namespace: 'payments', owners: ['node-1'], phases: ['PHASE_ACTIVE', 'PHASE_LOST'] },
  pageSize: 5_000,
  pageToken: 'c',
  minVersion: '9',
});
