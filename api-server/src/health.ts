import { createServer, type Server, type ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import { type ListenAddress, listen } from './listener.ts';

export interface HealthOptions {
  /** Why requests should go elsewhere; undefined when ready. */
  notReady: () => string | undefined;
  registry: Registry;
}

/** `/livez`, `/readyz` and `/metrics` in plain HTTP, for probes and scrapers inside the cluster. */
export class HealthListener {
  readonly #server: Server;

  constructor({ notReady, registry }: HealthOptions) {
    const routes: Record<string, (response: ServerResponse) => Promise<void> | void> = {
      '/livez': (response) => say(response, 200, 'ok'),
      '/readyz': (response) => {
        const reason = notReady();
        say(response, reason === undefined ? 200 : 503, reason ?? 'ok');
      },
      '/metrics': async (response) => {
        response.setHeader('content-type', registry.contentType);
        response.end(await registry.metrics());
      },
    };
    this.#server = createServer((request, response) => {
      const route = routes[(request.url ?? '').split('?', 1)[0] ?? ''];
      if (!route) return say(response, 404, 'here are /livez, /readyz and /metrics');
      if (request.method !== 'GET' && request.method !== 'HEAD') return say(response, 405, 'use GET');
      // A collector that throws must cost one scrape, not the process.
      Promise.resolve(route(response)).catch((error: unknown) => say(response, 500, String(error)));
    });
    this.#server.requestTimeout = 10_000;
  }

  /** The URL it answers at. Throws `unavailable` when the port cannot be had. */
  async listen(address: ListenAddress): Promise<string> {
    return `http://${await listen(this.#server, address)}`;
  }

  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }
}

function say(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}
