import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import { invalid } from '@meshkit/shards/problem';
import type { Transport } from './operation.ts';

/** What a client may say of the protocol that it wanted and did not get. */
export const DOWNGRADE_REASONS = ['timeout', 'refused', 'disabled'] as const;

const REQUESTED = /^(h3|h2)(?:[ \t]*;[ \t]*reason=(timeout|refused|disabled))?$/;

/** As seen on the connection itself; nothing that a client claims counts. */
export function protocolOf(raw: { httpVersion: string; httpVersionMajor: number }): string {
  return raw.httpVersionMajor >= 2 ? `h${raw.httpVersionMajor}` : `http/${raw.httpVersion}`;
}

/** What an answer is written to: over HTTP/2 a stream, and Node's response only stands for it. */
export function carrierOf(response: ServerResponse): ServerHttp2Stream | ServerResponse {
  const { stream = response } = response as ServerResponse & { stream?: ServerHttp2Stream };
  return stream;
}

/**
 * How a request travelled. A server cannot tell a downgrade from a client that never tried, so clients report it:
 * `Mesh-Requested-Protocol: h3; reason=timeout`. Throws `invalidArgument` when that header is none of ours.
 */
export function transportOf(raw: {
  httpVersion: string;
  httpVersionMajor: number;
  headers: IncomingHttpHeaders;
}): Transport {
  const negotiated = protocolOf(raw);
  const header = raw.headers['mesh-requested-protocol'];
  if (header === undefined) return { negotiated, requested: negotiated, downgraded: false };
  const match = REQUESTED.exec(String(header).trim());
  if (!match) {
    const detail = `write h3 or h2, and why it was not had: "h3; reason=${DOWNGRADE_REASONS.join('|')}"`;
    throw invalid([{ pointer: '/header/mesh-requested-protocol', detail }]);
  }
  const [, requested = negotiated, reason = 'unspecified'] = match;
  const downgraded = rank(requested) > rank(negotiated);
  return downgraded ? { negotiated, requested, downgraded, reason } : { negotiated, requested, downgraded };
}

function rank(protocol: string): number {
  return protocol.startsWith('h3') ? 3 : protocol.startsWith('h2') ? 2 : 1;
}
