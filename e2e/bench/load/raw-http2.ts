import { connect, type TLSSocket } from 'node:tls';

/** Just enough HTTP/2 (RFC 9113) to hold very many streams open at little cost: a load generator must not be the load. */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const FRAME_HEADER = 9;
const TYPE = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8 };
const FLAG = { ack: 1, endStream: 1, endHeaders: 4, padded: 8 };
const SETTING = { headerTableSize: 1, enablePush: 2, initialWindowSize: 4 };
/** Without a dynamic table a status is one byte: 128 plus its index in the static one (RFC 7541, appendix A). */
const STATUS: Readonly<Record<number, 200 | 304>> = { 136: 200, 139: 304 };
const WIDE_WINDOW = 0x7fffffff;
const TOP_UP_BYTES = 1 << 26;

export interface StreamHandler {
  /** Valid until it returns. `at`: microseconds of the machine's monotonic clock. */
  data(payload: Buffer, at: number): void;
  /** A block of headers has come: of the answer, or its trailers (`undefined`, as statuses that we have no use for). */
  began(status: 200 | 304 | undefined): void;
  /** Called once: the server ended or reset the stream, or the connection is gone. */
  ended(why: string): void;
}

/** Microseconds of a clock that all processes of the machine share. */
export function machineMicros(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

export class RawHttp2 {
  readonly #socket: TLSSocket;
  readonly #streams = new Map<number, StreamHandler>();
  #nextStream = 1;
  #rest: Buffer = Buffer.alloc(0);
  #consumed = 0;

  private constructor(socket: TLSSocket, streamWindow: number) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.write(
      Buffer.concat([
        PREFACE,
        settings([
          [SETTING.headerTableSize, 0],
          [SETTING.enablePush, 0],
          [SETTING.initialWindowSize, streamWindow],
        ]),
        windowUpdate(0, WIDE_WINDOW - 65_535),
      ]),
    );
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => this.#endAll('the connection is gone'));
  }

  /** `streamWindow`: bytes that the server may send on a stream in its whole life; the reader never asks for more. */
  static async connect(url: string, ca: string, streamWindow = WIDE_WINDOW): Promise<RawHttp2> {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), ca, ALPNProtocols: ['h2'] });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
    await promise;
    socket.off('error', reject);
    return new RawHttp2(socket, streamWindow);
  }

  /** `headers` with the pseudo ones; `body` absent: a request without one. */
  request(headers: Record<string, string>, handler: StreamHandler, body?: Buffer): void {
    const id = this.#nextStream;
    this.#nextStream += 2;
    this.#streams.set(id, handler);
    const block = Buffer.concat(Object.entries(headers).map(([name, value]) => literal(name, value)));
    const flags = FLAG.endHeaders | (body ? 0 : FLAG.endStream);
    const frames = [frame(TYPE.headers, flags, id, block)];
    if (body) frames.push(frame(TYPE.data, FLAG.endStream, id, body));
    this.#socket.write(Buffer.concat(frames));
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    const at = machineMicros();
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let offset = 0;
    while (bytes.length - offset >= FRAME_HEADER) {
      const length = bytes.readUIntBE(offset, 3);
      if (bytes.length - offset < FRAME_HEADER + length) break;
      const payload = bytes.subarray(offset + FRAME_HEADER, offset + FRAME_HEADER + length);
      const id = bytes.readUInt32BE(offset + 5) & 0x7fffffff;
      this.#frame(bytes[offset + 3]!, bytes[offset + 4]!, id, payload, at);
      offset += FRAME_HEADER + length;
    }
    this.#rest = offset === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(offset));
  }

  #frame(type: number, flags: number, id: number, payload: Buffer, at: number): void {
    const handler = this.#streams.get(id);
    if (type === TYPE.data) {
      this.#count(payload.length);
      const padding = flags & FLAG.padded ? payload[0]! + 1 : 0;
      handler?.data(padding ? payload.subarray(1, payload.length - padding + 1) : payload, at);
      if (flags & FLAG.endStream) this.#end(id, 'the server ended it');
    } else if (type === TYPE.headers) {
      // The first block of a connection says before the status that the dynamic table has no size.
      handler?.began(STATUS[payload[payload[0] === 0x20 ? 1 : 0]!]);
      if (flags & FLAG.endStream) this.#end(id, `ended by headers: ${payload.toString('latin1')}`);
    } else if (type === TYPE.reset) this.#end(id, `reset with ${payload.readUInt32BE(0)}`);
    else if (type === TYPE.settings && !(flags & FLAG.ack))
      this.#socket.write(frame(TYPE.settings, FLAG.ack, 0));
    else if (type === TYPE.ping && !(flags & FLAG.ack)) {
      this.#socket.write(frame(TYPE.ping, FLAG.ack, 0, payload));
    }
  }

  #count(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < TOP_UP_BYTES) return;
    this.#socket.write(windowUpdate(0, this.#consumed));
    this.#consumed = 0;
  }

  #end(id: number, why: string): void {
    const handler = this.#streams.get(id);
    this.#streams.delete(id);
    handler?.ended(why);
  }

  #endAll(why: string): void {
    for (const id of [...this.#streams.keys()]) this.#end(id, why);
  }
}

function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(FRAME_HEADER);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

function settings(values: readonly [number, number][]): Buffer {
  const payload = Buffer.alloc(values.length * 6);
  for (const [at, [name, value]] of values.entries()) {
    payload.writeUInt16BE(name, at * 6);
    payload.writeUInt32BE(value, at * 6 + 2);
  }
  return frame(TYPE.settings, 0, 0, payload);
}

function windowUpdate(stream: number, bytes: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(bytes);
  return frame(TYPE.windowUpdate, 0, stream, payload);
}

/** Literal header field without indexing, new name, no Huffman coding (RFC 7541, 6.2.2). */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

/** A string with its length in the 7-bit prefix form of RFC 7541, 5.1. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const prefix = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>= 7) prefix.push((rest & 127) | 128);
  return Buffer.concat([Buffer.from([...prefix, rest]), bytes]);
}
