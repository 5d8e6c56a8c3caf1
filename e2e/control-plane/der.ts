/**
 * The little of ASN.1 DER (ITU-T X.690) that X.509 certificates need. Written out here because the libraries
 * for it bring a dependency-injection container and a Reflect polyfill into every process that starts a plane.
 */
export type Der = Uint8Array;

const TAG = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  sequence: 0x30,
  set: 0x31,
};

/** Any element: tag, definite length (X.690 8.1.3), then the content. */
function element(tag: number, ...content: readonly Der[]): Der {
  const body = Buffer.concat(content);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length = Buffer.from(evenHex(body.length.toString(16)), 'hex');
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, body]);
}

export function sequence(...content: readonly Der[]): Der {
  return element(TAG.sequence, ...content);
}

export function set(...content: readonly Der[]): Der {
  return element(TAG.set, ...content);
}

/** A non-negative integer, big endian; a leading zero keeps a high first bit from reading as a sign. */
export function integer(value: Uint8Array | number): Der {
  const bytes =
    typeof value === 'number' ? Buffer.from(evenHex(value.toString(16)), 'hex') : Buffer.from(value);
  return element(TAG.integer, bytes[0]! & 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}

export function boolean(value: boolean): Der {
  return element(0x01, Buffer.from([value ? 0xff : 0]));
}

export function octetString(...content: readonly Der[]): Der {
  return element(TAG.octetString, ...content);
}

/** `unusedBits` are the zero bits that pad the last byte. */
export function bitString(bytes: Uint8Array, unusedBits = 0): Der {
  return element(TAG.bitString, Buffer.from([unusedBits]), bytes);
}

export function utf8(text: string): Der {
  return element(TAG.utf8, Buffer.from(text));
}

/** `2.5.4.3` and the like. */
export function oid(dotted: string): Der {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second, ...rest.flatMap(base128)];
  return element(TAG.oid, Buffer.from(bytes));
}

/** RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime after. Whole seconds. */
export function time(date: Date): Der {
  const digits = date
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replaceAll(/[-:T]/g, '');
  return date.getUTCFullYear() < 2050
    ? element(0x17, Buffer.from(digits.slice(2)))
    : element(0x18, Buffer.from(digits));
}

/** `[n]` around complete elements. */
export function explicit(number: number, ...content: readonly Der[]): Der {
  return element(0xa0 | number, ...content);
}

/** `[n]` in place of a primitive element's own tag. */
export function implicit(number: number, bytes: Uint8Array): Der {
  return element(0x80 | number, bytes);
}

/** The child elements, complete with their headers, of one constructed element. */
export function children(der: Der): Der[] {
  const found: Der[] = [];
  const end = header(der, 0).end;
  for (let at = header(der, 0).start; at < end; ) {
    const child = header(der, at);
    found.push(der.subarray(at, child.end));
    at = child.end;
  }
  return found;
}

function header(der: Der, at: number): { start: number; end: number } {
  const first = der[at + 1];
  if (first === undefined) throw new RangeError('DER element is truncated');
  if (first < 0x80) return { start: at + 2, end: at + 2 + first };
  const start = at + 2 + (first & 0x7f);
  const length = Number.parseInt(Buffer.from(der.subarray(at + 2, start)).toString('hex'), 16);
  return { start, end: start + length };
}

function base128(value: number): number[] {
  const bytes = [value & 0x7f];
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes.unshift(0x80 | (rest & 0x7f));
  return bytes;
}

function evenHex(hex: string): string {
  return hex.length % 2 ? `0${hex}` : hex;
}
