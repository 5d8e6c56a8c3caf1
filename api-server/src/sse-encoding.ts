import type { Encoding, ShardMessage, WatchMessage } from '@meshkit/shards/watch';
import type { EncodedViews } from './encoded-views.ts';
import type { Transport } from './operation.ts';

const HEARTBEAT = Buffer.from(':\n\n');

/**
 * Server-sent events (WHATWG HTML, 9.2): one block for each message, with the token as its id, so that whoever
 * reconnects with Last-Event-ID goes on after it. Few encodings, because `transport` has few values.
 */
export class SseEncodings {
  readonly #views: EncodedViews;
  readonly #encodings = new Map<string, Encoding>();

  constructor(views: EncodedViews) {
    this.#views = views;
  }

  for(transport: Transport): Encoding {
    const key = JSON.stringify(transport);
    const known = this.#encodings.get(key);
    if (known) return known;
    const encoding: Encoding = {
      name: 'sse',
      encode: (message) => block(message.type, message.token, this.#data(message, key)),
      join: (parts) => Buffer.concat(parts),
      heartbeat: HEARTBEAT,
    };
    this.#encodings.set(key, encoding);
    return encoding;
  }

  /** The JSON of a message; `transport` as JSON goes with what a stream may begin with, and with bookmarks. */
  #data(message: WatchMessage, transport: string): string {
    if (message.type === 'shard') return this.#shard(message);
    const { type, token: _, ...rest } = message;
    const text = JSON.stringify(rest);
    if (type === 'snapshot-end' || type === 'goaway') return text;
    return `${text.slice(0, -1)},"transport":${transport}}`;
  }

  /** `{type, cause?, position, current?, previous?, history?, coalesced?, source?}`; shards are encoded once for all answers. */
  #shard(message: ShardMessage): string {
    const { event, cause, position, current, previous, history, coalesced, source } = message;
    let text = `{"type":"${event}",`;
    if (cause) text += `"cause":"${cause}",`;
    text += `"position":"${position}"`;
    if (current) text += `,"current":${this.#views.of(current)}`;
    if (previous) text += `,"previous":${this.#views.of(previous)}`;
    if (history) text += `,"history":${JSON.stringify(history)}`;
    if (coalesced) text += `,"coalesced":${coalesced}`;
    if (source) text += `,"source":"${source}"`;
    return `${text}}`;
  }
}

/** No line break can be in it: tokens are base64url, and JSON escapes them. */
export function block(event: string, id: string | undefined, data: string): Buffer {
  const idLine = id === undefined ? '' : `id: ${id}\n`;
  return Buffer.from(`${idLine}event: ${event}\ndata: ${data}\n\n`);
}
