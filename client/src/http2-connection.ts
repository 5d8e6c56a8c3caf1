import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type OutgoingHttpHeaders,
  type Settings,
} from 'node:http2';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';

export interface ConnectionOptions {
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

/** One HTTP/2 connection from the moment in which it is begun, and how many streams it has of those that the server takes. */
export class Http2Connection {
  readonly #session: ClientHttp2Session;
  readonly #clock: Clock;
  readonly #connected = Promise.withResolvers<void>();
  readonly #settled = Promise.withResolvers<void>();
  #streams = 0;
  #maxStreams = Number.POSITIVE_INFINITY;
  #begun = false;
  #heardAt = Number.NEGATIVE_INFINITY;
  #pinging: Promise<boolean> | undefined;

  constructor({ url, ca, insecureSkipTlsVerify, clock }: ConnectionOptions) {
    this.#clock = clock;
    this.#session = connect(url, {
      ca,
      rejectUnauthorized: insecureSkipTlsVerify !== true,
      settings: { initialWindowSize: STREAM_WINDOW, enablePush: false },
    });
    this.#follow(url);
  }

  /** Takes no further streams; those under way may finish. */
  get retired(): boolean {
    return this.#session.closed || this.#session.destroyed;
  }

  /** Nothing is under way any more. */
  get ended(): boolean {
    return this.#session.destroyed;
  }

  /** The server would let a further stream wait until another one ends, which a watch never does. */
  get full(): boolean {
    return this.#streams >= this.#maxStreams;
  }

  /** Resolves when a stream may be opened; rejects when the connection does not come about. */
  async ready(): Promise<void> {
    await this.#connected.promise;
    // Every server takes one stream at once. How many more, its settings say, which are on their way by now.
    if (this.#begun) await this.#settled.promise;
    this.#begun = true;
  }

  /** Whether the other end is still there, as far as one can tell. */
  async alive(): Promise<boolean> {
    if (this.retired) return false;
    if (this.#clock.monotonic() - this.#heardAt < IDLE_BEFORE_PING_MS) return true;
    // One ping for all who ask: Node refuses more than ten at a time.
    this.#pinging ??= ping(this.#session).finally(() => {
      this.#pinging = undefined;
    });
    const alive = await this.#pinging;
    if (alive) this.#heard();
    else this.#session.destroy();
    return alive;
  }

  /** Throws what Node says when the connection has ended. */
  request(headers: OutgoingHttpHeaders): ClientHttp2Stream {
    const stream = this.#session.request(headers);
    this.#streams += 1;
    stream.once('response', () => this.#heard());
    stream.once('close', () => {
      this.#streams -= 1;
    });
    return stream;
  }

  /** It has to prove itself before it is used again. */
  suspect(): void {
    this.#heardAt = Number.NEGATIVE_INFINITY;
  }

  retire(): void {
    this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
  }

  /** What counts is what came, not what was sent: whoever asks a dead peer often enough would never find out. */
  #heard(): void {
    this.#heardAt = this.#clock.monotonic();
  }

  #follow(url: string): void {
    const session = this.#session;
    const fail = (error: unknown): void => {
      this.#connected.reject(unreachable(url, error));
      this.#settled.reject(unreachable(url, error));
    };
    const timer = setTimeout(() => {
      const error = new Error(`no connection within ${CONNECT_TIMEOUT_MS / 1_000} s`);
      session.destroy(Object.assign(error, { code: 'ETIMEDOUT' }));
    }, CONNECT_TIMEOUT_MS);
    session.once('connect', () => {
      clearTimeout(timer);
      // It may have ended since it connected; its close then says so.
      if (!session.destroyed) session.setLocalWindowSize(SESSION_WINDOW);
      this.#heard();
      this.#connected.resolve();
    });
    session.on('remoteSettings', ({ maxConcurrentStreams }: Settings) => {
      this.#maxStreams = maxConcurrentStreams ?? Number.POSITIVE_INFINITY;
      this.#settled.resolve();
    });
    // Streams of a broken session fail by themselves; this only keeps the error from being an uncaught one.
    session.on('error', fail);
    session.once('goaway', () => this.retire());
    session.once('close', () => {
      clearTimeout(timer);
      fail(new Error('the connection was closed'));
    });
    // Whoever waits hears of it; when all have given up waiting, nobody has to.
    for (const { promise } of [this.#connected, this.#settled]) promise.catch(() => undefined);
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
export function unreachable(url: string, error: unknown): ShardError {
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
