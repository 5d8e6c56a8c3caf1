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
/** For a file on a network that hangs, and a function that asks somebody. */
const SOURCE_TIMEOUT_MS = 10_000;

export interface ReadOptions {
  signal?: AbortSignal;
  /** Milliseconds that a source may take. Default 10,000. */
  timeoutMs?: number;
}

/** Gives the present token of a source. */
export class TokenReader {
  readonly #source: TokenSource;
  readonly #clock: Clock;
  #known: { token: string; readAt: number } | undefined;

  constructor(source: TokenSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
  }

  /** Throws `unauthenticated` when the source has none, `timeout`, or the signal's reason. */
  async read(options: ReadOptions = {}): Promise<string> {
    const known = this.#known;
    if (known && this.#clock.monotonic() - known.readAt < FILE_LIFE_MS && this.freshMs(known.token) > 0) {
      return known.token;
    }
    const readAt = this.#clock.monotonic();
    const token = (await this.#within(options)).trim();
    if (token === '' || /[^\x21-\x7e]/.test(token)) {
      throw new ShardError('unauthenticated', 'the token is empty or has characters that no token has');
    }
    // A function has its own idea of how long its tokens live.
    if (typeof this.#source !== 'function') this.#known = { token, readAt };
    return token;
  }

  /** After a 401: another token, when the source has one by now. */
  async renewed(refused: string, options: ReadOptions = {}): Promise<string | undefined> {
    this.#known = undefined;
    const token = await this.read(options);
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

  async #within({ signal, timeoutMs = SOURCE_TIMEOUT_MS }: ReadOptions): Promise<string> {
    if (typeof this.#source === 'string') return this.#source;
    const done = new AbortController();
    const waiting = signal ? AbortSignal.any([signal, done.signal]) : done.signal;
    const late = this.#clock.sleep(timeoutMs, waiting).then((): never => {
      throw new ShardError('timeout', `the source of the token gave none within ${timeoutMs / 1_000} s`);
    });
    try {
      return await Promise.race([this.#obtain(this.#source), late]);
    } finally {
      done.abort();
    }
  }

  async #obtain(source: Exclude<TokenSource, string>): Promise<string> {
    try {
      return await (typeof source === 'function' ? source() : readFile(source.file, 'utf8'));
    } catch (error) {
      if (error instanceof ShardError) throw error;
      const what =
        typeof source === 'function' ? 'the source of the token failed' : 'cannot read the token file';
      const why = error instanceof Error ? error.message : String(error);
      throw new ShardError('unauthenticated', `${what}: ${why}`, {}, error);
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
