import type { ServerResponse } from 'node:http';
import type { ShardError } from '@meshkit/shards/errors';
import { problemOf } from '@meshkit/shards/problem';
import type { Encoding, WatchSink } from '@meshkit/shards/watch';
import { block } from './sse-encoding.ts';

export interface SseSinkOptions {
  response: ServerResponse;
  encoding: Encoding;
  headers: Readonly<Record<string, string>>;
  /** How long clients are to wait before they reconnect. */
  retryMs: number;
  /** The answer has begun: from now on no status can say what is wrong. */
  onBegin: () => void;
  /** The stream ends with this error, which its status can no longer say. */
  onFail: (error: ShardError) => void;
}

const LIMIT_BYTES = 256 * 1024;
/** How long what was written may take to go out after the end; then the connection is cut. */
const LINGER_MS = 5_000;

/** A stream of server-sent events as the hub sees it. The status line goes out with the first block. */
export class SseSink implements WatchSink {
  readonly encoding: Encoding;
  readonly limit = LIMIT_BYTES;
  readonly #options: SseSinkOptions;
  #begun = false;

  constructor(options: SseSinkOptions) {
    this.#options = options;
    this.encoding = options.encoding;
  }

  get backlog(): number {
    return this.#options.response.writableLength;
  }

  write(bytes: Uint8Array): void {
    const { response } = this.#options;
    this.#begin();
    response.write(bytes);
  }

  onDrain(resume: () => void): void {
    const { response } = this.#options;
    if (response.writableNeedDrain) response.once('drain', resume);
    else setImmediate(resume);
  }

  end(error?: ShardError, token?: string): void {
    const { response, onFail } = this.#options;
    this.#begin();
    if (error) {
      onFail(error);
      response.write(block('shard-error', token, JSON.stringify(problemOf(error))));
    }
    response.end();
    const timer = setTimeout(() => response.destroy(), LINGER_MS);
    response.once('close', () => clearTimeout(timer));
  }

  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const { response, headers, retryMs, onBegin } = this.#options;
    onBegin();
    response.writeHead(200, headers);
    response.write(`retry: ${retryMs}\n\n`);
  }
}
