import type { ServerResponse } from 'node:http';
import { constants, type ServerHttp2Stream } from 'node:http2';

/** How long an answer may lie unread: so long, and as much longer as the slowest network that we wait for needs for it. */
export interface Patience {
  ms: number;
  bytesPerMs: number;
}

const PATIENCE: Patience = { ms: 30_000, bytesPerMs: 64 };

/**
 * Cuts an answer off that its client does not take: until it is taken it lies in our memory, and a client that opens no
 * window would leave it there for ever. For answers that end; streams of events are looked after by the hub.
 */
export function cutUnread(
  answer: ServerHttp2Stream | ServerResponse,
  bytes: number,
  { ms, bytesPerMs }: Patience = PATIENCE,
): void {
  const cut = () => {
    if ('rstCode' in answer) answer.close(constants.NGHTTP2_CANCEL);
    else answer.destroy();
  };
  const timer = setTimeout(cut, ms + bytes / bytesPerMs).unref();
  answer.once('close', () => clearTimeout(timer));
}
