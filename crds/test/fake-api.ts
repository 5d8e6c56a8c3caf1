import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { KubeClient } from '@meshkit/crds/kube-client';
import { kubeFromString } from '@meshkit/crds/kube-config';
import { selfSigned } from './certificate.ts';

export interface Received {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  body: string;
  /** Common name of the client's certificate. */
  certificate?: string;
}

type Handler = (request: Received, answer: ServerResponse) => unknown;

/** A server on loopback that answers as the test says; what it does wrong, it does on purpose. */
export class FakeApi {
  readonly url: string;
  readonly certificate: string;
  readonly received: Received[] = [];
  readonly sockets = new Set<Socket>();
  /** TCP connections, or TLS handshakes, so far. */
  handshakes = 0;
  readonly #close: () => Promise<void>;

  private constructor(url: string, certificate: string, close: () => Promise<void>) {
    this.url = url;
    this.certificate = certificate;
    this.#close = close;
  }

  static async start(handler: Handler, options: { tls?: boolean } = {}): Promise<FakeApi> {
    const { cert, key } = selfSigned('fake-api');
    const listener = (message: IncomingMessage, answer: ServerResponse) => {
      void api.#answer(message, answer, handler);
    };
    const server = options.tls
      ? createTlsServer({ cert, key, requestCert: true, rejectUnauthorized: false }, listener)
      : createServer(listener);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const api = new FakeApi(`${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`, cert, async () => {
      for (const socket of api.sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
    server.on(options.tls ? 'secureConnection' : 'connection', () => {
      api.handshakes += 1;
    });
    server.on('connection', (socket: Socket) => {
      api.sockets.add(socket);
      socket.on('close', () => api.sockets.delete(socket));
    });
    return api;
  }

  async #answer(message: IncomingMessage, answer: ServerResponse, handler: Handler): Promise<void> {
    const body: Buffer[] = [];
    for await (const chunk of message) body.push(chunk);
    const url = new URL(message.url ?? '/', this.url);
    const peer = 'getPeerCertificate' in message.socket ? message.socket.getPeerCertificate : undefined;
    const request: Received = {
      method: message.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: message.headers,
      body: Buffer.concat(body).toString(),
      certificate: (peer as (() => { subject?: { CN?: string } }) | undefined)?.call(message.socket)?.subject
        ?.CN,
    };
    this.received.push(request);
    await handler(request, answer);
  }

  /** JSON, which is YAML. `user` and `cluster` as in a kubeconfig. */
  kubeconfig(user: object = {}, cluster: object = {}): string {
    const trust = this.url.startsWith('https')
      ? { 'certificate-authority-data': Buffer.from(this.certificate).toString('base64') }
      : {};
    return JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: this.url, ...trust, ...cluster } }],
      users: [{ name: 'u', user }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'payments' } }],
      'current-context': 'x',
    });
  }

  client(user: object = {}): KubeClient {
    return kubeFromString(this.kubeconfig(user), { env: { PATH: process.env.PATH } });
  }

  async close(): Promise<void> {
    await this.#close();
  }
}

export function json(
  answer: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  answer.writeHead(status, { 'content-type': 'application/json', ...headers });
  answer.end(JSON.stringify(body));
}

export function status(answer: ServerResponse, code: number, reason: string, message: string): void {
  json(answer, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message });
}
