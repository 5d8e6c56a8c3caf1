import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';

export interface StreamEvent {
  event: string;
  id: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into events of every shape.
  data: any;
}

/** A stream of server-sent events as it is on the wire. */
export class EventStream {
  readonly #stream: ClientHttp2Stream;
  readonly #status = Promise.withResolvers<IncomingHttpHeaders>();
  readonly #ended = Promise.withResolvers<void>();
  readonly events: StreamEvent[] = [];
  /** Everything that was received. */
  text = '';
  #rest = '';
  #changed = Promise.withResolvers<void>();

  constructor(session: ClientHttp2Session, path: string, headers: Record<string, string> = {}) {
    this.#stream = session.request({ ':path': path, accept: 'text/event-stream', ...headers });
    this.#stream.on('response', (received) => this.#status.resolve(received));
    this.#stream.on('data', (chunk: Buffer) => this.#take(chunk.toString()));
    this.#stream.on('error', () => undefined);
    this.#stream.on('close', () => this.#ended.resolve());
  }

  get headers(): Promise<IncomingHttpHeaders> {
    return this.#status.promise;
  }

  /** Resolves when the server has ended the stream, or it was cut. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** The body, when the answer is no stream. */
  async problem(): Promise<{ status: number; code: string; [detail: string]: unknown }> {
    await this.#ended.promise;
    return JSON.parse(this.text);
  }

  /** The first event from `from` on that fits; what is waited for happens within a second or two. */
  async until(fits: (event: StreamEvent) => boolean, from = 0): Promise<StreamEvent> {
    const deadline = performance.now() + 15_000;
    for (;;) {
      const found = this.events.slice(from).find(fits);
      if (found) return found;
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`not within 15 s; got ${JSON.stringify(this.events.slice(-5))}`);
      const timer = setTimeout(() => this.#changed.resolve(), Math.min(left, 1_000));
      await this.#changed.promise;
      clearTimeout(timer);
      this.#changed = Promise.withResolvers();
    }
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  cut(): void {
    this.#stream.destroy();
  }

  #take(text: string): void {
    this.text += text;
    const blocks = (this.#rest + text).split('\n\n');
    this.#rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const fields = new Map<string, string>();
      for (const line of block.split('\n')) {
        const [, name = '', value = ''] = /^([^:]*): ?(.*)$/.exec(line) ?? [];
        if (name !== '') fields.set(name, value);
      }
      const [event, id = '', data] = ['event', 'id', 'data'].map((name) => fields.get(name));
      if (event !== undefined && data !== undefined) {
        this.events.push({ event, id, data: JSON.parse(data) });
      }
    }
    this.#changed.resolve();
  }
}
