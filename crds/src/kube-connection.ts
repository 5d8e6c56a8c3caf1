import {
  type ClientRequest,
  Agent as HttpAgent,
  type IncomingMessage,
  request as requestHttp,
} from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { isIP } from 'node:net';
import { createSecureContext } from 'node:tls';
import { ShardError } from '@meshkit/shards/errors';
import type { Credentials, Environment, Identity, SourceReader } from './kube-credentials.ts';

/** Connections for calls; more calls than that wait for one. A watch has a connection of its own. */
const MAX_CALL_CONNECTIONS = 16;
/** Below kube-apiserver's 90 s, so that it is we who close an idle connection, never in the middle of a request. */
const IDLE_CONNECTION_MS = 60_000;
const TCP_KEEP_ALIVE_MS = 30_000;

export interface KubeRequest {
  method: string;
  /** Under the server's root, query included. */
  path: string;
  headers?: Record<string, string>;
  body?: string;
  /** Ends the request, and the reading of its answer. */
  signal: AbortSignal;
  /** A long-lived answer: does not count among the calls' connections. */
  stream?: boolean;
}

/** What the client needs of a kubeconfig: where the server is, and requests that prove who asks. */
export interface KubeConnection {
  /** `https://host:port`, perhaps with a path. */
  readonly server: string;
  /** Of the context; `default` when it names none. */
  readonly namespace: string;
  /** Resolves with any answer, whatever its status. The caller reads the answer to its end, or destroys it. */
  send(request: KubeRequest): Promise<IncomingMessage>;
  close(): Promise<void>;
}

export interface ConnectionOptions {
  server: string;
  namespace: string;
  credentials: Credentials;
  ca?: SourceReader;
  /** False: the server's certificate is not verified (`insecure-skip-tls-verify`). */
  verify: boolean;
  /** The name expected in the server's certificate, where it is not the server's host. */
  serverName?: string;
  /** Sent with every request: impersonation, user agent. */
  headers: Record<string, string | string[]>;
  /** `HTTPS_PROXY`, `NO_PROXY` and so on, in either case. */
  proxyEnv?: Environment;
}

/** Kept-alive connections under one identity: a certificate belongs to a connection, not to a request. */
interface Pool {
  key: string;
  calls: HttpAgent;
  streams: HttpAgent;
}

/** HTTP/1.1 over pooled, kept-alive connections of node:https, whose import costs a tenth of undici's. */
export class PooledConnection implements KubeConnection {
  readonly server: string;
  readonly namespace: string;
  readonly #options: ConnectionOptions;
  readonly #base: URL;
  readonly #pools = new Map<string, Pool>();
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.server = options.server;
    this.namespace = options.namespace;
    this.#options = options;
    this.#base = new URL(options.server);
  }

  async send(request: KubeRequest): Promise<IncomingMessage> {
    const identity = await this.#identity(request.signal);
    const answer = await this.#attempt(request, identity);
    if (answer.statusCode !== 401) return answer;
    // A token revoked or rotated early: what is cached is obtained anew, and tried once if it differs.
    this.#options.credentials.forget();
    const renewed = await this.#identity(request.signal);
    if (JSON.stringify(renewed) === JSON.stringify(identity)) return answer;
    answer.resume();
    return this.#attempt(request, renewed);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#options.credentials.close();
    for (const pool of this.#pools.values()) {
      pool.calls.destroy();
      pool.streams.destroy();
    }
    this.#pools.clear();
  }

  /** A plugin may take its time, under a deadline of its own; the caller's signal ends the wait for it. */
  #identity(signal: AbortSignal): Promise<Identity> {
    return new Promise((resolve, reject) => {
      const aborted = () => reject(signal.reason);
      if (signal.aborted) return aborted();
      signal.addEventListener('abort', aborted, { once: true });
      this.#options.credentials
        .current()
        .then(resolve, reject)
        .finally(() => signal.removeEventListener('abort', aborted));
    });
  }

  async #attempt(request: KubeRequest, identity: Identity): Promise<IncomingMessage> {
    for (;;) {
      const pool = await this.#pool(identity);
      request.signal.throwIfAborted();
      const { sent, answer } = this.#start(request, identity, pool);
      try {
        return await answer;
      } catch (error) {
        // The server closed a kept-alive connection just as it was used again. Only a read is surely safe to repeat;
        // each repetition uses up one old connection, so this ends.
        if (!(sent.reusedSocket && request.method === 'GET' && isReset(error) && !request.signal.aborted))
          throw error;
      }
    }
  }

  #start(
    request: KubeRequest,
    identity: Identity,
    pool: Pool,
  ): { sent: ClientRequest; answer: Promise<IncomingMessage> } {
    const { promise: answer, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const secure = this.#base.protocol === 'https:';
    const sent = (secure ? requestHttps : requestHttp)({
      protocol: this.#base.protocol,
      hostname: this.#base.hostname.replace(/^\[|\]$/g, ''),
      port: this.#base.port || (secure ? 443 : 80),
      path: this.#base.pathname.replace(/\/$/, '') + request.path,
      method: request.method,
      agent: request.stream ? pool.streams : pool.calls,
      signal: request.signal,
      headers: {
        accept: 'application/json',
        ...this.#options.headers,
        ...(identity.authorization === undefined ? {} : { authorization: identity.authorization }),
        ...(request.body === undefined ? {} : { 'content-length': Buffer.byteLength(request.body) }),
        ...request.headers,
      },
    });
    sent.on('response', resolve);
    // Stays attached: after the answer's head, failures reach whoever reads the body.
    sent.on('error', reject);
    sent.end(request.body);
    return { sent, answer };
  }

  async #pool(identity: Identity): Promise<Pool> {
    const ca = await this.#options.ca?.read();
    if (this.#closed) throw new ShardError('unavailable', 'the Kubernetes client is closed');
    const key = JSON.stringify([ca, identity.cert, identity.key]);
    const known = this.#pools.get(key);
    if (known) return known;
    this.#retire();
    const pool = this.#open(key, ca, identity);
    this.#pools.set(key, pool);
    return pool;
  }

  /** A certificate was rotated: pools under old ones go once nobody uses them. */
  #retire(): void {
    for (const pool of this.#pools.values()) {
      const used = [pool.calls, pool.streams].some((agent) => Object.keys(agent.sockets).length > 0);
      if (used) continue;
      pool.calls.destroy();
      pool.streams.destroy();
      this.#pools.delete(pool.key);
    }
  }

  #open(key: string, ca: string | undefined, identity: Identity): Pool {
    const { verify, serverName, proxyEnv } = this.#options;
    const common = {
      keepAlive: true,
      keepAliveMsecs: TCP_KEEP_ALIVE_MS,
      timeout: IDLE_CONNECTION_MS,
      ...(proxyEnv ? { proxyEnv } : {}),
    };
    if (this.#base.protocol === 'http:')
      return {
        key,
        calls: new HttpAgent({ ...common, maxSockets: MAX_CALL_CONNECTIONS }),
        streams: new HttpAgent(common),
      };
    const tls = {
      ...common,
      secureContext: secureContext(ca, identity),
      rejectUnauthorized: verify,
      // An empty name stops Node from sending an IP address as SNI; it still verifies the address itself.
      servername:
        serverName ?? (isIP(this.#base.hostname.replace(/^\[|\]$/g, '')) ? '' : this.#base.hostname),
    };
    return {
      key,
      calls: new HttpsAgent({ ...tls, maxSockets: MAX_CALL_CONNECTIONS }),
      streams: new HttpsAgent(tls),
    };
  }
}

function secureContext(ca: string | undefined, { cert, key }: Identity) {
  try {
    return createSecureContext({ ca, cert, key, minVersion: 'TLSv1.2' });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new ShardError(
      'invalidArgument',
      `the kubeconfig's certificates or keys are not valid PEM, or do not belong together: ${message}`,
      {},
      error,
    );
  }
}

function isReset(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}
