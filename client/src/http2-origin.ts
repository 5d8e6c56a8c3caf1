import { type ClientHttp2Session, connect } from 'node:http2';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import {
  Http2Exchange,
  type Http2Request,
  type Http2Response,
  type Http2Stream,
  StreamLost,
} from './http2-exchange.ts';

export interface OriginOptions {
  /** `https://host:port` */
  url: string;
  /** PEM; absent: the authorities that Node knows. */
  ca?: string;
  /** For experiments only: whoever sits in between gets the token. */
  insecureSkipTlsVerify?: boolean;
  clock: Clock;
}

/** A connection that has been silent for longer is tried with a ping first: firewalls forget connections quietly. */
const IDLE_BEFORE_PING_MS = 10_000;
const PING_TIMEOUT_MS = 2_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** Room for whole answers in flight, so that their transfer does not wait for window updates. */
const STREAM_WINDOW = 4 << 20;
const SESSION_WINDOW = 16 << 20;

/** A session from the moment in which it is begun; `ready` rejects when it does not come about. */
interface Connection {
  session: ClientHttp2Session;
  ready: Promise<void>;
}

/** One HTTP/2 connection to one server, opened when needed, shared by all requests, replaced when it breaks. */
export class Http2Origin {
  readonly #options: OriginOptions;
  readonly #path: string;
  #connection: Connection | undefined;
  #pinging: Promise<boolean> | undefined;
  #usedAt = 0;
  #closed = false;

  constructor(options: OriginOptions) {
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
    return this.#exchange(request, (exchange, session) => exchange.run(session));
  }

  /**
   * The same for an answer that does not end by itself: resolves when it begins, and is the caller's from then on. The
   * deadline is that of the beginning; an answer that is not 200 is read to its end.
   */
  open(request: Http2Request): Promise<Http2Response | Http2Stream> {
    return this.#exchange(request, (exchange, session) => exchange.open(session));
  }

  /** Something was silent for too long: the connection has to prove itself before it is used again. */
  suspect(): void {
    this.#usedAt = Number.NEGATIVE_INFINITY;
  }

  async #exchange<T>(
    request: Http2Request,
    work: (exchange: Http2Exchange, session: ClientHttp2Session) => Promise<T>,
  ): Promise<T> {
    const exchange = new Http2Exchange({ ...request, path: this.#path + request.path }, this.url);
    try {
      for (let attempt = 1; ; attempt += 1) {
        const reused = this.#connection !== undefined;
        const session = await exchange.within(this.#session());
        this.#usedAt = this.#options.clock.monotonic();
        try {
          return await work(exchange, session);
        } catch (error) {
          if (!(error instanceof StreamLost)) throw error;
          // A server may close an idle connection at the moment in which we use it; that is nobody's failure.
          if (!reused || attempt > 1) throw unreachable(this.url, error.cause);
          this.#drop(session);
        }
      }
    } finally {
      exchange.end();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#connection?.session.destroy();
  }

  async #session(): Promise<ClientHttp2Session> {
    if (this.#closed) throw new ShardError('unavailable', 'the client is closed');
    const known = this.#connection;
    if (known) {
      await known.ready;
      if (await this.#alive(known.session)) return known.session;
      this.#drop(known.session);
    }
    // Somebody else may have begun a new one while we found the old one dead.
    this.#connection ??= this.#connect();
    const { session, ready } = this.#connection;
    await ready;
    return session;
  }

  async #alive(session: ClientHttp2Session): Promise<boolean> {
    if (session.closed || session.destroyed) return false;
    if (this.#options.clock.monotonic() - this.#usedAt < IDLE_BEFORE_PING_MS) return true;
    // One ping for all who ask: Node refuses more than ten at a time.
    this.#pinging ??= ping(session).finally(() => {
      this.#pinging = undefined;
    });
    const alive = await this.#pinging;
    if (alive) this.#usedAt = this.#options.clock.monotonic();
    else session.destroy();
    return alive;
  }

  /** For new requests; those under way may finish. */
  #drop(session: ClientHttp2Session): void {
    if (this.#connection?.session === session) this.#connection = undefined;
    session.close();
  }

  #connect(): Connection {
    const { url, ca, insecureSkipTlsVerify } = this.#options;
    const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
    const session = connect(url, {
      ca,
      rejectUnauthorized: insecureSkipTlsVerify !== true,
      settings: { initialWindowSize: STREAM_WINDOW, enablePush: false },
    });
    const timer = setTimeout(() => {
      const error = new Error(`no connection within ${CONNECT_TIMEOUT_MS / 1_000} s`);
      session.destroy(Object.assign(error, { code: 'ETIMEDOUT' }));
    }, CONNECT_TIMEOUT_MS);
    session.once('connect', () => {
      clearTimeout(timer);
      // It may have ended since it connected; its close then says so.
      if (!session.destroyed) session.setLocalWindowSize(SESSION_WINDOW);
      resolve();
    });
    // Streams of a broken session fail by themselves; this only keeps the error from being an uncaught one.
    session.on('error', (error) => reject(unreachable(url, error)));
    session.once('goaway', () => this.#drop(session));
    session.once('close', () => {
      clearTimeout(timer);
      this.#drop(session);
      reject(unreachable(url, new Error('the connection was closed')));
    });
    // Whoever waits hears of it; when all have given up waiting, nobody has to.
    ready.catch(() => undefined);
    return { session, ready };
  }
}

/** Whether the other end answers in time. */
async function ping(session: ClientHttp2Session): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const dead = (): void => resolve(false);
  const timer = setTimeout(dead, PING_TIMEOUT_MS);
  session.once('close', dead);
  if (!session.ping((error) => resolve(error === null))) dead();
  const alive = await promise;
  session.off('close', dead);
  clearTimeout(timer);
  return alive;
}

const HINTS: Record<string, string> = {
  ECONNREFUSED: 'is the API server running, and is this its port?',
  ENOTFOUND: 'is the name right?',
  ERR_HTTP2_ERROR: 'does it speak HTTP/2?',
  ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL: 'does it speak HTTP/2?',
  ERR_SSL_WRONG_VERSION_NUMBER: 'does this port speak TLS?',
};

const DISTRUST = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ALTNAME/;

/** `details.reason` tells the kinds apart. */
function unreachable(url: string, error: unknown): ShardError {
  if (error instanceof ShardError) return error;
  const { code = '', message = String(error) } = (error ?? {}) as NodeJS.ErrnoException;
  const hint = DISTRUST.test(code)
    ? 'name the authority that signed its certificate (CLI: --certificate-authority FILE; client: ca)'
    : HINTS[code];
  // What Node adds for those who start it themselves.
  const what = message.replace(/; if the root CA is installed locally.*$/, '') || code;
  const text = `cannot reach ${url}: ${what}${hint === undefined ? '' : `; ${hint}`}`;
  return new ShardError('unavailable', text, code === '' ? {} : { reason: code }, error);
}
