import type { ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import { ShardError } from '@meshkit/shards/errors';
import type { Http2Connection } from './http2-connection.ts';

export interface Http2Request {
  /** Under the server's root, query included. */
  path: string;
  headers: Record<string, string>;
  /** Sent with POST; absent: GET. */
  body?: string;
  signal?: AbortSignal;
  /** Milliseconds for the whole exchange, connecting included. */
  timeoutMs: number;
}

export interface Http2Response {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** An answer of 200 that goes on; whoever has it ends it. */
export interface Http2Stream {
  status: 200;
  headers: IncomingHttpHeaders;
  stream: ClientHttp2Stream;
}

/** The connection broke before an answer began; `cause` says how. */
export class StreamLost extends Error {}

const MAX_ANSWER_BYTES = 64 << 20;

/** One request and its answer, which ends by its deadline or its signal, whichever comes first. */
export class Http2Exchange {
  readonly #request: Http2Request;
  readonly #url: string;
  readonly #timer: NodeJS.Timeout;
  readonly #given = Promise.withResolvers<never>();
  readonly #aborted = (): void => this.#given.reject(this.#request.signal?.reason);
  #stream: ClientHttp2Stream | undefined;

  constructor(request: Http2Request, url: string) {
    const { signal, timeoutMs } = request;
    this.#request = request;
    this.#url = url;
    this.#given.promise.catch(() => this.#stream?.destroy());
    this.#timer = setTimeout(() => {
      const text = `${url} gave no answer within ${timeoutMs / 1_000} s`;
      this.#given.reject(new ShardError('timeout', text));
    }, timeoutMs);
    if (signal?.aborted) this.#aborted();
    else signal?.addEventListener('abort', this.#aborted, { once: true });
  }

  /** The promise's outcome, unless the exchange ends before. */
  within<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#given.promise]);
  }

  /** Throws `StreamLost` when it can be tried again on another connection. */
  run(connection: Http2Connection): Promise<Http2Response> {
    return this.within(this.#exchange(connection));
  }

  /** The beginning of an answer, or a whole one when it is not 200. Throws `StreamLost` as `run` does. */
  open(connection: Http2Connection): Promise<Http2Response | Http2Stream> {
    const { promise, resolve, reject } = Promise.withResolvers<Http2Response | Http2Stream>();
    const took = (stream: ClientHttp2Stream, headers: IncomingHttpHeaders): void =>
      resolve({ status: 200, headers, stream });
    // How a stream that was taken ends is its reader's business.
    this.#exchange(connection, took).then(resolve, reject);
    return this.within(promise);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#request.signal?.removeEventListener('abort', this.#aborted);
  }

  #exchange(
    connection: Http2Connection,
    took?: (stream: ClientHttp2Stream, headers: IncomingHttpHeaders) => void,
  ): Promise<Http2Response> {
    const { promise, resolve, reject } = Promise.withResolvers<Http2Response>();
    const stream = this.#open(connection);
    this.#stream = stream;
    const chunks: Buffer[] = [];
    let bytes = 0;
    let headers: IncomingHttpHeaders | undefined;
    stream.on('response', (received) => {
      headers = received;
      if (took && Number(received[':status']) === 200) {
        took(stream, received);
        return;
      }
      stream.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES)
          stream.destroy(new Error(`the answer has more than ${MAX_ANSWER_BYTES} bytes`));
      });
    });
    let ended = false;
    stream.on('end', () => {
      ended = true;
    });
    let failure: Error | undefined;
    stream.on('error', (error) => {
      failure = error;
    });
    stream.on('close', () => {
      if (headers && ended && !failure && stream.rstCode === 0) {
        resolve({ status: Number(headers[':status']), headers, body: Buffer.concat(chunks) });
      } else if (headers) {
        const why = failure?.message ?? 'the connection broke';
        reject(
          new ShardError('unavailable', `the answer of ${this.#url} was cut short: ${why}`, {}, failure),
        );
      } else
        reject(
          new StreamLost('no answer began', { cause: failure ?? new Error('the connection was closed') }),
        );
    });
    return promise;
  }

  #open(connection: Http2Connection): ClientHttp2Stream {
    try {
      const { path, headers, body } = this.#request;
      const method = body === undefined ? 'GET' : 'POST';
      const stream = connection.request({ ':method': method, ':path': path, ...headers });
      if (body !== undefined) stream.end(body);
      return stream;
    } catch (error) {
      // It ended between its check and its use.
      throw new StreamLost('no stream', { cause: error });
    }
  }
}
