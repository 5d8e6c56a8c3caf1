import { readFileSync } from 'node:fs';
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
  type Settings,
} from 'node:http2';
import { type AddressInfo, connect as connectTcp, createServer, type Server, type Socket } from 'node:net';

const fixture = (name: string) => new URL(`../../api-server/test/fixtures/${name}`, import.meta.url);
export const CA = readFileSync(fixture('tls.crt'), 'utf8');
const KEY = readFileSync(fixture('tls.key'), 'utf8');

export interface Request {
  path: string;
  query: URLSearchParams;
  authorization: string | undefined;
  headers: IncomingHttpHeaders;
  stream: ServerHttp2Stream;
}

/** An HTTP/2 server on loopback that a test scripts, and can break in every way. */
export class ScriptedServer {
  readonly #server: Http2SecureServer;
  readonly sessions = new Set<Http2Session>();
  readonly requests: Omit<Request, 'stream'>[] = [];
  connections = 0;
  answer: (request: Request) => void = ({ stream }) => reply(stream, { items: [] });

  private constructor(server: Http2SecureServer) {
    this.#server = server;
    server.on('session', (session) => {
      this.connections += 1;
      this.sessions.add(session);
      session.on('error', () => undefined);
      session.on('close', () => this.sessions.delete(session));
    });
    server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
      stream.on('error', () => undefined);
      const url = new URL(String(headers[':path']), 'https://a');
      const { authorization } = headers;
      const request = { path: url.pathname, query: url.searchParams, authorization, headers };
      this.requests.push(request);
      this.answer({ ...request, stream });
    });
  }

  static async start(port = 0, settings: Settings = {}): Promise<ScriptedServer> {
    const server = createSecureServer({ cert: CA, key: KEY, settings });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
    await promise;
    return new ScriptedServer(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  async stop(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    for (const session of this.sessions) session.destroy();
    await promise;
  }
}

export function reply(stream: ServerHttp2Stream, body: unknown, status = 200): void {
  stream.respond({ ':status': status, 'content-type': 'application/json' });
  stream.end(JSON.stringify(body));
}

/** A network in front of a server that can forget its connections without a word, as firewalls do. */
export class ForgetfulNetwork {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, port: number) {
    this.#server = server;
    server.on('connection', (near) => {
      const far = connectTcp(port, '127.0.0.1');
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
      }
      near.pipe(far).pipe(near);
    });
  }

  static async inFrontOf(port: number): Promise<ForgetfulNetwork> {
    const server = createServer();
    const { promise, resolve } = Promise.withResolvers<void>();
    server.listen(0, '127.0.0.1', resolve);
    await promise;
    return new ForgetfulNetwork(server, port);
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Nothing goes through the present connections any more; nobody is told. */
  forget(): void {
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.pause();
    }
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
