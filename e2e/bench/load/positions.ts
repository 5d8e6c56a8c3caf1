/** How a stream's bytes say which change they bring. */
export type Positions = 'sse' | 'grpc' | 'kube';

/** Calls back with the position of each message in the bytes of one stream, in order; keeps what a frame cut in two. */
export type PositionReader = (payload: Buffer, found: (position: number) => void) => void;

/** Longer than any of the markers with its number. */
const CARRY_BYTES = 64;
const LINE_FEED = 10;
const MARKERS = { sse: Buffer.from('"position":"'), kube: Buffer.from('"resourceVersion":"') };

export function positionsOf(kind: Positions): PositionReader {
  return kind === 'grpc' ? grpcPositions() : textPositions(MARKERS[kind]);
}

/** Finds the marker without reading the rest: the generator's own cost must stay small. */
function textPositions(marker: Buffer): PositionReader {
  let carry: Buffer | undefined;
  return (payload, found) => {
    const bytes = carry ? Buffer.concat([carry, payload]) : payload;
    carry = undefined;
    let done = 0;
    for (let at = bytes.indexOf(marker); at >= 0; at = bytes.indexOf(marker, done)) {
      let position = 0;
      let digit = at + marker.length;
      for (; digit < bytes.length && bytes[digit]! >= 48 && bytes[digit]! <= 57; digit++) {
        position = position * 10 + bytes[digit]! - 48;
      }
      if (digit === bytes.length) break;
      found(position);
      done = digit;
    }
    // A frame that does not end with a line may end in the middle of a marker.
    if (bytes[bytes.length - 1] !== LINE_FEED) {
      carry = Buffer.from(bytes.subarray(Math.max(done, bytes.length - CARRY_BYTES)));
    }
  };
}

/** Messages of `meshkit.shards.v1.WatchResponse`: 5 bytes of gRPC, then `resume_token` (1) and `position` (2). */
function grpcPositions(): PositionReader {
  let rest: Buffer | undefined;
  return (payload, found) => {
    let bytes = rest ? Buffer.concat([rest, payload]) : payload;
    rest = undefined;
    while (bytes.length >= 5 && bytes.length - 5 >= bytes.readUInt32BE(1)) {
      const length = bytes.readUInt32BE(1);
      const position = positionField(bytes.subarray(5, 5 + length));
      if (position !== undefined) found(position);
      bytes = bytes.subarray(5 + length);
    }
    if (bytes.length > 0) rest = Buffer.from(bytes);
  };
}

function positionField(message: Buffer): number | undefined {
  let at = 0;
  // Fields come in the order of their numbers; only the first two matter, and both are strings.
  while (at < message.length && (message[at] === 0x0a || message[at] === 0x12)) {
    const isPosition = message[at] === 0x12;
    let length = 0;
    let shift = 0;
    do {
      at += 1;
      length |= (message[at]! & 127) << shift;
      shift += 7;
    } while (message[at]! & 128);
    at += 1;
    if (isPosition) return Number(message.toString('latin1', at, at + length));
    at += length;
  }
  return undefined;
}

/** Positions and when they arrived, microseconds; as compact as millions of them need to be. */
export class Arrivals {
  #values = new Float64Array(1 << 16);
  #length = 0;

  add(position: number, at: number): void {
    if (this.#length + 2 > this.#values.length) {
      const larger = new Float64Array(this.#values.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length] = position;
    this.#values[this.#length + 1] = at;
    this.#length += 2;
  }

  clear(): void {
    this.#length = 0;
  }

  /** Milliseconds from the writing of each known position to its arrivals; what was there before its writer knew is 0. */
  delays(written: ReadonlyMap<number, number>): Float64Array {
    const delays = new Float64Array(this.#length / 2);
    let count = 0;
    for (let at = 0; at < this.#length; at += 2) {
      const since = written.get(this.#values[at]!);
      if (since === undefined) continue;
      delays[count] = Math.max(0, this.#values[at + 1]! - since) / 1_000;
      count += 1;
    }
    return delays.subarray(0, count);
  }
}

/** Counts by tenths of a millisecond: what processes tell each other instead of millions of numbers. */
export type Histogram = [tenthMs: number, count: number][];

export function histogram(delays: Float64Array): Histogram {
  const counts = new Map<number, number>();
  for (const delay of delays) {
    const bin = Math.round(delay * 10);
    counts.set(bin, (counts.get(bin) ?? 0) + 1);
  }
  return [...counts].sort(([a], [b]) => a - b);
}
