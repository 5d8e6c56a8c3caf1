import { constants } from 'node:http2';
import { type ServerWritableStream, status as statusCodes } from '@grpc/grpc-js';
import { ShardError } from '@meshkit/shards/errors';
import type { Encoding, WatchSink } from '@meshkit/shards/watch';
import { type GrpcCall, http2StreamOf } from './grpc-call.ts';

/** Messages that a stream may be behind. */
const LIMIT = 256;
/** Almost nothing: what the network takes next is not worth waiting for. */
const DRAINED = 16;

/** How long what was written may take to go out after the end; then the stream is reset. */
const LINGER_MS = 5_000;

/** One gRPC stream as the hub sees it. Its messages are bytes; grpc-js counts them. */
export class GrpcSink implements WatchSink {
  readonly encoding: Encoding;
  readonly limit = LIMIT;
  readonly #stream: ServerWritableStream<unknown, Uint8Array>;
  readonly #call: GrpcCall<unknown>;
  #resume: (() => void) | undefined;
  readonly #taken = (): void => {
    if (this.#resume === undefined || this.backlog > DRAINED) return;
    const resume = this.#resume;
    this.#resume = undefined;
    resume();
  };

  constructor(
    stream: ServerWritableStream<unknown, Uint8Array>,
    call: GrpcCall<unknown>,
    encoding: Encoding,
  ) {
    this.#stream = stream;
    this.#call = call;
    this.encoding = encoding;
    call.access.count = 0;
  }

  get backlog(): number {
    return this.#stream.writableLength;
  }

  write(bytes: Uint8Array): void {
    const { access } = this.#call;
    access.count = (access.count ?? 0) + 1;
    this.#stream.write(bytes, this.#taken);
  }

  onDrain(resume: () => void): void {
    this.#resume = resume;
    // The backlog may be gone already; never from within the call that asked.
    setImmediate(this.#taken);
  }

  end(error?: ShardError, token?: string): void {
    this.#resume = undefined;
    // grpc-js leaves no other way to a stream whose client reads nothing: its status waits behind its messages for ever.
    const reset = () => http2StreamOf(this.#stream)?.close(constants.NGHTTP2_CANCEL);
    const timer = setTimeout(reset, LINGER_MS);
    this.#stream.once('close', () => clearTimeout(timer));
    if (error === undefined) {
      this.#call.record(statusCodes.OK);
      this.#stream.end();
      return;
    }
    const details = token === undefined ? error.details : { ...error.details, resumeToken: token };
    const status = this.#call.failed(new ShardError(error.code, error.message, details, error.cause));
    this.#call.record(status.code);
    // How grpc-js takes a status: what was written still goes out first.
    this.#stream.emit('error', status);
  }
}
