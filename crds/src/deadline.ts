/**
 * A signal that follows its parent and aborts by itself after `ms`. Dispose it (`using`), or timer and listener
 * stay behind. A hand-made one, because `AbortSignal.timeout` can neither be disarmed nor carry a reason.
 */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #parent: AbortSignal | undefined;
  readonly #follow: () => void;
  readonly #timer: NodeJS.Timeout;

  constructor(parent: AbortSignal | undefined, ms: number, expired: () => Error) {
    this.#parent = parent;
    this.#follow = () => this.#controller.abort(parent?.reason);
    this.#timer = setTimeout(() => this.#controller.abort(expired()), ms);
    if (parent?.aborted) this.#follow();
    else parent?.addEventListener('abort', this.#follow, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: Error): void {
    this.#controller.abort(reason);
  }

  /** The awaited thing happened: from here on only the parent aborts. */
  disarm(): void {
    clearTimeout(this.#timer);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#parent?.removeEventListener('abort', this.#follow);
  }
}
