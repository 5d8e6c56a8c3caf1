import { readFile } from 'node:fs/promises';
import { ShardError } from '@meshkit/shards/errors';

/** A bearer token: literally, in a file that may be replaced at any time (projected tokens are), or from a function. */
export type TokenSource = string | { file: string } | (() => string | Promise<string>);

/** As client-go does; kubelets replace a projected token long before it expires. */
const FILE_LIFE_MS = 60_000;

/** Gives the present token of a source. */
export class TokenReader {
  readonly #source: TokenSource;
  readonly #monotonic: () => number;
  #known: { token: string; readAt: number } | undefined;

  constructor(source: TokenSource, monotonic: () => number) {
    this.#source = source;
    this.#monotonic = monotonic;
  }

  async read(): Promise<string> {
    const known = this.#known;
    if (known && this.#monotonic() - known.readAt < FILE_LIFE_MS) return known.token;
    const readAt = this.#monotonic();
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
