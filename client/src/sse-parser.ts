import { ShardError } from '@meshkit/shards/errors';

/** One dispatched event of a text/event-stream (WHATWG HTML, 9.2.6); comments are not events. */
export interface SseBlock {
  /** `message` when the block names none. */
  event: string;
  data: string;
  /** The newest id up to here; empty when there was none yet. */
  id: string;
}

/** A shard and the one before it take a few kilobytes; what is larger is no stream of ours. */
const MAX_BLOCK_CHARACTERS = 1 << 20;

/**
 * Cuts a byte stream into its blocks, wherever the chunks end. Nothing is kept but the block under way, which has a
 * bound: more than that without an end throws `internal`.
 */
export class SseParser {
  readonly #decoder = new TextDecoder();
  readonly #limit: number;
  #line = '';
  #event = '';
  #data: string[] = [];
  #size = 0;
  #id = '';
  #afterReturn = false;
  /** What the server asks for in `retry:`, milliseconds. */
  retryMs: number | undefined;

  constructor(limit = MAX_BLOCK_CHARACTERS) {
    this.#limit = limit;
  }

  push(chunk: Uint8Array): SseBlock[] {
    const blocks: SseBlock[] = [];
    let text = this.#decoder.decode(chunk, { stream: true });
    if (this.#afterReturn && text !== '') {
      // The line feed of a CR LF that the chunks had parted.
      if (text.startsWith('\n')) text = text.slice(1);
      this.#afterReturn = false;
    }
    let from = 0;
    for (const { index, 0: end } of text.matchAll(/\r\n|\n|\r/g)) {
      const line = this.#line + text.slice(from, index);
      this.#line = '';
      from = index + end.length;
      this.#take(line, blocks);
    }
    this.#afterReturn = text.endsWith('\r');
    this.#line += text.slice(from);
    this.#check(this.#line.length);
    return blocks;
  }

  #take(line: string, blocks: SseBlock[]): void {
    if (line === '') {
      if (this.#data.length > 0) {
        blocks.push({ event: this.#event || 'message', data: this.#data.join('\n'), id: this.#id });
      }
      this.#event = '';
      this.#data = [];
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const rest = colon < 0 ? '' : line.slice(colon + 1);
    this.#field(name, rest.startsWith(' ') ? rest.slice(1) : rest);
  }

  #field(name: string, value: string): void {
    if (name === 'data') {
      this.#size += value.length + 1;
      this.#check(0);
      this.#data.push(value);
    } else if (name === 'event') this.#event = value;
    else if (name === 'id' && !value.includes('\0')) this.#id = value;
    else if (name === 'retry' && /^\d{1,9}$/.test(value)) this.retryMs = Number(value);
  }

  #check(pending: number): void {
    if (this.#size + pending <= this.#limit) return;
    throw new ShardError('internal', `an event of the stream has more than ${this.#limit} characters`);
  }
}
