import { ShardError } from '@meshkit/shards/errors';
import { MAX_CONNECTIONS, tooManyStreams } from './backend.ts';
import { type ConnectionOptions, Http2Connection, unreachable } from './http2-connection.ts';
import {
  Http2Exchange,
  type Http2Request,
  type Http2Response,
  type Http2Stream,
  StreamLost,
} from './http2-exchange.ts';

/**
 * One server. A connection is opened when it is needed, shared by all requests, and replaced when it breaks; there is a
 * further one when those that there are have all the streams that the server takes.
 */
export class Http2Origin {
  readonly #options: ConnectionOptions;
  readonly #path: string;
  #connections: Http2Connection[] = [];
  #closed = false;

  constructor(options: ConnectionOptions) {
    const url = URL.parse(options.url);
    if (url?.protocol !== 'https:' || url.search || url.hash) {
      throw new ShardError(
        'invalidArgument',
        `${options.url} is not the address of an API server: write https://HOST:PORT`,
      );
    }
    this.#options = { ...options, url: url.origin };
    this.#path = url.pathname.replace(/\/$/, '');
  }

  get url(): string {
    return `${this.#options.url}${this.#path}`;
  }

  /**
   * Any answer, whatever its status. Throws `unavailable` (`details.reason` is Node's error code, such as ECONNREFUSED),
   * `timeout`, or the signal's reason. Requests must be safe to repeat: one lost with its connection is sent once more.
   */
  send(request: Http2Request): Promise<Http2Response> {
    return this.#exchange(request, (exchange, connection) => exchange.run(connection));
  }

  /**
   * The same for an answer that does not end by itself: resolves when it begins, and is the caller's from then on. The
   * deadline is that of the beginning; an answer that is not 200 is read to its end.
   */
  open(request: Http2Request): Promise<Http2Response | Http2Stream> {
    return this.#exchange(request, (exchange, connection) => exchange.open(connection));
  }

  /** Something was silent for too long: connections have to prove themselves before they are used again. */
  suspect(): void {
    for (const connection of this.#connections) connection.suspect();
  }

  async #exchange<T>(
    request: Http2Request,
    work: (exchange: Http2Exchange, connection: Http2Connection) => Promise<T>,
  ): Promise<T> {
    const exchange = new Http2Exchange({ ...request, path: this.#path + request.path }, this.url);
    try {
      for (let attempt = 1; ; ) {
        const reused = this.#withRoom() !== undefined;
        const connection = await exchange.within(this.#connection());
        // Others have waited for the same one, and were first.
        if (connection.full) continue;
        try {
          return await work(exchange, connection);
        } catch (error) {
          if (!(error instanceof StreamLost)) throw error;
          // A server may close an idle connection at the moment in which we use it; that is nobody's failure.
          if (!reused || attempt > 1) throw unreachable(this.url, error.cause);
          connection.retire();
          attempt += 1;
        }
      }
    } finally {
      exchange.end();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const connection of this.#connections) connection.destroy();
  }

  #withRoom(): Http2Connection | undefined {
    return this.#connections.find(({ retired, full }) => !retired && !full);
  }

  async #connection(): Promise<Http2Connection> {
    for (let known = this.#withRoom(); known; known = this.#withRoom()) {
      await known.ready();
      if (await known.alive()) return known;
      known.retire();
    }
    const connection = this.#connect();
    await connection.ready();
    return connection;
  }

  #connect(): Http2Connection {
    if (this.#closed) throw new ShardError('unavailable', 'the client is closed');
    this.#connections = this.#connections.filter(({ ended }) => !ended);
    const inUse = this.#connections.filter(({ retired }) => !retired);
    if (inUse.length >= MAX_CONNECTIONS) throw tooManyStreams(this.url);
    const connection = new Http2Connection(this.#options);
    this.#connections.push(connection);
    return connection;
  }
}
