import { createSecureServer, type Http2SecureServer } from 'node:http2';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { FastifyInstance } from 'fastify';
import { problemReply } from './problem-reply.ts';
import type { Certificate } from './tls-files.ts';

export interface ListenAddress {
  host: string;
  /** 0: any free port. */
  port: number;
}

/** An open port that gives its requests to the REST surface. */
export interface Listener {
  readonly url: string;
  /** For connections made from now on. */
  renew(certificate: Certificate): void;
  /** Accepts nothing new, sends GOAWAY, lets requests under way finish, and cuts off what is left after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** After so long without a sign of life a connection is told to go; what it has open then gets the grace, and is cut. */
const IDLE_SESSION = { ms: 5 * 60_000, graceMs: 30_000 };
const MAX_CONNECTIONS = 20_000;
/**
 * Wide enough that the surface behind refuses too much with an answer: Node itself resets an HTTP/2 stream without
 * one, and soon the whole connection. `maxHeaderSize` (for HTTP/1.1) and `requireHostHeader` are missing in Node's types.
 */
const LIMITS = {
  allowHTTP1: true,
  maxHeaderSize: 65_536,
  requireHostHeader: false,
  maxHeaderListPairs: 1_000,
  settings: { maxConcurrentStreams: 256, maxHeaderListSize: 65_536 },
};

/** HTTP/2 and HTTP/1.1 over TLS on one TCP port. Throws `unavailable` when the port cannot be had. */
export async function listenTls(
  app: FastifyInstance,
  address: ListenAddress,
  certificate: Certificate,
  clock: Clock,
  idle = IDLE_SESSION,
): Promise<Listener> {
  await app.ready();
  const server = createSecureServer({ ...LIMITS, ...certificate });
  const route = (request: unknown, response: unknown) => app.routing(request as never, response as never);
  server.on('request', route);
  // An expectation that we do not know may be passed over (RFC 9110, section 10.1.1).
  server.on('checkExpectation', route);
  server.on('clientError', answerClientError);
  server.on('session', (session) => {
    session.setTimeout(idle.ms, () => {
      // By itself it would wait for its streams, though nobody reads them.
      session.close();
      setTimeout(() => session.destroy(), idle.graceMs).unref();
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  const sockets = new Set<Socket>();
  server.on('secureConnection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const origin = await listen(server, address);
  return {
    url: `https://${origin}`,
    renew: (renewed) => server.setSecureContext(renewed),
    close: (graceMs) => close(server, sockets, graceMs, clock),
  };
}

/** Resolves to `host:port` as it is reached. */
export async function listen(server: Server, { host, port }: ListenAddress): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ host, port }, resolve);
  try {
    await promise;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ShardError('unavailable', `cannot listen on ${host}:${port}: ${why}`, {}, error);
  } finally {
    server.off('error', reject);
  }
  const bound = server.address() as AddressInfo;
  return `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`;
}

async function close(
  server: Http2SecureServer,
  sockets: ReadonlySet<Socket>,
  graceMs: number,
  clock: Clock,
): Promise<void> {
  const closed = new AbortController();
  // Node closes the sessions together with the server: GOAWAY first, then streams under way may finish.
  server.close(() => closed.abort());
  await clock.sleep(graceMs, closed.signal).catch((error: unknown) => {
    if (!closed.signal.aborted) throw error;
  });
  for (const socket of sockets) socket.destroy();
}

/** Requests so broken that no request object exists (HTTP/1.1 only; HTTP/2 resets the stream itself). */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const { status, headers, body } = problemReply(clientError(error.code));
  const fields = { ...headers, 'content-length': Buffer.byteLength(body), connection: 'close' };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
  socket.end([`HTTP/1.1 ${status} Refused`, ...lines, '', body].join('\r\n'));
}

function clientError(code: string | undefined): ShardError {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new ShardError('headersTooLarge', 'the request line and headers are too large');
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new ShardError('timeout', 'the request did not arrive in time');
  }
  return new ShardError('invalidArgument', 'this is not a valid HTTP request');
}
