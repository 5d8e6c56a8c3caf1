import { ShardError } from '@meshkit/shards/errors';
import type { ShardView } from '@meshkit/shards/shard-view';
import { describe, expect, it } from 'vitest';
import { machineClock } from './wait.ts';
import { watchShards } from './watch.ts';
import type { WatchMessage } from './watch-message.ts';
import type { WatchStreamRequest } from './watch-transport.ts';

const view = (name: string, version: number): ShardView => ({
  namespace: 'payments',
  name,
  uid: `uid-${name}`,
  shardSet: 'orders',
  shardId: name,
  phase: 'Active',
  state: 'Active',
  epoch: version,
  version,
  generation: 1,
  observedGeneration: 1,
  capacity: 1,
});
const row = (current: ShardView): WatchMessage => ({
  type: 'shard',
  event: 'ADDED',
  position: '10',
  current,
  token: 's',
});
const begin: WatchMessage = { type: 'snapshot-begin', position: '10', lineage: 'l', token: 's' };
const end: WatchMessage = { type: 'snapshot-end', position: '10', token: 't' };

/** What the streams of one watch were asked for; each ends with the error beside its messages. */
async function asked(
  differences: boolean,
  ...streams: [messages: WatchMessage[], error: ShardError][]
): Promise<{ requests: WatchStreamRequest[]; events: string[] }> {
  const requests: WatchStreamRequest[] = [];
  const events: string[] = [];
  const stop = new AbortController();
  async function* open(request: WatchStreamRequest): AsyncGenerator<WatchMessage> {
    requests.push({ ...request, known: request.known && [...request.known] });
    const [messages, error] = streams.shift()!;
    yield* messages;
    if (streams.length === 0) stop.abort();
    throw error;
  }
  const means = { open, differences, clock: machineClock, random: () => 0 };
  for await (const { type } of watchShards({}, { signal: stop.signal }, means)) events.push(type);
  return { requests, events };
}

describe('a watch whose transport knows differences', () => {
  const broken = new ShardError('unavailable', 'broken');
  const listed: WatchMessage[] = [begin, row(view('a', 1)), row(view('b', 1)), end];

  it('says what it has only once a server says that it is needed', async () => {
    const delta: WatchMessage[] = [
      { type: 'reset', reason: 'expired', token: 's' },
      { ...begin, delta: true },
      row(view('a', 7)),
      end,
    ];
    const { requests, events } = await asked(
      true,
      [listed, broken],
      [[], new ShardError('tokenExpired', 'gone')],
      [delta, broken],
      [[], broken],
    );
    expect(requests.map(({ onExpired, resumeToken }) => [onExpired, resumeToken])).toEqual([
      [undefined, undefined],
      ['fail', 't'],
      ['diff', 't'],
      ['fail', 't'],
    ]);
    expect([...requests[2]!.known!].map(({ name, version }) => `${name}@${version}`)).toEqual(['a@1', 'b@1']);
    expect(events).toEqual(['ADDED', 'ADDED', 'SYNCED', 'RESET', 'MODIFIED', 'SYNCED']);
  });

  it('asks for everything after a restore, where versions mean something else', async () => {
    const { requests } = await asked(
      true,
      [listed, broken],
      [[], new ShardError('lineageChanged', 'another')],
      [[], broken],
    );
    expect(requests.map(({ onExpired }) => onExpired)).toEqual([undefined, 'fail', undefined]);
    expect(requests[2]!.known).toBeUndefined();
  });

  it('asks for nothing of the kind by server-sent events', async () => {
    const { requests } = await asked(false, [listed, broken], [[], broken]);
    expect(requests.map(({ onExpired }) => onExpired)).toEqual([undefined, undefined]);
  });
});
