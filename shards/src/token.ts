import { ShardError } from './errors.ts';
import { nameOf } from './problem.ts';

/**
 * Opaque texts that clients hand back: base64url of a version byte, a kind, fields and a checksum. They grant
 * nothing, each request is authorised on its own; the checksum catches truncation and editing, not malice.
 */
const VERSION = 1;
const CHECKSUM_BYTES = 8;
const MAX_LENGTH = 2_048;

/** `kind` keeps the kinds apart: a cursor is not a resume token. */
export function sealToken(kind: string, fields: readonly string[]): string {
  const text = new TextEncoder().encode(JSON.stringify([kind, ...fields]));
  const bytes = new Uint8Array(1 + text.length + CHECKSUM_BYTES);
  bytes[0] = VERSION;
  bytes.set(text, 1);
  bytes.set(checksum(bytes.subarray(0, 1 + text.length)), 1 + text.length);
  return encode(bytes);
}

/** The fields of `sealToken`; `pointer` says where the token came in. Throws `tokenInvalid`, with what to do about it. */
export function openToken(kind: string, token: string, pointer: string): string[] {
  const refuse = (problem: string) => tokenInvalid(pointer, problem);
  const bytes = token.length <= MAX_LENGTH ? decode(token) : undefined;
  if (!bytes || bytes.length <= 1 + CHECKSUM_BYTES) throw refuse('is not one that this API handed out');
  if (bytes[0] !== VERSION) throw refuse('is of a version that this server does not know');
  const sealed = bytes.subarray(0, -CHECKSUM_BYTES);
  const expected = checksum(sealed);
  if (!bytes.subarray(-CHECKSUM_BYTES).every((byte, at) => byte === expected[at])) {
    throw refuse('is damaged');
  }
  const [found, ...fields] = textsOf(new TextDecoder().decode(sealed.subarray(1)));
  if (found !== kind) throw refuse('is a token of another kind');
  return fields;
}

/** None when the JSON is not a list of texts: anybody can compute the checksum. */
function textsOf(json: string): string[] {
  try {
    const parsed: unknown = JSON.parse(json);
    return Array.isArray(parsed) && parsed.every((item) => typeof item === 'string') ? parsed : [];
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
}

/** `pointer`: `/query/NAME` or `/header/NAME`. */
export function tokenInvalid(pointer: string, problem: string): ShardError {
  return new ShardError('tokenInvalid', `${nameOf(pointer)} ${problem}; start again without it`, {
    errors: [{ pointer, detail: problem }],
  });
}

/** By btoa and atob: the `toBase64` of typed arrays is newer than the oldest Node that we run on. */
function encode(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}

function decode(token: string): Uint8Array | undefined {
  if (!/^[\w-]+$/.test(token) || token.length % 4 === 1) return undefined;
  const text = atob(token.replaceAll('-', '+').replaceAll('_', '/'));
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  // Loose last bits would give one token several spellings.
  return encode(bytes) === token ? bytes : undefined;
}

function checksum(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(CHECKSUM_BYTES);
  const view = new DataView(out.buffer);
  view.setUint32(0, fnv1a(bytes, 0x811c9dc5));
  view.setUint32(4, fnv1a(bytes, 0x2f0b4c47));
  return out;
}

/** A short digest of a text, for telling equal from different; not for security. */
export function digest(text: string): string {
  return encode(checksum(new TextEncoder().encode(text)));
}

/** FNV-1a with a final mix, 32 bits. */
function fnv1a(bytes: Uint8Array, seed: number): number {
  let hash = seed;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
