import type { ShardError } from '@meshkit/shards/errors';
import type { WatchMessage, WatchSink } from '@meshkit/shards/watch';
import { testEncoding } from './watch-client.ts';

/** A sink that keeps what it is given; `backlog` is what the test says. */
export class Keeper implements WatchSink {
  readonly encoding = testEncoding;
  readonly limit = 4;
  backlog = 0;
  readonly messages: WatchMessage[] = [];
  ended: { error?: ShardError; token?: string } | undefined;
  drained: (() => void) | undefined;

  write(bytes: Uint8Array): void {
    this.messages.push(testEncoding.decode(bytes));
  }

  onDrain(resume: () => void): void {
    this.drained = resume;
  }

  end(error?: ShardError, token?: string): void {
    this.ended = { error, token };
  }

  types(): string[] {
    return this.messages.map((message) => (message.type === 'shard' ? message.event : message.type));
  }
}
