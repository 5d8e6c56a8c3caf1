import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ShardError } from '@meshkit/shards/errors';

export interface HealthServerOptions {
  host: string;
  port: number;
  /** What keeps this process from being ready, one sentence each; empty: ready. */
  unready: () => string[];
  /** Prometheus text and its content type. */
  metrics: () => Promise<{ contentType: string; body: string }>;
}

export interface HealthServer {
  /** `host:port`, with the port that was given when 0 was asked for. */
  address: string;
  close(): Promise<void>;
}

const HEADERS_TIMEOUT_MS = 5000;

/**
 * `/livez` (the process answers), `/readyz` (200, or 503 with a reason a line) and `/metrics` over plain HTTP.
 * Rejects when the address cannot be bound.
 */
export async function startHealthServer(options: HealthServerOptions): Promise<HealthServer> {
  const server = createServer(
    { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: HEADERS_TIMEOUT_MS },
    (request, response) => {
      const path = (request.url ?? '/').split('?')[0];
      if (request.method !== 'GET' && request.method !== 'HEAD') return answer(response, 405, 'only GET\n');
      switch (path) {
        case '/livez':
          return answer(response, 200, 'ok\n');
        case '/readyz': {
          const reasons = options.unready();
          return reasons.length === 0
            ? answer(response, 200, 'ok\n')
            : answer(response, 503, reasons.map((reason) => `not ready: ${reason}\n`).join(''));
        }
        case '/metrics':
          options.metrics().then(
            ({ contentType, body }) => answer(response, 200, body, contentType),
            (error: unknown) => answer(response, 500, `metrics cannot be read: ${error}\n`),
          );
          return;
        default:
          return answer(response, 404, 'there are /livez, /readyz and /metrics\n');
      }
    },
  );
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', (error) => {
    const address = `${options.host}:${options.port}`;
    reject(
      new ShardError(
        'unavailable',
        `cannot listen on ${address}: ${error.message}. Choose another --listen.`,
      ),
    );
  });
  server.listen(options.port, options.host, resolve);
  await promise;
  const { address, port, family } = server.address() as AddressInfo;
  return {
    address: family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

function answer(response: ServerResponse, status: number, body: string, contentType = 'text/plain'): void {
  response.writeHead(status, { 'content-type': contentType, 'cache-control': 'no-store' }).end(body);
}
