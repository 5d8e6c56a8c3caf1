import {
  type ClientHttp2Session,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { CA } from './running-server.ts';

export interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into bodies of every shape.
  body: any;
}

/** A bare HTTP/2 client, so that a test sees what is on the wire and not what our own client makes of it. */
export class Wire {
  readonly session: ClientHttp2Session;

  constructor(url: string) {
    this.session = connect(url, { ca: CA, maxSendHeaderBlockLength: 1 << 20 });
    this.session.on('error', () => undefined);
  }

  async get(path: string, token?: string, headers: OutgoingHttpHeaders = {}): Promise<Reply> {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    return this.send({ ':path': path, ...authorization, ...headers });
  }

  send(headers: OutgoingHttpHeaders, payload?: string): Promise<Reply> {
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    const stream = this.session.request(headers, { endStream: payload === undefined });
    let answered: IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    stream.on('response', (received) => {
      answered = received;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    stream.on('close', () => {
      const text = Buffer.concat(chunks).toString();
      const json = String(answered['content-type']).includes('json');
      resolve({
        status: Number(answered[':status']),
        headers: answered,
        body: json && text ? JSON.parse(text) : text,
      });
    });
    if (payload !== undefined) stream.end(payload);
    return promise;
  }

  close(): void {
    this.session.destroy();
  }
}
