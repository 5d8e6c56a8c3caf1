import { readFile } from 'node:fs/promises';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';

/** A bearer token: literally, in a file that may be replaced at any time (projected tokens are), or from a function. */
export type TokenSource = string | { file: string } | (() => string | Promise<string>);

/** As client-go does; kubelets replace a projected token long before it expires. */
const FILE_LIFE_MS = 60_000;
/** A token that has less left than this, or than a tenth of its life, is not kept: clocks differ, requests take time. */
const MARGIN_MS = 60_000;
const MARGIN_SHARE = 0.1;

/** Gives the present token of a source. */
export class TokenReader {
  readonly #source: TokenSource;
  readonly #clock: Clock;
  #known: { token: string; readAt: number } | undefined;

  constructor(source: TokenSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
  }

  async read(): Promise<string> {
    const known = this.#known;
    if (known && this.#clock.monotonic() - known.readAt < FILE_LIFE_MS && this.freshMs(known.token) > 0) {
      return known.token;
    }
    const readAt = this.#clock.monotonic();
    const token = (await this.#obtain()).trim();
    if (token === '' || /[^\x21-\x7e]/.test(token)) {
      throw new ShardError('unauthenticated', 'the token is empty or has characters that no token has');
    }
    // A function has its own idea of how long its tokens live.
    if (typeof this.#source !== 'function') this.#known = { token, readAt };
    return token;
  }

  /** After a 401: another token, when the source has one by now. */
  async renewed(refused: string): Promise<string | undefined> {
    this.#known = undefined;
    const token = await this.read();
    if (token !== refused) return token;
    this.#known = undefined;
    return undefined;
  }

  /** Milliseconds until the token should be replaced: some time before it expires; infinite when it does not say. */
  freshMs(token: string): number {
    const { exp, iat } = claims(token);
    if (exp === undefined) return Number.POSITIVE_INFINITY;
    const lifeMs = (exp - (iat ?? exp)) * 1_000;
    const marginMs = lifeMs > 0 ? Math.min(MARGIN_MS, lifeMs * MARGIN_SHARE) : MARGIN_MS;
    return exp * 1_000 - marginMs - this.#clock.now();
  }

  async #obtain(): Promise<string> {
    if (typeof this.#source === 'string') return this.#source;
    if (typeof this.#source === 'function') return this.#source();
    try {
      return await readFile(this.#source.file, 'utf8');
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new ShardError('unauthenticated', `cannot read the token file: ${why}`, {}, error);
    }
  }
}

/** Seconds of a JWT's `exp` and `iat` (RFC 7519, 4.1), read and not verified; nothing of a token of another kind. */
function claims(token: string): { exp?: number; iat?: number } {
  const payload = token.split('.')[1];
  if (payload === undefined) return {};
  try {
    const { exp, iat } = JSON.parse(Buffer.from(payload, 'base64url').toString()) ?? {};
    return { exp: number(exp), iat: number(iat) };
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}
