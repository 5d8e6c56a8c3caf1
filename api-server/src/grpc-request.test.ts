import { DiffRequest } from '@meshkit/proto/v1/diff';
import { HistoryRequest } from '@meshkit/proto/v1/history';
import { GetRequest, ListRequest } from '@meshkit/proto/v1/shard_service';
import { WatchRequest } from '@meshkit/proto/v1/watch';
import { ShardError } from '@meshkit/shards/errors';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  diffRequest,
  getRequest,
  historyRequest,
  listRequest,
  nodesRequest,
  watchRequest,
} from './grpc-request.ts';

const readers = { listRequest, getRequest, nodesRequest, watchRequest, diffRequest, historyRequest };

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
    const diff = DiffRequest.fromPartial({
      from: '10m',
      mode: 'DIFF_MODE_LOG',
      filter: { owners: ['node-1'] },
    });
    expect(diffRequest(DiffRequest.encode(diff).finish())).toEqual({
      owner: ['node-1'],
      from: '10m',
      mode: 'log',
      pageSize: 100,
    });
    const history = HistoryRequest.fromPartial({ namespace: 'payments', name: 'orders.0001', since: '9' });
    expect(historyRequest(HistoryRequest.encode(history).finish())).toEqual({
      namespace: 'payments',
      name: 'orders.0001',
      since: '9',
      pageSize: 100,
    });
  });

  it('reads what a watcher has, where it asks for what differs', () => {
    const known = [{ namespace: 'a', name: 'orders.0', uid: 'u', generation: 2n, version: 3n }];
    const message = WatchRequest.fromPartial({ onExpired: 'ON_EXPIRED_DIFF', resumeToken: 't', known });
    expect(watchRequest(WatchRequest.encode(message).finish())).toMatchObject({
      onExpired: 'diff',
      known: new Map([['a/orders.0', { uid: 'u', generation: 2, version: 3 }]]),
    });
    const many = WatchRequest.fromPartial({ known: Array.from({ length: 20_000 }, () => known[0]!) });
    expect(outcome(() => watchRequest(WatchRequest.encode(many).finish()))).toBe('ok');
    expect(outcome(() => watchRequest(Buffer.alloc((4 << 20) + 1)))).toBe('requestTooLarge');
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
